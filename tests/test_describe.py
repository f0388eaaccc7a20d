"""Sizes of the published models against the paper, FLOPs against formulas, and the command."""

import dataclasses
import functools
import json
import runpy
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from configs import flamingo_3b, flamingo_9b, flamingo_80b
from flamingo_jax import config as configuration
from flamingo_jax import sizes
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.models.nfnet import NFNet, VisionConfig
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.models.xattn import CrossAttentionConfig
from flamingo_jax.parallel.flops import count_flops
from tests.tiny_run import ROOT

RECIPES = {"3b": flamingo_3b, "9b": flamingo_9b, "80b": flamingo_80b}
SHORT = sizes.Sequence(8, 1, 1)
NAMES = ["vision_encoder", "resampler", "language_model", "gated_xattn"]


@functools.cache
def published(size: str) -> FlamingoConfig:
    return configuration.resolve(RECIPES[size].get_config()).model


@functools.cache
def parts(size: str) -> dict[str, sizes.Component]:
    """Components by name, of a model with a small encoder: tracing F6 takes a while."""
    vision = VisionConfig(features=published(size).vision.features)
    model = dataclasses.replace(published(size), vision=vision)
    return {part.name: part for part in sizes.components(model, SHORT)}


@pytest.mark.parametrize(
    ("size", "language", "xattn"), [("3b", "1.4", "1.2"), ("9b", "7.1", "1.6"), ("80b", "70", "10")]
)
def test_components_agree_with_the_papers_table(size: str, language: str, xattn: str) -> None:
    """arXiv:2204.14198, appendix A.1, to its own rounding; F6's 435 M are tested with NFNet."""
    for name, told in (("language_model", language), ("gated_xattn", xattn)):
        billions = parts(size)[name].params / 1e9
        assert f"{billions:.{len(told.partition('.')[2])}f}" == told
    assert round(parts(size)["resampler"].params / 1e6) == 194


@pytest.mark.parametrize(
    ("size", "layers", "width", "heads", "bridges"),
    [("3b", 24, 2048, 16, 24), ("9b", 32, 4096, 32, 8), ("80b", 80, 8192, 64, 12)],
)
def test_components_to_the_parameter(
    size: str, layers: int, width: int, heads: int, bridges: int
) -> None:
    D, model = width, published(size)
    assert model.decoder == DecoderConfig.chinchilla(layers, width, heads)
    assert model.vision == dataclasses.replace(VisionConfig.nfnet_f(6), image_size=320)
    # A layer: queries, keys, values, positions, output and 8 D² of feed-forward; u, v, two norms.
    language = layers * (13 * D * D + 4 * D) + 32_000 * D + D
    # A layer: four projections and the feed-forward; two norms with biases; two gates.
    xattn = bridges * (12 * D * D + 4 * D + 2) + 1536 * D
    inner, R = 16 * 128, 1536
    layer = 4 * R * inner + 8 * R * R + 6 * R
    resampler = 3072 * R + R + (64 + 8) * R + 6 * layer + 2 * R
    found = parts(size)
    assert found["language_model"].params == language
    assert found["gated_xattn"].params == xattn
    assert found["resampler"].params == resampler


def test_totals_agree_with_the_papers_table() -> None:
    """3.2 B and 80 B; of 9B, the paper's 9.3 B is the sum of rounded parts of these 9.36 B."""
    f6 = 435_286_116 + 2 * 3072  # with the statistics of the features
    for size, told in (("3b", 3.2), ("9b", 9.36), ("80b", 80.4)):
        rest = [part.params for part in parts(size).values() if part.name != "vision_encoder"]
        assert (sum(rest) + f6) / 1e9 == pytest.approx(told, rel=5e-3)


def test_bytes_are_those_of_the_type_that_a_part_is_kept_in() -> None:
    """Trained parameters are float32, what is frozen is bfloat16 (appendix B.1.2)."""
    found = parts("3b")
    assert list(found) == NAMES
    assert [part.trainable for part in found.values()] == [False, True, False, True]
    assert [part.bytes / part.params for part in found.values()] == [2, 4, 2, 4]
    model = dataclasses.replace(
        published("3b"), vision=VisionConfig(features=3072), language="fine_tuned"
    )
    thawed = {part.name: part for part in sizes.components(model, SHORT)}
    language = thawed["language_model"]
    assert (language.trainable, language.bytes) == (True, 4 * found["language_model"].params)
    assert thawed["gated_xattn"] == found["gated_xattn"]


D, K, C, V, T, LAYERS = 12, 3, 4, 40, 7, 5
WORKED = FlamingoConfig(
    decoder=DecoderConfig(V, D, LAYERS, K, K, C, 20),
    resampler=ResamplerConfig(16, 2, 3, 2, 8),
    xattn=CrossAttentionConfig(2, 8, 1, 2, project_media=True),
    vision=ViTConfig(8, 4, 10, 2, 2, 24),
)


