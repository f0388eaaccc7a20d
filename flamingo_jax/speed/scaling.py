"""What a training step costs as the work grows: devices, tokens, images, layers, remat.

Each point is the real step, from pixels, on random weights and inputs, compiled and run in a
process of its own. Several devices are made of one CPU and share its cores: what is seen of them is
what splitting costs, not what more hardware would bring.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from flamingo_jax.errors import UserError
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.speed.training import training_step
from flamingo_jax.speed.workload import BenchmarkConfig


@dataclasses.dataclass(frozen=True)
class Point:
    """One thing that is measured.

    Attributes:
      part: of the figure: `devices`, `tokens`, `images`, `layers` or `remat`.
      series: the line in it, `data` or `fsdp`, `loop` or `unrolled`, or the part's name.
      value: where on that line.
      config: the model and the work.
    """

    part: str
    series: str
    value: int | str
    config: BenchmarkConfig


def measure(config: BenchmarkConfig) -> dict[str, Any]:
    """Measures all points, with a progress bar; see `measure_point` for the units.

    Returns:
      `machine`, in words; `cores`; `base`, the work at the common point; and `rows`, each with
      `part`, `series`, `value` and the figures.

    Raises:
      UserError: a mesh does not fit the model, or a process ended, for want of memory usually.
    """
    todo, rows, known = points(config), [], []
    for point in tqdm(todo, desc="Scaling", unit="point"):
        figures = next((found for done, found in known if done == point.config), None)
        if figures is None:
            figures = _in_its_own_process(point)
            known.append((point.config, figures))
        rows.append({"part": point.part, "series": point.series, "value": point.value, **figures})
    base = common_point(config)
    return {
        "machine": _processor(),
        "cores": os.cpu_count(),
        "base": {
            "batch": base.work.batch,
            "tokens": base.work.tokens,
            "images": base.work.images,
            "layers": base.decoder.num_layers,
            "width": base.decoder.width,
            "image_size": base.vision.image_size,
        },
        "rows": rows,
    }


def common_point(config: BenchmarkConfig) -> BenchmarkConfig:
    """The point that all lines go through: the benchmark's model made smaller, as a loop."""
    sizes = config.scaling
    decoder = dataclasses.replace(
        config.decoder, width=sizes.width, mlp_dim=4 * sizes.width, vocab_size=sizes.vocab_size
    )
    return dataclasses.replace(
        config,
        decoder=decoder,
        vision=dataclasses.replace(config.vision, image_size=sizes.image_size),
        resampler=dataclasses.replace(config.resampler, num_layers=1),
        xattn=dataclasses.replace(config.xattn, first=0),
        unroll=False,
        remat="none",
        mesh=MeshConfig(),
        work=dataclasses.replace(config.work, batch=sizes.batch, repeats=sizes.repeats),
    )


def points(config: BenchmarkConfig) -> list[Point]:
    """Everything that is measured, in the order of the page."""
    base, sizes = common_point(config), config.scaling

    def worked(**work: int) -> BenchmarkConfig:
        return dataclasses.replace(base, work=dataclasses.replace(base.work, **work))

    def deep(layers: int, unroll: bool) -> BenchmarkConfig:
        decoder = dataclasses.replace(base.decoder, num_layers=layers)
        return dataclasses.replace(base, decoder=decoder, unroll=unroll)

    found = [
        Point(
            "devices",
            axis,
            n,
            dataclasses.replace(base, mesh=dataclasses.replace(MeshConfig(), **{axis: n})),
        )
        for axis in ("data", "fsdp")
        for n in sizes.devices
    ]
    found += [Point("tokens", "tokens", n, worked(tokens=n)) for n in sizes.tokens]
    found += [Point("images", "images", n, worked(images=n)) for n in sizes.images]
    found += [
        Point("layers", series, n, deep(n, unroll))
        for series, unroll in (("loop", False), ("unrolled", True))
        for n in sizes.layers
    ]
    for remat in sizes.remat:
        found.append(Point("remat", "remat", remat, dataclasses.replace(base, remat=remat)))
    return found


def measure_point(config: BenchmarkConfig) -> dict[str, float]:
    """Compiles a training step, takes some, and tells what that cost.

    Returns:
      `step_s`, the shortest, since other work on a machine can only add; `compile_s`, with tracing;
      `temp_mb` and `argument_mb`, what the program needs on each device for intermediate values and
      for weights, state and inputs; `loss`, after the last step.
    """
    jax.config.update("jax_enable_compilation_cache", False)
    step = training_step(config)
    seconds, metrics = [], {}
    for _ in range(1 + config.work.repeats):
        began = time.perf_counter()
        metrics = step()
        seconds.append(time.perf_counter() - began)
    (program,) = step.step.programs.values()
    memory = program.memory_analysis()
    return {
        "step_s": round(min(seconds[1:]), 4),
        "compile_s": round(step.compile_s, 2),
        "temp_mb": round(memory.temp_size_in_bytes / 1e6, 1),
        "argument_mb": round(memory.argument_size_in_bytes / 1e6, 1),
        "loss": round(float(metrics["loss"]), 6),
    }


def _processor() -> str:
    """The processor by name where Linux tells, else its architecture."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.machine()


def _in_its_own_process(point: Point) -> dict[str, float]:
    spawn = multiprocessing.get_context("spawn")
    devices = point.config.mesh.devices
    with _seeing(devices), ProcessPoolExecutor(1, spawn) as pool:
        try:
            return pool.submit(measure_point, point.config).result()
        except BrokenProcessPool as error:
            raise UserError(
                f"The process that measured {point.part} {point.value} was killed, for want of "
                "memory perhaps: take less in config.scaling."
            ) from error


@contextlib.contextmanager
def _seeing(devices: int) -> Iterator[None]:
    """Processes started meanwhile see so many devices made of the CPU."""
    wanted = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
