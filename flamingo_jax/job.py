"""The main job: data, language model, vision encoder, Flamingo, evaluation, report.

Each stage leaves its result in the work directory and is passed over, or resumed, if it is there.
"""

import dataclasses
import json
import logging
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
from flax import traverse_util

from flamingo_jax import config as configuration
from flamingo_jax.checkpoints import smollm2
from flamingo_jax.checkpoints.files import write_json
from flamingo_jax.checkpoints.store import load_tree, save_tree
from flamingo_jax.checks import check_config, check_decoder, check_drawable, check_sizes
from flamingo_jax.config import RunConfig
from flamingo_jax.data.drawings import Drawing, load_drawings
from flamingo_jax.data.mixture import make_iterator
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.errors import UserError, no_room
from flamingo_jax.evaluation.held_out import held_out_losses, held_out_table
from flamingo_jax.evaluation.page import write_report
from flamingo_jax.evaluation.run import evaluate, write_results
from flamingo_jax.evaluation.table import summary
from flamingo_jax.inference.features import FeatureCache
from flamingo_jax.models.axes import parameter_axes
from flamingo_jax.models.flamingo import FlamingoModel, gates, stack_layers
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.parallel.layout import Layout, make_layout
from flamingo_jax.parallel.processes import end_when_told, lead, lead_first, wait_for_all
from flamingo_jax.runs import load, run_variables
from flamingo_jax.training.contrastive import pretrain
from flamingo_jax.training.frozen import by_layer
from flamingo_jax.training.loop import train
from flamingo_jax.training.optimizer import make_optimizer
from flamingo_jax.training.provenance import timed, write_versions
from flamingo_jax.training.source import Source
from flamingo_jax.training.state import TrainState, in_compute_type, init_state, variable_shapes
from flamingo_jax.training.step import make_step
from flamingo_jax.training.tally import Tally

_log = logging.getLogger(__name__)


def run(config: RunConfig, folder: Path, profiled: range = range(0)) -> None:
    """Runs, resumes or passes over every stage of a run.

    Args:
      config: the whole configuration.
      folder: the work directory; made if absent, and common to all processes.
      profiled: steps of the Flamingo stage to write a profile of.

    Raises:
      UserError: the folder belongs to another config, or a stage cannot go on.
      Interrupted: SIGINT or SIGTERM came; what was done is saved.
    """
    check_config(config, len(jax.devices()))
    check_drawable(config)
    layout = make_layout(config.mesh, parameter_axes)
    check_split(config, layout)
    with lead_first("claim"):
        claim(config, folder)
    clock = folder / "stages.json"
    with timed(clock, "data"), lead_first("data"):
        drawings = load_drawings(folder / "data")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    if not (folder / "results.json").exists():
        check_sizes(config, drawings, tokenizer)
    with timed(clock, "vision"):
        make_frozen(config, folder, drawings, tokenizer, layout)
    features = feature_cache(config, folder, drawings)
    with timed(clock, "flamingo"):
        train_flamingo(config, folder, drawings, tokenizer, layout, features, profiled)
    end_when_told()
    if not (folder / "results.json").exists():
        with timed(clock, "evaluation"):
            found = evaluate(load(folder, features=features), drawings, config.evaluation, "test")
            if lead():
                write_results(folder, found, "test")
    if any(dataset.held_out for dataset in config.mixture.datasets):
        with timed(clock, "held out"):
            held_out = measure_held_out(config, folder, tokenizer, features)
        if lead():
            print(held_out_table(held_out))
    if lead():
        print(summary(json.loads((folder / "results.json").read_text(encoding="utf-8"))))
        print(f"Report: {write_report(folder)}")
    wait_for_all("report")


def check_split(config: RunConfig, layout: Layout) -> None:
    """Looks whether all parameters, trained and frozen, can lie on the mesh as the rules say.

    Raises:
      UserError: one cannot be split.
    """
    if config.mesh.devices > 1:
        layout.shardings(variable_shapes(config.model))


