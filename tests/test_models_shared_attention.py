"""InstantRestore's shared attention against public vectors, and its places in a UNet."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention
from personal_restore.models.instantrestore.shared_attention import Seen, SharedAttention, record, share
from personal_restore.tests import tiny_s3diff as tiny


@pytest.fixture
def attention(golden) -> Attention:
    tensors, about = golden("instantrestore_attn")
    config = about["config"]
    attention = Attention(
        config["query_dim"], heads=config["heads"], dim_head=config["dim_head"],
        bias=config["qkv_bias"], out_bias=config["out_bias"],
    )  # fmt: skip
    attention.load_state_dict({name[2:]: value for name, value in tensors.items() if name.startswith("w.")})
    return attention.eval()


@pytest.mark.parametrize("adain", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_golden_shared_attention(golden, attention, adain, own):
    tensors, about = golden("instantrestore_attn")
    attention.set_processor(processor := SharedAttention(adain, own))
    processor.seen = Seen(tensors["in.ref_keys"], tensors["in.ref_values"])
    out, expected = attention(tensors["in.hidden_states"]), tensors[f"out.adain{adain:d}_input{own:d}"]
    torch.testing.assert_close(out, expected, atol=about["tolerance"]["atol"], rtol=0)


def test_golden_without_references(golden, attention):
    tensors, about = golden("instantrestore_attn")
    attention.set_processor(SharedAttention(adain=True, own=False))
    out = attention(tensors["in.hidden_states"])
    torch.testing.assert_close(out, tensors["out.no_reference"], atol=about["tolerance"]["atol"], rtol=0)


@torch.no_grad()
def test_a_unet_searches_its_references_in_the_decoder_only():
    unet, other = tiny.turbo().unet, tiny.turbo().unet
    latent, text = torch.randn(1, 4, 16, 16), tiny.prompts()[0]
    plain = unet(latent, 249, text).sample
    shared, recorders = share(unet, adain=False, own=False), record(other)
    assert len(shared) == len(recorders) == 9  # three blocks of three; the fourth has no attention
    torch.testing.assert_close(unet(latent, 249, text).sample, plain, atol=1e-5, rtol=0)

    def looking_at(references: torch.Tensor, time: int) -> torch.Tensor:
        other(references, time, text.expand(len(references), -1, -1))
        for processor, recorder in zip(shared, recorders, strict=True):
            processor.seen = recorder.take(len(references))
        return unet(latent, 249, text).sample

    # A reference that is the picture itself tells the same as its own keys and values; twice the same tells nothing more.
    same = looking_at(latent, 249)
    torch.testing.assert_close(same, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(looking_at(latent.repeat(3, 1, 1, 1), 249), plain, atol=1e-5, rtol=0)
    assert (looking_at(torch.randn(2, 4, 16, 16), 1) - plain).abs().max() > 1e-3
