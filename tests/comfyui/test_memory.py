"""What S3Diff holds in a real ComfyUI is given back on /free, its layers stream where memory is short, and cancelling stops it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.comfyui

# A tiny S3Diff is too small to be seen in the memory of a process, hence one of some 100 MB.
SETTING = """
import contextlib, gc, tempfile, weakref
import psutil
from personal_restore.models.s3diff import network as s3diff
from personal_restore.models.shared.sd_turbo_restorer import SDTurboRestorer
from personal_restore.tests import tiny_s3diff as tiny
from personal_restore.lib.vocabulary import Conditions

tiny.UNET["block_out_channels"], tiny.UNET["attention_head_dim"] = (64, 64, 128, 256), (1, 1, 2, 4)
kept = tempfile.TemporaryDirectory()
folder = pathlib.Path(kept.name)
public = tiny.write_public_files(folder)

def loaded():
    '''What the node returns.'''
    net = s3diff.S3Diff(tiny.turbo(), s3diff.read_s3diff(public))
    return SDTurboRestorer(bridge.keep(net, streamed=True), *tiny.prompts(), cfg=1.1, tile=16, overlap=8), weakref.ref(net)
"""

# As load_models_gpu finds it on a device with so much free memory: here the CPU passes for one.
BUDGET = """
from unittest import mock
management = comfy.model_management

@contextlib.contextmanager
def free(memory):
    given = {"get_free_memory": lambda *which: management.minimum_inference_memory() + memory, "is_device_cpu": lambda device: False}
    with mock.patch.multiple(management, vram_state=management.VRAMState.NORMAL_VRAM, **given):
        yield

@contextlib.contextmanager
def fetching():
    '''The layers that fetch their weights from where they are kept.'''
    fetched, cast = set(), comfy.ops.cast_bias_weight
    def seen(layer, *given, **named):
        fetched.add(layer)
        return cast(layer, *given, **named)
    with mock.patch.object(comfy.ops, "cast_bias_weight", seen):
        yield fetched
"""


def test_load_run_and_free_ten_times_leaves_no_memory_behind(inside):
    inside(
        SETTING
        + """
resident, size = [], 0
for _ in range(10):
    restorer, net = loaded()
    with torch.inference_mode():
        restorer.restore(torch.rand(1, 3, 128, 128), Conditions())
    size = sum(one.numel() * one.element_size() for one in net().parameters())
    held = [one.model.model.module for one in comfy.model_management.current_loaded_models]
    assert net() in held
    # What ComfyUI's main loop does on /free with unload_models and free_memory; it forgets the results of nodes, too.
    comfy.model_management.unload_all_models()
    del restorer, held
    gc.collect()
    comfy.model_management.soft_empty_cache()
    assert net() is None, "somebody keeps the network"
    resident.append(psutil.Process().memory_info().rss)
assert size > 60e6, size
grown = [(one - resident[1]) / 1e6 for one in resident]
assert max(grown[2:]) < 0.2 * size / 1e6, f"{size / 1e6:.0f} MB of weights; resident memory over the second round, MB: {grown}"
print(f"{size / 1e6:.0f} MB of weights; resident memory over the second round, MB: {[round(one, 1) for one in grown]}")
"""
    )


def test_cancelling_stops_within_one_tile(inside):
    inside(
        SETTING
        + """
restorer, net = loaded()
calls, forward = [], net().turbo.unet.forward

def cancelled(*given, **named):
    calls.append(1)
    if len(calls) == 2:
        comfy.model_management.interrupt_current_processing()
    return forward(*given, **named)

net().turbo.unet.forward = cancelled
with contextlib.suppress(comfy.model_management.InterruptProcessingException):
    with torch.inference_mode():
        restorer.restore(torch.rand(1, 3, 256, 256), Conditions(progress=bridge.progress()))
    raise AssertionError("it was not cancelled")
