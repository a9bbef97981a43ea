"""FaceMe's networks against public vectors, from the public file formats."""

from __future__ import annotations

import pytest
import torch
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.faceme.network import Mix, load_mix
from safetensors.torch import save_file


@pytest.mark.parametrize("form", ["safetensors", "torch.save"])
def test_golden_mix_at_full_width(golden, tmp_path, form):
    """The public file is mix.safetensors; the companion holds the same tensors as overlapping views."""
    tensors, about = golden("faceme_mix")
    path = golden.folder / about["companion_file"].split(":")[0]
    if form == "safetensors":
        public = {name: value.contiguous().clone() for name, value in torch.load(path, weights_only=True).items()}
        path = tmp_path / "mix.safetensors"
        save_file(public, path)
    out = load_mix(path)(tensors["full.in.clip_emb"], tensors["full.in.id_emb"])
    tolerance = about["tolerance"]
    torch.testing.assert_close(out, tensors["full.out"], rtol=tolerance["full_rtol"], atol=tolerance["full_atol"])


def test_golden_mix_of_other_widths(golden, tmp_path):
    tensors, about = golden("faceme_mix")
    path = tmp_path / "mix.safetensors"
    save_file({name.removeprefix("w."): value for name, value in tensors.items() if name.startswith("w.")}, path)
    mix, atol = load_mix(path), about["tolerance"]["reduced_atol"]
    torch.testing.assert_close(
        mix.pro_id(tensors["reduced.in.id_emb"]), tensors["reduced.mid.pro_id"], atol=atol, rtol=0
    )
    out = mix(tensors["reduced.in.clip_emb"], tensors["reduced.in.id_emb"])
    torch.testing.assert_close(out, tensors["reduced.out"], atol=atol, rtol=0)


def test_the_public_mix_has_38_tensors_and_39_million_parameters():
    with torch.device("meta"):
        tensors = Mix().state_dict()
    assert len(tensors) == 38 and sum(value.numel() for value in tensors.values()) == 39_367_680


def test_other_files_are_named_not_executed(tmp_path):
    path = tmp_path / "mix.safetensors"
    with pytest.raises(UserError, match="mix.safetensors is not in"):
        load_mix(path)
    tensors = Mix(8, 2).state_dict()
    save_file({name: value for name, value in tensors.items() if name != "norm1.bias"}, path)
    with pytest.raises(UserError, match="norm1.bias is missing"):
        load_mix(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="is not FaceMe's mix"):
        load_mix(path)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="damaged"):
        load_mix(path)
    torch.save({"norm1.weight": print}, tmp_path / "mix.pt")
    with pytest.raises(UserError, match="more than plain weights"):
        load_mix(tmp_path / "mix.pt")
