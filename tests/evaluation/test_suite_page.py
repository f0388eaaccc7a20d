"""The suite's report and its table for the terminal."""

from pathlib import Path

from flamingo_jax.evaluation.suite_page import summary, write_page

ROWS = [
    {
        "benchmark": name,
        "metric": "CIDEr",
        "split": "test",
        "shots": shots,
        "seed": seed,
        "supports": "random",
        "images": "true",
        "score": 0.1 * shots + 0.01 * seed,
        "ci95": (0.0, 0.5),
        "queries": 12,
        "config_hash": "c0ffee",
        "checkpoint_hash": "beef",
        "seconds": 3.0,
    }
    for name in ("coco", "mine")
    for seed in (0, 1)
    for shots in (0, 4)
]
TITLES = {"coco": "COCO", "mine": "<Mine>"}
SHOWN = {
    "title": "COCO",
    "shots": 0,
    "query": "7",
    "pieces": [
        {"image": None, "text": "<s>"},
        {"image": "data:image/png;base64,AAAA", "text": "<image>Output:"},
    ],
    "raw": " a <b>cat",
    "answer": "a <b>cat",
    "right": ["a dog"],
}
OVERLAP = {
    "benchmark": "coco",
    "queries": 12,
    "shared": 3,
    "examples": ["q1"],
    "training_images": 99,
}


def page(folder: Path, **changes: object) -> str:
    values = {"rows": ROWS, "shown": [SHOWN], "overlaps": [OVERLAP], **changes}
    write_page(folder / "report.html", titles=TITLES, config={"shots": [0, 4]}, **values)
    return (folder / "report.html").read_text()


def test_own_figures_stand_beside_published_ones(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "40.0 [0.0, 50.0]" in text
    assert "41.0 [0.0, 50.0]" in text
    assert "<td>OpenFlamingo-9B, RICES</td>" in text
    assert "<td>113.8</td>" in text
    assert text.count('class="plot"') == 2
    assert "c0ffee" in text


def test_texts_are_escaped_and_images_stand_in_their_places(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "<Mine>" not in text
    assert "&lt;s&gt;<img" in text
    assert "a <b>cat" not in text


def test_the_overlap_is_told_or_said_to_be_unknown(tmp_path: Path) -> None:
    assert "<td>COCO</td><td>12</td><td>3</td><td>99</td>" in page(tmp_path)
    assert "Not looked for" in page(tmp_path, overlaps=[])
    assert "No benchmark is finished yet" in page(tmp_path, rows=[], overlaps=[], shown=[])


def test_blank_images_are_not_compared_with_papers(tmp_path: Path) -> None:
    rows = [{**row, "images": "blank"} for row in ROWS]
    text = page(tmp_path, rows=rows)
    assert "Flamingo-80B" not in text
    assert "blank images" in text


def test_the_terminals_table_has_a_line_a_figure() -> None:
    lines = summary(ROWS, TITLES).splitlines()
    assert len(lines) == 9
    assert "40.0  [0.0, 50.0]" in lines[2]
    assert lines[2].split()[:3] == ["COCO", "4", "0"]
