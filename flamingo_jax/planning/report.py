"""Plans as JSON, as text for people, and as the tables of docs/plans.md."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from flamingo_jax.planning.plan import Plan

_GIB = 2**30


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain data."""
    return dataclasses.asdict(plan)


def as_text(plan: Plan) -> str:
    """A plan for people, a figure a line."""
    room = f"{plan.free:.0%} left" if plan.fits else "DOES NOT FIT"
    rows = [
        ("program", f"{plan.program} of {plan.config}, {_batches(plan)}, remat {plan.remat}"),
        ("slice", f"{plan.topology}, {plan.chips:,} chips, mesh {_mesh(plan)}"),
        ("parameters", f"{plan.params:,}"),
        ("memory a chip", f"{_gib(plan.peak_bytes)} of {_gib(plan.hbm_bytes_per_device)}: {room}"),
        ("  arguments", _gib(plan.argument_bytes)),
        ("  temporaries", _gib(plan.temp_bytes)),
        ("model FLOPs", f"{plan.model_flops_per_step:.3e} a step"),
        ("  computed", f"{plan.hardware_flops_per_step:.3e}, with what is computed anew"),
        ("roofline", f"{_seconds(plan.roofline_seconds_per_step)} a step, bound by {plan.bound}"),
        *((f"  {limit}", _seconds(seconds)) for limit, seconds in plan.roofline.items()),
    ]
    if plan.estimated_days is not None:
        rows.append(("at least", f"{plan.estimated_days:.2f} days for the config's steps"))
    rows.append(("compiled in", f"{plan.compile_seconds:.0f} s"))
    lines = [f"{name:<16}{value}" for name, value in rows]
    return "\n".join([*lines, *_communication(plan)])


def as_ranking(plans: Sequence[Plan]) -> str:
    """Plans in order, one a line."""
    head = f"{'mesh':<32}{'remat':<7}{'memory a chip':<24}{'roofline':<12}bound"
    lines = [
        f"{_mesh(plan):<32}{plan.remat:<7}{_memory(plan):<24}"
        f"{_seconds(plan.roofline_seconds_per_step):<12}{plan.bound}"
        for plan in plans
    ]
    return "\n".join([head, *lines])


def as_markdown(plans: Sequence[tuple[Plan, str]]) -> str:
    """A table of plans, each with a remark."""
    head = (
        "| config | slice | chips | mesh | batch | memory a chip | model FLOPs a step | "
        "roofline | bound | days at least | |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    rows = []
    for plan, remark in plans:
        days = "" if plan.estimated_days is None else f"{plan.estimated_days:.1f}"
        cells = (
            plan.config,
            plan.topology,
            f"{plan.chips:,}",
            _mesh(plan),
            _batches(plan),
            _memory(plan),
            f"{plan.model_flops_per_step:.2e}",
            _seconds(plan.roofline_seconds_per_step),
            plan.bound,
            days,
            remark,
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, *rows])


def _communication(plan: Plan) -> list[str]:
    lines = ["", f"{'communication':<22}{'axes':<22}{'times':>8}{'GB a chip':>12}{'seconds':>10}"]
    if plan.collectives is None:
        return [*lines, "not known: the program does not fit"]
    return lines + [
        f"{entry.kind:<22}{', '.join(entry.axes) or 'none':<22}{entry.count:>8,}"
        f"{entry.bytes / 1e9:>12.3f}{entry.seconds:>10.4f}"
        for entry in plan.collectives
    ]


def _mesh(plan: Plan) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in plan.mesh.items() if size > 1) or "one chip"


def _batches(plan: Plan) -> str:
    return ", ".join(f"{name} {size:,}" for name, size in plan.batch_sizes.items())


def _memory(plan: Plan) -> str:
    room = f"{plan.free:.0%} left" if plan.fits else "does not fit"
    return f"{_gib(plan.peak_bytes)}, {room}"


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f} GiB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds >= 0.1 else f"{seconds * 1e3:.2f} ms"
