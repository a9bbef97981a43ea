"""How far a graph is, for whoever waits for it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from tqdm import tqdm


class GraphProgress(AbstractContextManager):
    """One bar for a whole graph, gone at its end; where standard error is no terminal, a line for each node."""

    def __init__(self) -> None:
        self._index = 0
        bar = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"
        self._bar = tqdm(total=1, disable=None, leave=False, dynamic_ncols=True, bar_format=bar)

    def node(self, name: str, index: int, count: int) -> None:
        """For ``on_node`` of `run_graph`."""
        self._index = index
        if self._bar.disable:
            print(f"[{index + 1}/{count}] {name}", flush=True)
        else:
            self._bar.total = count
            self._bar.set_description_str(name, refresh=False)
            self._bar.update(index - self._bar.n)

    def step(self, done: int, total: int) -> None:
        """For ``on_progress`` of `run_graph`."""
        if not self._bar.disable:
            self._bar.update(self._index + done / max(total, 1) - self._bar.n)

    def __exit__(self, *_: object) -> None:
        self._bar.close()