assert len(calls) == 2, calls
"""
    )


def test_a_network_larger_than_the_free_memory_streams_and_gives_the_same_bits(inside):
    """Also in the layers of PyTorch, with which it was built and the golden outputs are compared."""
    inside(
        SETTING
        + BUDGET
        + """
from personal_restore.lib.diffusion import lora
lora.LoraLayer._joins = lambda layer, x: False  # as on a card, which the CPU passes for here
picture, prompts = torch.rand(1, 3, 128, 128), tiny.prompts()
net = s3diff.S3Diff(tiny.turbo(), s3diff.read_s3diff(public))
with torch.inference_mode():
    plain = SDTurboRestorer(lambda: net, *prompts, cfg=1.1, tile=16, overlap=8).restore(picture, Conditions())
    restorer, net = loaded()
    assert torch.equal(restorer.restore(picture, Conditions()), plain)
    (patcher,) = [one.model for one in management.current_loaded_models if one.model.model.module is net()]
    size, here = patcher.model_size(), patcher.model
    assert patcher.loaded_size() == size and not here.model_lowvram
    management.unload_all_models()
    budget = size // 3
    with free(budget), fetching() as fetched:
        assert torch.equal(restorer.restore(picture, Conditions()), plain)
    assert here.model_lowvram and 0 < patcher.loaded_size() <= budget, (patcher.loaded_size(), budget)
    left = [one for one in here.modules() if hasattr(one, "comfy_cast_weights") and not getattr(one, "comfy_patched_weights", False)]
    weights = [weight.numel() * weight.element_size() for one in left for weight in one.parameters(recurse=False)]
    assert set(left) <= fetched and sum(weights) > size / 2, (len(left), sum(weights), size)
"""
    )


def test_faceme_streams_too_and_gives_the_same_bits(inside):
    """The largest of ours: SDXL with a ControlNet and PhotoMaker's encoder."""
    inside(
        SETTING
        + BUDGET
        + """
import numpy as np
from personal_restore.lib.vocabulary import Reference
from personal_restore.models.faceme import network as faceme
from personal_restore.models.faceme.restorer import FaceMeRestorer
from personal_restore.tests import tiny_sdxl

files = tiny_sdxl.write_public_files(folder)
album = tuple(Reference(str(n), torch.rand(3, 512, 512), np.zeros((5, 2))) for n in range(2))
identity, face = np.ones(tiny_sdxl.IDENTITY) / tiny_sdxl.IDENTITY**0.5, torch.rand(1, 3, 64, 64)

def made():
    return faceme.load_faceme(files, tiny_sdxl.TOPOLOGY, tiny_sdxl.CONTROLNET, tiny_sdxl.VISION)

def restored(load):
    return FaceMeRestorer(load, lambda crop: identity, steps=2, native_size=64).restore(face, Conditions(album))

net = made()
plain, load = restored(lambda: net), bridge.keep(made(), streamed=True)
with free(1_000_000), fetching() as fetched:
    assert torch.equal(restored(load), plain)
    (patcher,) = [one.model for one in management.current_loaded_models if isinstance(one.model.model.module, faceme.FaceMe)]
assert patcher.model.model_lowvram and 0 < patcher.loaded_size() <= 1_000_000 < patcher.model_size(), patcher.loaded_size()
assert {one.__class__.__name__ for one in fetched} >= {"Linear", "Conv2d", "GroupNorm", "LayerNorm"}
"""
    )


