"""What all entry points share: one line instead of a traceback for a user's mistake."""

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

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

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that more room would mend."""


def run(main: Callable[[], None]) -> None:
    """Parses absl flags and calls `main()`; turns expected failures into one line on stderr.

    Exits with status 1 after a UserError and 130 after SIGINT or SIGTERM.
    """

    def guarded(arguments: Sequence[str]) -> None:
        if len(arguments) > 1:
            _leave(f"Unexpected argument {arguments[1]!r}: options are written --name=value.", 1)
        logging.getLogger().setLevel(logging.WARNING)
        # Libraries log whole tracebacks of what they raise anyway; ours is said on the root.
        absl_logging.set_verbosity(absl_logging.FATAL)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            main()
        except UserError as error:
            _leave(str(error), 1)
        except Interrupted as stop:
            _leave(str(stop), 130)
        except OSError as error:
            if error.errno not in FULL:
                raise
            where = f" for {error.filename}" if error.filename else ""
            _leave(f"There is no room{where} ({error.strerror}): make some and run again.", 1)
        except KeyboardInterrupt:
            _leave("Stopped: the same command goes on from the last finished stage.", 130)

    sys.excepthook = _hook
    app.run(guarded)


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # After a failed write, which is told of, tensorstore calls a loop that orbax has closed.
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
        sys.__excepthook__(kind, error, trace)


def _leave(message: str, status: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(status)
