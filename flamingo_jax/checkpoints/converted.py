"""A converted model on disk: its config, tokenizer and two orbax checkpoints in one folder.

OUT/config.json      family, model, text: fields of `ModelFile`
OUT/tokenizer.json   if the source had a tokenizer
OUT/params, frozen   the model's collections
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flamingo_jax.checkpoints.files import new_folder, write_json
from flamingo_jax.checkpoints.published import Published
from flamingo_jax.checkpoints.store import load_tree
from flamingo_jax.checkpoints.streamed import save_streamed
from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.models.flamingo import FlamingoConfig

COLLECTIONS = ("params", "frozen")


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """What `config.json` of a converted or exported model holds.

    Attributes:
      family: where the model comes from: a published family, or `flamingo_jax` for a run's export.
      model: its config.
      text: its tokens and prompts.
    """

    family: str
    model: FlamingoConfig
    text: TextConfig


def save(published: Published, folder: Path, dtype: str = "float32") -> None:
    """Writes a published model, tensor by tensor; whole or not at all.

    Args:
      published: from a reader.
      folder: to be made.
      dtype: of the arrays on disk.

    Raises:
      UserError: the folder exists, a tensor cannot be read, or the disk is full.
    """
    with new_folder(folder) as part:
        for name in COLLECTIONS:
            tree = published.variables[name]
            save_streamed(part / name, tree, dtype, f"Converting {name}")
        if published.tokenizer is not None:
            (part / "tokenizer.json").write_text(published.tokenizer, encoding="utf-8")
        file = ModelFile(published.family, published.config, published.text)
        write_json(part / "config.json", dataclasses.asdict(file))


def load_variables(folder: Path) -> Mapping[str, Any]:
    """The collections that `save` wrote, as NumPy arrays.

    Raises:
      UserError: one is missing or damaged.
    """
    return {name: load_tree(folder / name) for name in COLLECTIONS}
