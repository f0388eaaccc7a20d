"""The main job on tiny models and a few real drawings; as a program, it can be made to die.

    python -m tests.tiny_job WORKDIR [DIE_AT]

All of `flamingo_jax.job` runs for real but the language model, which is random and small, its
tokenizer, which is a copy, and the catalogue, which is every eighth drawing. With DIE_AT the
process kills itself (SIGKILL) right before its DIE_AT-th change of a file or folder inside WORKDIR;
0 only prints how many there were. FLAMINGO_TEST_SCRATCH must name a folder.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flamingo_jax import cli, job
from flamingo_jax.checkpoints import smollm2
from flamingo_jax.config import RunConfig
from flamingo_jax.data.datasets import DatasetConfig, MixtureConfig
from flamingo_jax.data.openmoji import builder
from flamingo_jax.data.openmoji.catalogue import catalogue
from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.run import EvaluationConfig
from flamingo_jax.models.contrastive import ContrastiveConfig
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.nfnet import VisionConfig
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig
from flamingo_jax.parallel.mesh import MeshConfig
from flamingo_jax.training.contrastive import VisionTrainingConfig
from flamingo_jax.training.loop import LoopConfig
from flamingo_jax.training.optimizer import OptimizerConfig
from tests.tiny_run import tokenizer_file

DECODER = DecoderConfig(49152, 16, 3, 4, 2, 4, 32)
CONFIG = RunConfig(
    seed=0,
    dtype="float32",
    vision=VisionConfig(64, (8,), (4,), (16,), (1,), (4,), features=8),
    vision_training=VisionTrainingConfig(
        steps=5,
        batch=8,
        warmup_steps=2,
        towers=ContrastiveConfig(embedding=8, text_hidden=8),
        log_every=1,
        save_every=2,
    ),
    decoder=DECODER,
    resampler=ResamplerConfig(16, 1, 4, 2, 8),
    xattn=CrossAttentionConfig(2, 8, 1, 1, alpha_init=0.5, alpha_dense_init=0.5),
    mixture=MixtureConfig(
        (
            DatasetConfig("episodes", "episodes", 2, 1.0, 32, 3, 20, families={"category": 1.0}),
            DatasetConfig("video", "video", 2, 0.5, 48, 1, 40, frames=2),
        )
    ),
    optimizer=OptimizerConfig(1e-2, 1e-2, warmup_steps=1),
    loop=LoopConfig(steps=7, log_every=1, save_every=3),
    mesh=MeshConfig(),
    evaluation=EvaluationConfig((0, 2), ("category_binding",), 2, 2, 0, 2, 2, 2, 2, 64, 8, 64, 64),
)


def language_model(path: Path) -> tuple[DecoderConfig, dict[str, Any], list[dict[str, Any]]]:
    """What `smollm2.read_language_model` returns, random."""
    del path
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32) / 4

    def layer() -> dict[str, Any]:
        kernels = {"query": (16, 4, 4), "key": (16, 2, 4), "value": (16, 2, 4), "out": (4, 4, 16)}
        dense = {"gate": (16, 32), "up": (16, 32), "down": (32, 16)}
        return {
            "attention_norm": {"scale": np.ones(16, np.float32)},
            "attention": {name: {"kernel": draw(*shape)} for name, shape in kernels.items()},
            "mlp_norm": {"scale": np.ones(16, np.float32)},
            "mlp": {name: {"kernel": draw(*shape)} for name, shape in dense.items()},
        }

    top = {"embedding": draw(49152, 16), "norm": {"scale": np.ones(16, np.float32)}}
    return DECODER, top, [layer() for _ in range(3)]


def install() -> None:
    """Puts what is small or copied in place, and locks the network."""

    def offline(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            raise RuntimeError(f"The job wants the network: {event}{arguments}.")

    sys.addaudithook(offline)
    entries = catalogue()[::8]
    builder.catalogue = lambda: entries
    smollm2.read_language_model = language_model
    original = tokenizer_file()
    smollm2.write_tokenizer = lambda _, path: shutil.copyfile(original, path)


def watch(folder: Path, die_at: int) -> Callable[[], int]:
    """Counts changes of files in a folder, and dies before the `die_at`-th; returns the count."""
    inside, seen = str(folder.absolute()), [0]
    changes = {"os.rename": 0, "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "shutil.rmtree": 0}

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if (writes or event in changes) and str(arguments[0]).startswith(inside):
            seen[0] += 1
            if seen[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: seen[0]


def main() -> None:
    """Runs the job in the folder that the command line names."""
    try:
        folder, die_at = Path(sys.argv[1]), int((*sys.argv[2:], "-1")[0])
    except (IndexError, ValueError) as error:
        raise UserError("Give a folder and a number.") from error
    install()
    count = watch(folder, die_at) if die_at >= 0 else None
    job.run(CONFIG, folder)
    if count is not None:
        print(f"Changes: {count()}")


if __name__ == "__main__":
    arguments, sys.argv[1:] = sys.argv[1:], []

    def with_arguments() -> None:
        sys.argv[1:] = arguments
        main()

    cli.run(with_arguments)
