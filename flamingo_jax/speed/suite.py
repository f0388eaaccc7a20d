"""The benchmark's work for few-shot evaluation: queries a second, against re-encoded prompts.

Prompts are of random tokens and images, `shots` supports of `_TURN` tokens and a query; answers are
beam searches of `_NEW` tokens, none of which ends. Three ways are timed:

- `fixed`: all queries have the same supports, as `evaluate` runs them;
- `rices`: each query has supports of its own out of a pool, as `evaluate --supports=rices` runs
  them, the pool's encoding included;
- `reencoded`: every query's whole prompt is encoded, images and all, as OpenFlamingo's evaluation
  does: here with this package's own prompt-at-a-time generation, and in `open_flamingo` with
  OpenFlamingo itself, where that is installed.
"""

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.evaluation.answering import Answerer
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.latents import LatentStore
from flamingo_jax.evaluation.packing import Ask
from flamingo_jax.inference.cache import PromptBatch
from flamingo_jax.inference.generate import GenerationConfig, generate
from flamingo_jax.inference.handle import Flamingo, encode, resample
from flamingo_jax.inference.prompt import media_index
from flamingo_jax.speed.workload import BenchmarkConfig, random_variables

SHOTS = (0, 4, 32)
BEAMS = 3
_TURN, _TAIL, _NEW = 16, 8, 10
_TILE, _POOL = 8, 48


def measure_evaluation(config: BenchmarkConfig, queries: int = 16, repeated: int = 1) -> Any:
    """Queries a second by way and shots, and how many times faster than re-encoding it is.

    Args:
      config: of the model.
      queries: timed, of `fixed` and `rices`.
      repeated: queries timed of those that are slow.
    """
    work = Work(config)
    peer = _open_flamingo(config)
    found: dict[str, Any] = {}
    for shots in SHOTS:
        rates = {"fixed": _rate(lambda n, k=shots: work.answer(k, n, False), queries)}
        if shots:
            rates["rices"] = _rate(lambda n, k=shots: work.answer(k, n, True), queries)
        rates["reencoded"] = _rate(lambda n, k=shots: work.reencode(k, n), repeated)
        if peer is not None:
            ask = work.asks(shots, 1, False)[0]
            rates["open_flamingo"] = _rate(lambda n, a=ask: peer(a.tokens, n), repeated)
        slowest = rates.get("open_flamingo", rates["reencoded"])
        times = {
            f"{name}_speedup": round(rates[name] / slowest, 1)
            for name in ("fixed", "rices")
            if name in rates
        }
        found[str(shots)] = {name: round(rate, 3) for name, rate in rates.items()} | times
    return found


class Work:
    """A random model and random prompts for it."""

    def __init__(self, config: BenchmarkConfig) -> None:
        made = random_variables(config)
        self._vocab, self._size = config.decoder.vocab_size, config.vision.image_size
        never = self._vocab  # no token has this id
        text = TextConfig(image_id=self._vocab - 2, eoc_id=never, pad_id=never)
        self._handle = Flamingo.from_variables(config.model, made, text)

    def asks(self, shots: int, queries: int, rices: bool) -> list[Ask]:
        """Prompts: the first `shots` of the pool before each query, or as many at random."""
        draw = np.random.default_rng(shots)
        turns = [self._tokens(draw, _TURN) for _ in range(_POOL)]
        found = []
        for number in range(queries):
            chosen = draw.choice(_POOL, shots, replace=False) if rices else np.arange(shots)
            before = tuple(token for i in chosen for token in turns[i])
            media = (*(Media(Path(f"s{i}")) for i in chosen), Media(Path(f"q{number}")))
            found.append(Ask(before + self._tokens(draw, _TAIL), media, len(before)))
        return found

    def answer(self, shots: int, queries: int, rices: bool) -> None:
        """The suite's way, nothing known before."""
        latents = LatentStore(self._handle, self._read)
        answerer = Answerer(self._handle, latents, _TILE, BEAMS, _NEW)
        asks = self.asks(shots, queries, rices)
        for start in range(0, queries, _TILE):
            answerer([asks[start : start + _TILE]], not rices)
        latents.close()

    def reencode(self, shots: int, queries: int) -> None:
        """One prompt at a time, from pixels."""
        config, weights = self._handle.config, self._handle.weights
        options = GenerationConfig(max_new_tokens=_NEW, num_beams=BEAMS)
        for ask in self.asks(shots, queries, False):
            images = np.concatenate([self._read(medium) for medium in ask.media])
            features = encode(config, weights.vision, images)
            latents = resample(config, weights.resampler, features[:, None])
            tokens = np.array([ask.tokens], np.int32)
            index = media_index(tokens, self._handle.text.image_ids)
            length = np.array([tokens.shape[1]], np.int32)
            prompt = PromptBatch(tokens, length, index, latents[None])
            generate(config, weights, prompt, options, (self._vocab,))

    def _tokens(self, draw: np.random.Generator, count: int) -> tuple[int, ...]:
        text = draw.integers(0, self._vocab - 2, count - 1).tolist()
        return (self._handle.text.image_id, *text)

    def _read(self, medium: Media) -> np.ndarray:
        seed = sum(medium.path.name.encode())
        shape = (1, self._size, self._size, 3)
        draw = np.random.default_rng([seed, int(medium.path.name[1:])])
        return draw.integers(0, 256, shape, dtype=np.uint8)


def _rate(run: Callable[[int], None], queries: int) -> float:
    """Queries a second, after a run of a few that compiles."""
    run(min(queries, _TILE))
    began = time.perf_counter()
    run(queries)
    return queries / (time.perf_counter() - began)


def _open_flamingo(config: BenchmarkConfig) -> Callable[[Sequence[int], int], None] | None:
    """OpenFlamingo's way, if it and PyTorch are installed."""
    if any(importlib.util.find_spec(name) is None for name in ("open_flamingo", "torch")):
        return None
    from flamingo_jax.speed.peer import OpenFlamingo

    return OpenFlamingo(config, BEAMS, _NEW)
