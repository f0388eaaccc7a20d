"""A loaded model: logits and tokens of arrays; texts, scores and attention of prompts; its gates.

Axes: B prompts, T text tokens, N media, F frames, H and W pixels, P grid positions, C feature
channels, R latents a medium, D width, V vocabulary, L cross-attention layers.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flamingo_jax.data.tokenizer import TextConfig, Tokenizer
from flamingo_jax.errors import UserError
from flamingo_jax.inference.arrays import (
    HostOrDevice,
    Rows,
    array_logits,
    check_positions,
    latents,
    prompt_batch,
    read_images,
    read_mask,
    read_rows,
    sequence_logits,
)
from flamingo_jax.inference.attention import Maps, attention_maps
from flamingo_jax.inference.cache import PromptBatch, round_up
from flamingo_jax.inference.generate import GenerationConfig, generate
from flamingo_jax.inference.layers import Weights, unstack
from flamingo_jax.inference.prompt import Media, Prompt, check_lengths, media_index, read_prompt
from flamingo_jax.inference.score import Score, score
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel
from flamingo_jax.models.xattn import media_mask

Array = jax.Array
Features = Callable[[np.ndarray], np.ndarray]
Gate = float | Mapping[int, float] | None


@dataclasses.dataclass(frozen=True)
class Flamingo:
    """A visual language model, ready for use.

    Methods that take `prompts`, texts with `<image>` markers, take with them `images`: for each
    prompt the media of its markers in order, as paths, bytes, PIL images, uint8 arrays, or lists of
    frames. Methods that take `tokens` take arrays and need no tokenizer. All raise UserError, in
    one sentence, for what cannot be used.

    Attributes:
      config: of the model.
      weights: its variables; see `from_variables`.
      text: the tokens with a meaning.
      tokenizer: its tokenizer; None if its source had none.
      features: images [M, H, W, 3] uint8 -> features [M, P, C] float32; None for the model's own
        encoder.
    """

    config: FlamingoConfig
    weights: Weights
    text: TextConfig
    tokenizer: Tokenizer | None
    features: Features | None = None

    @classmethod
    def from_variables(
        cls,
        config: FlamingoConfig,
        variables: Mapping[str, Any],
        tokenizer: Tokenizer | TextConfig,
        max_tokens: int | None = None,
        features: Features | None = None,
    ) -> "Flamingo":
        """From a FlamingoModel's collections `params` and `frozen`.

        Args:
          config: of the model.
          variables: its collections.
          tokenizer: its tokenizer, or the tokens with a meaning where there is none.
          max_tokens: most tokens of a prompt and its continuation; None for the tokenizer's. No
            more than there are learned positions.
          features: see above.
        """
        weights = unstack(config, variables["params"], variables.get("frozen", {}))
        text = tokenizer.text if isinstance(tokenizer, Tokenizer) else tokenizer
        longest = max_tokens or text.max_tokens
        if config.decoder.positions == "learned":
            longest = min(longest, config.decoder.max_positions)
        text = dataclasses.replace(text, max_tokens=longest)
        given = tokenizer if isinstance(tokenizer, Tokenizer) else None
        return cls(config, weights, text, given, features)

    def logits(
        self,
        tokens: HostOrDevice,
        images: HostOrDevice,
        media_mask: HostOrDevice | None = None,
        attention_mask: HostOrDevice | None = None,
    ) -> np.ndarray:
        """Next-token logits, float32 [B, T, V]; zeros at padding.

        Args:
          tokens: int [B, T].
          images: float32 [B, N, F, H, W, 3], normalised for the vision encoder; N may be 0.
          media_mask: bool [B, T, N], the media that each token sees; None for the last one at or
            before it (with `xattn.sees` "all", all of them).
          attention_mask: bool [B, T], False at padding, which may be on either side; None for none.
        """
        rows = self._rows(tokens, attention_mask, 0)
        media = self._media(images, rows, media_mask is None)
        seen = None if media_mask is None else read_mask(media_mask, rows, np.shape(images)[1])
        return array_logits(self.config, self.weights, rows, media, seen)

    def generate_tokens(
        self,
        tokens: HostOrDevice,
        images: HostOrDevice,
        max_new_tokens: int,
        attention_mask: HostOrDevice | None = None,
    ) -> np.ndarray:
        """Greedy continuations, int32 [B, max_new_tokens]; nothing ends them earlier.

        New tokens see what the prompt's last token sees, a media token among them too: so do the
        caches of IDEFICS and flamingo-mini, and OpenFlamingo's for one row with one image.

        Args:
          tokens: int [B, T].
          images: as for `logits`.
          max_new_tokens: how many.
          attention_mask: as for `logits`.
        """
        options = GenerationConfig(max_new_tokens=max_new_tokens)
        rows = self._rows(tokens, attention_mask, max_new_tokens)
        media = self._media(images, rows, True)
        prompt = prompt_batch(rows, media, self.text.pad_id)
        return np.array(generate(self.config, self.weights, prompt, options, ()), np.int32)

    def generate(
        self,
        prompts: Sequence[str],
        images: Sequence[Sequence[Media]],
        max_new_tokens: int = GenerationConfig.max_new_tokens,
        num_beams: int = GenerationConfig.num_beams,
        **options: Any,
    ) -> list[str]:
        """Continuations, up to the end of the chunk.

        Args:
          prompts: texts.
          images: the media of each.
          max_new_tokens: most tokens of each, the end of the chunk included.
          num_beams: hypotheses of beam search; 1 for none.
          **options: the other fields of `GenerationConfig`: temperature, top_k, ...
        """
        options |= {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
        choice, tokenizer = _options(options), self.require_tokenizer()
        read = self._read(prompts, images)
        check_lengths(read, [choice.max_new_tokens] * len(read), self.text.max_tokens)
        stop = (self.text.eoc_id, self.text.pad_id)
        found = generate(self.config, self.weights, self._batch(read), choice, stop)
        return [tokenizer.decode(ids) for ids in found]

    def score(
        self,
        prompts: Sequence[str],
        images: Sequence[Sequence[Media]],
        continuations: Sequence[Sequence[str]],
    ) -> list[list[Score]]:
        """Log-likelihoods of each prompt's own continuations, such as " cat<|endofchunk|>"."""
        if len(continuations) != len(prompts):
            raise UserError(
                f"{len(prompts)} prompts came with continuations for {len(continuations)}: "
                "give a list of continuations for each prompt."
            )
        tokenizer = self.require_tokenizer()
        ids = [[tokenizer.encode(text) for text in row] for row in continuations]
        if not all(row and all(row) for row in ids):
            raise UserError("Each prompt needs at least one continuation, and none may be empty.")
        read = self._read(prompts, images)
        check_lengths(read, [sum(map(len, row)) for row in ids], self.text.max_tokens)
        return score(self.config, self.weights, self._batch(read), ids)

    def prompt_logits(
        self, prompts: Sequence[str], images: Sequence[Sequence[Media]]
    ) -> list[np.ndarray]:
        """Next-token logits, float32 [T, V] a prompt; T counts the token that starts each one."""
        read = self._read(prompts, images)
        check_lengths(read, [0] * len(read), self.text.max_tokens)
        batch = self._batch(read)
        media, index = batch.media_BxNxRxD, jnp.asarray(batch.media_index_BxT)
        mask = media_mask(index, media.shape[1], self.config.xattn.sees)
        all_logits = np.asarray(
            sequence_logits(self.config, self.weights, batch.tokens_BxT, media, mask)
        )
        return [row[: len(p.tokens)] for row, p in zip(all_logits, read, strict=True)]

    def gates(self) -> dict[str, list[Any]]:
        """Raw α (before tanh) by cross-attention layer, and the language layer each comes before.

        Returns:
          {"layers": [int], "alpha_xattn": [float], "alpha_dense": [float]}; lists of floats where
          gates are vectors, nothing where there are none.
        """
        bridges, gated = self._bridges(), self.config.xattn.gated
        names = ("alpha_xattn", "alpha_dense") if gated else ()
        alphas = {name: [np.asarray(b[name]).tolist() for b in bridges.values()] for name in names}
        return {"layers": list(bridges), **alphas}

    def with_gates(self, alpha_xattn: Gate = None, alpha_dense: Gate = None) -> "Flamingo":
        """A copy with raw gates set: all of them, or by language layer; None leaves them.

        Raises:
          UserError: a layer has no cross-attention.
        """
        bridges = {layer: dict(bridge) for layer, bridge in self._bridges().items()}
        for name, gate in (("alpha_xattn", alpha_xattn), ("alpha_dense", alpha_dense)):
            if gate is None:
                continue
            values = gate if isinstance(gate, Mapping) else dict.fromkeys(bridges, gate)
            for layer, value in values.items():
                if layer not in bridges:
                    raise UserError(
                        f"Layer {layer} has no cross-attention: those with it are {list(bridges)}."
                    )
                bridges[layer][name] = jnp.full_like(bridges[layer][name], value)
        changed = tuple(bridges.get(i) for i in range(len(self.weights.bridges)))
        weights = dataclasses.replace(self.weights, bridges=changed)
        return dataclasses.replace(self, weights=weights)

    def attention(self, prompt: str, images: Sequence[Media]) -> Maps:
        """Where each token of one prompt looks, by cross-attention layer."""
        if self.config.resampler.kind != "perceiver":
            raise UserError("Attention maps follow a Perceiver Resampler; this model has none.")
        read = self._read([prompt], [images])
        check_lengths(read, [0], self.text.max_tokens)
        tokens, media = read[0].tokens, read[0].media
        if len({frames.shape for frames in media}) != 1:
            raise UserError("Attention maps need at least one image, all with as many frames.")
        features = self._features(np.stack(media))[None]
        batch = self._batch(read)
        found = attention_maps(
            self.config, self.weights, batch.tokens_BxT, batch.media_index_BxT, features
        )
        names = tuple(self.require_tokenizer().decode([token]) for token in tokens)
        return Maps(names, tuple(self._bridges()), np.asarray(found)[:, : len(tokens)])

    def _rows(
        self, tokens: HostOrDevice, attention_mask: HostOrDevice | None, new_tokens: int
    ) -> Rows:
        """Tokens that the model takes, with `new_tokens` to follow."""
        decoder = self.config.decoder
        rows = read_rows(tokens, attention_mask, self.text.image_ids, decoder.vocab_size)
        check_positions(rows, new_tokens, decoder)
        return rows

    def _media(self, images: HostOrDevice, rows: Rows, by_token: bool) -> Array:
        """media_BxNxRxD; `by_token` if media tokens tell who sees them."""
        asked = int(rows.media_index_BxT.max()) if by_token else 0
        pixels = read_images(images, len(rows.tokens_BxT), asked, self.config)
        return latents(self.config, self.weights.vision, self.weights.resampler, pixels)

    def _bridges(self) -> dict[int, Any]:
        return {i: b for i, b in enumerate(self.weights.bridges) if b is not None}

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer, which prompts need; UserError if there is none."""
        if self.tokenizer is None:
            raise UserError(
                "This model came without a tokenizer: use generate_tokens and logits, which take "
                "token ids."
            )
        return self.tokenizer

    def _read(self, prompts: Sequence[str], images: Sequence[Sequence[Media]]) -> list[Prompt]:
        if isinstance(prompts, str) or not prompts:
            raise UserError("Prompts are a list of at least one text: write [prompt], [images].")
        if len(prompts) != len(images):
            raise UserError(
                f"{len(prompts)} prompts came with images for {len(images)}: give a list of "
                "images for each prompt."
            )
        tokenizer, size = self.require_tokenizer(), self.config.vision.image_size
        return [
            read_prompt(text, media, tokenizer, size)
            for text, media in zip(prompts, images, strict=True)
        ]

    def _batch(self, prompts: Sequence[Prompt]) -> PromptBatch:
        lengths = np.array([len(prompt.tokens) for prompt in prompts], np.int32)
        tokens = np.full((len(prompts), round_up(int(lengths.max()))), self.text.pad_id)
        for row, prompt in zip(tokens, prompts, strict=True):
            row[: len(prompt.tokens)] = prompt.tokens
        index = media_index(tokens, self.text.image_ids)
        return PromptBatch(tokens.astype(np.int32), lengths, index, self._latents(prompts))

    def _latents(self, prompts: Sequence[Prompt]) -> Array:
        """media_BxNxRxD; media of equal numbers of frames are resampled together."""
        most = _power_of_two(max(len(prompt.media) for prompt in prompts))
        shape = (len(prompts), most, *media_shape(self.config))
        all_latents = np.zeros(shape, jnp.dtype(self.config.dtype))
        by_frames = collections.defaultdict(list)
        for b, prompt in enumerate(prompts):
            for n, frames in enumerate(prompt.media):
                by_frames[len(frames)].append((b, n, frames))
        for group in by_frames.values():
            rows, columns, media = zip(*group, strict=True)
            features = _padded(self._features(np.stack(media)))
            found = resample(self.config, self.weights.resampler, features)
            if found.shape[1:] != all_latents.shape[2:]:
                raise UserError("This model has no resampler: it takes images, not videos.")
            all_latents[list(rows), list(columns)] = np.asarray(found)[: len(group)]
        return jnp.asarray(all_latents)

    def _features(self, media_MxFxHxWx3: np.ndarray) -> np.ndarray:
        """[M, F, P, C] float32."""
        M, F = media_MxFxHxWx3.shape[:2]
        images = media_MxFxHxWx3.reshape(M * F, *media_MxFxHxWx3.shape[2:])
        if self.features is not None:
            features = self.features(images)
        else:
            found = encode(self.config, self.weights.vision, _padded(images))
            features = np.asarray(found)[: M * F]
        return features.reshape(M, F, *features.shape[1:])


@functools.partial(jax.jit, static_argnames="config")
def encode(config: FlamingoConfig, vision: Any, images_MxHxWx3: Array | np.ndarray) -> Array:
    """The vision encoder's features [M, P, C] of uint8 images."""
    variables = {"frozen": {"vision": vision}}
    return _array(FlamingoModel(config).apply(variables, images_MxHxWx3, method="encode"))


