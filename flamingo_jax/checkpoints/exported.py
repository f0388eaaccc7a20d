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
from flamingo_jax.checkpoints.tensors import open_tensors
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


def load(folder: Path) -> dict[str, Any]:
    """The trees that `save` wrote, by name.

    Raises:
      UserError: a file cannot be read.
    """
    trees = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors = {name: tensor.read() for name, tensor in open_tensors(path).items()}
        trees[path.stem] = traverse_util.unflatten_dict(tensors, sep="/")
    if "params" not in trees:
        raise UserError(f"{folder} has no params.safetensors: export the run again.")
    return trees
