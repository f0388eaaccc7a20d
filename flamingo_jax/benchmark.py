"""How fast the model trains and generates, as one line of JSON.

    python -m flamingo_jax.benchmark [--config=configs/benchmark_common.py] [--what=train,generate]
    python -m flamingo_jax.benchmark --what=scaling [--output=docs]
    python -m flamingo_jax.benchmark --what=data
    python -m flamingo_jax.benchmark --what=evaluation

Weights and inputs are random. A training run's recipe is a config too: its model is timed.
`scaling` is the cost of a training step against devices, tokens, images, layers and remat; it takes
some minutes and, with --output, writes performance.md and performance.png there. `data` is the way
from shards of image–text pairs to batches, beside decoding and resizing alone, and from web pages
to documents, beside parsing alone. `evaluation` times
few-shot evaluation against prompts that are encoded anew for each query, and takes minutes too.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from flamingo_jax import cli, config_flag

_CONFIG = config_flag.define(
    "flamingo_jax.speed.workload:kind",
    "Model and work, a file in configs/.",
    "configs/benchmark_common.py",
)
_WHAT = flags.DEFINE_list(
    "what",
    ["train", "generate"],
    "Work to time: train, generate, evaluation; or scaling, or data, alone.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for scaling's page and figure.")


def main() -> None:
    """Prints the figures."""
    from flamingo_jax.speed import scaling, scaling_page, workload

    config = workload.read(_CONFIG.value)
    if _WHAT.value == ["scaling"]:
        found = scaling.measure(config)
        if _OUTPUT.value:
            scaling_page.write(Path(_OUTPUT.value), found)
    elif _WHAT.value == ["data"]:
        found = _data()
    else:
        found = workload.measure(config, tuple(_WHAT.value))
    print(json.dumps(found))


def _data() -> dict[str, Any]:
    from flamingo_jax.speed import data, extraction

    return {**data.measure(), "extraction": extraction.extraction_speed()}


if __name__ == "__main__":
    cli.run(main)
