"""What all entry points share: one line instead of a traceback for a user's mistake."""

import importlib.metadata
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from flamingo_jax.accelerators import only_a_cpu

# Before TensorFlow Datasets is imported: it needs no TensorFlow here and should not look for one.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# Compiling a step takes a minute or more on a CPU: keep the programs between runs.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "flamingo_jax" / "compiled")
)
if "JAX_PLATFORMS" not in os.environ and only_a_cpu():
    os.environ["JAX_PLATFORMS"] = "cpu"

from absl import app, flags
from absl import logging as absl_logging

from flamingo_jax import config_flag
from flamingo_jax.errors import STOPPED, Interrupted, UserError, no_room


def run(
    main: Callable[..., None],
    commands: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> None:
    """Parses absl flags and calls `main`; turns expected failures into one line on stderr.

    Exits with status 1 after a UserError and 130 after SIGINT or SIGTERM.

    Args:
      main: called with the command, if there are any, and the arguments.
      commands: words of which one must come first.
      arguments: what comes next, for people; all of it must be there.
    """

    def guarded(line: Sequence[str]) -> None:
        asked = bool(commands) + len(arguments)
        given, rest = list(line[1 : 1 + asked]), line[1 + asked :]
        if rest:
            _leave(f"Unexpected argument {rest[0]!r}: options are written --name=value.", 1)
        if commands and (not given or given[0] not in commands):
            named = f"{given[0]!r} is not one" if given else "None is given"
            _leave(f"{named}: say first which of {', '.join(commands)}.", 1)
        if len(given) < asked:
            _leave(f"{arguments[len(given) - asked]} is missing: give it as an argument.", 1)
        # Libraries log whole tracebacks of what they raise anyway: only our own warnings are shown.
        absl_logging.set_verbosity(absl_logging.FATAL)
        ours = logging.getLogger("flamingo_jax")
        ours.addHandler(logging.StreamHandler())
        ours.setLevel(logging.WARNING)  # not what absl gave the root
        ours.propagate = False
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            main(*given)
        except UserError as error:
            _leave(str(error), 1)
        except Interrupted as stop:
            _leave(str(stop), 130)
        except ModuleNotFoundError as error:
            if (extra := _extra_of(error.name or "")) is None:
                raise
            _leave(f"{error.name} is missing: pip install 'flamingo_jax[{extra}]' brings it.", 1)
        except Exception as error:
            if (words := no_room(error)) is None:
                raise
            name = getattr(error, "filename", None)
            where = f" for {name}" if name else ""
            _leave(f"There is no room{where} ({words}): make some and run again.", 1)
        except KeyboardInterrupt:
            _leave(STOPPED, 130)

    _tell_the_allocator()
    sys.unraisablehook = _unraisable
    sys.argv[:] = config_flag.with_default(sys.argv)
    app.run(guarded, flags_parser=_parse)


_ALLOCATION = {
    "hugetlb": 1,  # huge pages: in pages of 4 kB a fifth of the time goes into making them
    # What is freed is kept for the next step, not given back and made anew, which is another tenth:
    # so one heap for all threads, nothing beside it, and no end of it that is cut off.
    "arena_max": 1,
    "mmap_max": 0,
    "trim_threshold": 2**40,
}
"""What the C library is told. XLA on CPUs allocates its gigabytes anew in every step."""

TUNABLES = ":".join(f"glibc.malloc.{name}={value}" for name, value in _ALLOCATION.items())
"""The same as its environment variable, GLIBC_TUNABLES, says it."""


_RUN_MODELS = {f"flamingo_jax.{name}" for name in ("train", "evaluate", "generate", "benchmark")}


def _tell_the_allocator() -> None:
    """Starts a program that runs models anew with the C library told how to allocate memory.

    Only the environment can say so, and only before a program starts.
    """
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    runs_models = spec is not None and spec.name in _RUN_MODELS
    if runs_models and sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = TUNABLES
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _extra_of(module: str) -> str | None:
    """The extra of this package that brings a module; None if none does."""
    wanted = module.split(".")[0].lower()
    for requirement in importlib.metadata.requires("flamingo_jax") or ():
        found = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", requirement)
        if found and found[1].replace("-", "_").lower() == wanted:
            return found[2]
    return None


def _parse(arguments: Sequence[str]) -> list[str]:
    """Parses absl flags; a mistake in one is told in one line."""
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        _leave(_flag_mistake(error), 1)
    except Exception as error:  # whatever a config file raises, or ml_collections about a field
        _leave(config_flag.mistake(arguments, error), 1)


def _flag_mistake(error: Exception) -> str:
    while isinstance(error.__context__, UserError):  # of a recipe, with others' words around it
        error = error.__context__
    # What else a config file raises comes with its traceback, whose last line says what it was.
    first, *more = str(error).splitlines()
    return f"{first} {more[-1]}" if more else first


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    # After a failed write, which is told of, tensorstore calls a loop that orbax has closed.
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def _leave(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    sys.exit(status)
