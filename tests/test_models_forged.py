"""Files of weights that no publisher made: every loader refuses them with a UserError that names the file."""

from __future__ import annotations

import pytest
import torch
from personal_restore.lib.storage.tensors import write_tensors
from personal_restore.lib.vocabulary import UserError
from personal_restore.models.embedded import weights as embedded
from personal_restore.models.face2scene import network as face2scene
from personal_restore.models.faceme import network as faceme
from personal_restore.models.instantrestore import network as instantrestore
from personal_restore.models.ransacflow.network import load_coarse, load_flow
from personal_restore.models.s3diff import network as s3diff
from personal_restore.models.shared.public_weights import load_public
from personal_restore.models.upscale import networks
from torch import nn

DEEP: dict = {}
for _ in range(300):
    DEEP = {"a": DEEP}
ONE = torch.ones(2)
CONTENTS = [
    3, "text", [], [1], {}, {1: 2}, {1: ONE}, {"a": 3}, {"a": {"b": ONE}}, {"weight": "x", "bias": 1}, {"weight": torch.ones(0)}, DEEP,
    {"state_dict": {}, "cfg": {"model": {}}}, {"state_dict": {1: ONE}, "cfg": {"model": {}}},
    {"state_dict": {"a": 1}, "cfg": {"model": {}}},
    {"id_encoder": {"visual_projection_2.weight": 3}}, {"id_encoder": {"visual_projection_2.weight": ONE, 5: ONE}},
    {"model": 3}, {"model": {"conv1.weight": "x"}}, {"params": {"conv_body_first.weight": 1}}, {"params_ema": {"a": 1}},
    {"weight": torch.ones(2, 2).to_sparse(), "bias": ONE},
]  # fmt: skip
LOADERS = {
    "flat": lambda path: load_public(nn.Linear(2, 2), path, "that file"),
    "instantrestore": instantrestore.load_instantrestore,
    "photomaker": faceme.load_encoder,
    "mix": faceme.load_mix,
    "coarse": load_coarse,
    "flow": load_flow,
    "face": networks.load_face_network,
    "s3diff": lambda path: s3diff.read_s3diff(path, path),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_forged_file_of_torch_is_refused_by_name(tmp_path, name):
    path = tmp_path / "forged.pth"
    for content in CONTENTS:
        torch.save(content, path)
        with pytest.raises(UserError, match="forged") as error:
            LOADERS[name](path)
        assert str(tmp_path) not in str(error.value), content


@pytest.mark.parametrize(
    "config", ["null", "[]", "3", "{}", "[" * 99999, '{"adapters": []}', '{"adapters": {"unet": 3}}', '{"widths": [0]}']
)
def test_a_forged_file_of_our_own_is_refused_by_name(tmp_path, config):
    path = tmp_path / "forged.safetensors"
    for kind in ("extractor", "one_step", face2scene.KIND, s3diff.KIND, "other"):
        for metadata in ({"kind": kind, "config": config, "provenance": "{}", "token_space": "x"}, {"kind": kind}, {}):
            write_tensors(path, {"a": ONE}, metadata)
            for read in (embedded.load_embedded, face2scene.read_face2scene, s3diff.read_s3diff):
                with pytest.raises(UserError, match="forged"):
                    read(path)
