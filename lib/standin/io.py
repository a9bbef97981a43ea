"""A small stand-in for ComfyUI's V3 types (``comfy_api.latest.io``), so that node classes run without ComfyUI.

It has what this pack's nodes use, with the signatures of the original; `object_info` gives what a ComfyUI server
answers at ``/object_info``. What the arguments mean is told in ComfyUI's documentation of V3 nodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

import torch


def _without_none(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


class NumberDisplay(StrEnum):
    number = "number"
    slider = "slider"
    gradient_slider = "gradientslider"


class ControlAfterGenerate(StrEnum):
    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


class Hidden(StrEnum):
    """What a node may ask of its host; it arrives as ``cls.hidden.<name>``."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


class Input:
    """A socket without a widget."""

    io_type: str

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: dict[str, Any] | None = None,
        raw_link: bool | None = None,
        advanced: bool | None = None,
    ):
        self.id = id
        self.optional = optional
        self.options = _without_none(
            display_name=display_name, tooltip=tooltip, lazy=lazy, rawLink=raw_link, advanced=advanced
        ) | _without_none(**(extra_dict or {}))


class WidgetInput(Input):
    """An input whose value may be typed in. ``own`` are the options of one kind of widget, in ComfyUI's spelling."""

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        default: Any = None,
        socketless: bool | None = None,
        widget_type: str | None = None,
        force_input: bool | None = None,
        extra_dict: dict[str, Any] | None = None,
        raw_link: bool | None = None,
        advanced: bool | None = None,
        **own: Any,
    ):
        super().__init__(id, display_name, optional, tooltip, lazy, extra_dict, raw_link, advanced)
        self.options |= _without_none(
            default=default, socketless=socketless, widgetType=widget_type, forceInput=force_input, **own
        )
        if widget_type:
            self.io_type = widget_type


class Output:
    io_type: str

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ):
        self.id = id
        self.display_name = display_name or id
        self.tooltip = tooltip
        self.is_output_list = is_output_list


class ComfyType:
    """A kind of value, with its ``Input`` and ``Output``."""

    io_type: str
    Type: Any = Any
    Input: type
    Output: type

    def __init_subclass__(cls, io_type: str, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.io_type = io_type
        cls.Input = type("Input", (cls.__dict__.get("Input", Input),), {"io_type": io_type})
        cls.Output = type("Output", (Output,), {"io_type": io_type})


def Custom(io_type: str) -> type[ComfyType]:
    """A kind of value of one's own."""

    class CustomType(ComfyType, io_type=io_type):
        pass

    return CustomType


class Image(ComfyType, io_type="IMAGE"):
    Type = torch.Tensor


class Mask(ComfyType, io_type="MASK"):
    Type = torch.Tensor


class Conditioning(ComfyType, io_type="CONDITIONING"):
    pass


class UpscaleModel(ComfyType, io_type="UPSCALE_MODEL"):
    pass


class Model(ComfyType, io_type="MODEL"):
    pass


class Vae(ComfyType, io_type="VAE"):
    pass


class Sigmas(ComfyType, io_type="SIGMAS"):
    Type = torch.Tensor


class AnyType(ComfyType, io_type="*"):
    pass


class Boolean(ComfyType, io_type="BOOLEAN"):
    Type = bool

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            default: bool | None = None,
            label_on: str | None = None,
            label_off: str | None = None,
            **common: Any,
        ):
            own = {"label_on": label_on, "label_off": label_off}
            super().__init__(id, display_name, optional, tooltip, lazy, default, **common, **own)


class Int(ComfyType, io_type="INT"):
    Type = int

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            default: int | None = None,
            min: int | None = None,
            max: int | None = None,
            step: int | None = None,
            control_after_generate: bool | ControlAfterGenerate | None = None,
            display_mode: NumberDisplay | None = None,
            **common: Any,
        ):
            own = {"min": min, "max": max, "step": step, "display": display_mode}
            own["control_after_generate"] = control_after_generate
            super().__init__(id, display_name, optional, tooltip, lazy, default, **common, **own)


class Float(ComfyType, io_type="FLOAT"):
    Type = float

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            default: float | None = None,
            min: float | None = None,
            max: float | None = None,
            step: float | None = None,
            round: float | None = None,
            display_mode: NumberDisplay | None = None,
            **common: Any,
        ):
            own = {"min": min, "max": max, "step": step, "round": round, "display": display_mode}
            super().__init__(id, display_name, optional, tooltip, lazy, default, **common, **own)


class String(ComfyType, io_type="STRING"):
    Type = str

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            multiline: bool = False,
            placeholder: str | None = None,
            default: str | None = None,
            dynamic_prompts: bool | None = None,
            **common: Any,
        ):
            own = {"multiline": multiline, "placeholder": placeholder, "dynamicPrompts": dynamic_prompts}
            super().__init__(id, display_name, optional, tooltip, lazy, default, **common, **own)


