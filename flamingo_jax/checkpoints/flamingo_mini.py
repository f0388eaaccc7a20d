"""flamingo-mini (github.com/dhansmair/flamingo-mini), OPT with CLIP, from its folders.

Before every n-th layer of OPT, the first among them, stands gated cross-attention; the Perceiver
Resampler sees CLIP's features with the class token, before the last norm, and has a learned
embedding for each frame. A checkpoint holds the whole model, at times without the vision tower, but
of the two pretrained models the names only. Where a name is a folder, its config.json tells their
options; else sizes are worked out from tensors' shapes, and what no shape tells from the name.

A prompt's `<image>` is ordinary text, whose first token stands for the image: `<`, or ` <` where a
space is before it.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from flamingo_jax.checkpoints.clip import HUGGING_FACE, config_of_shapes, read_clip, read_tower
from flamingo_jax.checkpoints.language_configs import opt_config
from flamingo_jax.checkpoints.language_layers import opt_layer, opt_more
from flamingo_jax.checkpoints.layers import Tree, language_variables, take_norm
from flamingo_jax.checkpoints.lucidrains import read_bridge, read_perceiver
from flamingo_jax.checkpoints.options import Options
from flamingo_jax.checkpoints.published import Published
from flamingo_jax.checkpoints.tensors import Source, open_tensors
from flamingo_jax.checkpoints.tokenizer_files import add_token, check_ids, read_tokenizer
from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.errors import UserError
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.layers import Activation
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

LANGUAGE, CLIP = "facebook/opt", "openai/clip-vit-base-patch32"
IMAGE, OPENING, END_OF_CHUNK, END_OF_TEXT = "<image>", "<", "<EOC>", "</s>"
SPACED, SPACED_ID = "Ġ<", 28_696  # ` <`
IDS = {OPENING: 41_552, END_OF_CHUNK: 50_265, END_OF_TEXT: 2}
"""Of OPT's tokenizer, to which the end of a chunk was added."""

OPT_HEADS = {
    "125m": 12,
    "350m": 16,
    "1.3b": 32,
    "2.7b": 32,
    "6.7b": 32,
    "13b": 40,
    "30b": 56,
    "66b": 72,
}
"""Heads of the published sizes (arXiv:2205.01068, table 1); of others, one for 64 channels."""

CLIP_HEADS = {"base": 12, "large": 16}
"""Heads of CLIP's sizes (arXiv:2103.00020, table 20); of others, one for 64 channels."""

_POST_NORM = "350m"  # the one size with norms after the sums
_ACTIVATIONS: dict[str, Activation] = {"gelu": "gelu", "sqrelu": "squared_relu", "relu": "relu"}
_EPS = 1e-5  # PyTorch's, which no option changes
_WORDS = "flamingo.lm.decoder."
_EMBEDDING, _HEAD = f"{_WORDS}embed_tokens.weight", "flamingo.lm_head.weight"
_TOWER = "flamingo.vision_encoder."
_BUFFERS = (r".*\.position_ids", r".*\.decoder\.version")
"""Constants that older files keep among the weights."""


def read(
    source: Path, vision: Path | None = None, vision_activation: Activation | None = None
) -> Published:
    """Reads a folder of flamingo-mini; the values of no tensor, but where two may be the same.

    Args:
      source: a folder with config.json, the weights as `open_tensors` finds them, and a tokenizer
        if there is one.
      vision: folder or file of CLIP, see `clip.read_clip`: for checkpoints without a vision tower;
        for those with one it tells the tower's options. None for `clip_model_type` of config.json,
        if that is a folder.
      vision_activation: of the tower's feed-forwards where no folder tells it, see
        `clip.read_clip`; None also for what the name `clip_model_type` tells.

    Raises:
      UserError: a file is missing or damaged, an option is not supported, or a tensor is missing,
        left over, or of another shape than the others and the options say, or the model lacks a
        token of the tokenizer's.
    """
    options = Options.read(source / "config.json")
    tensors = Source(open_tensors(source), source)
    decoder = _decoder_config(options, tensors)
    decoder = dataclasses.replace(decoder, tied=_tied(options, tensors, decoder))
    tower_config, tower = _read_tower(options, tensors, vision, vision_activation)
    config = FlamingoConfig(
        decoder=decoder,
        resampler=_resampler_config(options),
        xattn=_xattn_config(options),
        vision=tower_config,
    )
    if tower_config.width != config.resampler.width:
        width = config.resampler.width
        raise options.wrong("dim_visual", width, f"the vision tower's width {tower_config.width}")
    variables = _variables(options, tensors, config, tower)
    tensors.check_all_taken(_BUFFERS)
    text, tokenizer = _read_text(source, decoder)
    return Published("flamingo_mini", config, variables, text, tokenizer)


