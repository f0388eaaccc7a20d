"""Loading a trained model from the work directory of its run."""

from pathlib import Path

from flamingo_jax import config as configuration
from flamingo_jax.checkpoints.store import load_params, load_tree
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.inference.handle import MAX_TOKENS, Features, Flamingo


def load(
    path: str | Path, max_tokens: int = MAX_TOKENS, features: Features | None = None
) -> Flamingo:
    """The model of a run, with the parameters of its newest readable checkpoint.

    Args:
      path: the run's work directory.
      max_tokens: most tokens of a prompt and its continuation together.
      features: images [M, H, W, 3] uint8 -> features [M, P, C]; None runs the vision encoder.

    Raises:
      UserError: the folder is missing, is not a run's, or holds no readable checkpoint yet.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        missing = "has no config.json" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder} {missing}: give the work directory of a training run.")
    variables = {
        "params": load_params(folder / "checkpoints"),
        "frozen": load_tree(folder / "frozen"),
    }
    return Flamingo.from_variables(
        configuration.load(folder / "config.json").model,
        variables,
        Tokenizer.load(folder / "tokenizer.json"),
        max_tokens,
        features,
    )
