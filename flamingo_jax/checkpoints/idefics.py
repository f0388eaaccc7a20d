"""IDEFICS (arXiv:2306.16527), the open reproduction of Flamingo, from its Hugging Face folders.

A Llama language model with the rows of added tokens apart, CLIP's vision tower with its class
token, and before every n-th layer gated cross-attention with RMSNorm and SwiGLU; a Perceiver
Resampler between them, or none.

Not carried over: the published processor hides the images before an end of sequence (`</s>`) from
the text after it; here text sees the last image before it, unless a mask says otherwise.
"""

from pathlib import Path

from flamingo_jax.checkpoints.clip import HUGGING_FACE, read_tower, with_colours
from flamingo_jax.checkpoints.languages import Language, read_tensors
from flamingo_jax.checkpoints.layers import Tree, language_variables, take_linear, take_norm
from flamingo_jax.checkpoints.options import Options
from flamingo_jax.checkpoints.published import Published
from flamingo_jax.checkpoints.tensors import Source, Tensor, concatenated, open_tensors
from flamingo_jax.checkpoints.tokenizer_files import check_ids, read_tokenizer
from flamingo_jax.data.tokenizer import TextConfig
from flamingo_jax.errors import UserError
from flamingo_jax.models.decoder import DecoderConfig
from flamingo_jax.models.flamingo import FlamingoConfig
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.vit import ViTConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

IMAGE = "<image>"
AROUND_IMAGE = "<fake_token_around_image>"
END_OF_UTTERANCE = "<end_of_utterance>"
END_OF_SEQUENCE = "</s>"

