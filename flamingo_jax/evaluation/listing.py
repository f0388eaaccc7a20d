"""The table of published benchmarks: what each asks, and the files that a user has to bring."""

from collections.abc import Iterable, Sequence

from flamingo_jax.evaluation.benchmark import Benchmark


def listing(benchmarks: Sequence[Benchmark]) -> str:
    """A line for each benchmark, and below it its files and where they are had."""
    head = ("name", "task", "metric", "answers", "media", "supports", "queries")
    rows = [
        (
            b.name,
            b.task,
            b.metric,
            "written" if b.open_ended else "chosen",
            "video" if b.video else "images",
            b.support or "none: 0 shots",
            b.query,
        )
        for b in benchmarks
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [_line(head, widths)]
    for benchmark, row in zip(benchmarks, rows, strict=True):
        lines.append(_line(row, widths))
        lines += [f"    {file.path}  ({file.source})" for file in benchmark.files]
    return "\n".join(lines)


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
