"""Converts published checkpoints to models of this project, and runs to files to be published.

    python -m flamingo_jax.convert openflamingo --language=DIR --vision=DIR_OR_FILE \\
        --checkpoint=FILE --output=OUT
    python -m flamingo_jax.convert idefics --source=DIR --output=OUT
    python -m flamingo_jax.convert flamingo_mini --source=DIR --output=OUT
    python -m flamingo_jax.convert export --source=RUN --format=safetensors --output=OUT

What was written is read by `flamingo_jax.load(OUT)`. Nothing in a checkpoint is run.
"""

from pathlib import Path

from absl import flags

from flamingo_jax import cli
from flamingo_jax.errors import UserError

COMMANDS = ("openflamingo", "idefics", "flamingo_mini", "export")

_SOURCE = flags.DEFINE_string("source", None, "Folder of the checkpoint, or of the run to export.")
_LANGUAGE = flags.DEFINE_string("language", None, "OpenFlamingo: folder of its language model.")
_VISION = flags.DEFINE_string(
    "vision", None, "OpenFlamingo, flamingo-mini: folder of CLIP, or an open_clip file."
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
    from flamingo_jax.checkpoints import converted, flamingo_mini, idefics, openflamingo
    from flamingo_jax.checkpoints.published import with_ids

    output = Path(_OUTPUT.value)
    if command == "export":
        runs.export(_path("source"), output)
    elif command == "openflamingo":
        published = openflamingo.read(
            _path("language"),
            _path("vision"),
            _path("checkpoint"),
            _EVERY.value,
            _MEDIA_ID.value,
            _EOC_ID.value,
        )
        converted.save(published, output, _DTYPE.value)
    elif command == "idefics":
        found = with_ids(idefics.read(_path("source")), _MEDIA_ID.value, _EOC_ID.value)
        converted.save(found, output, _DTYPE.value)
    else:
        vision = Path(_VISION.value) if _VISION.value else None
        found = flamingo_mini.read(_path("source"), vision)
        found = with_ids(found, _MEDIA_ID.value, _EOC_ID.value)
        converted.save(found, output, _DTYPE.value)
    print(f"Written: {output}. Load it with flamingo_jax.load({str(output)!r}).")


def _path(flag: str) -> Path:
    value = flags.FLAGS[flag].value
    if not value:
        raise UserError(f"--{flag} is missing: give it a path.")
    return Path(value)


if __name__ == "__main__":
    cli.run(main, COMMANDS)
