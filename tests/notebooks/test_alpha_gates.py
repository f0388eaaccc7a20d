"""The notebook about the gates, run top to bottom on the smoke run."""

import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from flamingo_jax.training.journal import read_rows
from tests.tiny_run import ROOT

NOTEBOOK = ROOT / "notebooks" / "alpha_gates.ipynb"

CHECK = """
import json

import jax

from flamingo_jax.checkpoints.store import load_tree
from flamingo_jax.models.flamingo import FlamingoModel


def language_model_alone():
    '''Loss on the same answers of the training model without any bridge, prompt by prompt.'''
    frozen = load_tree(RUN / "frozen")
    plain = jax.jit(lambda frozen, tokens: FlamingoModel(model.config).apply(
        {"params": {}, "frozen": frozen}, tokens
    ))
    total = count = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        before = [model.tokenizer.bos_id, *model.tokenizer.encode(prompt)]
        after = model.tokenizer.encode(answer)
        tokens = np.zeros((1, 64), np.int32)
        tokens[0, : len(before) + len(after)] = before + after
        log_probs = jax.nn.log_softmax(plain(frozen, tokens)[0])
        total += sum(float(log_probs[len(before) - 1 + i, token]) for i, token in enumerate(after))
        count += len(after)
    return -total / count


print(json.dumps({
    "losses": losses,
    "alone": language_model_alone(),
    "gates": gates,
    "written": written,
    "right": right,
    "longest": max(len(model.tokenizer.encode(p + a)) for p, a in zip(prompts, answers)),
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
    assert kinds.count("image/png") == 3  # gates, losses, one prompt
    assert kinds.count("text/markdown") == 2  # losses, answers
    found = json.loads(outputs[-1]["text"])
    losses, layers = found["losses"], found["gates"]["layers"]
    assert found["longest"] < 64
    assert losses["all gates shut"] == pytest.approx(found["alone"], abs=1e-4)
    assert losses["all gates shut"] != losses["as trained"]
    assert len(losses) == 2 * len(layers) + 5
    assert list(found["written"])[0::2] == ["as trained", "all gates shut"]
    last = read_rows(smoke_run / "metrics.jsonl")[-1]["gates"]
    assert found["gates"]["alpha_xattn"] == pytest.approx(last["alpha_xattn"])