def _decoder_config(options: Options, source: Source) -> DecoderConfig:
    """OPT's; GPT-2, the default and the other language model of flamingo-mini, is not supported."""
    name, folder = _name(options, "lm", "gpt2")
    if folder is None and not name.startswith(LANGUAGE):
        raise options.wrong("lm", name, f"{LANGUAGE}-... (and not GPT-2)")
    vocab_size, embedded = _sizes(source, _table(source))
    if folder is not None:
        found = Options.read(folder / "config.json")
        found.only("model_type", "opt")
        return opt_config(Options(found.values | {"vocab_size": vocab_size}, found.where))
    size, width = name.rsplit("-", 1)[-1].lower(), options.count("dim", 1024)
    positions, _ = _sizes(source, f"{_WORDS}embed_positions.weight")
    hidden, _ = _sizes(source, f"{_layer(options, 0)}fc1.weight")
    pre_norm = size != _POST_NORM
    if size not in OPT_HEADS:
        pre_norm = source.has(f"{_WORDS}final_layer_norm.weight")
    found = {
        "model_type": "opt",
        "vocab_size": vocab_size,
        "word_embed_proj_dim": embedded,
        "max_position_embeddings": positions - 2,  # as many rows are no token's
        "hidden_size": width,
        "num_hidden_layers": len(_numbers(source, f"{_WORDS}layers.")),
        "num_attention_heads": _usual(OPT_HEADS.get(size), width) or width // 64,
        "ffn_dim": hidden,
        "do_layer_norm_before": pre_norm,
    }
    return opt_config(Options(found, options.where, "(as its tensors say) "))


def _tied(options: Options, source: Source, config: DecoderConfig) -> bool:
    """Whether both ends have one table; the original has two, which training may set apart."""
    if not (config.tied and options.flag("tie_word_embeddings", True)):
        return False
    if not (source.has(_EMBEDDING) and source.has(_HEAD)):
        return True
    size = _table_size(config)
    embedding, head = (source.take(name, size).read() for name in (_EMBEDDING, _HEAD))
    return np.array_equal(embedding, head)


def _name(options: Options, option: str, default: str) -> tuple[str, Path | None]:
    """A pretrained model's name, and the folder that it is, if it is one here or beside ours."""
    name = options.values.get(option, default)
    if not isinstance(name, str):
        raise options.wrong(option, name, "a name or a folder")
    places = (Path(name), options.where.parent / name)
    return name, next((p for p in places if os.path.isfile(p / "config.json")), None)


def _layer(options: Options, number: int) -> str:
    """How the names of a layer of OPT's begin; one with cross-attention before it is wrapped."""
    wrapped = number % options.count("xattn_every", 1) == 0
    return f"{_WORDS}layers.{number}.{'lm_block.' if wrapped else ''}"


def _table(source: Source) -> str:
    """Name of the token embedding, which a file may hold as the output projection only."""
    return _HEAD if source.has(_HEAD) and not source.has(_EMBEDDING) else _EMBEDDING


def _table_size(config: DecoderConfig) -> tuple[int, int]:
    return config.vocab_size, config.embedding_width or config.width


def _sizes(source: Source, name: str) -> tuple[int, int]:
    """Rows and columns of a matrix."""
    tensor = source.take(name)
    if len(tensor.shape) != 2:
        raise UserError(
            f"Tensor {name!r} of {tensor.where} has the shape {list(tensor.shape)}, but a matrix "
            "is what the model needs."
        )
    return tensor.shape[0], tensor.shape[1]


def _numbers(source: Source, prefix: str) -> set[str]:
    """What follows a prefix up to the next point."""
    names = [name for name in source.names() if name.startswith(prefix)]
    return {name.removeprefix(prefix).split(".")[0] for name in names}


def _usual(heads: int | None, width: int) -> int | None:
    """A name's number of heads, if the width can have it."""
    return heads if heads and width % heads == 0 else None


def _resampler_config(options: Options) -> ResamplerConfig:
    return ResamplerConfig(
        width=options.count("dim_visual", 768),
        num_layers=options.count("resampler_depth", 6),
        num_latents=options.count("resampler_num_latents", 64),
        num_heads=options.count("resampler_heads", 8),
        head_dim=options.count("resampler_dim_head", 64),
        mlp_multiplier=options.count("resampler_ff_mult", 4),
        max_frames=options.count("resampler_num_time_embeds", 4),
        project=False,
        activation=_activation(options, "resampler_act"),
        norm_eps=_EPS,
    )


def _xattn_config(options: Options) -> CrossAttentionConfig:
    return CrossAttentionConfig(
        num_heads=options.count("xattn_heads", 8),
        head_dim=options.count("xattn_dim_head", 64),
        every=options.count("xattn_every", 1),
        mlp_multiplier=options.count("xattn_ff_mult", 4),
        activation=_activation(options, "xattn_act"),
        norm_eps=_EPS,
    )


