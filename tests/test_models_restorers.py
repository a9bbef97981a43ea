"""The restorer protocol on four unlike restorers, and what is particular to each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from personal_restore.lib.faces.detect import detect_faces, make_face
from personal_restore.lib.faces.extract import extract_face
from personal_restore.lib.pictures.metrics import psnr
from personal_restore.lib.restoring.apply import restore_crop, restore_faces, restore_scene
from personal_restore.lib.vocabulary import (
    Conditions,
    DegradationCode,
    Faces,
    Library,
    Person,
    Persona,
    Reference,
    Restorer,
    UserError,
)
from personal_restore.models.embedded.one_step import OneStepNet
from personal_restore.models.embedded.one_step_restorer import OneStepRestorer
from personal_restore.models.embedded.reference_restorer import ReferenceRestorer
from personal_restore.models.gen2res.generation import generation
from personal_restore.models.gen2res.pixel_diffusion import PixelDiffusion
from personal_restore.models.upscale.restorer import UpscalerRestorer
from spandrel import ModelLoader


@pytest.fixture(scope="module")
def net() -> OneStepNet:
    torch.manual_seed(0)
    net = OneStepNet((8, 12, 16), (1, 1, 1), token_width=16, heads=2).eval().requires_grad_(False)
    torch.nn.init.normal_(net.negative_prompt)
    for one in (net.head, *(level.attention.out for level in net.encoder)):
        torch.nn.init.normal_(one.weight, std=0.02)
    return net


@pytest.fixture(scope="module")
def upscaler():
    """A network of the family that Real-ESRGAN's small models belong to, with random weights."""
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    network = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2, act_type="prelu")
    return ModelLoader().load_from_state_dict(network.state_dict()).eval()


@pytest.fixture(scope="module")
def face(astronaut):
    return make_face(astronaut[0], detect_faces(astronaut[0])[0])


@pytest.fixture(scope="module")
def restorers(net, denoiser, upscaler) -> dict:
    return {
        "one-step": OneStepRestorer(lambda: net, "space"),
        "reference": ReferenceRestorer(),
        "generation": generation(lambda: PixelDiffusion(denoiser, 16, 2), "tiny", 16, denoise=0.004),
        "upscaler": UpscalerRestorer(lambda: upscaler, "compact", 2),
    }


@pytest.mark.parametrize("name", ["one-step", "reference", "generation", "upscaler"])
def test_the_protocol_holds(restorers, face, name):
    restorer = restorers[name]
    assert isinstance(restorer, Restorer)
    side = restorer.native_size or 40
    crop = torch.nn.functional.interpolate(face.crop[None], (side, side), mode="area")
    seen = []
    conditions = Conditions((reference(face),), seed=3, progress=lambda done, total: seen.append((done, total)))
    with torch.inference_mode():
        out = restorer.restore(crop, conditions)
        again = restorer.restore(crop, conditions)
    assert out.shape == (1, 3, side * restorer.scale, side * restorer.scale)
    assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(out, again)
    assert seen and seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize("name", ["one-step", "reference", "generation", "upscaler"])
def test_any_restorer_restores_a_face_in_place(restorers, face, astronaut, name):
    faces = Faces(((face,),), (512, 512))
    library = Library((Person("Eileen", (reference(face),)),))
    named = faces.map(lambda one: replace(one, person="Eileen"))
    with torch.inference_mode():
        done = restore_faces(astronaut, named, restorers[name], library).frames[0][0]
    assert done.restored.shape == face.crop.shape and done.restored.isfinite().all()
    assert torch.equal(done.crop, face.crop) and done.box == face.box


def reference(face) -> Reference:
    return Reference("picture", face.crop, face.landmarks)


