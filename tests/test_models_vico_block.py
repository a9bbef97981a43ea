"""The personalisation block against public vectors, its gate, and its places in a UNet of diffusers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import Transformer2DModel, UNet2DConditionModel
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.pfstorer.vico_block import (
    SD_PLACES,
    PersonalTransformer,
    ReferenceFeatures,
    otsu_mask,
    personal_loss,
    personalise,
    reading,
)


@pytest.fixture
def block(golden) -> PersonalTransformer:
    """The public block: loaded under its own names, gate wide open."""
    tensors, about = golden("vico_block")
    config = about["config"]
    base = Transformer2DModel(
        config["n_heads"], config["d_head"], config["in_channels"],
        num_layers=config["depth"], cross_attention_dim=config["context_dim"],
    )  # fmt: skip
    block = PersonalTransformer(base)
    weights = {name.removeprefix("w."): value for name, value in tensors.items() if name.startswith("w.")}
    block.load_state_dict(weights | {"gamma": torch.ones_like(block.gamma)})
    return block


def read(block: PersonalTransformer, tensors: dict) -> torch.Tensor:
    with reading(block, tensors["in.ph_token"], tensors["in.eot_token"]):
        return block(tensors["in.xr"], tensors["in.context"])[0]


def test_golden_block(golden, block):
    tensors, about = golden("vico_block")
    atol = about["tolerance"]["atol"]

    def check(got: torch.Tensor, name: str):
        torch.testing.assert_close(got, tensors[name], atol=atol, rtol=0)

    check(block(tensors["in.x"], tensors["in.context"])[0], "out.x_no_image_cond")
    check(block(tensors["in.xr"], tensors["in.context"])[0], "out.xr_no_image_cond")
    check(read(block, tensors), "out.xr")
    check(block(tensors["in.x"], tensors["in.context"])[0], "out.x")
    check(block.reference[-1].placeholder, "mid.attn_ph")
    check(block.reference[-1].end_of_text, "mid.attn_eot")
    assert torch.equal(block.reference[-1].mask, tensors["mid.mask_bool"])


def test_golden_loss_and_its_gradient(golden, block):
    tensors, about = golden("vico_block")
    tolerance = about["tolerance"]
    read(block, tensors)
    loss = block.reference[-1].loss
    torch.testing.assert_close(loss, tensors["out.loss_reg"], rtol=tolerance["loss_rtol"], atol=0)
    (gradient,) = torch.autograd.grad(loss, block.transformer_blocks[0].attn2.to_k.weight)
    expected = tensors["out.grad_attn2_to_k_weight"]
    difference = torch.linalg.vector_norm(gradient - expected) / torch.linalg.vector_norm(expected)
    assert difference < tolerance["grad_rtol"]
    value = personal_loss(tensors["pers.attn_placeholder"], tensors["pers.attn_eot"])
    torch.testing.assert_close(value, tensors["pers.value"], rtol=tolerance["loss_rtol"], atol=0)


def test_golden_masks_are_exact(golden):
    tensors, _ = golden("vico_block")
    assert torch.equal(otsu_mask(tensors["otsu.in"]), tensors["otsu.bool_out"])
    assert torch.equal(otsu_mask(tensors["mid.attn_ph"]), tensors["mid.mask_bool"])


def test_the_mask_parts_two_levels_exactly_and_takes_all_of_a_constant_map():
    two = torch.rand(4, 100) < 0.3
    noisy = torch.where(two, 0.8, 0.1) + 0.02 * torch.rand(4, 100)
    assert torch.equal(otsu_mask(noisy), two)
    assert otsu_mask(torch.full((1, 9), 0.2)).all()


def test_the_loss_is_zero_for_proportional_maps_ignores_scale_and_leaves_the_end_of_text_alone():
    person, end = torch.rand(2, 30, requires_grad=True), torch.rand(2, 30, requires_grad=True)
    assert personal_loss(3 * end, end) < 1e-12
    torch.testing.assert_close(personal_loss(5 * person, end / 7), personal_loss(person, end))
    personal_loss(person, end).backward()
    assert person.grad.any()
    assert end.grad is None


def test_the_gate_open_is_the_public_block_and_shut_is_the_base(golden, block):
    tensors, _ = golden("vico_block")
    given = (tensors["in.x"], tensors["in.context"])
    base = block(*given)[0]
    read(block, tensors)
    x = block._tokens(tensors["in.x"])
    bias = torch.zeros(x.shape[:2]).masked_fill(~block.reference[-1].mask, torch.finfo(x.dtype).min)[:, None]
    ungated = block.image_cross_attention(
        x, encoder_hidden_states=block.reference[-1].tokens, encoder_attention_mask=bias
    )
    torch.testing.assert_close(block._personal(x, block.reference[-1]), ungated, atol=1e-6, rtol=0)
    assert not torch.allclose(block(*given)[0], base, atol=1e-3)
    block.strength = 0.0
    assert torch.equal(block(*given)[0], base)
    block.strength = 1.0
    torch.nn.init.zeros_(block.gamma)
    assert torch.equal(block(*given)[0], base)


def test_places_outside_the_mask_have_no_influence(golden, block):
    tensors, _ = golden("vico_block")
    read(block, tensors)
    seen = block.reference[-1]
    hidden = (torch.arange(seen.placeholder.shape[1]) < 10).expand_as(seen.placeholder)
    one_sided = ReferenceFeatures(seen.tokens, torch.where(hidden, 0.0, 1.0), seen.end_of_text)
    changed = replace(one_sided, tokens=torch.where(hidden[..., None], 100.0, seen.tokens))
    outputs = []
    for reference in (one_sided, changed):
        block.reference = (reference,) * len(block.transformer_blocks)
        outputs.append(block(tensors["in.x"], tensors["in.context"])[0])
    assert torch.equal(*outputs)


def test_at_first_only_the_gate_learns_then_the_block_too(golden, block):
    tensors, _ = golden("vico_block")
    block.requires_grad_(False)
    adapter = block.image_cross_attention.requires_grad_(True)
    torch.nn.init.zeros_(block.gamma.requires_grad_(True))
    read(block, tensors)
    optimiser = torch.optim.Adam([{"params": [block.gamma], "lr": 1e-3}, {"params": adapter.parameters(), "lr": 1e-5}])
    for gate_is_open in (False, True):
        optimiser.zero_grad()
        block(tensors["in.x"], tensors["in.context"])[0].square().mean().backward()
        assert block.gamma.grad.any()
        assert any(one.grad.any() for one in adapter.parameters()) == gate_is_open
        optimiser.step()


@pytest.mark.parametrize(("rate", "reached"), [(1e-5, 0.005), (1e-3, 0.5)])
def test_the_gate_needs_a_learning_rate_of_its_own(rate, reached):
    """Adam moves a parameter at most by its rate per step: at the block's rate the gate would stay shut for 500 steps."""
    gamma = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.Adam([gamma], lr=rate)
    for _ in range(500):
        gamma.grad = -torch.ones(3)
        optimiser.step()
    torch.testing.assert_close(gamma.detach(), torch.full((3,), reached), rtol=1e-3, atol=0)


