"""S3Diff as a restorer: tiles against public vectors, and what any picture must come out as, on tiny networks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from personal_restore.lib.pictures.color import wavelet_fix
from personal_restore.lib.vocabulary import Conditions, DegradationCode, Restorer
from personal_restore.models.s3diff import network as s3diff
from personal_restore.models.s3diff.de_net import DegradationEstimator
from personal_restore.models.shared import sd_turbo
from personal_restore.models.shared.sd_turbo_restorer import SDTurboRestorer
from personal_restore.tests import tiny_s3diff as tiny


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> s3diff.S3Diff:
    folder = tmp_path_factory.mktemp("s3diff")
    return s3diff.S3Diff(tiny.turbo(), s3diff.read_s3diff(tiny.write_public_files(folder)))


@pytest.fixture
def restorer(net) -> SDTurboRestorer:
    return SDTurboRestorer(lambda: net, *tiny.prompts(), cfg=1.1)


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """[1, 3, 70, 133]: a gradient with noise."""
    torch.manual_seed(2)
    ramp = torch.linspace(0.1, 0.8, 133).expand(1, 3, 70, 133)
    return (ramp + 0.05 * torch.randn(1, 3, 70, 133)).clamp(0, 1)


@pytest.fixture
def counted(net, monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the UNet's inputs, as it is called."""
    shapes, forward = [], net.turbo.unet.forward
    monkeypatch.setattr(
        net.turbo.unet, "forward", lambda x, *a, **k: (shapes.append(tuple(x.shape)), forward(x, *a, **k))[1]
    )
    return shapes


def test_golden_s3diff_tiled_and_untiled(golden, tmp_path):
    tensors, about = golden("s3diff")
    tensors = {name: value.float() for name, value in tensors.items()}

    def part(start):
        return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

    torch.save(DegradationEstimator().state_dict(), tmp_path / "de_net.pth")
    weights = s3diff.read_s3diff(golden.folder / about["companion_file"], tmp_path / "de_net.pth")
    turbo = sd_turbo.assemble(part("w.unet."), part("w.vae."), about["unet_config"], about["vae_config"], "golden")
    net = s3diff.S3Diff(turbo, weights)
    tolerance, degrees = about["tolerance"], tensors["in.deg"]
    for posterior, noise in (("mode", None), ("noise", tensors["in.posterior_noise"])):
        latent = net.encode(tensors["in.x"], degrees, noise)
        for name, variant in about["variants"].items():
            restorer = SDTurboRestorer(
                lambda: net,
                tensors["in.emb_pos"],
                tensors["in.emb_neg"],
                variant["guidance_scale"],
                tile=variant["latent_tiled_size"],
                overlap=variant["latent_tiled_overlap"],
                public_tiles=True,
            )
            clean = net.turbo.clean(latent, restorer.noise_in(net, latent, degrees))
            expected = f"out.{name}.{posterior}"
            atol = tolerance["x0_latent_atol"]
            torch.testing.assert_close(clean, tensors[f"{expected}.x0_latent"], atol=atol, rtol=0)
            if f"{expected}.image" in tensors:
                image, atol = net.turbo.decode(clean), tolerance["image_atol"]
                torch.testing.assert_close(image, tensors[f"{expected}.image"], atol=atol, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (64, 64), (70, 133)])
@pytest.mark.parametrize("scale", [1, 2])
def test_any_size_comes_back_in_it_and_in_range(restorer, size, scale):
    out = replace(restorer, scale=scale).restore(torch.rand(1, 3, *size), Conditions())
    assert out.shape == (1, 3, size[0] * scale, size[1] * scale)
    assert out.dtype == torch.float32 and out.min() >= 0 and out.max() <= 1
    assert isinstance(restorer, Restorer)


