"""The presets of the published restorers: the papers' values, and that they reach the restorer."""

from __future__ import annotations

import pytest
from personal_restore.lib.vocabulary import UserError
from personal_restore.nodes import diffbir, face2scene, faceme, generation, s3diff, stablesr
from personal_restore.nodes.presets import OWN, with_preset

NODES = {
    stablesr.StableSRRestorer: stablesr.PRESETS,
    diffbir.DiffBIRRestorer: diffbir.PRESETS,
    s3diff.S3DiffRestorer: s3diff.PRESETS,
    faceme.FaceMeRestorer: faceme.PRESETS,
    face2scene.Face2SceneRestorer: face2scene.PRESETS,
    generation.RestorationByGeneration: generation.PRESETS,
    generation.GenerativeAlbum: generation.ALBUM_PRESETS,
}


def test_the_published_values_are_the_papers_and_their_codes():
    pfstorer = stablesr.PRESETS["published, PFStorer"]
    assert (pfstorer["steps"], pfstorer["cfg"], pfstorer["blind_negative"]) == (200, 4.0, False)
    assert pfstorer["prompt"] == "masterpiece, best quality, realistic, very clear, professional"
    assert pfstorer["negative"] == "3d, cartoon, anime, sketches, worst quality, low quality"
    assert (stablesr.PRESETS["published, StableSR"]["steps"], stablesr.PRESETS["published, StableSR"]["cfg"]) == (
        200,
        1,
    )
    pivot = diffbir.PRESETS["published, Dual-Pivot Tuning"]
    assert (pivot["steps"], pivot["cfg"], pivot["control"], pivot["denoise"]) == (50, 1.0, 1.0, 1.0)
    assert diffbir.PRESETS["published, DiffBIR"]["cfg"] == 4.0
    assert generation.PRESETS["published, 256 px"] == {"denoise": 0.2, "skip_guidance": 0.0}
    assert generation.PRESETS["published, 512 px"] == {"denoise": 0.3, "skip_guidance": 0.0}
    assert generation.ALBUM_PRESETS["published"] == {"count": 16, "skip_guidance": 0.3, "every": 20}
    assert face2scene.PRESETS["published"] == {"cfg": 1.1} and s3diff.PRESETS["published"] == {"cfg": 1.07}
    assert (faceme.PRESETS["published"]["steps"], faceme.PRESETS["published"]["cfg"]) == (50, 5.0)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_published_restorer_offers_its_presets_and_own_changes_nothing(node):
    presets = NODES[node]
    schema = node.define_schema()
    (offered,) = (one.options["options"] for one in schema.inputs if one.id == "preset")
    assert tuple(offered) == (OWN, *presets) and any(name.startswith("published") for name in presets)
    assert "quick" in presets
    inputs = {one.id for one in schema.inputs} | {"every", "steps"}  # two are not shown by Restoration by Generation
    assert all(values.keys() <= inputs for values in presets.values())
    given = {"cfg": 3.3, "prompt": "kept"}
    assert with_preset(schema.display_name, presets, OWN, given) == given
    with pytest.raises(UserError, match=f"{schema.display_name}: there is no preset 'best'. Choose one of own, quick"):
        with_preset(schema.display_name, presets, "best", given)
