"""Noise schedule, ancestral denoising and skip guidance: public vectors, closed forms, and a prior that is a Gaussian."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.unets.unet_2d import UNet2DOutput
from personal_restore.lib.diffusion.noise_schedule import NoiseSchedule, linear_schedule, stable_diffusion_schedule
from personal_restore.lib.diffusion.sampling import generate
from personal_restore.lib.vocabulary import Conditions, Persona
from personal_restore.models.gen2res.adm_unet import ADMUNet, load_adm_unet
from personal_restore.models.gen2res.generation import SkipGuidance, generation, generative_album, towards
from personal_restore.models.gen2res.pixel_diffusion import PixelDiffusion

LINEAR, LATENT = linear_schedule(), stable_diffusion_schedule()


@pytest.fixture
def public(golden):
    """(tensors, description, the public network as a function)."""
    tensors, about = golden("gen2res")
    flags = {name: about["model_config"][name] for name in inspect.signature(ADMUNet).parameters}
    net = load_adm_unet(golden.folder / "gen2res_unet.pt", **flags)
    return {name: value.float() for name, value in tensors.items()}, about, lambda x, t: net(x, t).sample


def test_golden_noise(golden):
    tensors, about = golden("gen2res")
    torch.testing.assert_close(LINEAR.alphas_cumprod, tensors["coef.alphas_cumprod"], atol=1e-15, rtol=0)
    noisy = LINEAR.add_noise(tensors["in.start"].float(), about["K"], tensors["in.q_noise"])
    torch.testing.assert_close(noisy, tensors["out.q_sample"], atol=about["tolerance"]["q_sample_atol"], rtol=0)


def test_golden_step(public):
    tensors, about, denoise = public
    x, t, atol = tensors["out.q_sample"], about["K"] - 1, about["tolerance"]["step_atol"]
    with torch.inference_mode():
        step = LINEAR.reverse(x, t, denoise(x, t))
    sample = step.mean + (step.log_variance / 2).exp() * tensors["in.step_noise"][0]
    for got, name in [
        (step.clean, "pred_xstart"),
        (step.mean, "mean"),
        (step.log_variance, "log_variance"),
        (sample, "sample"),
    ]:
        torch.testing.assert_close(got, tensors[f"out.step.{name}"], atol=atol, rtol=0)


def test_golden_guided_step(public):
    tensors, about, denoise = public
    atol, x = about["tolerance"]["guided_step_atol"], tensors["out.q_sample"]
    guidance = SkipGuidance(about["scale"])
    step, gradient = guidance.push(denoise, LINEAR, x, about["K"] - 1, tensors["in.ref"])
    noise = (step.log_variance / 2).exp() * tensors["in.step_noise"][0]
    torch.testing.assert_close(gradient, tensors["out.guided_step.grad"], atol=atol, rtol=0)
    sample = step.mean - guidance.scale * gradient + noise
    torch.testing.assert_close(sample, tensors["out.guided_step.sample"], atol=atol, rtol=0)


def test_golden_loop(public):
    tensors, about, denoise = public
    noise = iter(tensors["in.step_noise"][1:])
    x = LINEAR.add_noise(tensors["in.start"], 4, tensors["in.q_noise"])
    x = generate(denoise, x, 4, LINEAR, noise.__next__, SkipGuidance(about["scale"], every=2), tensors["in.ref"])
    torch.testing.assert_close(x, tensors["out.loop_noise4_skip2"], atol=about["tolerance"]["loop_atol"], rtol=0)


def test_no_step_of_noise_gives_the_input_back():
    picture = torch.rand(1, 3, 8, 8)
    assert LINEAR.add_noise(picture, 0, torch.randn_like(picture)) is picture
    assert LINEAR.sigma(0) == 0
    assert LATENT.steps_as_noisy_as(LINEAR, 0) == 0


def test_the_same_noise_brings_damaged_and_clean_picture_together():
    damaged, clean, noise = torch.rand(3, 1, 3, 8, 8, dtype=torch.float64) * 2 - 1
    apart = []
    for steps in (1, 50, 200, 300, 600, 1000):
        apart.append((LINEAR.add_noise(damaged, steps, noise) - LINEAR.add_noise(clean, steps, noise)).norm())
        expected = math.sqrt(LINEAR.left(steps)) * (damaged - clean).norm()
        torch.testing.assert_close(apart[-1], expected, rtol=1e-12, atol=1e-12)
    assert apart == sorted(apart, reverse=True)


def test_divergence_falls_and_entropy_rises_with_noise():
    counts = (200, 300, 600)
    assert [round(LINEAR.divergence(steps), 4) for steps in counts] == [0.9664, 0.3284, 0.0133]
    assert all(LINEAR.divergence(steps) > LINEAR.divergence(steps + 1) for steps in range(1, 1000))
    entropy = [LINEAR.entropy(steps) for steps in range(1, 1001)]
    assert entropy == sorted(entropy)


@pytest.mark.parametrize("steps", [200, 300, 600])
def test_divergence_and_entropy_agree_with_draws(steps):
    """Equations 3 and 5 of the supplement, as what they stand for: means of log densities over draws."""
    generator = torch.Generator().manual_seed(steps)
    noise = torch.randn(1_000_000, generator=generator, dtype=torch.float64)
    centres = torch.tensor([0.7, -0.4], dtype=torch.float64)
    x = LINEAR.add_noise(centres[0].expand(len(noise)), steps, noise)
    own, other = (
        torch.distributions.Normal(math.sqrt(LINEAR.left(steps)) * c, math.sqrt(1 - LINEAR.left(steps))).log_prob(x)
        for c in centres
    )
    expected = LINEAR.divergence(steps) * (centres[0] - centres[1]).square()
    torch.testing.assert_close((own - other).mean(), expected, rtol=0.02, atol=0)
    assert -own.mean() == pytest.approx(LINEAR.entropy(steps), rel=0.01)


@pytest.mark.parametrize(("steps", "sigma", "latent"), [(200, 0.719, 260), (300, 1.234, 419), (600, 6.135, 840)])
def test_steps_of_noise_are_mapped_by_signal_to_noise_ratio(steps, sigma, latent):
    assert LINEAR.sigma(steps) == pytest.approx(sigma, abs=5e-4)
    assert abs(LATENT.steps_as_noisy_as(LINEAR, steps) - latent) <= 1
    assert LINEAR.steps_as_noisy_as(LINEAR, steps) == steps


def test_sigmas_start_at_the_noise_added_and_end_at_none():
    sigmas = LATENT.sigmas(260)
    assert sigmas.shape == (261,)
    assert sigmas[0] == pytest.approx(LATENT.sigma(260))
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


@pytest.mark.parametrize(
    ("steps", "every", "guided"), [(600, 20, 30), (200, 20, 10), (19, 20, 0), (4, 2, 2), (50, 0, 0)]
)
def test_every_nth_step_is_guided(steps, every, guided):
    assert sum(SkipGuidance(every=every).acts(t) for t in range(steps)) == guided


class Gaussian:
    """The optimal denoiser where every value of a clean picture is drawn from one normal distribution."""

    def __init__(self, mean: float | torch.Tensor, deviation: float, schedule: NoiseSchedule = LINEAR):
        self.mean, self.variance, self.schedule = mean, deviation**2, schedule

    def __call__(self, x: torch.Tensor, t: int) -> torch.Tensor:
        left = self.schedule.left(t + 1)
        gain = math.sqrt(left) * self.variance / (left * self.variance + 1 - left)
        clean = self.mean + gain * (x - math.sqrt(left) * self.mean)
        return (x - math.sqrt(left) * clean) / math.sqrt(1 - left)


def samples(
    denoise: Callable, damaged: torch.Tensor, steps: int, guidance: SkipGuidance | None = None, seed: int = 0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(damaged.shape, generator=generator)

    x = LINEAR.add_noise(damaged, steps, draw())
    return generate(denoise, x, steps, LINEAR, draw, guidance, damaged)


@pytest.fixture
def damaged() -> torch.Tensor:
    """The same 16 values 200 times over: the batch shows how far samples spread."""
    return (0.8 * torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(1)) - 0.4).expand(200, -1, -1, -1)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).flatten(1).norm(dim=1).mean())


def test_the_unguided_samples_are_drawn_from_the_prior(damaged):
    out = samples(Gaussian(0.1, 0.2), damaged, 900)
    assert out.mean() == pytest.approx(0.1, abs=0.02)
    assert out.std() == pytest.approx(0.2, rel=0.05)


def test_more_noise_leads_further_from_the_input(damaged):
    apart = [distance(samples(Gaussian(0.0, 0.3), damaged, steps), damaged) for steps in (20, 100, 200, 400, 800)]
    assert apart == sorted(apart)
    assert apart[0] < 0.5 * apart[-1]


@pytest.mark.parametrize("exact", [True, False])
def test_frequent_guidance_leads_closer_to_the_input_and_samples_spread_less(damaged, exact):
    out = [
        samples(Gaussian(0.0, 0.3), damaged, 600, every and SkipGuidance(every=every, exact=exact))
        for every in (None, 50, 20, 10, 5)
    ]
    apart = [distance(one, damaged) for one in out]
    spread = [float(one.std(0).mean()) for one in out]
    assert apart == sorted(apart, reverse=True)
    assert spread == sorted(spread, reverse=True)
    assert apart[-1] < 0.5 * apart[0]


def test_guidance_of_no_strength_or_of_no_step_is_no_guidance(damaged):
    plain = samples(Gaussian(0.0, 0.3), damaged, 60)
    for guidance in (SkipGuidance(scale=0.0), SkipGuidance(every=0)):
        assert torch.equal(samples(Gaussian(0.0, 0.3), damaged, 60, guidance), plain)


def test_a_narrow_prior_stays_near_the_truth_where_a_wide_one_drifts(damaged):
    """The paper's figure 8 in miniature: the constraint makes it harmless to add more noise."""
    truth = damaged + 0.05
    narrow, wide = (
        [distance(samples(prior, damaged, steps), truth) for steps in (50, 100, 200, 400, 800)]
        for prior in (Gaussian(truth, 0.06), Gaussian(0.0, 0.35))
    )
    assert max(narrow) < 1.1 * min(narrow)
    assert wide == sorted(wide)
    assert wide[-1] > 1.5 * wide[0]
    assert wide[0] > 3 * max(narrow)


