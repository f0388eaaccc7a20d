"""The paper's ablations: every row resolves, builds, and trains the parameters that it should."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import numpy as np
import optax
import pytest

from configs import ablations, flamingo_3b
from flamingo_jax import config as configuration
from flamingo_jax.checks import check_config
from flamingo_jax.config import RunConfig
from flamingo_jax.data.datasets import DatasetConfig
from flamingo_jax.errors import UserError
from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.resampler import PerceiverResampler
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.parallel.layout import make_layout
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.training.inputs import Inputs
from flamingo_jax.training.optimizer import labels, make_optimizer
from flamingo_jax.training.state import TrainState
from flamingo_jax.training.step import make_step

OF_DATA = [
    name for name, (_, fields) in ablations.ROWS.items() if any("mixture" in f for f in fields)
]
OF_MODEL = [name for name in ablations.ROWS if name not in OF_DATA]
PAPER = {
    **{"baseline": 70.7, "no_video_text": 67.3, "no_image_text": 60.9, "image_text_laion": 66.4},
    **{"no_m3w": 53.4, "round_robin": 62.9, "no_tanh_gating": 66.5, "vanilla_xattn": 66.9},
    **{"grafting": 63.1, "xattn_single_in_middle": 59.8, "xattn_every_4th": 68.8},
    **{"xattn_every_2nd": 68.2, "resampler_mlp": 66.6, "resampler_transformer": 66.7},
    **{"vision_clip_vit_l14": 64.9, "vision_nfnet_f0": 62.7, "lm_from_scratch": 57.8},
    **{"lm_fine_tuned": 62.7, "resampler_small": 67.9, "resampler_large": 69.0},
    **{"all_previous_images": 63.5, "p_next_0": 69.6, "p_next_1": 70.4},
}


def row(name: str) -> RunConfig:
    return configuration.resolve(ablations.get_config(name))


def shrunk(config: RunConfig) -> RunConfig:
    """The row's choices at a third of the layers, of few channels and pixels, and open gates.

    Behind gates at zero nothing but the gates has a gradient in the first step.
    """
    layers, first = config.decoder.num_layers // 3, config.xattn.first // 3
    heads = {"num_heads": 2, "head_dim": 8}
    return dataclasses.replace(
        config,
        dtype="float32",
        vision=small(config.vision),
        decoder=dataclasses.replace(
            config.decoder,
            **heads,
            vocab_size=40,
            width=16,
            num_layers=layers,
            num_kv_heads=2,
            mlp_dim=32,
        ),
        resampler=dataclasses.replace(
            config.resampler,
            **heads,
            width=16,
            num_layers=config.resampler.num_layers // 3,
            num_latents=3,
            max_frames=2,
        ),
        xattn=dataclasses.replace(
            config.xattn,
            **heads,
            first=first,
            every=min(config.xattn.every, layers - first),
            alpha_init=0.5,
            alpha_dense_init=0.5,
        ),
        mixture=dataclasses.replace(
            config.mixture,
            datasets=tuple(
                dataclasses.replace(
                    dataset,
                    batch_size=2,
                    length=8,
                    media=min(dataset.media, 2),
                    max_answer_tokens=4,
                    frames=min(dataset.frames, 2),
                )
                for dataset in config.mixture.datasets
            ),
        ),
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=0),
    )


def small(vision: VisionConfig | ViTConfig) -> VisionConfig | ViTConfig:
    if isinstance(vision, ViTConfig):
        sizes = dict(image_size=16, patch_size=8, width=16, num_layers=1, num_heads=2, mlp_dim=32)
        return dataclasses.replace(vision, **sizes)
    return dataclasses.replace(
        vision,
        image_size=32,
        stem=(4, 4, 4, 8),
        widths=(8, 8, 16, 16),
        depths=tuple(max(depth // 21, 1) for depth in vision.depths),
        group_width=4,
        features=12,
    )


def drawn(config: FlamingoConfig, *inputs: np.ndarray, method: str = "__call__") -> Any:
    """Random variables: compiling their initialisation would take longer than the step."""
    init = functools.partial(FlamingoModel(config).init, method=method)
    shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), *inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(0.0, 0.3, x.shape).astype(np.float32), shapes)


@functools.cache
def features(vision: VisionConfig | ViTConfig) -> np.ndarray:
    """[8, P, C] of random images, through a random encoder of this shape."""
    config = dataclasses.replace(shrunk(row("baseline")).model, vision=vision)
    side = vision.image_size
    images = np.random.default_rng(1).integers(0, 256, (8, side, side, 3), np.uint8)
    encode = jax.jit(functools.partial(FlamingoModel(config).apply, method="encode"))
    return np.asarray(encode(drawn(config, images, method="encode"), images))


def inputs_of(dataset: DatasetConfig, vision: VisionConfig | ViTConfig) -> Inputs:
    """A batch of random text in which media come one after another."""
    B, T, N, F = dataset.batch_size, dataset.length, dataset.media, dataset.frames
    rng = np.random.default_rng(2)
    seen = features(vision)[: B * N * F]
    return Inputs(
        tokens_BxT=rng.integers(0, 40, (B, T)).astype(np.int32),
        media_index_BxT=np.tile(np.arange(T) * (N + 1) // T, (B, 1)).astype(np.int32),
        features_BxNxFxPxC=seen.reshape(B, N, F, *seen.shape[1:]),
        at_BxA=np.tile(np.arange(4, 8), (B, 1)).astype(np.int32),
        targets_BxA=rng.integers(0, 40, (B, 4)).astype(np.int32),
        weights_BxA=np.ones((B, 4), np.float32),
    )


@dataclasses.dataclass
class Trained:
    """Variables of a row before and after its steps, and what each step told."""

    before: Any
    params: Any
    frozen: Any
    metrics: list[dict[str, float]]

    @property
    def changed(self) -> set[str]:
        """Groups of the optimizer of which every parameter changed; none may in part."""
        groups = jax.tree.leaves(labels(self.before["params"]))
        pairs = zip(
            jax.tree.leaves(self.before["params"]), jax.tree.leaves(self.params), strict=True
        )
        moved = [not np.array_equal(old, new) for old, new in pairs]
        assert all(moved)
        return set(groups)


def train(
    config: RunConfig,
    steps: list[list[DatasetConfig]],
    optimizer: optax.GradientTransformation | None = None,
) -> Trained:
    """One step for each list of data sets; of the gradients' signs if no optimizer is given.

    A sign moves a parameter however small its gradient is.
    """
    check_config(config, 1)
    layout, model = make_layout(MeshConfig(), parameter_axes), FlamingoModel(config.model)
    optimizer = optimizer or optax.sign_sgd(0.1)
    one = inputs_of(steps[0][0], config.vision)
    variables = drawn(config.model, one.tokens_BxT, one.features_BxNxFxPxC, one.media_index_BxT)
    weights = {dataset.name: dataset.weight for dataset in config.mixture.datasets}
    step = make_step(model, optimizer, weights, layout)
    state = layout.place(TrainState.create(variables["params"], optimizer))
    frozen = layout.place(variables.get("frozen", {}))
    metrics = []
    for datasets in steps:
        inputs = {dataset.name: inputs_of(dataset, config.vision) for dataset in datasets}
        state, told = step(state, frozen, inputs)
        metrics.append({name: float(value) for name, value in told.items()})
    return Trained(variables, jax.device_get(state.params), jax.device_get(frozen), metrics)


def test_all_rows_of_the_paper_are_there_with_its_scores() -> None:
    assert {name: score for name, (score, _) in ablations.ROWS.items()} == PAPER


@pytest.mark.parametrize("name", ablations.ROWS)
def test_a_row_changes_one_or_two_fields_of_the_baseline(name: str) -> None:
    base, config = row("baseline"), row(name)
    check_config(config, 1)
    fields = ablations.ROWS[name][1]
    for told in configuration.differences(base, config):
        field = told.split(":")[0]
        assert any(field == changed or field.startswith(f"{changed}.") for changed in fields)
    assert len(fields) <= 2
    assert (base == config) == (name == "baseline")
    assert base == configuration.resolve(flamingo_3b.get_config())


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_MODEL)
def test_a_row_trains_what_it_should_and_nothing_else(name: str) -> None:
    config = shrunk(row(name))
    assert isinstance(config.vision, ViTConfig) == (name == "vision_clip_vit_l14")
    found = train(config, [[config.mixture.datasets[0]]])
    chex.assert_trees_all_equal(found.frozen, found.before.get("frozen", {}))
    gated = name not in ("no_tanh_gating", "vanilla_xattn")
    thawed = name in ("lm_from_scratch", "lm_fine_tuned")
    expected = {"xattn", "resampler"} | ({"gates"} if gated else set())
    assert found.changed == expected | ({"language"} if thawed else set())
    assert set(found.frozen) == (set() if thawed else {"language"})
    assert np.isfinite(found.metrics[0]["loss"])


@pytest.mark.parametrize(
    ("name", "bridges", "first"),
    [
        ("baseline", 24, 0),
        ("xattn_single_in_middle", 1, 12),
        ("xattn_every_2nd", 12, 0),
        ("xattn_every_4th", 6, 0),
        ("grafting", 24, 0),
    ],
)
def test_places_of_the_cross_attention(name: str, bridges: int, first: int) -> None:
    model = row(name).model
    assert (model.num_bridges, model.xattn.first) == (bridges, first)


def test_the_mlp_has_the_parameters_of_the_perceiver() -> None:
    """§3.3 compares them at one budget: within a tenth of a percent."""
    sizes = {}
    for name in ("baseline", "resampler_mlp", "resampler_transformer"):
        resampler = PerceiverResampler(row(name).resampler)
        key = jax.eval_shape(lambda: jax.random.key(0))
        features = jax.ShapeDtypeStruct((1, 1, 1, 100, 3072), np.float32)
        shapes = jax.eval_shape(resampler.init, key, features)
        sizes[name] = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert sizes["resampler_mlp"] == pytest.approx(sizes["baseline"], rel=1e-3)
    assert sizes["resampler_transformer"] == pytest.approx(sizes["baseline"], rel=1e-3)


@pytest.mark.slow
def test_the_baseline_accumulates_the_gradients_of_all_data_sets() -> None:
    config = shrunk(row("baseline"))
    found = train(config, [list(config.mixture.datasets)], make_optimizer(config.optimizer, 1))
    chex.assert_trees_all_equal(found.frozen, found.before.get("frozen", {}))
    assert found.changed == {"xattn", "resampler", "gates"}
    (told,) = found.metrics
    weights = {"m3w": 1.0, "align": 0.2, "ltip": 0.2, "vtp": 0.03}
    expected = sum(weight * told[f"loss/{name}"] for name, weight in weights.items())
    assert told["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_round_robin_takes_a_step_for_each_data_set() -> None:
    config = shrunk(row("round_robin"))
    assert config.mixture.schedule == "round_robin"
    m3w, *_, vtp = config.mixture.datasets
    found = train(config, [[m3w], [vtp]])
    chex.assert_trees_all_equal(found.frozen, found.before.get("frozen", {}))
    assert found.changed == {"xattn", "resampler", "gates"}
    names = [[name for name in told if name.startswith("loss/")] for told in found.metrics]
    assert names == [["loss/m3w"], ["loss/vtp"]]


@pytest.mark.parametrize(
    ("name", "weights", "p_next"),
    [
        ("no_video_text", {"m3w": 1.0, "align": 0.2, "ltip": 0.2}, 0.5),
        ("no_image_text", {"m3w": 1.0, "vtp": 0.03}, 0.5),
        ("image_text_laion", {"m3w": 1.0, "laion": 0.4, "vtp": 0.03}, 0.5),
        ("no_m3w", {"align": 0.2, "ltip": 0.2, "vtp": 0.03}, 0.0),
        ("p_next_0", {"m3w": 1.0, "align": 0.2, "ltip": 0.2, "vtp": 0.03}, 0.0),
        ("p_next_1", {"m3w": 1.0, "align": 0.2, "ltip": 0.2, "vtp": 0.03}, 1.0),
    ],
)
def test_rows_of_data(name: str, weights: dict[str, float], p_next: float) -> None:
    datasets = row(name).mixture.datasets
    assert {dataset.name: dataset.weight for dataset in datasets} == weights
    assert datasets[0].p_next == p_next
    assert all(dataset.p_next == 0.0 for dataset in datasets[1:])


def test_a_misspelt_row_is_told_the_nearest() -> None:
    with pytest.raises(UserError, match="no ablation 'grafing': did you mean grafting"):
        ablations.get_config("grafing")


def test_a_config_that_is_changed_leaves_the_next_as_it_was() -> None:
    config: Any = ablations.get_config("no_m3w")
    config.mixture.datasets[0]["batch_size"] = 3
    assert row("no_m3w").mixture.datasets[0].batch_size == 512
    assert row("baseline").mixture.datasets[1].batch_size == 512
