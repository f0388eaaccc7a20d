"""The table of benchmarks."""

from flamingo_jax.evaluation.benchmark import File
from flamingo_jax.evaluation.listing import listing
from tests.evaluation.toy import Chosen, Written


def test_each_benchmark_has_a_line_and_its_files() -> None:
    class Filed(Written):
        name, video, support = "filed", True, None
        files = (File("coco/val2014/", "https://cocodataset.org"),)

    head, written, chosen, filed, file = listing([Written(), Chosen(), Filed()]).splitlines()
    assert head.split() == ["name", "task", "metric", "answers", "media", "supports", "queries"]
    assert written.split() == [
        "written",
        "captions",
        "accuracy",
        "written",
        "images",
        "train",
        "test",
    ]
    assert chosen.split()[3] == "chosen"
    assert "video" in filed
    assert "none: 0 shots" in filed
    assert file == "    coco/val2014/  (https://cocodataset.org)"
