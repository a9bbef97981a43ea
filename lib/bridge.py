"""The only interface to ComfyUI: everything that a node needs from its host, inside ComfyUI and without it.

No other module imports ``comfy``, ``comfy_api``, ``comfy_execution``, ``folder_paths``, ``nodes`` or ``server``. Whether this is ComfyUI is
decided once: ComfyUI has its own modules loaded long before it loads a node pack.
"""

from __future__ import annotations

import copy
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from .pictures.files import to_pil
from .renamed_inputs import renamed_prompt
from .storage.inputs import existing
from .vocabulary import Place, UserError

if TYPE_CHECKING:
    from PIL.Image import Image


class Adapter(Protocol):
    """What was trained beside a layer: the layer gets ``alpha / rank * up @ down`` more."""

    @property
    def up(self) -> torch.Tensor: ...
    @property
    def down(self) -> torch.Tensor: ...
    @property
    def alpha(self) -> float: ...


# Kinds of weights without a folder in core ComfyUI; other face restoration packs use the second one too.
NOT_OF_CORE = "personal_restore", "facerestore_models"

SINGLE = torch.float32, torch.float64

# The layers of ``torch.nn`` that have a twin in ``comfy.ops``, whose weights come to the device when it is used.
STREAMED = "Linear", "Conv1d", "Conv2d", "ConvTranspose2d", "GroupNorm", "LayerNorm"

IN_COMFYUI = {"nodes", "folder_paths", "comfy_api"} <= sys.modules.keys()

if not IN_COMFYUI:  # first, because a type checker takes the types of the first branch
    from .standin import host, io, ui
    from .standin.io import ComfyExtension, ExecutionBlocker
else:
    import comfy.cli_args
    import comfy.model_management as model_management
    import comfy.model_patcher
    import comfy.ops
    import comfy.patcher_extension
    import comfy.utils
    import folder_paths
    from comfy_api.latest import ComfyExtension, io, ui  # type: ignore[no-redef]
    from comfy_execution.graph_utils import ExecutionBlocker  # type: ignore[no-redef]

__all__ = [
    "IN_COMFYUI",
    "ComfyExtension",
    "ExecutionBlocker",
    "adapted_model",
    "adapted_vae",
    "as_file",
    "clip_vocabulary",
    "device",
    "eight_bits",
    "input_folder",
    "io",
    "keep",
    "keep_upscaler",
    "models_folder",
    "output_folder",
    "place",
    "preview_side",
    "progress",
    "rename_inputs_of_prompts",
    "resolve_input",
    "serve_odd_folder",
    "tell",
    "temp_folder",
    "ui",
    "weight_folders",
]


def device() -> torch.device:
    """Where networks run: ComfyUI's choice, else CUDA, MPS or the CPU."""
    return model_management.get_torch_device() if IN_COMFYUI else host.device()


def place(part: Literal["unet", "vae", "training", "embedded"], half: torch.dtype) -> Place:
    """Where a part of a network runs, and in which precision: ``half``, or float32 where the device or the user does
    not allow it.

    ComfyUI's user decides with options such as ``--cpu``, ``--force-fp32``, ``--fp32-unet`` or ``--fp32-vae``. A
    network that tolerates only one half precision gets that one, whichever the user prefers. For training, the
    precision is that of autocast, which serves on the CPU too. On CPUs that multiply bfloat16 numbers, ``half`` is that for VAEs and for
    the small networks that ship with the pack, in ComfyUI as without it.
    """
    where = device()
    single = "fp32_vae" if part == "vae" else "fp32_unet"
    forced = IN_COMFYUI and (comfy.cli_args.args.force_fp32 or getattr(comfy.cli_args.args, single))
    if part == "training":
        allowed = where.type in ("cpu", "cuda") and not forced
    elif part == "embedded" or (part == "vae" and where.type == "cpu"):
        allowed = where.type == "cpu" and multiplies_bfloat16() and not forced
    elif not IN_COMFYUI:
        allowed = where.type == "cuda"
    elif part == "vae":
        allowed = model_management.vae_dtype(where, [half]) not in SINGLE
    else:
        kinds = [half, torch.float32]
        stored = model_management.unet_dtype(where, supported_dtypes=kinds)
        computed = model_management.unet_manual_cast(stored, where, kinds) if stored.itemsize == 1 else stored
        allowed = computed not in SINGLE
    return Place(where, half if allowed else torch.float32)


