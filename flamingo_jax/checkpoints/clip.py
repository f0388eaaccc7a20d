"""CLIP's vision tower (arXiv:2103.00020) out of Hugging Face's folders and open_clip's files."""

import dataclasses
import math
import re
from pathlib import Path

from flamingo_jax.checkpoints.layers import Tree, stacked, take_fused, take_linear, take_norm
from flamingo_jax.checkpoints.options import Options
from flamingo_jax.checkpoints.tensors import Source, open_tensors
from flamingo_jax.errors import UserError
from flamingo_jax.models.layers import Activation
from flamingo_jax.models.vit import ViTConfig

HEAD_DIMS = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
"""Channels of a head in open_clip's ViT-H, g, G and e, by width; in all others they are 64."""

OTHERS = (r"text_model\..*", r"(text|visual)_projection\..*", "logit_scale", r".*position_ids")
"""Names of what Hugging Face's whole CLIP has beside the tower, and of a buffer."""


@dataclasses.dataclass(frozen=True)
class Names:
    """What a tower's tensors are called; a layer's after its own name."""

    patch: str
    first: str
    position: str
    pre_norm: str
    post_norm: str
    layers: str
    norm_1: str
    norm_2: str
    attention: str
    up: str
    down: str


HUGGING_FACE = Names(
    patch="embeddings.patch_embedding.weight",
    first="embeddings.class_embedding",
    position="embeddings.position_embedding.weight",
    pre_norm="pre_layrnorm",
    post_norm="post_layernorm",
    layers="encoder.layers",
    norm_1="layer_norm1",
    norm_2="layer_norm2",
    attention="self_attn",
    up="mlp.fc1",
    down="mlp.fc2",
)
OPEN_CLIP = Names(
    patch="conv1.weight",
    first="class_embedding",
    position="positional_embedding",
    pre_norm="ln_pre",
    post_norm="ln_post",
    layers="transformer.resblocks",
    norm_1="ln_1",
    norm_2="ln_2",
    attention="attn",
    up="mlp.c_fc",
    down="mlp.c_proj",
)


def read_clip(path: Path, activation: Activation | None = None) -> tuple[ViTConfig, Tree]:
    """A vision tower's config and the lazy tree of `models.vit.ViT`; no tensor is read.

    Args:
      path: Hugging Face's folder of a CLIPModel or CLIPVisionModel, or a file with the state dict
        of an open_clip model or of its vision tower.
      activation: of an open_clip file's feed-forwards, about which it says nothing: OpenAI's
        weights have `quick_gelu`, as is taken for None, most others `gelu`.

    Raises:
      UserError: something is missing, damaged, left over, of another shape, or not supported, or
        a folder says another activation.
    """
    if not path.is_dir():
        return _read_file(path, activation or "quick_gelu")
    config, tree = _read_folder(path)
    if activation not in (None, config.activation):
        raise UserError(
            f"--vision_activation={activation} was given, but {path / 'config.json'} says "
            f"{config.activation}: leave the flag out."
        )
    return config, tree


