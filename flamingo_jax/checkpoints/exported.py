"""A run as it is published: safetensors files and a config, beside a tokenizer.

    OUT/config.json           family `flamingo_jax`, model, text: fields of `ModelFile`
    OUT/params.safetensors    what was trained
    OUT/vision.safetensors    the vision encoder
    OUT/language.safetensors  the language model, but where it comes from an installed package
    OUT/tokenizer.json

Tensors are named by their place in the model's collections, `resampler/latents` for instance.
"""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from flamingo_jax.checkpoints.converted import ModelFile
from flamingo_jax.checkpoints.files import new_folder, write_json
from flamingo_jax.checkpoints.tensors import Source, open_tensors
from flamingo_jax.errors import UserError

FAMILY = "flamingo_jax"


def save(folder: Path, file: ModelFile, trees: Mapping[str, Any], tokenizer: Path | None) -> None:
    """Writes trees of arrays as `NAME.safetensors`, with config and tokenizer; all or nothing.

    Raises:
      UserError: the folder exists, or the disk is full.
    """
    with new_folder(folder) as part:
        for name, tree in trees.items():
            flat = traverse_util.flatten_dict(tree, sep="/")
            arrays = {key: np.asarray(leaf, order="C") for key, leaf in flat.items()}
            save_file(arrays, part / f"{name}.safetensors")
        if tokenizer is not None:
            shutil.copyfile(tokenizer, part / "tokenizer.json")
        write_json(part / "config.json", dataclasses.asdict(file))


def load(folder: Path, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Trees that `save` wrote, by name.

    Args:
      folder: where they lie.
      shapes: of each tree that is wanted, those of its leaves.

    Raises:
      UserError: a file is missing or cannot be read, or a tensor is missing, has another shape, or
        is one too many; the message names it.
    """
    trees = {}
    for name, tree in shapes.items():
        path = folder / f"{name}.safetensors"
        if not path.exists():
            raise UserError(
                f"{folder} has no {path.name}: copy all of it, or export the run again."
            )
        source = Source(open_tensors(path), path)
        wanted: Any = traverse_util.flatten_dict(tree, sep="/")
        tensors = {key: source.take(key, leaf.shape).read() for key, leaf in wanted.items()}
        source.check_all_taken()
        trees[name] = traverse_util.unflatten_dict(tensors, sep="/")
    return trees
