"""Hugging Face's language models: config.json and tensors to a decoder's config and lazy trees.

Llama and Mistral; MPT, with transformers' names and with those that MosaicML's MPT-1B has; GPT-NeoX
with Pythia and RedPajama; OPT.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from flamingo_jax.checkpoints import language_configs as configs
from flamingo_jax.checkpoints import language_layers as layers
from flamingo_jax.checkpoints.layers import Tree, rows, take_norm
from flamingo_jax.checkpoints.options import Options
from flamingo_jax.checkpoints.tensors import Source, Tensor, open_tensors
from flamingo_jax.models.decoder import DecoderConfig

BUFFERS = (r".*rotary_emb\.inv_freq", r".*\.attention\.(masked_)?bias", r".*decoder\.version")
"""Names of what is no parameter but was saved with them by older versions of transformers."""

HEADS = ("lm_head.weight", "embed_out.weight")
"""Names of output projections; in GPT-NeoX the second, which transformers 5 calls the first."""


@dataclasses.dataclass(frozen=True)
class Family:
    """What sets a family apart.

    Attributes:
      prefix: of all names of tensors but the head's; some checkpoints leave it out.
      embedding: name of the token embedding, after the prefix.
      norms: names that the last norm may have, after the prefix.
      layers: name of the list of layers, after the prefix.
      head: whole name of the output projection.
      max_tokens: option for the longest sequence, and its default.
      config: from the options.
      layer: tree of one layer, from the tensors, the start of their names, the decoder's config
        and the options.
      fitted: the config as the tensors correct it, by the start of the first layer's names.
      more: what else the vocabulary has, from the tensors and the decoder's config.
      bos_id: default of the option `bos_token_id`; None where sequences start with no token.
    """

    prefix: str
    embedding: str
    norms: tuple[str, ...]
    layers: str
    head: str
    max_tokens: tuple[str, int]
    config: Callable[[Options], DecoderConfig]
    layer: Callable[[Source, str, DecoderConfig, Options], Tree]
    fitted: Callable[[Source, str, DecoderConfig], DecoderConfig] = lambda source, at, given: given
    more: Callable[[Source, DecoderConfig], Tree] = lambda source, config: {}
    bos_id: int | None = None

    def full_name(self, name: str) -> str:
        """A tensor's name with the prefix, and the head's that this family uses."""
        if name in HEADS:
            return self.head
        return name if name.startswith(self.prefix) else self.prefix + name


_LLAMA = Family(
    prefix="model.",
    embedding="embed_tokens.weight",
    norms=("norm",),
    layers="layers",
    head="lm_head.weight",
    max_tokens=("max_position_embeddings", 2048),
    config=configs.llama_config,
    layer=layers.llama_layer,
    bos_id=1,
)
_MPT = Family(
    prefix="transformer.",
    embedding="wte.weight",
    norms=("norm_f", "ln_f"),
    layers="blocks",
    head="lm_head.weight",
    max_tokens=("max_seq_len", 2048),
    config=configs.mpt_config,
    layer=layers.mpt_layer,
    fitted=layers.mpt_fitted,
)
FAMILIES = {
    "llama": _LLAMA,
    "mistral": dataclasses.replace(_LLAMA, max_tokens=("max_position_embeddings", 131_072)),
    "mpt": _MPT,
    "mosaic_gpt": _MPT,
    "gpt_neox": Family(
        prefix="gpt_neox.",
        embedding="embed_in.weight",
        norms=("final_layer_norm",),
        layers="layers",
        head="embed_out.weight",
        max_tokens=("max_position_embeddings", 2048),
        config=configs.neox_config,
        layer=layers.neox_layer,
    ),
    "opt": Family(
        prefix="model.",
        embedding="decoder.embed_tokens.weight",
        norms=("decoder.final_layer_norm",),
        layers="decoder.layers",
        head="lm_head.weight",
        max_tokens=("max_position_embeddings", 2048),
        config=configs.opt_config,
        layer=layers.opt_layer,
        more=layers.opt_more,
        bos_id=2,
    ),
}
"""By config.json's `model_type`."""