def _activation(options: Options, name: str) -> Activation:
    return _ACTIVATIONS[options.only(name, *_ACTIVATIONS, default="gelu")]


def _read_tower(
    options: Options, source: Source, vision: Path | None, activation: Activation | None
) -> tuple[ViTConfig, Tree]:
    """The checkpoint's tower, or where it has none the folder's; with the class token."""
    name, folder = _name(options, "clip_model_type", CLIP)
    vision = vision or folder
    found, tree = (None, None) if vision is None else read_clip(vision, activation)
    if _numbers(source, _TOWER):
        inner = f"{_TOWER}vision_model."  # transformers 5 leaves the second part out
        prefix = inner if _numbers(source, inner) else _TOWER
        found = found or _tower_config(name.lower(), source, prefix, activation)
        tree = read_tower(source, prefix, found, HUGGING_FACE)
    if found is None or tree is None:
        raise UserError(
            f"{source.where} holds no vision tower, no tensor {_TOWER}...: give the folder of "
            f"{name} with --vision."
        )
    return dataclasses.replace(found, class_token=True), tree


def _tower_config(
    name: str, source: Source, prefix: str, activation: Activation | None
) -> ViTConfig:
    """Of the shapes; LAION's towers have exact GELU, OpenAI's and those made like them do not."""
    width = (source.take(f"{prefix}{HUGGING_FACE.first}").shape or (1,))[0]
    sizes = [heads for size, heads in CLIP_HEADS.items() if f"-{size}-" in name]
    activation = activation or ("gelu" if name.startswith("laion/") else "quick_gelu")
    heads = _usual(sizes[0] if sizes else None, width)
    return config_of_shapes(source, prefix, activation, HUGGING_FACE, heads)


def _variables(options: Options, source: Source, config: FlamingoConfig, tower: Tree) -> Tree:
    layers = [
        opt_layer(source, _layer(options, i), config.decoder, options)
        for i in range(config.decoder.num_layers)
    ]
    bridges = [
        read_bridge(
            source,
            f"{_WORDS}layers.{i}.xattn_block.",
            config,
            mlp="ffw",
            gates=("alpha_attn", "alpha_ffw"),
        )
        for i in range(0, config.decoder.num_layers, config.xattn.every)
    ]
    new, kept = language_variables(layers, bridges, config)
    resampler = read_perceiver(source, "flamingo.resampler.", config.resampler)
    frames, width = config.resampler.max_frames, config.resampler.width
    times = source.take("flamingo.resampler.time_pos_emb", (frames, 1, width))
    resampler["time_embedding"] = times.map(lambda table: table[:, 0], (frames, width))
    kept["vocabulary"] = _vocabulary(source, config.decoder)
    return {
        "params": {"language": new, "resampler": resampler},
        "frozen": {"language": kept, "vision": {"net": tower}},
    }


def _vocabulary(source: Source, config: DecoderConfig) -> Tree:
    """Both ends of OPT; a tied output projection may be there beside the token embedding."""
    size, tree = _table_size(config), opt_more(source, config, _WORDS)
    if config.tied:
        source.optional(_HEAD, size)
        tree["embedding"] = source.take(_table(source), size)
    else:
        tree |= {"embedding": source.take(_EMBEDDING, size), "head": source.take(_HEAD, size)}
    if not config.post_norm:
        tree["norm"] = take_norm(source, f"{_WORDS}final_layer_norm", config.width)
    return tree


def _read_text(source: Path, config: DecoderConfig) -> tuple[TextConfig, str | None]:
    """What shows images, ends a chunk and starts a text, by the folder's tokenizer or as OPT's."""
    ids, spaced, tokenizer = dict(IDS), SPACED_ID, None
    if (found := read_tokenizer(source)) is not None:
        add_token(found.tokenizer, END_OF_CHUNK)
        for token in ids:
            number = found.tokenizer.token_to_id(token)
            if number is None:
                raise UserError(f"The tokenizer of {source} has no token {token!r}: is it OPT's?")
            ids[token] = number
        spaced = found.tokenizer.token_to_id(SPACED)
        tokenizer = found.tokenizer.to_str()
    text = TextConfig(
        image_id=ids[OPENING],
        eoc_id=ids[END_OF_CHUNK],
        pad_id=ids[END_OF_TEXT],
        bos_id=ids[END_OF_TEXT],
        image_token=IMAGE,
        eoc_token=END_OF_CHUNK,
        max_tokens=config.max_positions,
        fit="crop",
        spaced_image_id=spaced,
    )
    if tokenizer is not None:
        check_ids(text, config.vocab_size, f"is the tokenizer of {source} the model's own")
    return text, tokenizer
