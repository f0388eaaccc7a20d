"""Compiling for a slice up to where every buffer has its place: all that a plan asks for.

Partitioning, fusion, scheduling and the assignment of memory take seconds. What the TPU compiler
does after that, machine code for thousands of kernels, takes minutes and changes none of the
figures: the compiler runs in a process of its own, which is ended once it has written what it
assigned. (Written to a folder, since of some generations JAX cannot ask for the program.)
"""

import dataclasses
import math
import multiprocessing
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from flamingo_jax.errors import UserError

# The last file that is written before the code: once it is there, those before it are whole.
_LAST = "*.after_optimizations_after_buffer_assignment.txt"
_POLL = 0.05  # seconds


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler tells of a program, for one device.

    Attributes:
      argument_bytes: of arguments.
      temp_bytes: of intermediate values.
      peak_bytes: of all that is in memory: arguments, results in other places, intermediate values.
      seconds: from the shapes to here.
      told: what the program's builder told of it.
      text: the optimised program (HLO); None if there is no room for it.
    """

    argument_bytes: int
    temp_bytes: int
    peak_bytes: int
    seconds: float
    told: Any
    text: str | None


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function, its arguments' shapes, and anything that its builder wants to tell."""

    function: Any
    arguments: tuple[Any, ...]
    told: Any


def compile_program(build: Callable[..., Program], *arguments: Any) -> Compiled:
    """Builds and compiles a program in a process of its own.

    Args:
      build: makes the program there; it and its arguments are pickled.
      arguments: of `build`.

    Raises:
      UserError: as `build`.
    """
    began = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="flamingo_plan_") as folder:
        ours, theirs = spawn.Pipe()
        child = spawn.Process(target=_compile, args=(theirs, folder, build, arguments), daemon=True)
        child.start()
        theirs.close()
        try:
            told, held = _answer(ours)
            needed = _wait(ours, Path(folder))
            seconds = time.perf_counter() - began
            if needed is not None:
                return Compiled(held, needed, held + needed, seconds, told, None)
            return _read(Path(folder), seconds, told)
        finally:
            child.kill()
            child.join()


def _compile(pipe: Any, folder: str, build: Callable[..., Program], arguments: Any) -> None:
    """What the other process does: answers with ("told", …), then maybe ("full", bytes)."""
    try:
        program = build(*arguments)
        lowered = program.function.lower(*program.arguments)
        pipe.send(("told", (program.told, argument_bytes(program.arguments))))
        lowered.compile(compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
    except UserError as error:
        pipe.send(("mistake", str(error)))
    except jax.errors.JaxRuntimeError as error:
        needed = _needed(str(error))
        pipe.send(("failed", str(error)) if needed is None else ("full", needed))


def _answer(pipe: Any) -> Any:
    try:
        kind, value = pipe.recv()
    except EOFError as error:
        raise RuntimeError("The compiler's process ended without a word.") from error
    if kind == "mistake":
        raise UserError(value)
    if kind == "failed":
        raise RuntimeError(value)
    return value


def _wait(pipe: Any, folder: Path) -> int | None:
    """Waits until memory is assigned; returns the bytes that were asked for if there is no room."""
    while not any(folder.glob(_LAST)):
        if pipe.poll(_POLL):
            return _answer(pipe)
    return None


def argument_bytes(arguments: Any) -> int:
    """Bytes of a tree of shapes that lie on a mesh, a device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(arguments)
    )


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _needed(message: str) -> int | None:
    """Bytes of intermediate values that found no room; None if the compiler failed otherwise."""
    found = re.search(r"\(([\d.]+)([KMGT]?)i?B?\) exceeds available HBM", message)
    found = found or re.search(r"[Uu]sed ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message)
    return int(float(found[1]) * _UNITS[found[2]]) if found else None


def _read(folder: Path, seconds: float, told: Any) -> Compiled:
    """The compiler's assignment of memory, and the program that it belongs to."""
    (assignment,) = folder.glob("*.after_optimizations-buffer-assignment.txt")
    (text,) = folder.glob("*.after_optimizations.txt")
    sizes = {"argument": 0, "result": 0, "temp": 0}
    for line in assignment.read_text().splitlines():
        found = re.match(r"allocation \d+: size (\d+), (color \d+, )?", line)
        if not found or found[2]:  # of a colour: in another memory than HBM
            continue
        if ", thread-local" in line:  # names within a called computation for its caller's arrays
            continue
        kind = "argument" if " parameter " in line else "temp"
        kind = "result" if kind == "temp" and "maybe-live-out" in line else kind
        sizes[kind] += int(found[1])
    peak = sum(sizes.values())
    return Compiled(sizes["argument"], sizes["temp"], peak, seconds, told, text.read_text())
