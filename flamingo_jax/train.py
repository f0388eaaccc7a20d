"""The main job, on one machine or on many.

    python -m flamingo_jax.train --config=configs/openmoji.py --workdir=runs/openmoji
        [--profile_steps=10:15] [--multihost]
        [--coordinator=HOST:PORT --num_processes=2 --process_index=0]

On many machines the same command is started on each, with a work directory common to all.
"""

import re

from absl import flags

from flamingo_jax import cli, config_flag
from flamingo_jax.errors import UserError

_CONFIG = config_flag.define("flamingo_jax.config:RunConfig", "Recipe, a file in configs/.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if absent.", required=True)
_PROFILE = flags.DEFINE_string(
    "profile_steps", "", "FIRST:LAST steps to write a trace of to WORKDIR/tensorboard."
)
_MULTIHOST = flags.DEFINE_bool("multihost", False, "Join the other hosts of a TPU slice.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first process, to join others that are no TPU hosts."
)
_COUNT = flags.DEFINE_integer("num_processes", None, "Processes in all.", lower_bound=1)
_INDEX = flags.DEFINE_integer("process_index", None, "This one's number, from 0.", lower_bound=0)
flags.mark_flag_as_required("config")


def main() -> None:
    """Runs or resumes the job that the flags name."""
    from flamingo_jax import config, job
    from flamingo_jax.checkpoints.files import local_folder
    from flamingo_jax.parallel import processes

    folder, profiled = local_folder(_WORKDIR.value), steps(_PROFILE.value)
    if place := place_of(_COORDINATOR.value, _COUNT.value, _INDEX.value, _MULTIHOST.value):
        processes.start(*place)
    job.run(config.resolve(_CONFIG.value), folder, profiled)


def place_of(
    coordinator: str | None, count: int | None, index: int | None, multihost: bool
) -> tuple[str | None, int | None, int | None] | None:
    """Where this process stands among others: what the flags say; None if it is alone.

    Raises:
      UserError: some of the three are missing, or do not go together.
    """
    given = [value is not None for value in (coordinator, count, index)]
    if not any(given):
        return (None, None, None) if multihost else None
    if coordinator is None or count is None or index is None:
        raise UserError("--coordinator, --num_processes and --process_index go together: say all.")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator takes HOST:PORT, 10.0.0.3:1234, not {coordinator!r}.")
    if index >= count:
        raise UserError(
            f"--process_index={index} is none of {count}: they go from 0 to {count - 1}."
        )
    return coordinator, count, index


def steps(text: str) -> range:
    """The steps FIRST to LAST of `FIRST:LAST`; none of an empty text.

    Raises:
      UserError: the text says something else.
    """
    if not text:
        return range(0)
    found = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 1 <= first <= last:
        raise UserError(f"--profile_steps takes FIRST:LAST, 10:15 for instance, not {text!r}.")
    return range(first, last + 1)


if __name__ == "__main__":
    cli.run(main)