def read_tower(source: Source, prefix: str, config: ViTConfig, names: Names) -> Tree:
    """The tree of tensors whose names begin with a prefix.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    width, patch = config.width, config.patch_size
    positions = (config.image_size // patch) ** 2 + 1
    kernel = source.take(f"{prefix}{names.patch}", (width, 3, patch, patch))
    rows = patch * patch * 3
    layers = [
        _read_layer(source, f"{prefix}{names.layers}.{i}.", config, names)
        for i in range(config.num_layers)
    ]
    return {
        "patch": {
            "kernel": kernel.map(
                lambda array: array.transpose(2, 3, 1, 0).reshape(rows, width), (rows, width)
            )
        },
        "class_D": source.take(f"{prefix}{names.first}", (width,)),
        "position_LxD": source.take(f"{prefix}{names.position}", (positions, width)),
        "pre_norm": take_norm(source, f"{prefix}{names.pre_norm}", width),
        "post_norm": take_norm(source, f"{prefix}{names.post_norm}", width),
        "layers": stacked(layers),
    }


def _read_layer(source: Source, at: str, config: ViTConfig, names: Names) -> Tree:
    width, hidden = (config.width,), (config.mlp_dim,)
    heads = (config.num_heads, config.width // config.num_heads)
    attention = f"{at}{names.attention}."
    if source.has(f"{attention}in_proj_weight"):
        projected = take_fused(source, f"{attention}in_proj_", config.width, 3, heads, True)
    else:
        projected = [
            take_linear(source, f"{attention}{letter}_proj", width, heads, True) for letter in "qkv"
        ]
    return {
        "norm_1": take_norm(source, f"{at}{names.norm_1}", config.width),
        **dict(zip(("query", "key", "value"), projected, strict=True)),
        "out": take_linear(source, f"{attention}out_proj", heads, width, True),
        "norm_2": take_norm(source, f"{at}{names.norm_2}", config.width),
        "mlp": {
            "up": take_linear(source, f"{at}{names.up}", width, hidden, True),
            "down": take_linear(source, f"{at}{names.down}", hidden, width, True),
        },
    }


def _read_folder(folder: Path) -> tuple[ViTConfig, Tree]:
    options = Options.read(folder / "config.json")
    if options.only("model_type", "clip", "clip_vision_model") == "clip":
        newer, older = options.part("vision_config"), options.part("vision_config_dict")
        options = Options({**newer.values, **older.values}, newer.where, newer.prefix)
    config = with_colours(_read_config(options), folder / "preprocessor_config.json")
    source = Source(open_tensors(folder), folder)
    tree = read_tower(source, _prefix(source, "vision_model."), config, HUGGING_FACE)
    source.check_all_taken(OTHERS)
    return config, tree


def _prefix(source: Source, prefix: str) -> str:
    """The prefix if any name has it; towers saved alone may lack it."""
    return prefix if any(name.startswith(prefix) for name in source.names()) else ""


def _read_config(options: Options) -> ViTConfig:
    """Of a CLIPVisionConfig's options, with transformers' defaults."""
    options.only("num_channels", 3, default=3)
    width, heads = options.count("hidden_size", 768), options.count("num_attention_heads", 12)
    if width % heads:
        raise options.wrong("num_attention_heads", heads, f"a divisor of {width}")
    size, patch = options.count("image_size", 224), options.count("patch_size", 32)
    if size % patch:
        raise options.wrong("patch_size", patch, f"a divisor of {size}")
    return ViTConfig(
        image_size=size,
        patch_size=patch,
        width=width,
        num_layers=options.count("num_hidden_layers", 12),
        num_heads=heads,
        mlp_dim=options.count("intermediate_size", 3072),
        norm_eps=options.number("layer_norm_eps", 1e-5),
        activation=options.only("hidden_act", "quick_gelu", "gelu", default="quick_gelu"),
    )


def with_colours(config: ViTConfig, path: Path) -> ViTConfig:
    """The config with the colours' mean and deviation of a processor's file, if there is one.

    Raises:
      UserError: the file is damaged or these are not three numbers.
    """
    if not path.is_file():
        return config
    options = Options.read(path)

    def colours(name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        value = options.values.get(name, default)
        match value:
            case [_, _, _] if all(type(one) in (int, float) and one > 0 for one in value):
                return tuple(map(float, value))
        raise options.wrong(name, value, "three numbers above 0")

    return dataclasses.replace(
        config,
        mean=colours("image_mean", config.mean),
        scale=colours("image_std", config.scale),
    )


def _read_file(path: Path, activation: Activation) -> tuple[ViTConfig, Tree]:
    tensors = open_tensors(path)
    tower = {name: one for name, one in tensors.items() if name.startswith("visual.")}
    source = Source(tower or tensors, path)
    prefix = "visual." if tower else ""
    config = config_of_shapes(source, prefix, activation, OPEN_CLIP)
    tree = read_tower(source, prefix, config, OPEN_CLIP)
    source.check_all_taken([re.escape(f"{prefix}proj")])
    return config, tree


def config_of_shapes(
    source: Source, prefix: str, activation: Activation, names: Names, heads: int | None = None
) -> ViTConfig:
    """A tower's config where nothing but its tensors tells it.

    Args:
      source: the tensors.
      prefix: of the tower's.
      activation: of its feed-forwards.
      names: of its parts.
      heads: how many; None for what is usual for its width.

    Raises:
      UserError: they are no vision tower's of CLIP.
    """
    layers = f"{prefix}{names.layers}."
    places = {
        number
        for name in source.names()
        if (number := name.removeprefix(layers).split(".")[0]).isdecimal()
    }
    telling = [f"{prefix}{name}" for name in (names.first, names.patch, names.position)]
    telling.append(f"{layers}0.{names.up}.weight")
    shapes = [source.take(name).shape for name in telling]
    match shapes:
        case [(width,), (_, _, patch, _), (positions, _), (hidden, _)]:
            grid = math.isqrt(max(0, positions - 1))
            head_dim = width // heads if heads else HEAD_DIMS.get(width, 64)
            some = all((grid, patch, width, head_dim, hidden))
            if some and grid**2 == positions - 1 and width % head_dim == 0:
                return ViTConfig(
                    image_size=grid * patch,
                    patch_size=patch,
                    width=width,
                    num_layers=len(places),
                    num_heads=width // head_dim,
                    mlp_dim=hidden,
                    activation=activation,
                )
    raise UserError(
        f"{source.where} holds no vision Transformer of CLIP: its {', '.join(telling)} have the "
        f"shapes {', '.join(str(list(shape)) for shape in shapes)}."
    )