def eight_bits() -> torch.dtype | None:
    """How the weights of a UNet are stored where the user wants them in 8 bits (``--fp8_e4m3fn-unet`` and the like), else None."""
    wanted = model_management.unet_dtype(device()) if IN_COMFYUI else None
    return wanted if wanted is not None and wanted.itemsize == 1 else None


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it (AVX512-BF16, AMX); where it is emulated it is slower than float32."""
    # Not a documented function, and absent from older versions, in which float32 is right, too.
    return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()


def progress(total: int | None = None) -> Callable[..., None]:
    """``update(done, total, picture=None)`` for the progress bar of the node that is running.

    In ComfyUI each update raises when the user has pressed cancel; headless, Ctrl-C does that by itself. picture:
    ``[3, h, w]`` in 0..1, or a Pillow image, of the progress so far, which ComfyUI shows on the node.
    """
    if not IN_COMFYUI:
        return host.progress
    bar = comfy.utils.ProgressBar(total or 1)

    def update(done: int, total: int, picture: torch.Tensor | Image | None = None) -> None:
        model_management.throw_exception_if_processing_interrupted()
        seen = to_pil(picture) if isinstance(picture, torch.Tensor) else picture
        bar.update_absolute(done, total, None if seen is None else ("JPEG", seen, None))

    return update


def tell(text: str) -> None:
    """Shows a text on the node that is running, below its widgets; headless, the report has it."""
    if not IN_COMFYUI:
        return
    from comfy_execution.utils import get_executing_context
    from server import PromptServer

    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(text, context.node_id)


def as_file(text: str, suffix: str) -> dict[str, list[dict[str, str]]]:
    """A text in the temp folder, as part of what a node shows: app mode shows a text only if it is a file. suffix: ``.txt``, ``.json``."""
    folder = temp_folder()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"report_{secrets.token_hex(8)}{suffix}"
    (folder / name).write_text(text, "utf-8")
    return {"files": [{"filename": name, "subfolder": "", "type": "temp"}]}


def preview_side() -> int:
    """Longest side, in pixels, of the pictures that `progress` shows; 0 if it shows none."""
    return comfy.cli_args.args.preview_size if IN_COMFYUI else 0


def input_folder() -> Path:
    """Where photographs and albums are looked for."""
    return Path(folder_paths.get_input_directory()) if IN_COMFYUI else host.folders.input


def output_folder() -> Path:
    """Where results are saved."""
    return Path(folder_paths.get_output_directory()) if IN_COMFYUI else host.folders.output


def temp_folder() -> Path:
    """Where previews go; emptied when the program ends or starts again."""
    return Path(folder_paths.get_temp_directory()) if IN_COMFYUI else host.folders.temp


def models_folder() -> Path:
    """Where weights and personas live. It may not exist yet."""
    return weight_folders("personal_restore")[0]


def weight_folders(kind: str) -> list[Path]:
    """Where weights of a kind (``personal_restore``, ``checkpoints``) are looked for; the first is where they are put.

    In ComfyUI its folders of that name (``extra_model_paths.yaml`` may add some), else as `standin.host.models_folder` says.
    """
    if not IN_COMFYUI:
        return [host.models_folder(kind)]
    if kind in NOT_OF_CORE:
        folder_paths.add_model_folder_path(kind, str(Path(folder_paths.models_dir) / kind))
    return [Path(path) for path in folder_paths.get_folder_paths(kind)]


def clip_vocabulary() -> Path | None:
    """The folder with vocab.json and merges.txt of CLIP's tokenizer that comes with ComfyUI; None without it."""
    return Path(comfy.utils.__file__).parent / "sd1_tokenizer" if IN_COMFYUI else None


def resolve_input(path: str | Path) -> Path:
    """The existing file or folder that a workflow names, as an absolute path without links.

    ``path`` is relative to the input folder, or to the folder of a trailing ``[input]``, ``[output]`` or ``[temp]`` as
    in ComfyUI's own loaders. A path that leads elsewhere (through ``..``, a symbolic link or an absolute path) or that
    does not exist raises `UserError`. Headless, the folders named on the command line are open too.
    """
    if not IN_COMFYUI:
        return host.resolve_input(path)
    return existing(path, {"input": input_folder(), "output": output_folder(), "temp": temp_folder()})


class _Holder(torch.nn.Module):
    """ComfyUI's patcher sets ``device`` on what it holds, which diffusers' models do not allow."""

    def __init__(self, module: torch.nn.Module):
        super().__init__()
        self.module = module


def keep(
    module: torch.nn.Module, unloaded: Callable[[], None] | None = None, streamed: bool = False
) -> Callable[..., Any]:
    """Puts a network under the host's memory management.

    Returns ``load(memory_required=0, whole=False)``, which gives the module on `device`; ``memory_required`` is what it will need
    beside its weights, in bytes. The network lives as long as this loader. unloaded: called when the host has unloaded
    the network, because memory is short or because the user wants it back. streamed: in ComfyUI, not all of the network has to fit
    on the device, which then cannot be told from its weights; else it is loaded and unloaded as a whole. Nothing but the layers
    themselves may read the weights of a streamed network's layers, unless it was loaded with ``whole``.
    """
    streams = streamed and IN_COMFYUI
    if streams:
        _use_comfy_layers(module)
    patcher = _patcher(module) if IN_COMFYUI else None
    if patcher is not None and unloaded is not None:
        event = comfy.patcher_extension.CallbacksMP.ON_DETACH
        patcher.add_callback(event, lambda patcher, whole: unloaded() if whole else None)
    return _loader(module.eval().requires_grad_(False), module, patcher, streams)


