"""The main job.

python -m flamingo_jax.train --config=configs/openmoji.py --workdir=runs/openmoji
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from flamingo_jax import cli

_CONFIG = config_flags.DEFINE_config_file("config", help_string="Recipe, a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if absent.", required=True)
flags.mark_flag_as_required("config")


def main() -> None:
    """Runs or resumes the job that the flags name."""
    from flamingo_jax import config, job

    job.run(config.resolve(_CONFIG.value), Path(_WORKDIR.value))


if __name__ == "__main__":
    cli.run(main)