PERSONAL = (
    SETTING
    + BUDGET
    + """
import dataclasses
from personal_restore.lib.vocabulary import Persona
from personal_restore.models.gen2res.adm_unet import ADMUNet
from personal_restore.models.gen2res.generation import SkipGuidance
from personal_restore.models.gen2res.pixel_diffusion import PixelDiffusion
from personal_restore.models.shared.bases import loaders
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.tests import tiny_sd

def pixels():
    torch.manual_seed(0)
    unet = ADMUNet(image_size=64, num_channels=32, num_res_blocks=1, attention_resolutions="16")
    for one in unet.parameters():
        if not one.any():
            torch.nn.init.normal_(one, std=0.05)
    return PixelDiffusion(unet.eval().requires_grad_(False), 64)

BASES = {"diffbir": lambda: tiny_sd.base(folder), "stablesr": lambda: tiny_sd.stablesr(folder), "adm": pixels}
picture, settings = torch.rand(1, 3, 128, 128), {"denoise": 0.3, "steps": 2}

def kept(net):
    '''The patcher of a network.'''
    (patcher,) = [one.model for one in management.current_loaded_models if one.model.model.module is net]
    return patcher

def restored(given, persona=None, **more):
    with torch.inference_mode():
        return DiffusionRestorer(**given, base="tiny", **settings, **more).restore(picture, Conditions(persona=persona))
"""
)


@pytest.mark.parametrize("base", ["diffbir", "stablesr", "adm"])
def test_the_bases_of_personas_stream_and_give_the_same_bits(inside, base):
    inside(
        PERSONAL
        + f"""
net, size = BASES["{base}"](), {{"native_size": 64 if "{base}" == "adm" else tiny_sd.SIDE, "control": float("{base}" != "adm")}}
plain = restored({{"load": lambda: net}}, **size)
own = BASES["{base}"]()
given = loaders(bridge.keep, own)
budget = sum(one.numel() * one.element_size() for one in net.parameters()) // 3
with free(budget), fetching() as fetched:
    assert torch.equal(restored(given, **size), plain)
    patcher = kept(own)
    assert patcher.model.model_lowvram and patcher.loaded_size() <= budget < patcher.model_size(), patcher.loaded_size()
    assert {{one.__class__.__name__ for one in fetched}} >= {{"Linear", "Conv2d", "GroupNorm"}}
    assert given["load"]() is own and patcher.loaded_size() == patcher.model_size(), "who reads the weights gets them all"
"""
    )


def test_a_persona_and_an_exact_gradient_have_all_of_the_weights(inside):
    inside(
        PERSONAL
        + """
net = tiny_sd.base(folder)
tuned = Persona("replaced", "tiny", {"unet.conv_in.weight": net.unet.conv_in.weight + 0.1})
guidance = SkipGuidance(scale=0.3, every=1, exact=True)
for more in ({"persona": tuned}, {"skip_guidance": guidance}):
    plain = restored({"load": lambda: net}, native_size=tiny_sd.SIDE, **more)
    own = tiny_sd.base(folder)
    given = loaders(bridge.keep, own)
    with free(10_000):
        assert torch.equal(restored(given, native_size=tiny_sd.SIDE, **more), plain), more
        assert kept(own).loaded_size() == kept(own).model_size()
"""
    )


def test_a_layer_that_streams_computes_where_its_input_is(inside):
    """With weights in main memory and the rest on another device: one without values, as there is no third here."""
    inside(
        SETTING
        + BUDGET
        + """
restorer, net = loaded()
with mock.patch.object(bridge, "device", lambda: torch.device("meta")), mock.patch.object(comfy.model_management, "load_models_gpu"):
    turbo = restorer.load().turbo
assert turbo.device.type == "meta" and turbo.unet.conv_in.weight.device.type == "cpu"
with torch.inference_mode():
    damage = torch.zeros(1, 2, device="meta")
    latent = net().encode(torch.zeros(1, 3, 128, 128, device="meta"), damage)
    noise = net().predict(latent, damage, restorer.positive.to("meta"), restorer.negative.to("meta"), 1.1)
    picture = turbo.decode(turbo.clean(latent, noise))
assert picture.device.type == "meta" and picture.shape == (1, 3, 128, 128)
"""
    )