def test_flops_are_those_worked_by_hand() -> None:
    M, N, F, P, R, W, inner = 6, 2, 3, 4, 3, 16, 16
    L = P + 1  # patches and the class token
    vit_layer = L * (4 * 10 * 10 + 2 * 10 * 24) + 2 * L * L * 10
    vit = M * (P * 4 * 4 * 3 * 10 + 2 * vit_layer)
    S = F * P
    resampler_layer = (R + R) * W * inner + 2 * (S + R) * W * inner + 2 * R * (S + R) * inner
    resampler = N * (S * 10 * W + 2 * (resampler_layer + 2 * R * W * 4 * W))
    resampler += 2 * 2 * W * inner  # the features' norm: its bias through the kernels, once a layer
    decoder_layer = T * (4 * D * K * C + 3 * D * 20) + 2 * T * T * K * C
    language = LAYERS * decoder_layer + T * D * V
    bridge = 2 * T * D * inner + 2 * N * R * D * inner + 2 * T * N * R * inner + 2 * T * D * 4 * D
    xattn = 2 * bridge + N * R * W * D
    found = sizes.components(WORKED, sizes.Sequence(T, N, F))
    assert [part.name for part in found] == NAMES
    expected = [2 * macs for macs in (vit, resampler, language, xattn)]
    assert [part.forward_flops for part in found] == expected


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vision": VisionConfig(16, (4,), (2,), (8,), (2,), (2,), features=6)},
        {"language": "fine_tuned"},
        {"xattn": dataclasses.replace(WORKED.xattn, conditioning="grafting")},
    ],
)
def test_the_parts_make_the_whole(changes: dict[str, Any]) -> None:
    """Counts add up to those of the whole model's own variables and its own forward pass."""
    model = dataclasses.replace(WORKED, **changes)
    found = sizes.components(model, sizes.Sequence(T, 2, 3))
    side, key = model.vision.image_size, jax.eval_shape(lambda: jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((1, T), np.int32)
    images = jax.ShapeDtypeStruct((1, 2, 3, side, side, 3), np.uint8)
    whole, method = FlamingoModel(model), "from_pixels"
    variables = jax.eval_shape(
        functools.partial(whole.init, method=method), key, tokens, images, tokens
    )
    assert sum(part.params for part in found) == count(variables)
    assert sum(part.params for part in found if part.trainable) == count(variables["params"])
    forward = functools.partial(whole.apply, method=method)
    program = jax.make_jaxpr(forward)(variables, tokens, images, tokens)
    assert sum(part.forward_flops for part in found) == count_flops(program)


def count(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_nfnet_f0_takes_the_published_flops() -> None:
    """arXiv:2102.06171, table 1: 12.38 G multiply-adds at the 256 pixels of its test."""
    net = NFNet(VisionConfig.nfnet_f(0))
    images = jax.ShapeDtypeStruct((1, 256, 256, 3), np.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    flops = count_flops(jax.make_jaxpr(net.init_with_output)(key, images))
    assert flops / 2e9 == pytest.approx(12.38, rel=0.005)


@pytest.mark.parametrize("name", ["openmoji", "benchmark_common"])
def test_other_recipes_are_described_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    values = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]()
    model, sequence = sizes.read(values)
    found = sizes.components(model, sequence)
    tokens, images = (44, 6) if name == "openmoji" else (128, 2)
    assert sequence == sizes.Sequence(tokens, images, 1)
    total = 155_436_935 if name == "openmoji" else 68_606_728
    assert sizes.as_json(found, sequence)["total_params"] == total
    assert f"{total:,}" in sizes.as_table(found, sequence)


WITHIN_A_GIGABYTE = r"""
import re, runpy, sys
sys.argv = ["describe", *sys.argv[1:]]
try:
    runpy.run_module("flamingo_jax.describe", run_name="__main__")
finally:
    # Not ru_maxrss, which starts at that of the process that started this one.
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())
    assert int(peak) < 1e6, f"{peak} KB"
"""


def test_80b_as_json_within_a_gigabyte() -> None:
    options = ["--config=configs/flamingo_80b.py", "--json", "--tokens=64", "--images=2"]
    done = subprocess.run(
        [sys.executable, "-c", WITHIN_A_GIGABYTE, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"components", "total_params", "sequence"}
    assert [part["name"] for part in found["components"]] == NAMES
    fields = {"name", "trainable", "params", "bytes", "forward_flops"}
    assert all(set(part) == fields for part in found["components"])
    assert found["components"][0]["params"] == 435_286_116 + 2 * 3072
    assert found["total_params"] == sum(part["params"] for part in found["components"])
    assert round(found["total_params"] / 1e9) == 80
    assert found["sequence"] == {"tokens": 64, "images": 2, "frames": 1}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--config=configs/ablations.py:no_tanh"],
            "There is no ablation 'no_tanh': did you mean no_tanh_gating?",
        ),
        (
            ["--config=configs/openmoji.py:name"],
            "flag --config=configs/openmoji.py:name: Error whilst parsing config file: "
            "TypeError: get_config() takes 0 positional arguments but 1 was given",
        ),
        (["--config=configs/ablation.py:x"], "There is no config file configs/ablation.py."),
        (
            ["--config=configs/openmoji.py", "--config.xattn.first=30"],
            "xattn.first is 30, but the decoder's layers are 0 to 29: "
            "there would be no cross-attention.",
        ),
        (
            ["--config=configs/openmoji.py", "--tokens=0"],
            "flag --tokens=0: 0 is not a positive integer",
        ),
    ],
)
def test_mistakes_are_told_in_one_sentence(options: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flamingo_jax.describe", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr.strip(), done.stdout) == (1, sentence, "")