def test_same_seed_same_picture_and_every_picture_of_a_batch_as_if_alone(restorer, picture):
    first, again, other = (restorer.restore(picture, Conditions(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and (first - other).abs().max() > 1e-3
    batch = restorer.restore(torch.cat([picture.flip(3), picture]), Conditions(seed=1))
    assert torch.equal(batch[1:], first)


def test_half_precision_networks_restore_nearly_the_same(restorer, net, picture, tmp_path):
    expected = restorer.restore(picture, Conditions())
    weights = s3diff.read_s3diff(tiny.write_public_files(tmp_path))
    half = s3diff.S3Diff(tiny.turbo().bfloat16(), weights)
    assert half.frequencies.dtype == half.estimator.conv_first[0].weight.dtype == torch.float32
    out = replace(restorer, load=lambda: half).restore(picture, Conditions())
    assert out.dtype == torch.float32 and (out - expected).abs().mean() < 0.02


def test_the_damage_is_read_before_enlarging(restorer, net, picture, monkeypatch):
    seen, damage = [], net.damage
    monkeypatch.setattr(net, "damage", lambda one, code: (seen.append(one), damage(one, code))[1])
    replace(restorer, scale=2).restore(picture, Conditions())
    assert torch.equal(seen[0], picture)


def test_a_code_of_another_token_space_changes_nothing(restorer, picture):
    code = DegradationCode(torch.zeros(1, 256, 4, 4), torch.randn(1, 21, 192), "another")
    assert torch.equal(restorer.restore(picture, Conditions(code=code)), restorer.restore(picture, Conditions()))


def test_both_branches_share_one_call_and_cfg_one_asks_once(restorer, picture, counted):
    one = replace(restorer, cfg=1.0)
    without_negative = replace(one, negative=torch.full_like(one.negative, torch.nan))
    assert torch.equal(one.restore(picture, Conditions()), without_negative.restore(picture, Conditions()))
    assert counted == [(1, 4, 16, 24)] * 2
    guided = restorer.restore(picture, Conditions())
    assert counted[2:] == [(2, 4, 16, 24)] and not torch.equal(guided, one.restore(picture, Conditions()))


@pytest.mark.parametrize("public", [False, True])
def test_tiles_cover_the_latent_and_progress_counts_them_over_the_batch(restorer, picture, counted, public):
    calls = []
    conditions = Conditions(progress=lambda done, total: calls.append((done, total)))
    tiled = replace(restorer, tile=16, overlap=8, public_tiles=public)
    out = tiled.restore(picture.expand(2, -1, -1, -1), conditions)
    assert out.shape == (2, *picture.shape[1:]) and out.isfinite().all()
    assert counted == [(2, 4, 16, 16)] * 4
    assert calls == [(done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.parametrize("public", [False, True])
def test_what_every_tile_agrees_on_is_kept(restorer, net, public, monkeypatch):
    """Where the network sees the same whatever surrounds it, the windows must sum to one."""
    monkeypatch.setattr(net, "predict", lambda latent, *_: 2 * latent)
    latent = torch.randn(1, 4, 40, 24)
    tiles = replace(restorer, tile=16, overlap=8, public_tiles=public)
    torch.testing.assert_close(tiles.noise_in(net, latent, torch.zeros(1, 2)), 2 * latent, atol=1e-5, rtol=1e-5)


def test_our_window_is_symmetric_and_the_public_one_is_not(restorer, net, monkeypatch):
    """Each tile answers with its number; turning the picture upside down must turn the mixture with it."""

    def mixture(public: bool, upside_down: bool) -> torch.Tensor:
        answers = iter((1.0, 0.0) if upside_down else (0.0, 1.0))
        monkeypatch.setattr(net, "predict", lambda latent, *_: torch.full_like(latent, next(answers)))
        tiles = replace(restorer, tile=16, overlap=8, public_tiles=public)
        return tiles.noise_in(net, torch.zeros(1, 4, 24, 16), torch.zeros(1, 2))

    for public in (False, True):
        turned = mixture(public, True).flip(2)
        assert torch.allclose(mixture(public, False), turned, atol=1e-6) != public


def test_a_picture_smaller_than_a_tile_is_not_tiled(restorer, picture):
    assert torch.equal(
        restorer.restore(picture, Conditions()), replace(restorer, public_tiles=True).restore(picture, Conditions())
    )


def test_cancelling_stops_within_one_tile(restorer, picture, counted):
    def cancel(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(restorer, tile=16, overlap=8).restore(picture, Conditions(progress=cancel))
    assert len(counted) == 1


def test_colours_come_from_the_enlarged_picture(restorer, picture):
    raw = replace(restorer, color=None).restore(picture, Conditions())
    fixed = restorer.restore(picture, Conditions())
    torch.testing.assert_close(fixed, wavelet_fix(raw, picture).clamp(0, 1))
    assert (fixed.mean() - picture.mean()).abs() < (raw.mean() - picture.mean()).abs()
