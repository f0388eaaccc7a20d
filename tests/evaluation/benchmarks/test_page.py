"""docs/benchmarks.md says of every benchmark what its class says."""

import pytest

from flamingo_jax.evaluation.benchmarks import BENCHMARKS
from flamingo_jax.evaluation.benchmarks.published import Published
from tests.tiny_run import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"


def row(benchmark: Published) -> str:
    """Its line of the table."""
    cells = (
        f"`{benchmark.name}`",
        benchmark.title,
        benchmark.task,
        "video" if benchmark.video else "images",
        "written" if benchmark.open_ended else "chosen",
        benchmark.metric,
        benchmark.support or "none",
        benchmark.query,
        benchmark.paper_query,
    )
    return f"| {' | '.join(cells)} |"


def tree(benchmark: Published) -> str:
    """Its heading and files."""
    return f"### {benchmark.title}\n\n```text\n{benchmark.layout()}\n```\n"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_page_says_what_the_class_says(name):
    page = PAGE.read_text(encoding="utf-8")
    assert row(BENCHMARKS[name]) in page
    assert tree(BENCHMARKS[name]) in page
