"""guided-diffusion's UNet against public vectors, and the layout of the published checkpoint."""

from __future__ import annotations

import inspect

import pytest
import torch
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.gen2res.adm_unet import ADMUNet, load_adm_unet

SMALL = {
    "image_size": 64,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "32",
}


def flags_of(about: dict) -> dict:
    """Those of the published flags that shape the network; the others belong to training and sampling."""
    flags = about["model_config"]
    assert not flags["class_cond"] and not flags["use_new_attention_order"]
    return {name: flags[name] for name in inspect.signature(ADMUNet).parameters}


def test_golden_unet_from_the_public_layout(golden):
    tensors, about = golden("gen2res")
    net = load_adm_unet(golden.folder / "gen2res_unet.pt", **flags_of(about))
    with torch.inference_mode():
        out = net(tensors["out.q_sample"], about["K"] - 1).sample
    torch.testing.assert_close(out, tensors["out.unet_raw"], atol=about["tolerance"]["unet_atol"], rtol=0)


def test_the_published_checkpoint_has_exactly_these_tensors(golden):
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in ADMUNet().state_dict().items()}
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 131_713_286
    listed = golden.folder.parent / "reference" / "gen2res_keys.md"
    if not listed.is_file():
        pytest.skip("the list of published tensors is absent")
    lines = [line.split(" ", 1) for line in listed.read_text().splitlines() if line and not line.startswith("#")]
    assert shapes == {name: tuple(int(n) for n in shape.strip("() ,").split(",")) for name, shape in lines}


def test_the_512_pixel_layout_of_the_paper_builds():
    with torch.device("meta"):
        net = ADMUNet(512, 256, num_head_channels=64, attention_resolutions="32,16,8")
    heads = {layer.heads for layer in net.modules() if hasattr(layer, "heads")}
    assert heads == {512 // 64, 1024 // 64}


@pytest.mark.parametrize("resblock_updown", [True, False])
def test_a_fresh_network_predicts_nothing_and_any_even_size_will_do(resblock_updown):
    net = ADMUNet(**SMALL, resblock_updown=resblock_updown).eval()
    for size in [(16, 16), (18, 26)]:
        out = net(torch.randn(2, 3, *size), torch.tensor([0, 999])).sample
        assert out.shape == (2, 6, *size)
        assert not out.any()


def test_one_time_step_serves_the_whole_batch(golden):
    tensors, about = golden("gen2res")
    net = load_adm_unet(golden.folder / "gen2res_unet.pt", **flags_of(about))
    x = torch.cat([tensors["out.q_sample"]] * 2)
    with torch.inference_mode():
        torch.testing.assert_close(net(x, 7).sample, net(x, torch.full((len(x),), 7)).sample)


def test_a_foreign_file_is_refused_by_name_and_tensor(tmp_path):
    path = tmp_path / "base_256.pt"
    with pytest.raises(UserError, match=r"base_256\.pt is not in"):
        load_adm_unet(path, **SMALL)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=r"base_256\.pt is damaged"):
        load_adm_unet(path, **SMALL)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="flat dictionary"):
        load_adm_unet(path, **SMALL)
    torch.save(ADMUNet(**SMALL, learn_sigma=False).state_dict(), path)
    with pytest.raises(UserError, match=r"out\.2\.bias has the shape \[3\], but the network needs \[6\]"):
        load_adm_unet(path, **SMALL)
    weights = ADMUNet(**SMALL).state_dict()
    del weights["out.0.bias"]
    torch.save(weights, path)
    with pytest.raises(UserError, match=r"out\.0\.bias is missing"):
        load_adm_unet(path, **SMALL)
    torch.save(ADMUNet(**SMALL).state_dict() | {"label_emb.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"label_emb\.weight .* no such tensor"):
        load_adm_unet(path, **SMALL)


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"out.0.bias": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(UserError, match="more than plain weights"):
        load_adm_unet(tmp_path / "trap.pt", **SMALL)
    assert not (tmp_path / "sprung").exists()
