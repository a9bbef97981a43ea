"""Figure 3 of Face2Scene: the cosines behind it, and the node that draws it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from personal_restore.lib.ablation import make_grid
from personal_restore.lib.degradation.similarity import code_similarities
from personal_restore.lib.vocabulary import DegradationMaps, UserError
from personal_restore.models.embedded.weights import TOKEN_SPACE
from personal_restore.nodes.similarity import CompareCodes


def test_cosines_are_those_of_each_pair_of_pictures_and_of_each_pair_of_degradations():
    codes = np.random.default_rng(0).normal(size=(3, 4, 5))
    found = code_similarities(torch.tensor(codes))

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    for d in range(3):
        expected = [cosine(codes[d, a], codes[d, b]) for a, b in itertools.combinations(range(4), 2)]
        np.testing.assert_allclose(found.same[d], expected)
    for n in range(4):
        expected = [cosine(codes[a, n], codes[b, n]) for a, b in itertools.combinations(range(3), 2)]
        np.testing.assert_allclose(found.across[n], expected)


def test_the_node_takes_a_map_for_each_cell_and_says_what_is_missing():
    torch.manual_seed(0)
    grid = make_grid("d1, d2", "0, 1, 2", "", "face")
    one, other = torch.rand(2, 1, 128, 4, 4)
    maps = [DegradationMaps((z,), 0, "embedded", TOKEN_SPACE) for _ in range(3) for z in (one, other)]
    figure, table = CompareCodes.execute([grid], maps).args
    lines = [line.split(",") for line in table.splitlines()]
    assert figure.shape[-1] == 3 and [line[1] for line in lines[1:]] == ["d1", "d2", "face 0", "face 1", "face 2"]
    assert [float(line[2]) for line in lines[1:3]] == [1.0, 1.0] and all(float(line[2]) < 1 for line in lines[3:])
    with pytest.raises(UserError, match="2 columns and 3 rows, and 5 maps came"):
        CompareCodes.execute([grid], maps[1:])
    with pytest.raises(UserError, match="no face pair in one of the cells"):
        CompareCodes.execute([grid], [*maps[1:], DegradationMaps((None,), None, "embedded", TOKEN_SPACE)])
