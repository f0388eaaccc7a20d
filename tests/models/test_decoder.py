"""The decoder's block: as MPT against transformers, ALiBi's slopes, caches and shapes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from flamingo_jax.models.decoder import Context, DecoderConfig, DecoderLayer
from flamingo_jax.models.flamingo import FlamingoConfig, FlamingoModel, causal_context, stack_layers
from flamingo_jax.models.positions import alibi
from flamingo_jax.models.resampler import ResamplerConfig
from flamingo_jax.models.xattn import CrossAttentionConfig

VOCAB, WIDTH, LAYERS = 40, 24, 3


def mpt_like(heads: int) -> DecoderConfig:
    return DecoderConfig(
        VOCAB,
        WIDTH,
        LAYERS,
        heads,
        heads,
        WIDTH // heads,
        4 * WIDTH,
        norm="layer",
        positions="alibi",
        mlp="gelu",
    )


def mpt(heads: int) -> transformers.MptForCausalLM:
    torch.manual_seed(0)
    config = transformers.MptConfig(
        d_model=WIDTH, n_heads=heads, n_layers=LAYERS, vocab_size=VOCAB, max_seq_len=32
    )
    model = transformers.MptForCausalLM(config).eval()
    with torch.no_grad():  # as initialised, norms would test nothing
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def frozen_of(model: transformers.MptForCausalLM, config: FlamingoConfig) -> dict:
    state = {k.removeprefix("transformer."): v.numpy() for k, v in model.state_dict().items()}
    decoder = config.decoder
    heads = (decoder.num_heads, decoder.head_dim)

    def layer(i: int) -> dict:
        at = f"blocks.{i}."
        qkv = np.split(state[f"{at}attn.Wqkv.weight"], 3)
        attention = {
            name: {"kernel": part.T.reshape(WIDTH, *heads)}
            for name, part in zip(("query", "key", "value"), qkv, strict=True)
        }
        out = state[f"{at}attn.out_proj.weight"].T.reshape(*heads, WIDTH)
        return {
            "attention_norm": {"scale": state[f"{at}norm_1.weight"]},
            "attention": {**attention, "out": {"kernel": out}},
            "mlp_norm": {"scale": state[f"{at}norm_2.weight"]},
            "mlp": {
                "up": {"kernel": state[f"{at}ffn.up_proj.weight"].T},
                "down": {"kernel": state[f"{at}ffn.down_proj.weight"].T},
            },
        }

    return {
        "vocabulary": {
            "embedding": state["wte.weight"],
            "norm": {"scale": state["norm_f.weight"]},
        },
        **stack_layers([layer(i) for i in range(LAYERS)], config),
    }


@pytest.mark.parametrize("heads", [4, 6])  # 6 is no power of two
def test_logits_equal_mpt(heads):
    reference = mpt(heads)
    config = FlamingoConfig(
        mpt_like(heads), ResamplerConfig(WIDTH), CrossAttentionConfig(2, 8, first=1, every=2)
    )
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, 11))
    with torch.no_grad():
        expected = reference(torch.from_numpy(tokens)).logits
    frozen = {"language": frozen_of(reference, config)}
    got = jax.jit(FlamingoModel(config).apply)({"params": {}, "frozen": frozen}, tokens)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_alibi_slopes_are_the_papers():
    """arXiv:2108.12409, §3: for 8 heads the slopes are 1/2, 1/4, ..., 1/256."""
    bias = alibi(8, jnp.tril(jnp.ones((1, 5, 5), bool)))
    chex.assert_shape(bias, (1, 8, 5, 5))
    np.testing.assert_allclose(bias[0, :, 4, 1], [-3 / 2**i for i in range(1, 9)], rtol=1e-6)


def test_alibi_counts_only_what_a_token_sees():
    """Slots of padding between a prompt and its continuation have no length."""
    mask = jnp.array([[[True, True, False, False, True, False]]])
    bias = alibi(1, mask)[0, 0, 0] * 2**8
    np.testing.assert_allclose(bias[jnp.array([0, 1, 4])], [-2, -1, 0])


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("mlp", ["swiglu", "gelu"])
def test_a_cached_step_equals_the_whole_sequence(positions, mlp):
    config = DecoderConfig(VOCAB, 16, 1, 4, 2, 4, 24, positions=positions, mlp=mlp)
    layer, T = DecoderLayer(config), 6
    x = jax.random.normal(jax.random.key(0), (2, T, 16))
    whole, variables = jax.jit(layer.init_with_output)(jax.random.key(1), x, causal_context(2, T))
    chex.assert_equal_shape([whole, x])

    @jax.jit
    def step(cache: dict, t: jax.Array, x_Bx1xD: jax.Array) -> tuple:
        visible = jnp.broadcast_to(jnp.arange(T) <= t, (2, 1, T))
        context = Context(jnp.full((2, 1), t), visible, t)
        return layer.apply({**variables, "cache": cache}, x_Bx1xD, context, mutable=["cache"])

    cache = {"attention": {f"cached_{name}": jnp.zeros((2, T, 2, 4)) for name in ("key", "value")}}
    for t in range(T):
        out, changed = step(cache, jnp.int32(t), x[:, t : t + 1])
        cache = changed["cache"]
        np.testing.assert_allclose(out[:, 0], whole[:, t], atol=1e-5)


@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_parameters_of_the_block(norm):
    config = DecoderConfig(VOCAB, 16, 1, 4, 2, 4, 24, norm=norm, mlp="gelu")
    x = jnp.zeros((1, 2, 16))
    shapes = jax.eval_shape(DecoderLayer(config).init, jax.random.key(0), x, causal_context(1, 2))
    kernels = {
        "attention": {
            "query": {"kernel": (16, 4, 4)},
            "key": {"kernel": (16, 2, 4)},
            "value": {"kernel": (16, 2, 4)},
            "out": {"kernel": (4, 4, 16)},
        },
        "attention_norm": {"scale": (16,)},
        "mlp": {"up": {"kernel": (16, 24)}, "down": {"kernel": (24, 16)}},
        "mlp_norm": {"scale": (16,)},
    }
    assert jax.tree.map(lambda leaf: leaf.shape, shapes["params"]) == kernels
