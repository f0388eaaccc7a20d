"""The notebook about one prompt, run top to bottom on the smoke run."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.tiny_run import ROOT

NOTEBOOK = ROOT / "notebooks" / "few_shot.ipynb"

CHECK = """
import json

probability = probabilities[place : place + len(weighed[int(np.argmax(shares))].tokens)]
print(json.dumps({
    "shares": shares.tolist(),
    "blank": blank_shares.tolist(),
    "on_query": on_query.tolist(),
    "layers": list(maps.layers),
    "cross": model.gates()["layers"],
    "chosen": float(likelihoods.max()),
    "by_token": float(np.log(probability).sum()),
}))
"""


def test_it_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.mark.slow
def test_it_runs_and_its_figures_are_right(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAMINGO_RUN", str(smoke_run))
    notebook = nbformat.read(NOTEBOOK, 4)
    notebook.cells.append(nbformat.v4.new_code_cell(CHECK))
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=900, resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 2  # the prompt, the next tokens
    assert kinds.count("text/html") == 2  # tokens' probabilities, heat maps
    assert kinds.count("text/markdown") == 2  # answers, white images
    found = json.loads(outputs[-1]["text"])
    assert sum(found["shares"]) == pytest.approx(1)
    assert sum(found["blank"]) == pytest.approx(1)
    assert found["on_query"] == pytest.approx([1] * len(found["layers"]), abs=1e-3)
    assert found["layers"] == found["cross"]
    assert found["by_token"] == pytest.approx(found["chosen"], abs=2e-3)
