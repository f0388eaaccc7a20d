"""OpenFlamingo 2.0.1 itself at the shapes of a benchmark's config, on random weights.

It is imported piece by piece: its package asks for more than its model needs. This module needs
PyTorch and `open_flamingo`, which nothing else here does.
"""

import importlib.util
import sys
import types
from collections.abc import Sequence
from typing import Any

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, MptConfig, MptForCausalLM

from flamingo_jax.errors import UserError
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.speed.workload import BenchmarkConfig


class OpenFlamingo:
    """Answers prompts one at a time, as OpenFlamingo's evaluation does."""

    def __init__(self, config: BenchmarkConfig, beams: int, new_tokens: int) -> None:
        """`beams` hypotheses, `new_tokens` written, none fewer.

        Raises:
          UserError: the config is of another shape than OpenFlamingo's.
        """
        if not isinstance(config.vision, ViTConfig) or config.decoder.positions != "alibi":
            raise UserError(
                "OpenFlamingo is compared at the shapes of configs/benchmark_common.py."
            )
        self._config, self._beams, self._new = config, beams, new_tokens
        torch.manual_seed(config.seed)
        self._model = _model(config).eval()

    def __call__(self, tokens: Sequence[int], times: int) -> None:
        """Answers a prompt, whose images are random, as if it were `times` different ones."""
        ids = torch.tensor([list(tokens)])
        images = int((ids == self._config.decoder.vocab_size - 2).sum())
        size = self._config.vision.image_size
        pixels = torch.randn(1, images, 1, 3, size, size)
        for _ in range(times):
            with torch.inference_mode():
                self._search(pixels, ids)

    def _search(self, pixels: torch.Tensor, ids: torch.Tensor) -> None:
        """Beam search as its `generate` does it: images and prompt are run once for each beam.

        Its own needs the generation loop of transformers 4.
        """
        beams, language = self._beams, self._model.lang_encoder
        language._use_cached_vision_x = True
        self._model._encode_vision_x(pixels.repeat_interleave(beams, 0))
        tokens, cache, seen = ids.expand(beams, -1), None, ids.shape[1]
        scores = torch.tensor([0.0] + [float("-inf")] * (beams - 1))
        for _ in range(self._new):
            mask = torch.ones(beams, seen, dtype=torch.long)
            out = language(
                input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True
            )
            total = scores[:, None] + torch.log_softmax(out.logits[:, -1].float(), -1)
            scores, best = total.flatten().topk(beams)
            parent, cache, seen = best // total.shape[1], out.past_key_values, seen + 1
            cache.reorder_cache(parent)
            tokens = (best % total.shape[1])[:, None]
        language.clear_conditioned_layers()
        language._use_cached_vision_x = False


def _model(config: BenchmarkConfig) -> Any:
    root = importlib.util.find_spec("open_flamingo")
    assert root is not None
    assert root.submodule_search_locations is not None
    folder = root.submodule_search_locations[0]
    for name, path in (("open_flamingo", folder), ("open_flamingo.src", f"{folder}/src")):
        module = types.ModuleType(name)
        module.__path__ = [path]
        sys.modules.setdefault(name, module)
    flamingo = importlib.import_module("open_flamingo.src.flamingo")
    helpers = importlib.import_module("open_flamingo.src.helpers")
    mixin = importlib.import_module("open_flamingo.src.flamingo_lm").FlamingoLMMixin
    extend = importlib.import_module("open_flamingo.src.utils").extend_instance

    decoder, resampler, xattn = config.decoder, config.resampler, config.xattn
    language: Any = MptForCausalLM(
        MptConfig(
            d_model=decoder.width,
            n_heads=decoder.num_heads,
            n_layers=decoder.num_layers,
            vocab_size=decoder.vocab_size,
            expansion_ratio=decoder.mlp_dim // decoder.width,
        )
    )
    language.get_input_embeddings = lambda: language.transformer.wte
    extend(language, mixin)
    language.set_decoder_layers_attr_name("transformer.blocks")
    vision = types.SimpleNamespace(visual=_Tower(config))
    media, end = decoder.vocab_size - 2, decoder.vocab_size - 1
    width = config.vision.width if isinstance(config.vision, ViTConfig) else 0
    model = flamingo.Flamingo(
        vision, language, end, media, vis_dim=width, cross_attn_every_n_layers=xattn.every
    )
    model.perceiver = helpers.PerceiverResampler(  # the constructor fixes it at 6 layers
        dim=width,
        depth=resampler.num_layers,
        dim_head=resampler.head_dim,
        heads=resampler.num_heads,
        num_latents=resampler.num_latents,
        ff_mult=resampler.mlp_multiplier,
    )
    return model


class _Tower(torch.nn.Module):
    """A CLIP ViT that gives its last hidden states, without the class token."""

    def __init__(self, config: BenchmarkConfig) -> None:
        super().__init__()
        vision = config.vision
        assert isinstance(vision, ViTConfig)
        self.visual = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=vision.width,
                intermediate_size=vision.mlp_dim,
                num_hidden_layers=vision.num_layers,
                num_attention_heads=vision.num_heads,
                image_size=vision.image_size,
                patch_size=vision.patch_size,
            )
        )

    def forward(self, pixels: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, self.visual(pixel_values=pixels).last_hidden_state[:, 1:]
