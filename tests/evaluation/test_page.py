"""The report from a run's files: complete, missing, damaged and hostile ones."""

import json
import re
from pathlib import Path

import pytest

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.page import write_report
from flamingo_jax.evaluation.table import summary

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9aw"
    "AAAABJRU5ErkJggg=="
)
HOSTILE = "<script>alert('x')</script>"


def rows():
    """Every condition and ceiling of two tasks at three numbers of shots."""
    found = []
    for benchmark, chance in (("category", 1 / 9), ("instance_binding", 0.5)):
        for shots in (0, 4, 8):
            for images, lift in (("true", 0.3), ("blank", 0.02), ("none", 0.0)):
                score = chance + lift * shots / 8
                row = {"benchmark": benchmark, "shots": shots, "seed": 0, "score": score}
                row |= {"ci95": [score - 0.05, score + 0.05], "queries": 200, "images": images}
                found.append({**row, "metric": "log_likelihood", "chance": chance})
                found.append({**row, "metric": "exact_match", "chance": 0.0})
        ceiling = {**found[-1], "score": 0.9, "ci95": [0.85, 0.95], "chance": chance}
        if benchmark == "instance_binding":
            found.append({**ceiling, "metric": "ceiling_names_as_text", "images": "none"})
            found.append({**ceiling, "metric": "ceiling_class_means", "images": "true"})
    return found


def write_run(folder, text="wug"):
    turn = {"images": [PIXEL], "answer": text}
    candidates = [
        {"text": text, "log_prob": -0.5, "gold": True, "chosen": False},
        {"text": "dax", "log_prob": -0.4, "gold": False, "chosen": True},
    ]
    example = {"benchmark": "category", "shots": 1, "correct": False, "exact": False}
    example |= {"turns": [turn, turn], "candidates": candidates}
    maps = [{"title": "cat", "image": PIXEL, "maps": [{"layer": 12, "uri": PIXEL}]}]
    gates = {"layers": [12, 18], "alpha_xattn": [0.5, 0.2], "alpha_dense": [0.0, -0.1]}
    metrics = [{"step": s, "loss": 3 / s, "loss/name": 2 / s, "gates": gates} for s in range(1, 60)]
    files = {
        "results.json": rows(),
        "gallery.json": [example],
        "attention.json": maps,
        "config.json": {"seed": 0, "note": text},
        "versions.json": {"jax": "0.10.2"},
        "stages.json": {"data": 60.0, "flamingo": 1800.0},
        "vision/results.json": {"retrieval": {"top_5": 0.23}},
    }
    (folder / "vision").mkdir()
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    for name in ("metrics.jsonl", "timing.jsonl", "vision/metrics.jsonl"):
        lines = [{**row, "seconds": 1.5, "tokens_per_s": 300.0} for row in metrics]
        text_of = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / name).write_text(text_of + '{"step": 60, "lo')


def test_whole_page_stands_alone(tmp_path):
    write_run(tmp_path)
    page = write_report(tmp_path).read_text()
    for text in ("CC BY-SA 4.0", "OpenMoji", "category, log likelihood", "0.41", "31.0 min", "wug"):
        assert text in page
    assert "No results.json" not in page
    assert page.count('src="data:image/') == page.count("src=")
    assert not re.search(r"<(script|link)", page)


def test_missing_files_are_told(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    page = write_report(tmp_path).read_text()
    for name in ("results.json", "metrics.jsonl", "gallery.json", "attention.json"):
        assert f"No {name}" in page


def test_text_of_the_data_is_escaped(tmp_path):
    write_run(tmp_path, HOSTILE)
    page = write_report(tmp_path).read_text()
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "config.json"])
def test_damaged_files_are_named(tmp_path, name):
    write_run(tmp_path)
    (tmp_path / name).write_text("{\n")
    with pytest.raises(UserError, match=re.escape(name)):
        write_report(tmp_path)


def test_a_folder_of_no_run_is_left_alone(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"has no config\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    write_run(tmp_path)
    before = write_report(tmp_path).read_bytes()

    def full(path, text, encoding):
        path.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="space"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_summary_shows_all_conditions_at_eight_shots():
    text = summary(rows())
    lines = text.splitlines()
    assert lines[0].split() == [
        *("8", "shots", "images", "blank", "alone", "class", "means", "names", "as", "text"),
        *("chance", "queries"),
    ]
    assert "0.80 [0.75, 0.85]" in next(line for line in lines if "instance" in line)
    assert text.count("0.90 [0.85, 0.95]") == 2
    assert summary([]) == "No results."
