"""What a model is made of: its parts' parameters, bytes and FLOPs, from shapes alone.

    python -m flamingo_jax.describe --config=configs/flamingo_80b.py [--json] [--tokens=256]
        [--images=5] [--frames=1]

FLOPs are those of one sequence forward, of the size of the recipe's first data set unless said.
"""

import dataclasses
import json

from absl import flags

from flamingo_jax import cli, config_flag

_CONFIG = config_flag.define("flamingo_jax.speed.workload:kind", "Recipe, a file in configs/.")
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of a table.")
_SEQUENCE = {
    name: flags.DEFINE_integer(name, None, f"{name.capitalize()} {of}.", lower_bound=1)
    for name, of in (("tokens", "of text"), ("images", "in it"), ("frames", "of each image"))
}
flags.mark_flag_as_required("config")


def main() -> None:
    """Prints the components of the model that the flags name."""
    from flamingo_jax import sizes

    model, usual = sizes.read(_CONFIG.value)
    asked = {name: flag.value for name, flag in _SEQUENCE.items() if flag.value is not None}
    sequence = dataclasses.replace(usual, **asked)
    parts = sizes.components(model, sequence)
    if _JSON.value:
        print(json.dumps(sizes.as_json(parts, sequence)))
    else:
        print(sizes.as_table(parts, sequence))


if __name__ == "__main__":
    cli.run(main)