@pytest.mark.parametrize("t", [20, 199])
def test_the_gradient_is_that_of_the_distance(denoiser, t):
    generator = torch.Generator().manual_seed(t)
    x, goal, along = torch.randn(3, 2, 3, 16, 16, generator=generator)
    x, goal, along = (0.5 * x).double(), (0.3 * goal).double(), along.double()
    net = UNet2DModel.from_config(denoiser.config).double().eval()

    def denoise(x, t):
        return net(x, t).sample

    def apart(x: torch.Tensor) -> torch.Tensor:
        return (goal - LINEAR.reverse(x, t, denoise(x, t)).clean).flatten(1).norm(dim=1).sum()

    _, gradient = SkipGuidance().push(denoise, LINEAR, x, t, goal)
    with torch.no_grad():
        slope = (apart(x + 1e-5 * along) - apart(x - 1e-5 * along)) / 2e-5
    torch.testing.assert_close((gradient * along).sum(), slope, rtol=1e-3, atol=0)


@pytest.mark.parametrize("exact", [True, False])
def test_no_distance_no_gradient(exact):
    x = torch.rand(2, 3, 4, 4)
    goal = LINEAR.reverse(x, 10, torch.zeros_like(x)).clean
    _, gradient = SkipGuidance(exact=exact).push(lambda x, t: 0 * x, LINEAR, x, 10, goal)
    assert not gradient.any()


