"""Perceptual hashes of an evaluation set's images, for `flamingo_jax.data.extract` to leave out.

    python -m flamingo_jax.data.hash_images --input='coco/val2014/*.jpg' --output=coco.txt

The file has a hash in hexadecimal and the image's path a line.
"""

from pathlib import Path

from absl import flags

from flamingo_jax import cli

_INPUT = flags.DEFINE_list("input", None, "Image files; patterns.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "File to write.", required=True)


def main() -> None:
    """Writes the file and says how many images there were."""
    from flamingo_jax.checkpoints.files import replaced
    from flamingo_jax.data import hashes
    from flamingo_jax.data.web import inputs

    with replaced(Path(_OUTPUT.value)) as part:
        count = hashes.write_hashes(inputs.files(_INPUT.value), part)
    print(f"{_OUTPUT.value}: {count:,} images.")


if __name__ == "__main__":
    cli.run(main)
