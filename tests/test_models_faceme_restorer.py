"""FaceMe from its public file formats to restored faces, on tiny random networks; and its node."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
import torch
from personal_restore.lib.restoring.apply import restore_faces
from personal_restore.lib.storage.names import shown_folder
from personal_restore.lib.vocabulary import Conditions, Faces, Library, Person, Reference, Restorer, UserError
from personal_restore.models.faceme import network as faceme
from personal_restore.models.faceme.restorer import FaceMeRestorer
from personal_restore.nodes.faceme import FaceMeRestorer as Node
from personal_restore.tests import tiny_sdxl as tiny


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> faceme.Files:
    return tiny.write_public_files(tmp_path_factory.mktemp("faceme"))


@pytest.fixture(scope="module")
def net(files) -> faceme.FaceMe:
    return faceme.load_faceme(files, tiny.TOPOLOGY, tiny.CONTROLNET, tiny.VISION)


def identify(crop: torch.Tensor) -> np.ndarray:
    """Colours of the two halves stand in for ArcFace."""
    vector = torch.cat([crop[:, :256].mean((1, 2)), crop[:, 256:].mean((1, 2))]).numpy()
    return vector / np.linalg.norm(vector)


@pytest.fixture
def restorer(net) -> FaceMeRestorer:
    return FaceMeRestorer(lambda: net, identify, steps=3, color=None, native_size=64)


@pytest.fixture(scope="module")
def album(astronaut) -> tuple[Reference, ...]:
    pictures = astronaut[0], astronaut[0].flip(1), astronaut[0].flip(0).pow(2)
    return tuple(Reference(f"{n}", picture, np.zeros((5, 2))) for n, picture in enumerate(pictures))


@pytest.fixture(scope="module")
def face(astronaut) -> torch.Tensor:
    return astronaut[..., 60:124, 190:254].contiguous()


def test_pictures_in_pictures_out_and_the_same_seed_gives_the_same(restorer, face, album):
    assert isinstance(restorer, Restorer) and restorer.needs_references
    seen = []

    def progress(done, total):
        return seen.append((done, total))

    one = Conditions(album, seed=1, progress=progress)
    first, again = restorer.restore(face, one), restorer.restore(face, one)
    assert first.shape == face.shape and first.dtype == torch.float32 and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)
    assert (restorer.restore(face, Conditions(album, seed=2)) - first).abs().max() > 1e-3
    assert seen[:3] == [(1, 3), (2, 3), (3, 3)]
    batch = restorer.restore(torch.cat([face.flip(3), face]), one)
    assert torch.equal(batch[1:], first) and seen[-1] == (6, 6)


def test_the_album_steers_and_so_does_the_damaged_face(restorer, face, album):
    def restored(references, picture=face):
        return restorer.restore(picture, Conditions(references))

    plain = restored(album[:1])
    assert torch.equal(plain, restored((replace(album[0], name="renamed", embedding=np.ones(3)),)))
    for other in (album[1:2], album[2:], album[:2], album):
        assert (restored(other) - plain).abs().max() > 1e-3
    assert (restored(album[:1], face.flip(3)).flip(3) - plain).abs().max() > 1e-3
    # With cfg 1 only the album is asked; the further beyond, the farther from it.
    near, far = (replace(restorer, cfg=value).restore(face, Conditions(album[:1])) for value in (1.0, 9.0))
    assert (near - plain).abs().max() > 1e-4 and (far - plain).abs().max() > 1e-4


def test_colours_come_from_the_damaged_face(restorer, face, album):
    out = replace(restorer, color="wavelet").restore(face, Conditions(album))
    raw = restorer.restore(face, Conditions(album))

    def mean(picture):
        return picture.mean((2, 3))

    assert (mean(out) - mean(face)).abs().max() < (mean(raw) - mean(face)).abs().max() / 2


def test_it_agrees_with_the_pipeline_of_diffusers(net, restorer, face, album):
    """The script of the authors drives this pipeline, with latents and prompts of its own."""
    from diffusers import DDPMScheduler, StableDiffusionXLControlNetPipeline
    from personal_restore.models.faceme.restorer import SCHEDULE

    pipeline = StableDiffusionXLControlNetPipeline(
        net.vae, None, None, None, None, net.unet, net.controlnet, DDPMScheduler(**SCHEDULE), add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    generator, damaged = torch.Generator().manual_seed(5), face * 2 - 1
    latent = net.encode(damaged, torch.randn((1, 4, 8, 8), generator=generator))
    noise = torch.randn((1, 4, 8, 8), generator=generator)
    crops = torch.stack([one.crop for one in album])
    person = net.person(crops, torch.from_numpy(np.stack([identify(crop) for crop in crops])))
    expected = pipeline(
        image=damaged, latents=pipeline.scheduler.add_noise(latent, noise, torch.tensor([999])), num_inference_steps=3,
        prompt_embeds=person, pooled_prompt_embeds=net.pooled, negative_prompt_embeds=net.words,
        negative_pooled_prompt_embeds=net.pooled, guidance_scale=5.0, generator=generator, output_type="pt",
    ).images  # fmt: skip
    out = restorer.restore(face, Conditions(album, seed=5))
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)


def test_every_reference_is_one_word_in_the_place_of_face(net):
    torch.manual_seed(0)
    faces, identities = torch.rand(80, 3, 512, 512), torch.rand(80, tiny.IDENTITY)
    names = net.mix(net.encoder(faceme.clip_view(faces)), identities)
    for count in (1, 3):
        person = net.person(faces[:count], identities[:count])
        assert person.shape == net.words.shape
        assert torch.equal(person[:, :4], net.words[:, :4])
        torch.testing.assert_close(person[0, 4 : 4 + count], names[:count], atol=1e-5, rtol=1e-5)
        assert torch.equal(person[:, 4 + count :], net.words[:, 5 : 78 - count])
    torch.testing.assert_close(net.person(faces, identities)[0, 4:], names[:73], atol=1e-5, rtol=1e-5)


def test_clip_sees_the_face_as_its_published_preprocessing_shows_it(astronaut):
    from PIL import Image

    left, top, side = faceme.FACE_SQUARE
    square = (astronaut[0, :, top : top + side, left : left + side] * 255).byte().permute(1, 2, 0).numpy()
    small = Image.fromarray(square).resize((224, 224), Image.Resampling.BICUBIC)
    shown = (np.asarray(small) / 255 - faceme.OPENAI_CLIP_MEAN) / faceme.OPENAI_CLIP_STD
    difference = faceme.clip_view(astronaut)[0].permute(1, 2, 0).numpy() - shown
    # Pillow rounds to 256 levels after each of its two passes.
    assert np.abs(difference * faceme.OPENAI_CLIP_STD * 255).max() < 3 and np.abs(difference).mean() < 0.01


def test_the_full_size_has_the_published_number_of_tensors_and_parameters():
    from diffusers import ControlNetModel
    from transformers import CLIPVisionConfig

    with torch.device("meta"):
        networks = (
            ControlNetModel.from_config(faceme.CONTROLNET),
            faceme.PhotoMakerEncoder(CLIPVisionConfig(**faceme.VISION)),
        )
    counts = [(len(one.state_dict()), sum(value.numel() for value in one.state_dict().values())) for one in networks]
    assert counts == [(844, 1_251_014_160), (393, 305_276_928)]


def test_files_of_something_else_are_named(files, tmp_path):
    def load(**other):
        return faceme.load_faceme(replace(files, **other), tiny.TOPOLOGY, tiny.CONTROLNET, tiny.VISION)

    with pytest.raises(UserError, match="mix.safetensors: the tensor add_embedding.* is missing"):
        load(controlnet=files.mix)
    with pytest.raises(UserError, match="controlnet.safetensors is not FaceMe's mix"):
        load(mix=files.controlnet)
    torch.save({"lora_weights": {}}, tmp_path / "photomaker-v1.bin")
    with pytest.raises(UserError, match="photomaker-v1.bin has no id_encoder"):
        load(photomaker=tmp_path / "photomaker-v1.bin")
    torch.save({"id_encoder": print}, tmp_path / "photomaker-v1.bin")
    with pytest.raises(UserError, match="more than plain weights"):
        load(photomaker=tmp_path / "photomaker-v1.bin")


def test_the_node_names_every_missing_file_its_folder_and_its_licence(monkeypatch, tmp_path):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    with pytest.raises(UserError) as error:
        Node.execute("none found", 50, 5.0, "wavelet")
    for part in (
        "mix.safetensors", "diffusion_pytorch_model.safetensors", "Pi-Lab License 1.0", "thomas2modyu/FaceMe",
        shown_folder(tmp_path / "faceme" / "controlnet"), "photomaker-v1.bin", "Apache-2.0", "TencentARC/PhotoMaker",
        "glintr100.onnx", "non-commercial", "RealVisXL_V3.0.safetensors", "Open RAIL", shown_folder(tmp_path / "checkpoints"),
    ):  # fmt: skip
        assert part in str(error.value)
    with pytest.raises(UserError, match="there is no checkpoint 'mine'"):
        Node.execute("mine", 50, 5.0, "wavelet")


@pytest.mark.skipif(
    importlib.util.find_spec("insightface") is None,
    reason="insightface is not installed; python run.py test installs it",
)
def test_the_node_restores_a_known_face_with_the_files_where_they_belong(
    monkeypatch, tmp_path, files, astronaut, album
):
    onnx = pytest.importorskip("onnx")
    from personal_restore.lib.faces.detect import detect_faces, make_face

    # ArcFace's place is taken by the mean of the chip's colours in two halves.
    nodes = [
        onnx.helper.make_node("AveragePool", ["input"], ["mean"], kernel_shape=[56, 112], strides=[56, 112]),
        onnx.helper.make_node("Flatten", ["mean"], ["output"]),
    ]

    def value(name, shape):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    graph = onnx.helper.make_graph(
        nodes, "x", [value("input", [1, 3, 112, 112])], [value("output", [1, tiny.IDENTITY])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    places = {
        "checkpoints/photo.safetensors": files.base,
        "faceme/mix/mix.safetensors": files.mix,
        "faceme/controlnet/diffusion_pytorch_model.safetensors": files.controlnet,
        "photomaker-v1.bin": files.photomaker,
    }
    for place, source in places.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(source)
    onnx.save(model, tmp_path / "glintr100.onnx")
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    tiny_defaults = (tiny.TOPOLOGY, tiny.CONTROLNET, tiny.VISION)
    monkeypatch.setattr(faceme.load_faceme, "__defaults__", tiny_defaults)
    assert "photo.safetensors" in Node.define_schema().inputs[0].options["options"]
    restorer = Node.execute("photo.safetensors", 2, 5.0, "wavelet").args[0]
    face = make_face(astronaut[0], detect_faces(astronaut[0])[0])
    library = Library((Person("Eileen", album[:2]),))
    faces = Faces(((replace(face, person="Eileen"), face),), (512, 512))
    known, stranger = restore_faces(astronaut, faces, restorer, library).frames[0]
    assert known.restored.shape == face.crop.shape and (known.restored - face.crop).abs().max() > 0.01
    assert stranger.restored is None