DEFAULTS = {
    "vocab_size": 32_000,
    "additional_vocab_size": 0,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "cross_layer_interval": 1,
    "qk_layer_norms": False,
    "alpha_type": "float",
    "use_resampler": False,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""What the published config class says where config.json does not."""

_TABLES = {"model.embed_tokens": "additional_embedding", "lm_head": "additional_fc"}
"""Tables by token, and within each the one of the added tokens."""

_LANGUAGE = ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head.")
"""How the language model's names begin, which are Llama's."""

_BUFFERS = (r".*\.rotary_emb\.inv_freq", r".*\.position_ids")
"""Constants that older files keep among the weights."""


def read(source: Path) -> Published:
    """Reads a folder of IDEFICS, 9B or 80B, instructed or not; the values of no tensor.

    Args:
      source: a folder with config.json, the weights as `open_tensors` finds them, and, if they are
        there, tokenizer.json and preprocessor_config.json.

    Raises:
      UserError: a file is missing or damaged, an option is not supported, or a tensor is missing,
        left over, or of another shape than the config says, or the model lacks a token of the
        tokenizer's.
    """
    path = source / "config.json"
    given = Options.read(path).values
    options = Options({**DEFAULTS, **{k: v for k, v in given.items() if v is not None}}, path)
    options.only("model_type", "idefics")
    vision = _vision_config(options.part("vision_config"), source / "preprocessor_config.json")
    text, tokenizer = _text(options, source)

    tensors = open_tensors(source)
    language = _language(options, {n: t for n, t in tensors.items() if n.startswith(_LANGUAGE)})
    rest = Source({n: t for n, t in tensors.items() if not n.startswith(_LANGUAGE)}, source)
    config = FlamingoConfig(
        decoder=language.config,
        resampler=_resampler_config(options, vision.width),
        xattn=_xattn_config(options, language.config),
        vision=vision,
    )
    variables = _variables(rest, config, language)
    rest.check_all_taken(_BUFFERS)
    if tokenizer is not None:
        doubt = f"is the tokenizer of {source} the model's own"
        check_ids(text, language.config.vocab_size, doubt)
    return Published("idefics", config, variables, text, tokenizer)


def _added(options: Options) -> int:
    """Tokens after Llama's own, whose rows are apart."""
    name = "additional_vocab_size"
    return options.count(name) if options.values[name] else 0


def _language(options: Options, tensors: dict[str, Tensor]) -> Language:
    """Its Llama, with the added tokens' rows below the others."""
    size, added, width = options.count("vocab_size"), _added(options), options.count("hidden_size")
    source, folder = Source(tensors, options.where.parent), options.where.parent
    whole = dict(tensors)
    for table, more in _TABLES.items() if added else ():
        if options.flag("tie_word_embeddings", False) and table == "lm_head":
            whole.pop(f"{table}.{more}.weight", None)
            continue
        parts = [
            source.take(f"{table}.weight", (size, width)),
            source.take(f"{table}.{more}.weight", (added, width)),
        ]
        whole[f"{table}.weight"] = concatenated(parts)
        del whole[f"{table}.{more}.weight"]
    llama = {**options.values, "model_type": "llama", "vocab_size": size + added}
    return read_tensors(Options(llama, options.where), Source(whole, folder))


def _variables(source: Source, config: FlamingoConfig, language: Language) -> Tree:
    bridges = [
        _bridge(source, f"model.gated_cross_attn_layers.{i}", config)
        for i in range(config.num_bridges)
    ]
    new, kept = language_variables(language.layers, bridges, config)
    params: Tree = {"language": new}
    if config.resampler.kind != "none":
        params["resampler"] = _resampler(source, "model.perceiver_resampler", config.resampler)
    assert isinstance(config.vision, ViTConfig)
    tower = read_tower(source, "model.vision_model.", config.vision, HUGGING_FACE)
    kept["vocabulary"] = language.vocabulary
    return {"params": params, "frozen": {"language": kept, "vision": {"net": tower}}}


def _xattn_config(options: Options, decoder: DecoderConfig) -> CrossAttentionConfig:
    every = options.count("cross_layer_interval")
    if decoder.num_layers % every:
        raise options.wrong(
            "cross_layer_interval", every, f"a divisor of {decoder.num_layers} layers"
        )
    return CrossAttentionConfig(
        num_heads=decoder.num_heads,
        head_dim=decoder.head_dim,
        every=every,
        mlp_dim=decoder.mlp_dim,
        vector_gates=options.only("alpha_type", "float", "vector") == "vector",
        activation="swiglu",
        norm="rms",
        norm_eps=decoder.norm_eps,
        qk_norm=options.flag("qk_layer_norms", False),
    )


def _vision_config(options: Options, images: Path) -> ViTConfig:
    """The tower; its images are normalised as the processor's file says, else as CLIP's."""
    options.only("num_channels", 3, default=3)
    width, heads = options.count("embed_dim", 768), options.count("num_attention_heads", 16)
    if width % heads:
        raise options.wrong("num_attention_heads", heads, f"a divisor of {width}")
    size, patch = options.count("image_size", 224), options.count("patch_size", 14)
    if size % patch:
        raise options.wrong("patch_size", patch, f"a divisor of {size}")
    config = ViTConfig(
        image_size=size,
        patch_size=patch,
        width=width,
        num_layers=options.count("num_hidden_layers", 32),
        num_heads=heads,
        mlp_dim=options.count("intermediate_size", 5120),
        norm_eps=options.number("layer_norm_eps", 1e-5),
        activation=options.only("hidden_act", "gelu", "quick_gelu", default="gelu"),
        class_token=True,
    )
    return with_colours(config, images)


def _resampler_config(options: Options, width: int) -> ResamplerConfig:
    if not options.flag("use_resampler", False):
        return ResamplerConfig(width, max_frames=0, project=False, kind="none")
    perceiver = options.part("perceiver_config")
    return ResamplerConfig(
        width=width,
        num_layers=perceiver.count("resampler_depth", 6),
        num_latents=perceiver.count("resampler_n_latents", 64),
        num_heads=perceiver.count("resampler_n_heads", 16),
        head_dim=perceiver.count("resampler_head_dim", 96),
        max_frames=0,
        project=False,
        activation="relu",
        norm_eps=1e-5,  # PyTorch's, which no option changes
        qk_norm=perceiver.flag("qk_layer_norms_perceiver", False),
    )


def _attention(source: Source, name: str, config: DecoderConfig, seen: tuple[int]) -> Tree:
    """Projections of queries [D] and of what they attend to, of `seen` channels."""
    width, heads = (config.width,), (config.num_heads, config.head_dim)
    return {
        "query": take_linear(source, f"{name}.q_proj", width, heads, bias=False),
        "key": take_linear(source, f"{name}.k_proj", seen, heads, bias=False),
        "value": take_linear(source, f"{name}.v_proj", seen, heads, bias=False),
        "out": take_linear(source, f"{name}.o_proj", heads, width, bias=False),
    }


def _mlp(source: Source, name: str, config: DecoderConfig) -> Tree:
    width, hidden = (config.width,), (config.mlp_dim,)
    return {
        "gate": take_linear(source, f"{name}.gate_proj", width, hidden, bias=False),
        "up": take_linear(source, f"{name}.up_proj", width, hidden, bias=False),
        "down": take_linear(source, f"{name}.down_proj", hidden, width, bias=False),
    }


def _bridge(source: Source, name: str, config: FlamingoConfig) -> Tree:
    xattn, width, at = config.xattn, config.decoder.width, f"{name}.cross_attn"
    attention = _attention(source, at, config.decoder, (config.resampler.width,))
    attention["norm"] = take_norm(source, f"{name}.input_layernorm", width, bias=False)
    if xattn.qk_norm:
        for ours, theirs in (("query_norm", "q_layer_norm"), ("key_norm", "k_layer_norm")):
            attention[ours] = take_norm(source, f"{at}.{theirs}", xattn.head_dim, bias=False)
    stored, shape = ((1, 1, width), (width,)) if xattn.vector_gates else ((1,), ())

    def gate(name: str) -> Tensor:
        return source.take(name, stored).map(lambda alpha: alpha.reshape(shape), shape)

    return {
        "attention": attention,
        "mlp_norm": take_norm(source, f"{name}.post_attention_layernorm", width, bias=False),
        "mlp": _mlp(source, f"{name}.mlp", config.decoder),
        "alpha_xattn": gate(f"{name}.alpha_cross_attn"),
        "alpha_dense": gate(f"{name}.alpha_dense"),
    }


def _resampler(source: Source, name: str, config: ResamplerConfig) -> Tree:
    tree: Tree = {
        "latents": source.take(f"{name}.latents", (config.num_latents, config.width)),
        "norm": take_norm(source, f"{name}.layer_norm", config.width),
    }
    width, hidden = (config.width,), (config.mlp_multiplier * config.width,)
    for i in range(config.num_layers):
        tree[f"attention_{i}"] = _perceiver(source, f"{name}.blocks.{i}.0", config)
        mlp = f"{name}.blocks.{i}.1"
        tree[f"mlp_norm_{i}"] = take_norm(source, f"{mlp}.ln", config.width)
        tree[f"mlp_{i}"] = {
            "up": take_linear(source, f"{mlp}.fc", width, hidden, bias=False),
            "down": take_linear(source, f"{mlp}.c_proj", hidden, width, bias=False),
        }
    return tree


def _perceiver(source: Source, name: str, config: ResamplerConfig) -> Tree:
    width, heads = (config.width,), (config.num_heads, config.head_dim)
    tree = {
        "latents_norm": take_norm(source, f"{name}.latents_layer_norm", config.width),
        "features_norm": take_norm(source, f"{name}.context_layer_norm", config.width),
        "query": take_linear(source, f"{name}.q_proj", width, heads, bias=False),
        "key": take_linear(source, f"{name}.k_proj", width, heads, bias=False),
        "value": take_linear(source, f"{name}.v_proj", width, heads, bias=False),
        "out": take_linear(source, f"{name}.output_proj", heads, width, bias=False),
    }
    if config.qk_norm:
        tree["query_norm"] = take_norm(source, f"{name}.q_layer_norm", config.head_dim)
        tree["key_norm"] = take_norm(source, f"{name}.k_layer_norm", config.head_dim)
    return tree


def _text(options: Options, source: Path) -> tuple[TextConfig, str | None]:
    """What shows images and ends texts by the tokenizer, or without one by the tokens' order.

    Llama's tokens are followed by the one around images and the image, in instructed models then
    by the end of an utterance, which ends a text as `</s>` does elsewhere.
    """
    first, added = options.count("vocab_size"), _added(options)
    image = first + 1 if added > 1 else first
    ended, tokenizer = first + 2 if added > 2 else None, None
    if (found := read_tokenizer(source)) is not None:
        words, tokenizer = found.tokenizer, found.tokenizer.to_str()
        image, ended = words.token_to_id(IMAGE), words.token_to_id(END_OF_UTTERANCE)
        if image is None or words.token_to_id(AROUND_IMAGE) is None:
            raise UserError(
                f"The tokenizer of {source} lacks {IMAGE} or {AROUND_IMAGE}: is it IDEFICS's?"
            )
    text = TextConfig(
        image_id=image,
        eoc_id=_token(options, "eos_token_id") if ended is None else ended,
        pad_id=_token(options, "pad_token_id"),
        bos_id=_token(options, "bos_token_id"),
        image_token=IMAGE,
        eoc_token=END_OF_SEQUENCE if ended is None else END_OF_UTTERANCE,
        around_image=AROUND_IMAGE,
        max_tokens=options.count("max_position_embeddings"),
        fit="stretch",
    )
    return text, tokenizer


def _token(options: Options, name: str) -> int:
    token = options.token(name)
    assert token is not None  # it has a default
    return token