@functools.partial(jax.jit, static_argnames="config")
def resample(config: FlamingoConfig, resampler: Any, features_MxFxPxC: Array | np.ndarray) -> Array:
    """The resampler's latents [M, R, D]."""
    variables = {"params": {"resampler": resampler}}
    model = FlamingoModel(config)
    return _array(model.apply(variables, features_MxFxPxC[None], method="resample"))[0]


def media_shape(config: FlamingoConfig) -> tuple[int, int]:
    """(R, D) of an image's latents."""
    size = config.vision.image_size

    def of_an_image() -> Any:
        images = jnp.zeros((1, 1, 1, size, size, 3), jnp.uint8)
        model, key = FlamingoModel(config), jax.random.key(0)
        return model.init_with_output(key, images[0, 0], method="encode")[0]

    if config.resampler.kind != "none":
        return config.resampler.num_latents, config.resampler.width
    _, positions, channels = jax.eval_shape(of_an_image).shape
    return positions, channels


def _options(fields: Mapping[str, Any]) -> GenerationConfig:
    known = [field.name for field in dataclasses.fields(GenerationConfig)]
    for name in fields:
        if name not in known:
            raise UserError(f"generate has no option {name!r}: it has {', '.join(known)}.")
    return GenerationConfig(**fields)


def _padded(rows: np.ndarray) -> np.ndarray:
    """Zero rows added up to a power of two, so that few programs are compiled."""
    extra = _power_of_two(len(rows)) - len(rows)
    return np.pad(rows, ((0, extra), *((0, 0),) * (rows.ndim - 1)))


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()


def _array(value: Any) -> Array:
    """What `apply` returns without mutable collections."""
    assert isinstance(value, jax.Array)
    return value