class Combo(ComfyType, io_type="COMBO"):
    Type = str

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            options: list[str] | list[int] | type[Enum],
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            lazy: bool | None = None,
            default: str | int | Enum | None = None,
            control_after_generate: bool | ControlAfterGenerate | None = None,
            **common: Any,
        ):
            if isinstance(options, type):
                options = [option.value for option in options]
            if isinstance(default, Enum):
                default = default.value
            own = {"multiselect": False, "options": options, "control_after_generate": control_after_generate}
            super().__init__(id, display_name, optional, tooltip, lazy, default, **common, **own)


class BoundingBox(ComfyType, io_type="BOUNDING_BOX"):
    Type = dict

    class Input(WidgetInput):
        def __init__(
            self,
            id: str,
            display_name: str | None = None,
            optional: bool = False,
            tooltip: str | None = None,
            socketless: bool = True,
            default: dict[str, int] | None = None,
            component: str | None = None,
            force_input: bool | None = None,
        ):
            default = default or {"x": 0, "y": 0, "width": 512, "height": 512}
            super().__init__(
                id, display_name, optional, tooltip, default=default, socketless=socketless,
                force_input=force_input, component=component,
            )  # fmt: skip


class ImageCompare(ComfyType, io_type="IMAGECOMPARE"):
    Type = dict

    class Input(WidgetInput):
        def __init__(self, id: str, socketless: bool = True, **common: Any):
            super().__init__(id, socketless=socketless, **common)


@dataclass
class Schema:
    """What a node is called, takes and gives."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    not_idempotent: bool = False
    essentials_category: str | None = None
    has_intermediate_output: bool = False

    def __post_init__(self) -> None:
        for kind, ids in (("Input", [i.id for i in self.inputs]), ("Output", [o.id for o in self.outputs if o.id])):
            if doubles := {id for id in ids if ids.count(id) > 1}:
                raise ValueError(f"{kind} ids of {self.node_id} must be unique, but {sorted(doubles)} are not.")
        if self.is_output_node:
            self.hidden = [*dict.fromkeys((*self.hidden, Hidden.prompt, Hidden.extra_pnginfo))]


class ExecutionBlocker:
    """In place of an output: the nodes that it is linked to do not run. message: what the user is told, unless it is None."""

    def __init__(self, message: str | None):
        self.message = message


class NodeOutput:
    """What a node gives: one value per output, and what it shows."""

    def __init__(self, *args: Any, ui: Any = None):
        self.args = args
        self.ui = ui


class ComfyNode(ABC):
    """A node. Its methods are class methods and keep no state; ``hidden`` holds what the schema asked of the host."""

    hidden: Any = None

    @classmethod
    @abstractmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        raise NotImplementedError


class ComfyExtension(ABC):
    """What ``comfy_entrypoint`` gives to ComfyUI."""

    async def on_load(self) -> None:  # noqa: B027, optional in ComfyUI too
        pass

    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]:
        raise NotImplementedError


def object_info(node: type[ComfyNode], python_module: str | None = None) -> dict[str, Any]:
    """What ComfyUI 0.28 to 0.33 answer at ``/object_info/<node_id>``, under the node's id.

    ``python_module`` is ``custom_nodes.<folder>`` in a server.
    """
    schema = node.define_schema()
    inputs: dict[str, dict[str, Any]] = {"required": {}}
    for item in schema.inputs:
        inputs.setdefault("optional" if item.optional else "required", {})[item.id] = [item.io_type, item.options]
    if schema.hidden:
        inputs["hidden"] = {hidden.name: [hidden.value] for hidden in schema.hidden}
    return {
        "input": inputs,
        "input_order": {kind: list(named) for kind, named in inputs.items()},
        "is_input_list": schema.is_input_list,
        "output": [output.io_type for output in schema.outputs],
        "output_is_list": [output.is_output_list for output in schema.outputs],
        "output_name": [output.display_name or output.io_type for output in schema.outputs],
        "output_tooltips": [output.tooltip or None for output in schema.outputs],
        "output_matchtypes": None,
        "name": schema.node_id,
        "display_name": schema.display_name,
        "description": schema.description,
        "python_module": python_module,
        "category": schema.category,
        "output_node": schema.is_output_node,
        "deprecated": schema.is_deprecated,
        "experimental": schema.is_experimental,
        "dev_only": schema.is_dev_only,
        "api_node": False,
        "price_badge": None,
        "search_aliases": schema.search_aliases or None,
        "essentials_category": schema.essentials_category,
        "has_intermediate_output": schema.has_intermediate_output,
    }
