"""The protocol of the papers' benchmarks: Flamingo's (arXiv:2204.14198, appendix B.1.5).

python -m flamingo_jax.evaluate --config=configs/evaluation.py --model=models/openflamingo \
    --data_dir=benchmarks --output=runs/coco [--config.benchmarks='("coco",)'] [--config.beams=3]

A copy of this file can name model, data_dir and output too.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """Fields of `flamingo_jax.evaluation.suite_run.Recipe`, before which flags go."""
    config = ml_collections.ConfigDict()
    config.benchmarks = ("all",)
    config.shots = (0, 4, 8, 16, 32)
    config.seeds = (0,)
    config.split = config_dict.placeholder(str)
    config.limit = 0
    config.supports = "random"
    config.images = "true"
    config.permutations = 6
    config.beams = 3
    config.frames = 30
    config.tile = 8
    return config
