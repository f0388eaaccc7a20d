"""Answers of a model to prompts, in tiles, so that nothing but the prompts decides them.

Floating-point sums come out differently in the last bit when arrays have other shapes. Queries are
therefore cut into tiles once, by their order alone, and every tile runs by itself, at a shape that
follows from its own prompts: however many tiles are sent off together, on however many devices,
and wherever a run was stopped and goes on, the figures are the same.

Axes: as in `branches`.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Media
from flamingo_jax.evaluation.branches import Branches, Trunk, grow, score_branches, search_branches
from flamingo_jax.evaluation.latents import LatentStore
from flamingo_jax.evaluation.packing import (
    Ask,
    Row,
    Shape,
    Text,
    Tokens,
    branch_arrays,
    make_row,
    shape_of,
    target_arrays,
    trunk_arrays,
)
from flamingo_jax.inference.cache import round_up
from flamingo_jax.inference.handle import Flamingo
from flamingo_jax.models.flamingo import FlamingoConfig

_TRUNKS = 8  # kept: more than the orders of supports that an answer is weighed in
_NODES = 2048
"""Most tokens of branches that run at once, unless one prompt has more: a thousand class names are
so many, and memory grows with their square."""


class PromptTooLong(UserError):
    """A prompt has more tokens than the model takes."""


@dataclasses.dataclass(frozen=True)
class Programs:
    """The programs of `branches` for one model, each device running its own rows of the axis G.

    Devices run what a single one would, each by itself, so that their number changes no bit.
    """

    grow: Callable[..., Trunk]
    score: Callable[..., jax.Array]
    search: Callable[..., jax.Array]


@functools.cache
def programs(
    config: FlamingoConfig, mesh: Mesh, beams: int, new_tokens: int, stop: Tokens
) -> Programs:
    """The same object for the same arguments: what it has compiled serves all stages."""
    search = functools.partial(
        search_branches,
        limit=np.int32(new_tokens),
        room=round_up(new_tokens),
        width=beams,
        stop=stop,
    )

    def mapped(function: Callable[..., Any], inputs: int) -> Callable[..., Any]:
        rows = PartitionSpec("data")
        specs = (PartitionSpec(), *[rows] * inputs)
        own = functools.partial(function, config)
        return jax.jit(
            jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False)
        )

    return Programs(mapped(grow, 4), mapped(score_branches, 4), mapped(search, 3))


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a model answers.

    Attributes:
      tokens: written, without the one that ended them.
      log_probs: of the candidates, nats.
    """

    tokens: Tokens = ()
    log_probs: tuple[float, ...] = ()