@dataclasses.dataclass(frozen=True)
class Language:
    """A published language model.

    Attributes:
      config: of the decoder.
      vocabulary: lazy tree of `models.decoder.Vocabulary`.
      layers: lazy trees of `models.decoder.DecoderLayer`, in order.
      max_tokens: longest sequence that it is made for.
      bos_id: token that its family starts sequences with; None for none.
    """

    config: DecoderConfig
    vocabulary: Tree
    layers: list[Tree]
    max_tokens: int
    bos_id: int | None


def read_language(folder: Path, newer: Mapping[str, Tensor] | None = None) -> Language:
    """A language model in a folder as Hugging Face lays it out; no tensor is read.

    Args:
      folder: config.json and tensors, in one file or in shards.
      newer: tensors by Hugging Face's names that take the place of the folder's. A token embedding
        among them says how many tokens there are: an output projection of the folder's own is cut
        to as many rows, or filled up with zeros.

    Raises:
      UserError: something is missing, damaged, left over or of another shape, or config.json asks
        for what the decoder cannot do.
    """
    options = Options.read(folder / "config.json")
    family = FAMILIES[options.only("model_type", *FAMILIES)]
    tensors = {
        family.full_name(name): tensor
        for given in (open_tensors(folder), newer or {})
        for name, tensor in given.items()
    }
    return read_tensors(
        options, Source(tensors, folder), {family.full_name(name) for name in newer or ()}
    )


def read_tensors(options: Options, source: Source, newer: Collection[str] = ()) -> Language:
    """The same of options and tensors at hand.

    Args:
      options: of config.json.
      source: all tensors, by the names that Hugging Face's model with a head gives them.
      newer: names of those that may have another number of tokens than config.json says.

    Raises:
      UserError: as for `read_language`.
    """
    family = FAMILIES[options.only("model_type", *FAMILIES)]
    start = f"{family.prefix}{family.layers}."
    config = family.fitted(source, f"{start}0.", family.config(options))
    config, vocabulary = _read_vocabulary(source, family, config, newer)
    trees = [
        family.layer(source, f"{start}{i}.", config, options) for i in range(config.num_layers)
    ]
    source.check_all_taken(BUFFERS)
    bos = None if family.bos_id is None else options.token("bos_token_id", family.bos_id)
    return Language(config, vocabulary, trees, options.count(*family.max_tokens), bos)


def _read_vocabulary(
    source: Source, family: Family, config: DecoderConfig, newer: Collection[str]
) -> tuple[DecoderConfig, Tree]:
    """Both ends of the decoder, and its config with the number of tokens that they have."""
    width, name = config.embedding_width or config.width, family.prefix + family.embedding
    resized = name in newer
    embedding = _take_table(source, name, None if resized else config.vocab_size, width)
    size = embedding.shape[0]
    config = dataclasses.replace(config, vocab_size=size)
    tree: Tree = {"embedding": embedding}
    if config.tied:
        source.optional(family.head)
    else:
        old = resized and family.head not in newer
        head = _take_table(source, family.head, None if old else size, width)
        tree["head"] = _resized(head, size)
    if not config.post_norm:
        norms = [family.prefix + norm for norm in family.norms]
        norm = next((norm for norm in norms if source.has(f"{norm}.weight")), norms[0])
        tree["norm"] = take_norm(source, norm, config.width, config.norm_bias)
    return config, tree | family.more(source, config)


def _take_table(source: Source, name: str, size: int | None, width: int) -> Tensor:
    """A table of `size` rows, or of any number."""
    some = source.take(name).shape[:1] if size is None else (size,)
    return source.take(name, (*some, width))


def _resized(head: Tensor, size: int) -> Tensor:
    """The first `size` rows, with zeros where there are fewer."""
    if head.shape[0] == size:
        return head
    if head.shape[0] > size:
        return rows(head, 0, size)
    shape = (size, head.shape[1])
    extra = ((0, size - head.shape[0]), (0, 0))
    return head.map(lambda array: np.pad(array, extra), shape)
