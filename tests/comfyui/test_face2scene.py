"""A trained Face2Scene on core's own SD-Turbo: the same picture as from our node, at full size with random weights."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]


def test_core_s_sampler_restores_what_our_node_restores(inside, tmp_path):
    inside("""
        from pathlib import Path
        import comfy.sample, comfy.samplers, comfy.sd
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from personal_restore.models.face2scene import network as face2scene
        from personal_restore.models.shared import sd_turbo
        from personal_restore.models.embedded.weights import Extractor
        from personal_restore.nodes import face2scene as node
        from personal_restore.models.shared.sd_turbo_restorer import SDTurboRestorer
        from personal_restore.tests.tiny_s3diff import single_file
        from personal_restore.lib.vocabulary import Conditions, DegradationCode
        from comfy_extras import nodes_custom_sampler as sampling

        torch.manual_seed(0)
        turbo = sd_turbo.SDTurbo(UNet2DConditionModel.from_config(sd_turbo.UNET), AutoencoderKL.from_config(sd_turbo.VAE))
        turbo.eval().requires_grad_(False)
        turbo.vae.quant_conv.weight[4:] = 0  # a posterior of one point: core takes its mean, we draw from it
        turbo.vae.quant_conv.bias[4:] = -30
        stored = {name: tensor.clone() for name, tensor in single_file(turbo).items()}
        model, _, vae, _ = comfy.sd.load_state_dict_guess_config(stored, output_clip=False)
        del stored
        size = {"widths": [4, 6, 8], "embedding": 16, "heads": 2, "token_width": 1024}
        trained = face2scene.adapt(turbo, face2scene.ADAPTERS)
        tensors = {name: one.detach() + 0.01 * torch.randn(one.shape) for name, one in trained.items()}
        tensors |= {f"extractor.{name}": one for name, one in Extractor(**size).state_dict().items()}
        text = torch.randn(2, 1, 77, 1024)
        tensors |= {f"prompt.{name}": one for name, one in zip(face2scene.PROMPTS, text)}
        path = Path(base) / "models" / "personal_restore" / "face2scene" / "random.safetensors"
        face2scene.save_face2scene(path, {"adapters": face2scene.ADAPTERS, "extractor": size}, tensors, {})
        weights = face2scene.read_face2scene(path)
        for layer in ("unet", "vae"):
            face2scene.lora.fuse_adapters(getattr(turbo, layer))  # zero so far, since nothing was filled in
        ours = face2scene.Face2Scene(turbo, weights)

        picture = torch.rand(1, 3, 64, 64)
        code = DegradationCode(torch.zeros(1, 8, 1, 1), torch.randn(1, 21, 1024), weights.token_space)
        with torch.inference_mode():
            expected = SDTurboRestorer(lambda: ours, *weights.prompts, cfg=1.1, color=None).restore(picture, Conditions(code=code))
            model, vae = node.ApplyFace2Scene.execute(model, vae, "random.safetensors").result
            told = [node.CodeToConditioning.execute([[one, {}]], 1.0, code).result[0] for one in weights.prompts]
            latent = vae.encode(picture.movedim(1, -1)) * 1.93 * 7.59
            guider = comfy.samplers.CFGGuider(model)
            guider.set_conds(*told)
            guider.set_cfg(1.1)
            sigmas = sampling.SDTurboScheduler.execute(model, 1, 1.0).result[0]
            found = guider.sample(torch.zeros_like(latent), latent, comfy.samplers.sampler_object("euler"), sigmas, seed=0)
            got = vae.decode(found).movedim(-1, 1)
        assert (got - expected).abs().max() < 1e-4, (got - expected).abs().max()
        assert (expected - expected.mean()).abs().max() > 0.05
    """)
