"""Converts published checkpoints to models of this project, and runs to files to be published.

    python -m flamingo_jax.convert openflamingo --language=DIR --vision=DIR_OR_FILE \\
        --checkpoint=FILE --output=OUT
    python -m flamingo_jax.convert idefics --source=DIR --output=OUT
    python -m flamingo_jax.convert flamingo_mini --source=DIR --output=OUT
    python -m flamingo_jax.convert export --source=RUN --format=safetensors --output=OUT

What was written is read by `flamingo_jax.load(OUT)`. Nothing in a checkpoint is run.
"""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from absl import flags

from flamingo_jax import cli
from flamingo_jax.errors import UserError

if TYPE_CHECKING:
    from flamingo_jax.checkpoints.published import Published
    from flamingo_jax.models.layers import Activation

COMMANDS = ("openflamingo", "idefics", "flamingo_mini", "export")

_SOURCE = flags.DEFINE_string("source", None, "Folder of the checkpoint, or of the run to export.")
_LANGUAGE = flags.DEFINE_string("language", None, "OpenFlamingo: folder of its language model.")
_VISION = flags.DEFINE_string(
    "vision", None, "OpenFlamingo, flamingo-mini: folder of CLIP, or an open_clip file."
)
_ACTIVATION = flags.DEFINE_enum(
    "vision_activation",
    None,
    ["quick_gelu", "gelu"],
    "OpenFlamingo, flamingo-mini: of a CLIP whose files do not tell; else as OpenAI's.",
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "OpenFlamingo: its checkpoint.pt.")
_EVERY = flags.DEFINE_integer(
    "cross_attn_every", None, "OpenFlamingo: layers for each cross-attention; else as found."
)
_MEDIA_ID = flags.DEFINE_integer("media_token_id", None, "Id of <image>; else the tokenizer's.")
_EOC_ID = flags.DEFINE_integer("eoc_token_id", None, "Id of the end of chunk; else as above.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Type of the arrays on disk."
)
_FORMAT = flags.DEFINE_enum("format", "safetensors", ["safetensors"], "Of what is exported.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder to be made.", required=True)


def main(command: str) -> None:
    """Converts, and says where to."""
    from flamingo_jax import runs
    from flamingo_jax.checkpoints import converted

    output = Path(_OUTPUT.value)
    if command == "export":
        runs.export(_path("source"), output)
    else:
        published = _read(command)
        converted.save(published, output, _DTYPE.value)
        _tell(published, _path("language" if command == "openflamingo" else "source"))
    print(f"Written: {output}. Load it with flamingo_jax.load({str(output)!r}).")


def _read(command: str) -> "Published":
    """The model of a family, its tensors still to be read."""
    from flamingo_jax.checkpoints import flamingo_mini, idefics, openflamingo
    from flamingo_jax.checkpoints.published import with_ids

    ids = (_MEDIA_ID.value, _EOC_ID.value)
    activation = cast("Activation | None", _ACTIVATION.value)
    if command == "openflamingo":
        paths = (_path("language"), _path("vision"), _path("checkpoint"))
        return openflamingo.read(*paths, _EVERY.value, *ids, activation)
    if command == "idefics":
        return with_ids(idefics.read(_path("source")), *ids)
    vision = Path(_VISION.value) if _VISION.value else None
    return with_ids(flamingo_mini.read(_path("source"), vision, activation), *ids)


def _tell(published: "Published", words: Path) -> None:
    """Says what was assumed and what is missing; `words` is the folder of the tokenizer."""
    from flamingo_jax.checkpoints.tokenizer_files import missing
    from flamingo_jax.models.vit import ViTConfig

    vision = published.config.vision
    if isinstance(vision, ViTConfig) and _VISION.value and Path(_VISION.value).is_file():
        taken = f"{vision.activation} is taken (--vision_activation)"
        print(f"{_VISION.value} does not say which activation its feed-forwards have: {taken}.")
    if published.tokenizer is None:
        print(f"{missing(words)}: no tokenizer travels, the model takes token ids only.")


def _path(flag: str) -> Path:
    value = flags.FLAGS[flag].value
    if not value:
        raise UserError(f"--{flag} is missing: give it a path.")
    return Path(value)


if __name__ == "__main__":
    cli.run(main, COMMANDS)
