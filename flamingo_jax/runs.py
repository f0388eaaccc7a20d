"""Models in folders: of a training run, converted from a published checkpoint, or exported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flamingo_jax import config as configuration
from flamingo_jax.checkpoints import converted, exported, smollm2
from flamingo_jax.checkpoints.converted import ModelFile
from flamingo_jax.checkpoints.files import config_file
from flamingo_jax.checkpoints.store import load_params, load_tree
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.fields import build
from flamingo_jax.inference.handle import Features, Flamingo
from flamingo_jax.models.flamingo import FlamingoConfig, stack_layers
from flamingo_jax.training.state import variable_shapes

RUN = "run"
"""`ModelFile.family` of a work directory."""


def load(
    path: str | Path, max_tokens: int | None = None, features: Features | None = None
) -> Flamingo:
    """The model in a folder, with the newest readable parameters if it is a run's.

    Args:
      path: a run's work directory, or what `python -m flamingo_jax.convert` wrote.
      max_tokens: most tokens of a prompt and its continuation together; None for the model's own.
      features: images [M, H, W, 3] uint8 -> features [M, P, C]; None runs the vision encoder.

    Raises:
      UserError: the folder is missing, holds no model, or holds no readable checkpoint yet.
    """
    folder = Path(path)
    file = _model_file(folder)
    words = folder / "tokenizer.json"
    tokenizer = Tokenizer.load(words, file.text) if words.exists() else file.text
    return Flamingo.from_variables(
        file.model, _variables(folder, file), tokenizer, max_tokens, features
    )


def export(source: str | Path, output: str | Path) -> None:
    """Writes a folder's model as safetensors files, to be published.

    The language model goes with it only where it is not the one of the installed package.

    Raises:
      UserError: `source` holds no model, or `output` exists or cannot be written.
    """
    folder = Path(source)
    file = _model_file(folder)
    variables = _variables(folder, file)
    trees = {"params": variables["params"], "vision": variables["frozen"]["vision"]}
    if file.model.language == "frozen" and not _packaged(folder, file):
        trees["language"] = variables["frozen"]["language"]
    words = folder / "tokenizer.json"
    exported.save(
        Path(output),
        ModelFile(exported.FAMILY, file.model, file.text),
        trees,
        words if words.exists() else None,
    )


def run_variables(folder: Path) -> dict[str, Any]:
    """The collections of a run: its newest readable parameters, and what is frozen."""
    params = load_params(folder / "checkpoints")
    return {"params": params, "frozen": load_tree(folder / "frozen")}


def _model_file(folder: Path) -> ModelFile:
    path = config_file(folder, "the work directory of a training run, or a converted model")
    values = configuration.read_json(path)
    if "family" in values:
        return build(ModelFile, values)
    text = Tokenizer.load(folder / "tokenizer.json").text
    return ModelFile(RUN, configuration.load(path).model, text)


def _variables(folder: Path, file: ModelFile) -> Mapping[str, Any]:
    """The model's collections."""
    if file.family == RUN:
        return run_variables(folder)
    if file.family != exported.FAMILY:
        return converted.load_variables(folder)
    shapes = variable_shapes(file.model)
    wanted = {"params": shapes["params"], "vision": shapes["frozen"]["vision"]}
    packaged: dict[str, Any] = {}
    if file.model.language == "frozen":
        if _packaged(folder, file):
            packaged["language"] = _package_language(folder, file.model)
        else:
            wanted["language"] = shapes["frozen"]["language"]
    trees = exported.load(folder, wanted)
    return {"params": trees.pop("params"), "frozen": {**trees, **packaged}}


def _packaged(folder: Path, file: ModelFile) -> bool:
    """Whether the frozen language model is the installed package's."""
    if file.family == RUN:
        return True
    return file.family == exported.FAMILY and not (folder / "language.safetensors").exists()


def _package_language(folder: Path, config: FlamingoConfig) -> dict[str, Any]:
    """The frozen language model of the installed package, laid out for a model without its own.

    Raises:
      UserError: the package is missing, or its language model is not the model's.
    """
    path = smollm2.find_gguf()
    found, vocabulary, layers = smollm2.read_language_model(path)
    if found != config.decoder:
        raise UserError(
            f"{folder} has no language.safetensors, and its language model is not that of "
            f"{path.name}: copy all of it, or export the model again."
        )
    return {"vocabulary": vocabulary, **stack_layers(layers, config)}
