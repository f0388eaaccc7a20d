"""Every parameter that is worth splitting has logical axes, in whatever tree it is."""

import dataclasses
from typing import Any

import jax
import optax
import pytest

from flamingo_jax.models.axes import NAMES, PARAMETERS, parameter_axes
from flamingo_jax.models.contrastive import ContrastiveConfig, ContrastiveModel
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.parallel.mesh import RULES
from flamingo_jax.training.state import variable_shapes
from tests.models.test_flamingo import tiny_config

NFNET = VisionConfig(16, (8,), (4,), (16,), (2,), (1,), features=8)
VIT = ViTConfig(16, 8, 8, 2, 2, 16)
ODD = DecoderConfig(50, 16, 6, 4, 4, 4, 32, positions="learned", max_positions=9, tied=False)


def shapes(**changes: Any) -> Any:
    config = dataclasses.replace(tiny_config(0.1), **changes)
    return variable_shapes(config)


def axes_of(tree: Any) -> dict[str, tuple[str | None, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): parameter_axes(path, leaf.ndim)
        for path, leaf in leaves
    }


MODELS = [
    dict(vision=NFNET),
    dict(vision=VIT),
    dict(decoder=dataclasses.replace(ODD, embedding_width=8)),
    dict(decoder=dataclasses.replace(ODD, positions="relative", mlp="gelu")),
    dict(xattn=dataclasses.replace(tiny_config(0.1).xattn, project_media=True)),
    dict(xattn=dataclasses.replace(tiny_config(0.1).xattn, conditioning="grafting")),
]


@pytest.mark.parametrize("changes", MODELS)
def test_every_matrix_has_axes(changes: dict[str, Any]) -> None:
    tree = shapes(**changes)
    found = axes_of(tree)
    for name, leaf in zip(found, jax.tree.leaves(tree), strict=True):
        stacked = sum(name.count(f"/{part}/") for part in ("groups", "layers", "grafts", "rest"))
        if leaf.ndim - stacked >= 2 and not name.endswith("/bias"):
            assert set(found[name]) & {"embed", "heads", "kv_heads", "mlp", "stem", "channels"}, (
                name
            )
            assert found[name].count("layers") == stacked, name


def test_the_contrastive_model_too() -> None:
    model = ContrastiveModel(NFNET, ContrastiveConfig(8, 16))
    images, texts = jax.numpy.zeros((1, 16, 16, 3)), jax.numpy.zeros((1, 12))
    found = axes_of(jax.eval_shape(model.init, jax.random.key(0), images, texts))
    assert found["params/text/up/kernel"] == ("embed", "mlp")
    assert found["params/image/encoder/net/stage_0/rest/conv_2/kernel"][-1] == "channels"
    assert found["params/image/encoder/net/stage_0/rest/squeeze_excite/up/kernel"][-1] == "channels"


def test_stacked_layers_and_what_the_optimizer_keeps_for_them() -> None:
    params = shapes(vision=NFNET)["params"]
    state = axes_of(jax.eval_shape(optax.adam(1e-3).init, params))
    (moment,) = [
        name for name in state if "mu/" in name and name.endswith("groups/xattn/mlp/up/kernel")
    ]
    assert state[moment] == ("layers", "embed", "mlp")
    assert axes_of(params)["language/groups/xattn/mlp/up/kernel"] == ("layers", "embed", "mlp")


def test_names() -> None:
    assert set(RULES) <= NAMES
    assert all(len(set(axes)) == len(axes) for axes in PARAMETERS.values())
    assert parameter_axes(("unheard", "of"), 2) == (None, None)
