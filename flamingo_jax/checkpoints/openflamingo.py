"""OpenFlamingo (arXiv:2308.01390), versions 1 and 2, from its checkpoints and the two models below.

A checkpoint holds what was trained: the resampler, the gated cross-attention layers and the token
embedding with its new rows. The language model comes from its Hugging Face folder, the vision tower
from CLIP's; OpenFlamingo keeps both frozen, so that those in a checkpoint of everything are the
same. Such a checkpoint's language model is read nevertheless, its vision tower is not.
"""

import re
from pathlib import Path

from flamingo_jax.checkpoints.clip import read_clip
from flamingo_jax.checkpoints.languages import FAMILIES, Family, read_language
from flamingo_jax.checkpoints.layers import Tree, language_variables
from flamingo_jax.checkpoints.lucidrains import read_bridge, read_perceiver
from flamingo_jax.checkpoints.openflamingo_text import read_text
from flamingo_jax.checkpoints.options import Options
from flamingo_jax.checkpoints.published import Published
from flamingo_jax.checkpoints.tensors import Source, Tensor, open_tensors
from flamingo_jax.errors import UserError
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.layers import Activation
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

_HEADS, _HEAD_DIM = 8, 64  # in the resampler and in cross-attention, fixed as what follows is
_MULTIPLIER = 4  # hidden width of the feed-forwards over their input's
_EPS = 1e-5
_BRIDGES = "lang_encoder.gated_cross_attn_layers."
_WRAPPERS = re.compile(r"_(fsdp|checkpoint)_wrapped_module\.")


def read(
    language: Path,
    vision: Path,
    checkpoint: Path,
    cross_attn_every: int | None = None,
    media_token_id: int | None = None,
    eoc_token_id: int | None = None,
    vision_activation: Activation | None = None,
) -> Published:
    """Reads a checkpoint with the models that it was trained on; the values of no tensor.

    Args:
      language: Hugging Face folder of the language model, with its tokenizer if there is one.
      vision: folder or file of CLIP, see `clip.read_clip`.
      checkpoint: of `torch.save`.
      cross_attn_every: language layers for each cross-attention layer; None for what is found.
      media_token_id: id of `<image>`; None for what the tokenizer says.
      eoc_token_id: id of `<|endofchunk|>`; None likewise.
      vision_activation: see `clip.read_clip`.

    Raises:
      UserError: a file is missing or damaged, a tensor is missing, left over or of another shape,
        an option is not supported, or the arguments disagree with what is found.
    """
    options = Options.read(language / "config.json")
    family = FAMILIES[options.only("model_type", *FAMILIES)]
    source, newer = _sorted(checkpoint, family)
    words = read_language(language, newer)
    tower_config, tower = read_clip(vision, vision_activation)
    resampler_config, resampler = _read_resampler(source, tower_config.width)
    every = _every(source, words.config.num_layers, cross_attn_every)
    config = FlamingoConfig(
        decoder=words.config,
        resampler=resampler_config,
        xattn=CrossAttentionConfig(
            num_heads=_HEADS,
            head_dim=_HEAD_DIM,
            first=every - 1,
            every=every,
            mlp_multiplier=_MULTIPLIER,
            activation="gelu",
            norm_eps=_EPS,
        ),
        vision=tower_config,
    )
    bridges = [
        read_bridge(source, f"{_BRIDGES}{i}.", config, "ff", ("attn_gate", "ff_gate"))
        for i in range(every - 1, words.config.num_layers, every)
    ]
    source.check_all_taken()
    new, kept = language_variables(words.layers, bridges, config)
    variables = {
        "params": {"language": new, "resampler": resampler},
        "frozen": {
            "language": {**kept, "vocabulary": words.vocabulary},
            "vision": {"net": tower},
        },
    }
    text, tokenizer = read_text(language, words, media_token_id, eoc_token_id)
    return Published("openflamingo", config, variables, text, tokenizer)


def _sorted(checkpoint: Path, family: Family) -> tuple[Source, dict[str, Tensor]]:
    """The new layers' tensors under one of their names, and the language model's under its own."""
    new: dict[str, Tensor] = {}
    language: dict[str, Tensor] = {}
    blocks = f"lang_encoder.{family.prefix}{family.layers}."
    for given, tensor in open_tensors(checkpoint).items():
        name = _WRAPPERS.sub("", given)
        name = re.sub(r"lang_encoder\..+\.(\d+)\.gated_cross_attn_layer\.", rf"{_BRIDGES}\1.", name)
        name = name.replace("lang_encoder.old_decoder_blocks.", blocks)
        if name.startswith("lang_encoder.") and not name.startswith(_BRIDGES):
            name = re.sub(r"\.(\d+)\.decoder_layer\.", r".\1.", name)
            language[name.removeprefix("lang_encoder.")] = tensor
        elif not name.startswith("vision_encoder."):
            new[name] = tensor
    return Source(new, checkpoint), language


def _every(source: Source, num_layers: int, asked: int | None) -> int:
    """Language layers for each cross-attention layer, which stands before the last of them."""
    names = [name for name in source.names() if name.startswith(_BRIDGES)]
    numbers = {name.removeprefix(_BRIDGES).split(".")[0] for name in names}
    found = sorted(int(number) for number in numbers if number.isdecimal())
    every = found[0] + 1 if found else 1
    if found != list(range(every - 1, num_layers, every)):
        raise UserError(
            f"{source.where} has cross-attention before the layers {found} of {num_layers}, which "
            "are not every n-th: is the language model the one that it was trained on?"
        )
    if asked not in (None, every):
        raise UserError(
            f"--cross_attn_every={asked} was given, but {source.where} has cross-attention before "
            f"the layers {found} of {num_layers}, which makes {every}: leave the flag out."
        )
    return every


def _read_resampler(source: Source, width: int) -> tuple[ResamplerConfig, Tree]:
    if source.has("perceiver.media_time_embs"):
        raise UserError(
            f"{source.where} has 'perceiver.media_time_embs', embeddings of an image's place among "
            "the others, which are not supported."
        )
    latents, frames = source.take("perceiver.latents"), source.optional("perceiver.frame_embs")
    layers = {name.split(".")[2] for name in source.names() if name.startswith("perceiver.layers.")}
    config = ResamplerConfig(
        width=width,
        num_layers=len(layers),
        num_latents=(latents.shape or (0,))[0],
        num_heads=_HEADS,
        head_dim=_HEAD_DIM,
        mlp_multiplier=_MULTIPLIER,
        max_frames=0 if frames is None else (frames.shape or (0,))[0],
        project=False,
        activation="gelu",
        norm_eps=_EPS,
    )
    tree = read_perceiver(source, "perceiver.", config)
    if frames is not None:
        tree["time_embedding"] = source.take("perceiver.frame_embs", (config.max_frames, width))
    return config, tree