def claim(config: RunConfig, folder: Path) -> None:
    """Makes the work directory, or checks that it belongs to this config.

    A run may go on with another mesh, and what else `config.HOW` names; `config.json` stays as it
    was.

    Raises:
      UserError: it holds a run of another config; the message says what differs.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={folder} cannot be a folder ({error.strerror}): choose another."
        ) from error
    path = folder / "config.json"
    if path.exists():
        changed = configuration.conflicts(configuration.load(path), config)
        if changed:
            raise UserError(
                f"{folder} holds a run of another config ({'; '.join(changed[:5])}): "
                "choose another --workdir, or delete that one."
            )
        return
    gguf = smollm2.find_gguf()
    try:
        smollm2.write_tokenizer(gguf, folder / "tokenizer.json")
        write_versions(folder / "versions.json")
        configuration.save(config, path)
    except Exception as error:  # the tokenizer's library raises bare ones
        if no_room(error):
            raise
        raise UserError(
            f"--workdir={folder} cannot be written ({error}): choose another."
        ) from error


def make_frozen(
    config: RunConfig,
    folder: Path,
    drawings: list[Drawing],
    tokenizer: Tokenizer,
    layout: Layout,
) -> None:
    """Stores the frozen collection: the language model and the vision encoder, pretrained here."""
    if (folder / "frozen").exists():
        return
    path = smollm2.find_gguf()
    decoder, vocabulary, layers = smollm2.read_language_model(path)
    check_decoder(config.decoder, decoder, path.name)
    assert isinstance(config.vision, VisionConfig)  # as check_drawings saw
    vision = pretrain(
        config.vision_training,
        config.vision,
        drawings,
        vocabulary["embedding"],
        tokenizer,
        folder / "vision",
        layout,
        config.loop.stall_minutes,
    )
    language = {"vocabulary": vocabulary, **stack_layers(layers, config.model)}
    save_tree(folder / "frozen", {"language": language, "vision": vision["params"]})


def frozen_weights(config: RunConfig, folder: Path, layout: Layout) -> Any:
    """The frozen collection on the mesh, in the type that the model computes in."""
    dtype = config.dtype if config.language == "frozen" else "float32"
    return load_tree(
        folder / "frozen", lambda shapes: layout.abstract(in_compute_type(shapes, dtype))
    )


def feature_cache(config: RunConfig, folder: Path, drawings: list[Drawing]) -> FeatureCache:
    """Features from the frozen vision encoder; those of the drawings themselves are on disk."""
    model = FlamingoModel(config.model)
    vision = jax.device_put({"frozen": {"vision": load_tree(folder / "frozen")["vision"]}})
    encode = jax.jit(lambda vision, images: model.apply(vision, images, method="encode"))
    cache = FeatureCache(lambda images: encode(vision, images))
    stored = folder / "vision" / "features.npz"
    with lead_first("features"):
        if stored.exists():
            try:
                cache.load(stored)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
                _log.warning("%s cannot be read (%s): it is made again.", stored, e)
        known = len(cache)
        cache.store(drawing.image for drawing in drawings)
        if len(cache) > known:
            cache.save(stored)
    return cache


def train_flamingo(
    config: RunConfig,
    folder: Path,
    drawings: list[Drawing],
    tokenizer: Tokenizer,
    layout: Layout,
    features: FeatureCache,
    profiled: range = range(0),
) -> TrainState:
    """Trains the resampler and the cross-attention, or goes on where the folder left off."""
    model, sets = FlamingoModel(config.model), config.mixture.datasets
    optimizer = make_optimizer(config.optimizer, config.loop.steps)
    state, frozen = (
        init_state(model, optimizer, config.seed, layout),
        frozen_weights(config, folder, layout),
    )
    if config.language == "fine_tuned":
        language = joined(state.params["language"], frozen["language"])
        state = dataclasses.replace(state, params={**state.params, "language": language})
    if config.language != "frozen":
        frozen = {"vision": frozen["vision"]}
    frozen = by_layer(frozen, config.model, layout)
    batches = make_iterator(
        config.mixture,
        drawings,
        tokenizer,
        config.seed,
        rows={entry.name: layout.rows(entry.batch_size) for entry in sets},
        told={entry.name: layout.own_rows(entry.batch_size) for entry in sets},
        image_size=config.vision.image_size,
    )
    return train(
        config.loop,
        make_step(model, optimizer, {entry.name: entry.weight for entry in sets}, layout),
        state,
        frozen,
        Source(batches, sets, layout, features if config.features == "kept" else None),
        folder,
        lambda params: {"gates": gates(config.model, params)},
        config.mixture.turns,
        profiled,
        Tally(config.mixture, folder, lambda: batches.skipped),
    )


def measure_held_out(
    config: RunConfig, folder: Path, tokenizer: Tokenizer, features: FeatureCache
) -> list[dict[str, Any]]:
    """The rows of `held_out.json`, which are measured if it is not there."""
    path = folder / "held_out.json"
    variables = {} if path.exists() else run_variables(folder)  # which all processes check
    with lead_first("held out"):
        if not path.exists():
            rows = held_out_losses(
                FlamingoModel(config.model),
                variables,
                features,
                config.mixture,
                tokenizer,
                config.vision.image_size,
                config.seed,
            )
            write_json(path, [dataclasses.asdict(row) for row in rows])
    return json.loads(path.read_text(encoding="utf-8"))


def joined(language: Any, pretrained: Any) -> Any:
    """The language model's variables with the pretrained ones in place of their initial values."""
    flat = {**traverse_util.flatten_dict(language), **traverse_util.flatten_dict(pretrained)}
    return traverse_util.unflatten_dict(flat)