def _use_comfy_layers(module: torch.nn.Module) -> None:
    """Makes PyTorch's layers those that ComfyUI builds its own networks of, in place.

    Ours are built by diffusers, which takes no other layers. A layer of ``comfy.ops`` is PyTorch's with another ``forward``, so that
    its class is all that has to change.
    """
    twins = {getattr(torch.nn, name): getattr(comfy.ops.manual_cast, name) for name in STREAMED}
    for layer in module.modules():
        if type(layer) in twins and layer.weight is not None:
            layer.__class__ = twins[type(layer)]


def _move_the_rest(module: torch.nn.Module, where: torch.device) -> None:
    """To the device: what is no layer of ``comfy.ops``, which ComfyUI leaves where it is when memory is short."""
    for part in module.modules():
        if not hasattr(part, "comfy_cast_weights"):
            part._apply(lambda tensor: tensor.to(where), recurse=False)


def keep_upscaler(upscale_model: Any) -> Callable[..., Any]:
    """The same for ComfyUI's UPSCALE_MODEL, spandrel's ``ImageModelDescriptor``, which ``load()`` then returns.

    ComfyUI 0.33 already attaches a patcher, 0.28 does not; two patchers for one network would conflict.
    """
    network = upscale_model.model
    patcher = (getattr(upscale_model, "patcher", None) or _patcher(network)) if IN_COMFYUI else None
    return _loader(upscale_model, network, patcher)


def _patcher(module: torch.nn.Module) -> Any:
    offload = model_management.unet_offload_device()
    return comfy.model_patcher.CoreModelPatcher(_Holder(module), load_device=device(), offload_device=offload)


def _loader(value: Any, module: torch.nn.Module, patcher: Any, streams: bool = False) -> Callable[..., Any]:
    def load(memory_required: int = 0, whole: bool = False) -> Any:
        all_of_it = whole or not streams
        if patcher is not None:
            model_management.load_models_gpu([patcher], memory_required=memory_required, force_full_load=all_of_it)
        if all_of_it:
            # In ComfyUI this moves nothing, unless it runs with --novram, which leaves plain modules where they are.
            module.to(device())
        else:
            _move_the_rest(module, device())
        return value

    return load


def adapted_model(model: Any, adapters: Mapping[str, Adapter], replaced: Mapping[str, torch.Tensor]) -> Any:
    """ComfyUI's MODEL with adapters on its UNet, under diffusers' weight names; the given model is unchanged.

    replaced: weights that are replaced entirely. Raises UserError if the model has no such weight.
    """
    own = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    clone = model.clone()
    _patch(clone, adapters, replaced, lambda name: f"diffusion_model.{own.get(name, name)}")
    return clone


def adapted_vae(vae: Any, adapters: Mapping[str, Adapter], rename: Callable[[str], str]) -> Any:
    """The same for ComfyUI's VAE; rename gives its own names."""
    clone = copy.copy(vae)
    clone.patcher = vae.patcher.clone()
    _patch(clone.patcher, adapters, {}, rename)
    return clone


def _patch(
    patcher: Any, adapters: Mapping[str, Adapter], replaced: Mapping[str, torch.Tensor], rename: Callable[[str], str]
) -> None:
    from comfy.weight_adapter import LoRAAdapter

    patches = {
        rename(name): LoRAAdapter(set(), (one.up, one.down, one.alpha, None, None, None))
        for name, one in adapters.items()
    }
    patches |= {rename(name): ("set", (weight,)) for name, weight in replaced.items()}
    missing = sorted(patches.keys() - set(patcher.add_patches(patches)))
    if missing:
        raise UserError(
            f"{len(missing)} trained weights are not in this model, for example {missing[0]!r}. Load the SD-Turbo "
            "checkpoint."
        )


def rename_inputs_of_prompts() -> None:
    """Lets prompts that were saved before inputs were renamed run in ComfyUI; headless, `load_graph` does it."""
    if not IN_COMFYUI:
        return
    from server import PromptServer

    def rename(request: dict[str, Any]) -> dict[str, Any]:
        return request | {"prompt": renamed_prompt(request["prompt"])} if "prompt" in request else request

    PromptServer.instance.add_on_prompt_handler(rename)


def serve_odd_folder() -> None:
    """Serves help pages, JavaScript and templates where ComfyUI does not find them: under an unusual folder name.

    aiohttp keeps the route of a static folder quoted and compares it with unquoted requests, so that a name with a space
    or an accent never matches; and the frontend asks for help pages under the name up to its first dot or ``@``. What
    ComfyUI finds by itself never comes here, since its routes are more specific. Headless there is no server.
    """
    if not IN_COMFYUI:
        return
    from aiohttp import web
    from server import PromptServer

    pack = Path(__file__).parent.parent
    names = "|".join(map(re.escape, {pack.name, re.split("[.@]", pack.name)[0]}))

    async def answer(request: web.Request) -> web.FileResponse:
        folder = (pack / folders[request.path.removeprefix("/api").split("/")[1]]).resolve()
        path = (folder / request.match_info["path"]).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    # ComfyUI serves each of these under /api too, where the frontend asks for templates.
    folders = {"extensions": "nodes/web", "workflow_templates": "workflows"}
    for kind in folders:
        PromptServer.instance.routes.get(f"/{kind}/{{pack:{names}}}/{{path:.+}}")(answer)