class Answerer:
    """Runs tiles of prompts on all devices of this process."""

    def __init__(
        self, handle: Flamingo, latents: LatentStore, tile: int, beams: int, new_tokens: int
    ) -> None:
        """`tile`: most prompts of a tile. `beams`, `new_tokens`: of a written answer."""
        self._config, self._text = handle.config, handle.text
        self._packing = Text(handle.text.image_id, handle.text.eoc_id, handle.config.xattn.sees)
        self._latents, self._tile = latents, tile
        self._new_tokens = new_tokens
        devices = np.array(jax.local_devices())
        self.together = len(devices)
        """Tiles that run at once, one on each device."""
        mesh = Mesh(devices, ("data",))
        self._split = NamedSharding(mesh, PartitionSpec("data"))
        self._weights = jax.device_put(handle.weights, NamedSharding(mesh, PartitionSpec()))
        stop = (handle.text.eoc_id, handle.text.pad_id)
        self._programs = programs(handle.config, mesh, beams, new_tokens, stop)
        self._trunks: collections.OrderedDict[Any, Trunk] = collections.OrderedDict()

    def __call__(self, tiles: Sequence[Sequence[Ask]], shared: bool) -> list[list[Reply]]:
        """Answers prompts.

        Args:
          tiles: as many as `together` or fewer, of `tile` prompts or fewer each.
          shared: the prompts of a tile have a common trunk; else each has its own.

        Raises:
          PromptTooLong: a prompt is.
          UserError: a medium cannot be read.
        """
        parts = [part for tile in tiles for part in self._parts(tile, shared)]
        replies: dict[int, list[Reply]] = {}
        for shape in dict.fromkeys(shape for shape, _ in parts):
            chosen = [i for i, (other, _) in enumerate(parts) if other == shape]
            for start in range(0, len(chosen), self.together):
                some = chosen[start : start + self.together]
                found = self._run([parts[i][1] for i in some], shape, shared)
                replies.update(zip(some, found, strict=True))
        in_order = (reply for i in range(len(parts)) for reply in replies[i])
        return [[next(in_order) for _ in tile] for tile in tiles]

    def _parts(self, tile: Sequence[Ask], shared: bool) -> list[tuple[Shape, list[Row]]]:
        """A tile's rows, as many together as run at once; its own prompts decide how many."""
        for ask in tile:
            self._check(ask)
        rows = self._packed(tile) if shared else [self._row([ask]) for ask in tile]
        shape = shape_of(rows, self._tile if shared else 1)
        each = self._each(shape, shared)
        return [(shape, rows[i : i + each]) for i in range(0, len(rows), each)]

    def _packed(self, asks: Sequence[Ask]) -> list[Row]:
        """Prompts in one row, or halved until the rows have few enough nodes."""
        row = self._row(asks)
        if len(row.tree.nodes) <= _NODES or len(asks) == 1:
            return [row]
        half = len(asks) // 2
        return [*self._packed(asks[:half]), *self._packed(asks[half:])]

    def _row(self, asks: Sequence[Ask]) -> Row:
        return make_row(asks, self._packing, self._latents.key)

    def _each(self, shape: Shape, shared: bool) -> int:
        """Rows that a device runs at once."""
        return 1 if shared else max(1, min(self._tile, _NODES // shape.nodes))

    def _check(self, ask: Ask) -> None:
        length = len(ask.tokens) + max(map(len, ask.candidates), default=self._new_tokens)
        if length > self._text.max_tokens:
            raise PromptTooLong(
                f"A prompt and its answer have {length} tokens, but the model takes "
                f"{self._text.max_tokens}: take fewer --shots."
            )

    def _run(self, parts: Sequence[list[Row]], shape: Shape, shared: bool) -> list[list[Reply]]:
        """Parts of one shape; the devices that have none run a copy of the last."""
        each = self._each(shape, shared)
        filled = [*parts, *[parts[-1]] * (self.together - len(parts))]
        rows = [row for part in filled for row in [*part, *[part[-1]] * (each - len(part))]]
        trunk = self._trunk(rows, shape, shared)
        given = [branch_arrays(row, shape, self._packing.sees) for row in rows]
        arrays = {name: self._put([row[name] for row in given]) for name in given[0]}
        asked = arrays.pop("asked")
        media = self._media([row.media for row in rows], shape.media)
        branches = Branches(
            tokens_GxU=arrays["tokens"],
            positions_GxU=arrays["positions"],
            mask_GxUxU=arrays["mask"],
            seen_GxUxN=arrays["seen"],
            at_GxA=arrays["at"],
            media_GxNxRxD=media,
        )
        read = self._scored if shape.targets else self._written
        found = read(rows, shape, trunk, branches, asked)
        of_parts = [found[i * each : i * each + len(part)] for i, part in enumerate(parts)]
        return [[reply for row in of_part for reply in row] for of_part in of_parts]

    def _scored(
        self, rows: Sequence[Row], shape: Shape, trunk: Trunk, branches: Branches, asked: Any
    ) -> list[list[Reply]]:
        at, targets = zip(*(target_arrays(row, shape) for row in rows), strict=True)
        found = self._programs.score(
            self._weights, trunk, branches, self._put(at), self._put(targets)
        )
        log_probs_GxE = np.asarray(found, np.float64)
        return [
            [
                Reply(log_probs=tuple(float(values[list(place)].sum()) for place in places))
                for places in row.places
            ]
            for row, values in zip(rows, log_probs_GxE, strict=True)
        ]

    def _written(
        self, rows: Sequence[Row], shape: Shape, trunk: Trunk, branches: Branches, asked: Any
    ) -> list[list[Reply]]:
        found = self._programs.search(self._weights, trunk, branches, asked)
        tokens_GxQxM = np.asarray(found)[..., : self._new_tokens].tolist()
        return [
            [Reply(tokens=self._until_end(ids)) for ids in written[: len(row.tips)]]
            for row, written in zip(rows, tokens_GxQxM, strict=True)
        ]

    def _until_end(self, ids: Sequence[int]) -> Tokens:
        ends = (i for i, token in enumerate(ids) if token in (self._text.eoc_id, self._text.pad_id))
        return tuple(ids[: next(ends, len(ids))])

    def _trunk(self, rows: Sequence[Row], shape: Shape, shared: bool) -> Trunk:
        """Keys and values of the rows' trunks; those that tiles share are kept."""
        name = (shape.trunk, *((row.trunk, row.trunk_media) for row in rows))
        if name in self._trunks:
            self._trunks.move_to_end(name)
            return self._trunks[name]
        parts = [trunk_arrays(row, shape, self._text.image_id) for row in rows]
        trunk = self._programs.grow(
            self._weights,
            self._put([part["tokens"] for part in parts]),
            self._put([part["length"] for part in parts]),
            self._put([part["media_index"] for part in parts]),
            self._media([row.trunk_media for row in rows], shape.trunk_media),
        )
        if shared:
            self._trunks[name] = trunk
            while len(self._trunks) > _TRUNKS:
                self._trunks.popitem(last=False)
        return trunk

    def _media(self, rows: Sequence[Sequence[Media]], most: int) -> jax.Array:
        """media_GxNxRxD, N = `most`, zeros where a row has fewer."""
        flat = self._latents([medium for row in rows for medium in row])
        latents = iter(flat)
        media = np.zeros((len(rows), most, *self._latents.shape), jnp.dtype(self._config.dtype))
        for g, row in enumerate(rows):
            for n, _ in enumerate(row):
                media[g, n] = next(latents)
        return jax.device_put(media, self._split)

    def _put(self, rows: Sequence[np.ndarray]) -> Any:
        """An array with one row for each trunk, divided among the devices."""
        return jax.device_put(np.stack(rows), self._split)