def test_the_cheap_push_moves_the_clean_picture_straight_to_the_goal(denoiser):
    """It is the shift of the predicted clean picture that samplers with a hook for it can be given."""
    x, goal, t = torch.randn(1, 3, 16, 16), torch.rand(1, 3, 16, 16), 99
    step, gradient = SkipGuidance(exact=False).push(lambda x, t: denoiser(x, t).sample, LINEAR, x, t, goal)
    assert gradient.norm() == pytest.approx(1, rel=1e-5)
    shifted = step.clean - 0.3 / step.sway * towards(goal, step.clean)
    torch.testing.assert_close(step.mean + step.sway * (shifted - step.clean), step.mean - 0.3 * gradient)


def test_the_restorer_takes_as_much_noise_in_the_schedule_of_its_denoiser(denoiser):
    totals = []
    conditions = Conditions(progress=lambda done, total: totals.append(total))
    for schedule in (LINEAR, LATENT):
        base = PixelDiffusion(denoiser, 16, 2, schedule)
        restorer = generation(lambda base=base: base, "tiny", 16, denoise=0.04)
        restorer.restore(torch.rand(1, 3, 16, 16), conditions)
    assert set(totals) == {40, LATENT.steps_as_noisy_as(LINEAR, 40)}


@pytest.mark.parametrize("exact", [True, False])
def test_guidance_works_under_inference_mode_with_weights_made_there(exact):
    """ComfyUI executes every node under inference mode."""
    with torch.inference_mode():
        torch.manual_seed(0)
        net = ADMUNet(32, 32, 1, channel_mult="1,1", attention_resolutions="16").eval()
        torch.nn.init.normal_(net.out[2].weight, std=0.05)
        tuned = {"unet.out.2.bias": net.out[2].bias + 0.1}
        base = PixelDiffusion(net, 16, 2)
        plain = generation(lambda: base, "adm", 16, denoise=0.006)
        guided = replace(plain, skip_guidance=SkipGuidance(every=2, exact=exact))
        picture = torch.rand(1, 3, 16, 16)
        out = [one.restore(picture, Conditions()) for one in (plain, guided, guided)]
        personal = guided.restore(picture, Conditions(persona=Persona("album", "adm", tuned)))
    assert torch.equal(out[1], out[2])
    assert not torch.equal(out[0], out[1])
    assert not torch.equal(out[1], personal)


class OneLayer(torch.nn.Module):
    """The least that has parameters and is called like a denoiser."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, timestep: int) -> UNet2DOutput:
        return UNet2DOutput(sample=self.layer(x))


def test_a_generative_album_is_many_pictures_and_the_same_again():
    seen = []
    conditions = Conditions(seed=5, progress=lambda done, total: seen.append((done, total)))
    base, picture = PixelDiffusion(OneLayer(), 8, 1), torch.rand(1, 3, 8, 8)
    restorer = generation(lambda: base, "one layer", 8, skip_guidance=SkipGuidance(every=200))
    album = generative_album(restorer, picture, conditions, count=2)
    assert album.shape == (2, 3, 8, 8)
    assert not torch.equal(*album)
    assert seen == [(done, 1200) for done in range(1, 1201)]
    again = replace(restorer, denoise=0.6).restore(picture, Conditions(seed=6))
    assert torch.equal(album[1:], again)