@pytest.fixture
def unet() -> UNet2DConditionModel:
    """Stable Diffusion's plan, narrow."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 16, 16, 16), norm_num_groups=4, attention_head_dim=2,
        cross_attention_dim=12, use_linear_projection=True,
    ).eval().requires_grad_(False)  # fmt: skip


def predict(unet: UNet2DConditionModel, latent: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return unet(latent, 300, text).sample


def test_in_a_unet_a_shut_gate_is_bitwise_the_base_for_any_reference(unet):
    latent, reference, text = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16), torch.randn(2, 7, 12)
    names, base = set(unet.state_dict()), predict(unet, latent, text)
    seen_by_base = predict(unet, reference, text)
    blocks = personalise(unet)
    added = set(unet.state_dict()) - names
    assert names < set(unet.state_dict())
    assert all(
        name.startswith(SD_PLACES) and (".image_cross_attention." in name or name.endswith(".gamma")) for name in added
    )
    assert not any(value.requires_grad for name, value in unet.named_parameters() if name in names)
    torch.testing.assert_close(predict(unet, latent, text), base, atol=0, rtol=0)
    with reading(unet, torch.tensor([2, 3]), torch.tensor([5, 6])):
        torch.testing.assert_close(predict(unet, reference, text), seen_by_base)
    torch.testing.assert_close(predict(unet, latent, text), base, atol=0, rtol=0)
    for block in blocks.values():
        torch.nn.init.ones_(block.gamma)
    assert not torch.allclose(predict(unet, latent, text), base, atol=1e-4)


def test_gradients_are_the_same_with_checkpointing(unet):
    latent, reference, text = torch.randn(1, 4, 16, 16), torch.randn(1, 4, 16, 16), torch.randn(1, 7, 12)
    blocks = personalise(unet)
    for block in blocks.values():
        torch.nn.init.constant_(block.gamma, 0.3)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            unet.enable_gradient_checkpointing()
            unet.train()
        with reading(unet, torch.tensor([2]), torch.tensor([5])):
            predict(unet, reference, text)
        personal = sum(one.loss for block in blocks.values() for one in block.reference)
        unet.zero_grad()
        (predict(unet, latent, text).square().mean() + personal).backward()
        gradients.append([block.gamma.grad.clone() for block in blocks.values()])
    assert all(one.any() for one in gradients[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_blocks_of_stable_diffusion_have_the_published_size():
    with torch.device("meta"):
        blocks = [
            PersonalTransformer(Transformer2DModel(d // 64, 64, d, cross_attention_dim=1024))
            for d in (1280, 640, 640, 320)
        ]
    assert sum(p.numel() for one in blocks for p in one.image_cross_attention.parameters()) == 51_248_960
    assert sum(one.gamma.numel() for one in blocks) == 2880


def test_a_place_that_is_no_transformer_is_named(unet):
    with pytest.raises(UserError, match=r"up_blocks\.0\.attentions\.0"):
        personalise(unet, ["up_blocks.0.attentions.0"])
