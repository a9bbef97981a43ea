"""Everything that runs where the networks are runs on a device without float64, and mixes no tensors of two devices."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.restoring.apply import restore_scene
from personal_restore.lib.vocabulary import Conditions, Reference
from personal_restore.models.album.gate import Gate
from personal_restore.models.album.ready import load_gate
from personal_restore.models.album.restorer import AlbumRestorer
from personal_restore.models.embedded import weights as embedded
from personal_restore.models.embedded.estimate import estimate
from personal_restore.models.embedded.one_step_restorer import OneStepRestorer
from personal_restore.models.face2scene import network as face2scene
from personal_restore.models.faceme import network as faceme
from personal_restore.models.faceme.restorer import FaceMeRestorer
from personal_restore.models.gen2res.generation import SkipGuidance
from personal_restore.models.personas.restorer import PersonalRestorer
from personal_restore.models.pfstorer.vico_block import otsu_mask
from personal_restore.models.s3diff import network as s3diff
from personal_restore.models.shared.diffusion_restorer import DiffusionRestorer
from personal_restore.models.shared.sd_turbo_restorer import SDTurboRestorer, _publicly_tiled
from personal_restore.tests import tiny_s3diff as tiny
from personal_restore.tests import tiny_sdxl
from personal_restore.tests.refusing_device import DEVICE, Refusing, There
from personal_restore.tests.tiny_base import BASE, small_base


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the pretended device
    with torch.inference_mode(), Refusing():
        yield


def there(net: torch.nn.Module) -> torch.nn.Module:
    """The network on the device."""
    net.to(DEVICE)
    assert all(isinstance(one, There) for one in net.parameters())
    return net


def came_back(out: torch.Tensor, like: torch.Tensor) -> None:
    assert not isinstance(out, There) and out.device.type == "cpu"
    assert out.shape == like.shape and out.isfinite().all() and (out - like).abs().max() > 1e-3


def test_the_device_is_one():
    one = torch.ones(2, 3).to(DEVICE)
    assert one.device == DEVICE and torch.equal((one * 2).cpu(), torch.full((2, 3), 2.0))
    assert torch.arange(3, device=DEVICE).tolist() == [0, 1, 2]
    for wrong in (one.double, lambda: torch.ones(2, dtype=torch.float64).to(DEVICE), lambda: one.new_zeros(2).double()):
        with pytest.raises(TypeError, match="no float64"):
            wrong()
    with pytest.raises(RuntimeError, match="two devices"):
        one + torch.ones(2, 3)
    assert torch.ones(2, dtype=torch.float64).to(one).dtype == torch.float32


def test_public_tiles_and_masks_of_attention():
    latent, values = torch.rand(1, 4, 40, 48), torch.rand(2, 64)
    ours = _publicly_tiled(lambda part: part * 2, latent.to(DEVICE), 16, 8, lambda done, total: None)
    assert isinstance(ours, There)
    torch.testing.assert_close(ours.cpu(), latent * 2)
    mask = otsu_mask(values.to(DEVICE))
    assert isinstance(mask, There) and torch.equal(mask.cpu(), otsu_mask(values))


def test_the_embedded_restorer_and_what_reads_damage(astronaut):
    net, about = embedded.load(embedded.RESTORER)
    reader = there(embedded.load(embedded.EXTRACTOR)[0])
    photo = astronaut[..., 60:188, 190:318]
    code = estimate(reader, torch.cat([photo[0], (photo[0] * 0.8 + 0.1)]))
    restorer = OneStepRestorer(lambda: net, about["token_space"], guidance=1.2)
    there(net)
    came_back(restore_scene(photo, restorer, Conditions(code=code)), photo)
    came_back(restore_scene(photo, replace(restorer, guidance=1.0), Conditions()), photo)


def test_the_album_restorer_with_its_gate(astronaut):
    from personal_restore.lib.faces.detect import detect_faces, make_face

    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    album = (Reference("a", face.crop.flip(2), np.zeros((5, 2))),)
    gate = there(load_gate())
    assert isinstance(gate, Gate)
    damaged = torch.nn.functional.avg_pool2d(face.crop[None], 9, 1, 4)
    came_back(AlbumRestorer(lambda: gate).restore(damaged, Conditions(album)), damaged)
    from personal_restore.models.album import face_mesh

    mesh = there(face_mesh.load_face_mesh.__wrapped__())
    for passes in (1, 2):
        assert isinstance(face_mesh.mesh_points(damaged, passes, mesh), There)


@pytest.mark.parametrize("public", [False, True])
def test_s3diff_in_tiles(tmp_path, public):
    net = s3diff.S3Diff(tiny.turbo(), s3diff.read(tiny.write_public_files(tmp_path)))
    restorer = SDTurboRestorer(
        lambda: there(net), *tiny.prompts(), guidance=1.1, tile=16, overlap=8, public_tiles=public
    )
    photo = torch.rand(1, 3, 130, 200)
    came_back(restorer.restore(photo, Conditions(seed=1)), photo)


def test_face2scene_with_a_code(tmp_path):
    weights = face2scene.read(tiny.write_face2scene(tmp_path / "one.safetensors"))
    net = face2scene.Face2Scene(tiny.turbo(), weights)
    code = estimate(there(weights.extractor()), torch.rand(6, 40, 32), weights.token_space)
    restorer = SDTurboRestorer(lambda: there(net), *weights.prompts, guidance=1.1)
    photo = torch.rand(1, 3, 70, 133)
    came_back(restorer.restore(photo, Conditions(code=code)), photo)


@pytest.mark.parametrize("guided", [False, True])
def test_a_diffusion_base_with_and_without_guidance(pictures, guided):
    net = there(small_base())
    guidance = SkipGuidance(2.0, 2) if guided else None
    restorer = DiffusionRestorer(lambda: net, BASE, 32, steps=200, samples=3, cfg=1.5, guidance=guidance)
    came_back(restorer.restore(pictures[:1], Conditions(seed=1)), pictures[:1])


def test_an_adapter_as_persona_with_the_album(pictures):
    from personal_restore.tests.test_personas import made

    with torch.inference_mode(False):
        persona = made(small_base(), pictures, "adapter")
    net = there(small_base())
    restorer = PersonalRestorer(DiffusionRestorer(lambda: net, BASE, 32, steps=200, samples=3), persona)
    album = (Reference("a.png", pictures[1], np.zeros((5, 2))),)
    came_back(restorer.restore(pictures[:1], Conditions(references=album)), pictures[:1])


def test_faceme(tmp_path, astronaut):
    net = there(
        faceme.load(tiny_sdxl.write_public_files(tmp_path), tiny_sdxl.TOPOLOGY, tiny_sdxl.CONTROLNET, tiny_sdxl.VISION)
    )
    from personal_restore.tests.test_models_faceme_restorer import identify

    restorer = FaceMeRestorer(lambda: net, identify, steps=2, native_size=64)
    face = astronaut[..., 60:124, 190:254].contiguous()
    came_back(restorer.restore(face, Conditions((Reference("a", astronaut[0], np.zeros((5, 2))),))), face)


def test_no_float64_is_made_on_the_devices_of_networks():
    """What the tests above cannot reach: a conversion before the tensor has left its device."""
    from pathlib import Path

    folder = Path(embedded.FOLDER).parent
    found = [
        f"{path.relative_to(folder)}: {line.strip()}"
        for path in folder.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"(?<!\.cpu\(\))\.double\(\)", line)
    ]
    assert not found, "write .cpu().double()"