def test_weights_in_8_bits_compute_in_the_precision_of_the_device(inside):
    """As ComfyUI's own under --fp8_e4m3fn-unet."""
    inside(
        SETTING
        + """
from unittest import mock
from personal_restore.models.shared.precision import in_eight_bits
picture, prompts = torch.rand(1, 3, 128, 128), tiny.prompts()

def restored(load):
    with torch.inference_mode():
        return SDTurboRestorer(load, *prompts, cfg=1.1, tile=16, overlap=8).restore(picture, Conditions())

net = s3diff.S3Diff(tiny.turbo(), s3diff.read_s3diff(public))
exact = restored(lambda: net)
in_eight_bits(net.turbo.unet)
assert torch.equal(restored(lambda: net), exact), "nobody has asked for it"
size = sum(one.numel() * one.element_size() for one in net.turbo.unet.parameters())
with mock.patch.object(comfy.cli_args.args, "fp8_e4m3fn_unet", True):
    assert bridge.place("unet", torch.float16).dtype == torch.float32, "a CPU computes in single precision"
    in_eight_bits(net.turbo.unet)
stored = sum(one.numel() * one.element_size() for one in net.turbo.unet.parameters())
assert stored < size / 3.5, (stored, size)
eight = restored(bridge.keep(net, streamed=True))
for layer in net.turbo.unet.modules():
    for weight in layer.parameters(recurse=False):
        weight.data = weight.data.float()
assert torch.equal(restored(lambda: net), eight)
assert 0 < (eight - exact).abs().mean() < 0.1
"""
    )


@pytest.mark.parametrize("base", ["diffbir", "stablesr", "adm"])
def test_the_bases_of_personas_take_weights_in_8_bits(inside, base):
    """With and without a persona the same as with those weights in single precision; and nothing is learned from them."""
    inside(
        PERSONAL
        + f"""
import copy
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.shared.precision import in_eight_bits
from personal_restore.training.personas.methods import check_parts

size = {{"native_size": 64 if "{base}" == "adm" else tiny_sd.SIDE, "control": float("{base}" != "adm")}}
net = BASES["{base}"]()
parts = [one for one in (net.unet, net.control) if one is not None]
sizes = lambda: sum(one.numel() * one.element_size() for part in parts for one in part.parameters())
whole = sizes()
with mock.patch.object(comfy.cli_args.args, "fp8_e4m3fn_unet", True):
    in_eight_bits(*parts)
assert sizes() < whole / 2.5, (sizes(), whole)
rounded = copy.deepcopy(net)
for weight in rounded.parameters():
    weight.data = weight.data.float()
layer = next(name for name, one in net.named_modules() if name.startswith("unet.") and one.__class__.__name__ == "Linear")
out, inside = net.get_submodule(layer).weight.shape
low = {{f"{{layer}}.lora_A.weight": torch.randn(2, inside), f"{{layer}}.lora_B.weight": torch.randn(out, 2)}}
last = next(name for name, one in net.named_parameters() if one.ndim == 4 and one.dtype.itemsize == 1)
tuned = Persona("tuned", "tiny", {{**low, last: torch.randn(net.get_parameter(last).shape)}})
personas = [None, tuned]
if "{base}" == "diffbir":
    from personal_restore.models.pfstorer.vico_block import personalise
    other = tiny_sd.base(folder)
    place = next(name for name, one in other.named_modules() if one.__class__.__name__ == "Transformer2DModel" and name.startswith("unet."))
    block = personalise(other, [place])[place]
    own = {{name: torch.randn_like(one) for name, one in block.named_parameters() if name.startswith(("image_", "gamma"))}}
    adapter = {{f"{{place}}.{{name}}": one for name, one in own.items()}}
    word = {{"token": torch.randn(other.text.rows.shape[1]), "reference": torch.randn(1, 4, 16, 16)}}
    personas.append(Persona("adapter", "tiny", adapter | word, token="sks", prompt="a photo of sks"))
given = loaders(bridge.keep, net)
for persona in personas:
    assert torch.equal(restored(given, persona, **size), restored({{"load": lambda: rounded}}, persona, **size)), persona
try:
    check_parts(net, "album")
except UserError as error:
    assert "fp8" in str(error)
else:
    raise AssertionError("it would learn from weights in 8 bits")
"""
    )
