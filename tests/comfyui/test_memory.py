"""What S3Diff holds in a real ComfyUI is given back on /free, and cancelling stops it within one tile."""

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
folder = pathlib.Path(tempfile.mkdtemp())
public = tiny.write_public_files(folder)

def loaded():
    '''What the node returns.'''
    net = s3diff.S3Diff(tiny.turbo(), s3diff.read_s3diff(public))
    return SDTurboRestorer(bridge.keep(net), *tiny.prompts(), cfg=1.1, tile=16, overlap=8), weakref.ref(net)
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
