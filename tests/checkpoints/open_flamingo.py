"""OpenFlamingo's own model, small and with random weights, and its checkpoints."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import nn

from tests.checkpoints.originals import shaken

VOCAB, TOKENS = 40, 43
EOC, MEDIA = TOKENS - 3, TOKENS - 2
SIZE, SEEN, LATENTS, DEPTH = 12, 16, 5, 2

VISION = dict(
    hidden_size=SEEN,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    image_size=SIZE,
    patch_size=4,
)
BLOCKS = {
    "llama": "model.layers",
    "mpt": "transformer.blocks",
    "gpt_neox": "gpt_neox.layers",
    "opt": "model.decoder.layers",
}


def _import_model() -> Any:
    """The modules of the model, without the package's own, which imports much more."""
    if "open_flamingo" not in sys.modules:
        root = importlib.util.find_spec("open_flamingo").submodule_search_locations[0]
        for name, path in (("open_flamingo", root), ("open_flamingo.src", f"{root}/src")):
            module = types.ModuleType(name)
            module.__path__ = [path]
            sys.modules[name] = module
    from open_flamingo.src import flamingo, flamingo_lm, helpers, utils

    return flamingo.Flamingo, flamingo_lm.FlamingoLMMixin, helpers, utils.extend_instance


class Vision(nn.Module):
    """CLIP as OpenFlamingo calls it: patches' features as the second of two."""

    def __init__(self, clip: hf.CLIPVisionModel) -> None:
        super().__init__()
        self.visual = clip

    def forward(self, images: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, self.visual(pixel_values=images).last_hidden_state[:, 1:]


def make(language: hf.PreTrainedModel, folder: Path, every: int, frames: int | None = None) -> Any:
    """A Flamingo on a language model; `folder` gets `language`, before its tokens were added, and
    `vision`, as `save_pretrained` writes them."""
    flamingo, mixin, helpers, extend_instance = _import_model()
    shaken(language, 1, 0.4).save_pretrained(folder / "language")
    clip = shaken(hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION)), 2)
    clip.save_pretrained(folder / "vision")

    language.resize_token_embeddings(TOKENS, mean_resizing=False)
    embedding, head = language.get_input_embeddings(), language.get_output_embeddings()
    with torch.no_grad():  # trained on, unlike the rest
        embedding.weight.add_(0.1 * torch.randn(embedding.weight.shape))
        if head.weight is not embedding.weight:
            head.weight[VOCAB:] = 0
    extend_instance(language, mixin)
    language.set_decoder_layers_attr_name(BLOCKS[language.config.model_type])
    vision = types.SimpleNamespace(visual=Vision(clip))
    model = flamingo(vision, language, EOC, MEDIA, SEEN, every)
    model.perceiver = helpers.PerceiverResampler(
        dim=SEEN, depth=DEPTH, num_latents=LATENTS, max_num_frames=frames
    )
    shaken(model.perceiver, 3)
    shaken(model.lang_encoder.gated_cross_attn_layers, 4, 0.5)
    return model.eval().requires_grad_(False)


def trained(model: Any, names: str) -> dict[str, torch.Tensor]:
    """What its training script keeps, the new layers under `old` names, those of the `blocks`, or
    `both`."""
    left = {"old": ".gated_cross_attn_layer.", "blocks": "gated_cross_attn_layers.", "both": "none"}
    embeddings = ("embed_tokens.weight", "embed_in.weight", "wte.weight")
    return {
        name: value
        for name, value in model.state_dict().items()
        if ("gated_cross_attn_layer" in name and left[names] not in name)
        or name.startswith("perceiver.")
        or name.endswith(embeddings)
    }


def logits(
    model: Any, tokens: np.ndarray, images: np.ndarray, mask: np.ndarray | None = None
) -> np.ndarray:
    """Of images [B, N, F, H, W, 3]; more frames than the one that its `forward` takes, too."""
    pixels = torch.from_numpy(images).permute(0, 1, 2, 5, 3, 4)
    B, N, F = pixels.shape[:3]
    features = model.vision_encoder(pixels.flatten(0, 2))[1]
    media = model.perceiver(features.reshape(B, N, F, *features.shape[1:]))
    for layer in model.lang_encoder._get_decoder_layers():
        layer.condition_vis_x(media)
    ids = torch.from_numpy(tokens)
    real = torch.ones_like(ids) if mask is None else torch.from_numpy(mask)
    found = model.lang_encoder(input_ids=ids, attention_mask=real.long(), use_cache=False).logits
    model.lang_encoder.clear_conditioned_layers()
    return found.numpy()


def cached_greedy(model: Any, tokens: np.ndarray, images: np.ndarray, steps: int) -> np.ndarray:
    """Its `generate`, which transformers 5 cannot run: later steps see what is cached."""
    language, real = model.lang_encoder, torch.ones(tokens.shape, dtype=torch.long)
    model._encode_vision_x(torch.from_numpy(images).permute(0, 1, 2, 5, 3, 4))
    language._use_cached_vision_x = True
    past, following, found = None, torch.from_numpy(tokens), []
    for _ in range(steps):
        out = language(
            input_ids=following, attention_mask=real, past_key_values=past, use_cache=True
        )
        past, following = out.past_key_values, out.logits[:, -1:].argmax(-1)
        real = torch.nn.functional.pad(real, (0, 1), value=1)
        found.append(following.numpy())
    language.clear_conditioned_layers()
    language._use_cached_vision_x = False
    return np.concatenate(found, axis=1)