def test_a_restorer_at_the_photographs_scale_puts_the_face_back_where_it_was(face, astronaut):
    class Nothing:
        native_size, scale = None, 1

        def restore(self, image, conditions):
            return image

    crop = restore_crop(astronaut[0], face, Nothing(), Conditions())
    torch.testing.assert_close(crop, face.crop, atol=0.01, rtol=0)

    class Larger(Nothing):
        scale = 2

        def restore(self, image, conditions):
            return torch.nn.functional.interpolate(image, scale_factor=2, mode="bilinear")

    assert psnr(restore_crop(astronaut[0], face, Larger(), Conditions()).clamp(0, 1), face.crop) > 35


def test_a_wider_crop_is_shown_on_the_template_to_restorers_that_want_it_and_keeps_what_lies_beyond(astronaut):
    wider = extract_face(astronaut[0], detect_faces(astronaut[0])[0], "perfuse")
    usual = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    seen = []

    class Darker:
        native_size, scale = 512, 1

        def restore(self, image, conditions):
            seen.append(image)
            return image / 2

    crop = restore_crop(astronaut[0], wider, Darker(), Conditions())
    assert psnr(seen[0][..., 64:448, 64:448], usual.crop[None, :, 64:448, 64:448]) > 30
    torch.testing.assert_close(crop[:, 192:320, 192:320], wider.crop[:, 192:320, 192:320] / 2, atol=0.05, rtol=0)
    assert torch.equal(crop[:, :16], wider.crop[:, :16])


def test_strength_zero_changes_no_face_and_no_scene(restorers, face, astronaut):
    faces = Faces(((face,),), (512, 512))
    assert restore_faces(astronaut, faces, restorers["one-step"], Library(), strength=0).frames[0][0] is face
    assert restore_scene(astronaut, restorers["one-step"], Conditions(), 0) is astronaut


def test_a_restorer_of_faces_refuses_a_scene(restorers, astronaut):
    aligned = UpscalerRestorer(lambda: None, "CodeFormer", 1, native_size=512, tileable=False)
    for restorer in (restorers["reference"], aligned):
        with pytest.raises(
            UserError, match=f"{restorer.name} restores faces, not whole pictures. Connect it to Restore Faces"
        ):
            restore_scene(astronaut, restorer, Conditions())
        assert restore_scene(astronaut, restorer, Conditions(), 0) is astronaut


def test_a_face_without_an_album_stays_as_it_was(restorers, face, astronaut):
    faces = Faces(((face,),), (512, 512))
    assert restore_faces(astronaut, faces, restorers["reference"], Library()).frames[0][0] is face


def test_a_code_of_another_token_space_is_refused(restorers):
    code = DegradationCode(torch.zeros(1, 4, 2, 2), torch.zeros(1, 21, 16), "another")
    with pytest.raises(UserError, match="'another'.*'space'"):
        restorers["one-step"].restore(torch.rand(1, 3, 16, 16), Conditions(code=code))


