"""The bridge and the stand-in for ComfyUI's types, where ComfyUI's own are at hand."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.comfyui


def test_the_bridge_finds_comfyui(inside):
    inside("assert bridge.IN_COMFYUI and bridge.io is comfy_api.latest.io")


def test_a_network_is_under_comfyui_s_memory_management(inside):
    inside("""
        class LikeDiffusers(torch.nn.Conv2d):
            @property
            def device(self):
                return self.weight.device

        comfy.model_management.unload_all_models()
        with torch.inference_mode():
            network = LikeDiffusers(3, 3, 1)
            before = network.weight.clone()
            load = bridge.keep(network)
            assert load(memory_required=2**20) is network and load() is network
            held = [loaded.model.model for loaded in comfy.model_management.current_loaded_models]
            assert [one.module for one in held] == [network]
            comfy.model_management.unload_all_models()
            assert not comfy.model_management.current_loaded_models
            assert torch.equal(load().weight, before) and not network.training
    """)


def test_a_network_that_the_host_has_unloaded_is_told_once(inside):
    inside("""
        heard = []
        comfy.model_management.unload_all_models()
        load = bridge.keep(torch.nn.Conv2d(3, 3, 1), unloaded=lambda: heard.append(1))
        load(), load()
        assert not heard
        comfy.model_management.unload_all_models()
        assert heard == [1]
    """)


def test_what_is_kept_from_files_is_given_back_when_the_user_frees_memory(inside):
    inside("""
        import gc, time, weakref
        from personal_restore.models.shared.kept import LEAVING, kept

        def build(keep, path):
            return keep(torch.nn.Conv2d(3, 3, 1))

        file = pathlib.Path(base) / "weights"
        file.touch()
        load = kept(build, file)
        network = weakref.ref(load())
        assert kept(build, file) is load
        comfy.model_management.unload_all_models()
        del load
        time.sleep(LEAVING + .5)
        gc.collect()
        assert network() is None, "somebody keeps the network"
        assert kept(build, file)() is not None
    """)


def test_device_and_precision_are_the_choice_of_comfyui_s_user(inside):
    inside("""
        from unittest import mock
        from personal_restore.lib.vocabulary import Place

        management, args = comfy.model_management, comfy.cli_args.args
        asked = {"unet": torch.float16, "vae": torch.bfloat16, "training": torch.bfloat16}

        def places():
            return {part: bridge.place(part, half) for part, half in asked.items()}

        def single(where, *parts):
            return {part: Place(where, torch.float32 if part in parts else half) for part, half in asked.items()}

        cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
        with mock.patch.object(torch.cpu, "_is_avx512_bf16_supported", lambda: False):
            assert places() == single(cpu, "unet", "vae"), "with --cpu only autocast is in half precision"
        for able, flag in ((True, None), (False, None), (True, "force_fp32"), (True, "fp32_unet"), (True, "fp32_vae")):
            with (
                mock.patch.object(torch.cpu, "_is_avx512_bf16_supported", lambda: able),
                mock.patch.object(args, flag or "cpu", True),
            ):
                for part, others in (("embedded", "fp32_vae"), ("vae", "fp32_unet")):
                    half = torch.bfloat16 if able and flag in (None, others) else torch.float32
                    assert bridge.place(part, torch.bfloat16) == Place(cpu, half), (part, able, flag)
        card = mock.Mock(major=9, minor=0, total_memory=2**36)
        card.name = "NVIDIA H100"
        with (
            mock.patch.object(management, "get_torch_device", lambda: cuda),
            mock.patch.object(management, "cpu_state", management.CPUState.GPU),
            mock.patch.object(torch.cuda, "get_device_properties", lambda device=None: card),
        ):
            assert places() == single(cuda)
            with mock.patch.object(management, "FORCE_FP32", True), mock.patch.object(args, "force_fp32", True):
                assert places() == single(cuda, "unet", "vae", "training")
            with mock.patch.object(args, "fp32_unet", True):
                assert places() == single(cuda, "unet", "training")
            with mock.patch.object(args, "fp32_vae", True):
                assert places() == single(cuda, "vae")
            with mock.patch.object(args, "bf16_unet", True):
                assert places() == single(cuda), "the half precision that the network tolerates"
            card.major, card.name = 5, "GTX 960"
            with mock.patch.object(torch.cuda, "is_bf16_supported", lambda: False):
                assert places() == single(cuda, "unet", "vae")
    """)


def test_an_upscaler_of_core_is_managed_with_and_without_a_patcher_of_its_own(inside):
    inside("""
        import comfy.model_patcher

        class Descriptor:
            def __init__(self):
                self.model = torch.nn.Conv2d(3, 3, 1)

        plain, patched = Descriptor(), Descriptor()
        cpu = torch.device("cpu")
        patched.patcher = comfy.model_patcher.CoreModelPatcher(patched.model, load_device=cpu, offload_device=cpu)
        for upscaler in (plain, patched):
            assert bridge.keep_upscaler(upscaler)() is upscaler
        loaded = [loaded.model for loaded in comfy.model_management.current_loaded_models]
        assert len(loaded) <= 2 and patched.patcher in loaded
    """)


def test_progress_reaches_the_bar_and_raises_when_the_user_cancels(inside):
    inside("""
        from PIL import Image

        heard, seen = [], []

        def hook(done, total, preview, **more):
            heard.append((done, total))
            seen.append(preview)

        comfy.utils.set_progress_bar_global_hook(hook)
        update = bridge.progress(4)
        picture = Image.new("RGB", (60, 40))
        update(1, 4, picture)
        comfy.model_management.interrupt_current_processing()
        try:
            update(2, 4)
        except comfy.model_management.InterruptProcessingException:
            update(4, 4)
        assert heard == [(1, 4), (4, 4)], heard
        assert seen == [("JPEG", picture, None), None], seen
    """)


def test_folders_are_comfyui_s_own(inside):
    inside("""
        assert bridge.input_folder() == pathlib.Path(base) / "input"
        assert bridge.output_folder() == pathlib.Path(base) / "output"
        assert bridge.models_folder() == pathlib.Path(base) / "models" / "personal_restore"
        assert bridge.weight_folders("facerestore_models") == [pathlib.Path(base) / "models" / "facerestore_models"]
        assert bridge.device() == torch.device("cpu")
        (bridge.input_folder() / "a b.png").touch()
        assert bridge.resolve_input("a b.png [input]").name == "a b.png"
        try:
            bridge.resolve_input(root)
        except ValueError as error:
            assert "lies outside" in str(error) and "command line" not in str(error)
        else:
            raise AssertionError("a path outside was not refused")
    """)


def test_a_models_folder_named_by_the_user_comes_first(inside):
    inside("""
        folder_paths.folder_names_and_paths.pop("personal_restore", None)
        folder_paths.add_model_folder_path("personal_restore", "/somewhere/else")
        assert bridge.models_folder() == pathlib.Path("/somewhere/else")
    """)


def test_the_stand_in_describes_every_kind_of_input_as_comfyui_does(inside):
    inside("""
        import json
        from personal_restore.lib.standin import io as stand_in

        def make(io):
            common = dict(display_name="shown", optional=True, tooltip="a hint", advanced=True)
            widget = dict(common, socketless=True, force_input=True)
            class Node(io.ComfyNode):
                @classmethod
                def define_schema(cls):
                    return io.Schema(
                        node_id="PR_Test", display_name="Test", category="here/there", description="What it does.",
                        search_aliases=["probe"], is_output_node=True, is_experimental=True, is_deprecated=True,
                        is_input_list=True, not_idempotent=True, essentials_category="Basics",
                        hidden=[io.Hidden.unique_id],
                        inputs=[
                            io.Image.Input("image"), io.Mask.Input("mask", **common), io.UpscaleModel.Input("model"),
                            io.Conditioning.Input("conditioning"), io.AnyType.Input("anything"),
                            io.Custom("PR_X").Input("x"),
                            io.Int.Input("int"),
                            io.Int.Input(
                                "int2", default=0, min=0, max=2**53 - 1, step=2, control_after_generate=True,
                                display_mode=io.NumberDisplay.slider, **widget,
                            ),
                            io.Int.Input("int3", control_after_generate=io.ControlAfterGenerate.fixed),
                            io.Float.Input("float"),
                            io.Float.Input(
                                "float2", default=0.0, min=-1.0, max=1.0, step=0.1, round=0.01,
                                display_mode=io.NumberDisplay.slider, **widget,
                            ),
                            io.String.Input("text"),
                            io.String.Input(
                                "text2", default="", multiline=True, placeholder="name", dynamic_prompts=False, **widget
                            ),
                            io.Boolean.Input("switch"),
                            io.Boolean.Input("switch2", default=False, label_on="yes", label_off="no", **widget),
                            io.Combo.Input("combo", options=["a", "b"], default="b", **common),
                            io.Combo.Input("combo2", ["a"], "shown", True, "a hint"),
                            io.Combo.Input("numbers", options=[1, 2]),
                            io.BoundingBox.Input("box"),
                            io.BoundingBox.Input(
                                "box2", optional=True, default=dict(x=1, y=1, width=1, height=1), component="ImageCrop",
                                socketless=False, force_input=True,
                            ),
                            io.ImageCompare.Input("compare", optional=True, tooltip="a hint", advanced=True),
                        ],
                        outputs=[
                            io.Image.Output(), io.Image.Output("named"), io.Mask.Output("id", "shown", "a hint", True),
                            io.Custom("PR_X").Output(display_name="x", is_output_list=True),
                        ],
                    )

                @classmethod
                def execute(cls, **inputs):
                    return io.NodeOutput()

            class Bare(Node):
                @classmethod
                def define_schema(cls):
                    return io.Schema(node_id="PR_Bare")

            return Node, Bare

        for theirs, ours in zip(make(bridge.io), make(stand_in)):
            expected = json.loads(json.dumps(theirs.GET_NODE_INFO_V1()))
            assert json.loads(json.dumps(stand_in.object_info(ours))) == expected, expected
    """)


def test_the_prompts_that_are_known_as_numbers_are_what_comfyui_makes_of_their_words(inside):
    inside("""
        from comfy.text_encoders.sd2_clip import SD2Tokenizer
        from personal_restore.models.s3diff import network as s3diff
        from personal_restore.models.shared import clip_text
        from personal_restore.models.faceme.network import A_PHOTO_OF_FACE
        from personal_restore.training.face2scene import PROMPTS

        tokenizer = SD2Tokenizer()
        bad = "oil painting, cartoon, blur, dirty, messy, low quality, deformation, low resolution, oversmooth"
        for words, known in (
            ("A high-resolution, 8K, ultra-realistic image with sharp focus, vibrant colors, and natural lighting.", s3diff.PROMPTS[0]),
            (bad, s3diff.PROMPTS[1]),
            ("a high-resolution, 8K, ultra-realistic sharp image, vibrant colors, and natural lighting", PROMPTS[0]),
            (bad, PROMPTS[1]),
            ("A photo of face.", A_PHOTO_OF_FACE),
        ):
            (tokens,) = tokenizer.tokenize_with_weights(words)["h"]
            assert [token for token, weight in tokens] == clip_text.text(known, 0)[0].tolist(), words
    """)
