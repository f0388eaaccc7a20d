"""How fast the model trains and generates, as one line of JSON.

    python -m flamingo_jax.benchmark [--config=configs/benchmark_common.py] [--what=train,generate]
    python -m flamingo_jax.benchmark --what=evaluation

The second times few-shot evaluation against prompts that are encoded anew for each query. Weights
and inputs are random. A training run's recipe is a config too: its model is timed.
"""

import json

from absl import flags
from ml_collections import config_flags

from flamingo_jax import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/benchmark_common.py", "Model and work, a file in configs/."
)
_WHAT = flags.DEFINE_list(
    "what", ["train", "generate"], "Work to time: train, generate, evaluation."
)


def main() -> None:
    """Prints the figures."""
    from flamingo_jax import workload

    print(json.dumps(workload.measure(workload.read(_CONFIG.value), tuple(_WHAT.value))))


if __name__ == "__main__":
    cli.run(main)