def test_the_one_step_restorer_listens_to_its_tokens(restorers):
    picture = torch.rand(1, 3, 16, 16)
    code = DegradationCode(torch.zeros(1, 4, 2, 2), torch.randn(1, 21, 16), "space")
    with torch.inference_mode():
        blind, told = (restorers["one-step"].restore(picture, Conditions(code=one)) for one in (None, code))
    assert not torch.equal(blind, told)


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (16, 16), (50, 3)])
def test_the_one_step_network_takes_any_size(net, size):
    assert net(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_a_fresh_one_step_network_changes_nothing():
    picture = torch.rand(1, 3, 24, 24)
    torch.testing.assert_close(OneStepNet((8, 12), (1, 1), token_width=8, heads=2)(picture), picture)


def test_no_noise_gives_the_input_back(denoiser):
    picture = torch.rand(1, 3, 16, 16)
    assert (
        generation(lambda: PixelDiffusion(denoiser, 16, 2), "tiny", 16, denoise=0).restore(picture, Conditions())
        is picture
    )


def test_a_persona_changes_the_generation_and_must_fit_its_base(restorers, denoiser):
    picture, restorer = torch.rand(1, 3, 16, 16), restorers["generation"]
    tuned = {"unet.conv_out.bias": denoiser.conv_out.bias + 0.1}
    with torch.inference_mode():
        plain = restorer.restore(picture, Conditions())
        personal = restorer.restore(picture, Conditions(persona=Persona("album", "tiny", tuned)))
    assert not torch.equal(plain, personal)
    with pytest.raises(UserError, match="'another'"):
        restorer.restore(picture, Conditions(persona=Persona("album", "another", tuned)))


def test_a_many_step_restorer_is_cancelled_between_two_steps(restorers):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        restorers["generation"].restore(torch.rand(1, 3, 16, 16), Conditions(progress=cancel))


def test_the_reference_restorer_brings_back_detail_from_the_same_moment(face):
    from personal_restore.lib.degradation.operators import blur

    blurred = blur(face.crop[None], size=21, sigma_x=3, sigma_y=3)
    mirrored_and_relit = Reference("picture", face.crop.flip(-1) ** 0.9, face.landmarks)
    out = ReferenceRestorer().restore(blurred, Conditions((mirrored_and_relit,)))
    assert psnr(out[0], face.crop) > psnr(blurred[0], face.crop) + 1


def test_a_reference_that_is_no_face_changes_nothing(face):
    generator = torch.Generator().manual_seed(0)
    noise = Reference("picture", torch.rand(face.crop.shape, generator=generator), face.landmarks)
    out = ReferenceRestorer().restore(face.crop[None], Conditions((noise,)))
    torch.testing.assert_close(out[0], face.crop, atol=2e-3, rtol=0)


def test_cfg_goes_on_in_the_direction_away_from_the_damaged_picture(net):
    picture, own = torch.rand(1, 3, 24, 24), "space"
    with torch.inference_mode():
        towards = net(picture)
        away = net(picture, negative=True)
        plain, guided = (OneStepRestorer(lambda: net, own, g).restore(picture, Conditions()) for g in (1.0, 1.5))
    assert not torch.allclose(towards, away)
    torch.testing.assert_close(plain, towards.clamp(0, 1))
    torch.testing.assert_close(guided, (away + 1.5 * (towards - away)).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "words",
    [
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.",
        "MPS backend out of memory",
    ],
)
def test_where_memory_is_short_the_tiles_shrink(net, astronaut, words):
    sides = []

    class Hungry(torch.nn.Module):
        stem, null_tokens, multiple = net.stem, net.null_tokens, net.multiple

        def forward(self, tile, tokens):
            sides.append(tile.shape[-1])
            if tile.shape[-1] > 400:
                raise RuntimeError(words)
            return net(tile, tokens)

    picture = torch.cat([astronaut, astronaut.flip(-1)], -1)[..., 200:264, :900]
    with torch.inference_mode():
        out = OneStepRestorer(lambda: Hungry(), "space").restore(picture, Conditions())
        torch.testing.assert_close(out, net(picture).clamp(0, 1), atol=1e-4, rtol=0)
    assert sides[:2] == [900, 512] and max(sides[2:]) == 256


def test_where_memory_is_short_for_the_smallest_tile_it_is_said_in_words_that_comfyui_understands(net):
    class Starving(torch.nn.Module):
        stem, null_tokens, multiple = net.stem, net.null_tokens, net.multiple

        def forward(self, tile, tokens):
            raise RuntimeError("MPS backend out of memory")

    with pytest.raises(UserError, match="not enough memory for tiles of 256 px") as short, torch.inference_mode():
        OneStepRestorer(lambda: Starving(), "space").restore(torch.rand(1, 3, 64, 900), Conditions())
    assert isinstance(short.value, torch.OutOfMemoryError)  # for which ComfyUI unloads its models


def test_any_other_failure_of_the_network_is_not_hidden():
    def load():
        raise RuntimeError("a shape does not fit")

    with pytest.raises(RuntimeError, match="shape"):
        OneStepRestorer(load, "space").restore(torch.rand(1, 3, 8, 8), Conditions())
