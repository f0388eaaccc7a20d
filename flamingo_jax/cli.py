"""What all entry points share: one line instead of a traceback for a user's mistake."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# Before TensorFlow Datasets is imported: it needs no TensorFlow here and should not look for one.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Compiling a step takes a minute or more on a CPU: keep the programs between runs.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "flamingo_jax" / "compiled")
)

from absl import app
from absl import logging as absl_logging

from flamingo_jax.errors import Interrupted, UserError


def run(main: Callable[[], None]) -> None:
    """Parses absl flags and calls `main()`; turns expected failures into one line on stderr.

    Exits with status 1 after a UserError and 130 after SIGINT or SIGTERM.
    """

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            _leave(f"Unexpected argument {arguments[1]!r}: options are written --name=value.", 1)
        logging.getLogger().setLevel(logging.WARNING)
        absl_logging.set_verbosity(absl_logging.ERROR)  # what libraries say; ours is on the root
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            main()
        except UserError as error:
            _leave(str(error), 1)
        except Interrupted as stop:
            _leave(str(stop), 130)
        except KeyboardInterrupt:
            _leave("Stopped: the same command goes on from the last finished stage.", 130)

    app.run(guarded)


def _leave(message: str, status: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(status)
