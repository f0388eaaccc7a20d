"""The ViT against transformers' CLIP vision tower with the same weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

from flamingo_jax.models.vit import ViT, ViTConfig, ViTEncoder, patches

TINY = ViTConfig(image_size=12, patch_size=4, width=16, num_layers=3, num_heads=2, mlp_dim=24)


def clip() -> transformers.CLIPVisionModel:
    torch.manual_seed(0)
    model = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=12,
            patch_size=4,
        )
    ).eval()
    with torch.no_grad():  # as initialised, norms and biases would test nothing
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def params_of(model: transformers.CLIPVisionModel) -> dict:
    state = {
        name.removeprefix("vision_model."): p.numpy() for name, p in model.state_dict().items()
    }
    heads = (TINY.num_heads, TINY.width // TINY.num_heads)

    def norm(name: str) -> dict:
        return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}

    def dense(name: str) -> dict:
        return {"kernel": state[f"{name}.weight"].T, "bias": state[f"{name}.bias"]}

    def by_head(name: str) -> dict:
        return jax.tree.map(lambda x: x.reshape(*x.shape[:-1], *heads), dense(name))

    def layer(i: int) -> dict:
        at = f"encoder.layers.{i}."
        out = dense(f"{at}self_attn.out_proj")
        return {
            "norm_1": norm(f"{at}layer_norm1"),
            "norm_2": norm(f"{at}layer_norm2"),
            "query": by_head(f"{at}self_attn.q_proj"),
            "key": by_head(f"{at}self_attn.k_proj"),
            "value": by_head(f"{at}self_attn.v_proj"),
            "out": {**out, "kernel": out["kernel"].reshape(*heads, TINY.width)},
            "mlp": {"up": dense(f"{at}mlp.fc1"), "down": dense(f"{at}mlp.fc2")},
        }

    convolution = state["embeddings.patch_embedding.weight"]
    layers = [layer(i) for i in range(TINY.num_layers)]
    return {
        "patch": {"kernel": convolution.transpose(2, 3, 1, 0).reshape(-1, TINY.width)},
        "class_D": state["embeddings.class_embedding"],
        "position_LxD": state["embeddings.position_embedding.weight"],
        "pre_norm": norm("pre_layrnorm"),
        "post_norm": norm("post_layernorm"),
        "layers": jax.tree.map(lambda *x: np.stack(x), *layers),
    }


def test_features_and_pooled_token_equal_clip():
    model = clip()
    images = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype(np.float32)
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(images.transpose(0, 3, 1, 2)))
    params = params_of(model)
    shapes = jax.eval_shape(ViT(TINY).init, jax.random.key(0), images)["params"]
    chex.assert_trees_all_equal_shapes(params, shapes)
    features, kept = jax.jit(lambda p, x: ViT(TINY).apply({"params": p}, x, mutable=True))(
        params, images
    )
    chex.assert_shape(features, (2, 9, 16))
    np.testing.assert_allclose(features, expected.last_hidden_state[:, 1:], atol=1e-4)
    pooled = kept["intermediates"]["pooled"][0]
    np.testing.assert_allclose(pooled, expected.pooler_output, atol=1e-4)


def test_patches_are_cut_row_by_row():
    image = np.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
    cut = patches(jnp.array(image), 2)
    chex.assert_shape(cut, (1, 6, 12))
    np.testing.assert_array_equal(cut[0, 1], image[0, 0:2, 2:4].reshape(-1))
    np.testing.assert_array_equal(cut[0, 3], image[0, 2:4, 0:2].reshape(-1))


def test_encoder_normalises_bytes_as_clip_does():
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype=np.uint8)
    variables = jax.jit(ViTEncoder(TINY).init)(jax.random.key(0), images)
    processor = transformers.CLIPImageProcessorPil(do_resize=False, do_center_crop=False)
    pixels = processor(list(images), return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    expected = ViT(TINY).apply({"params": variables["params"]["net"]}, pixels)
    features = jax.jit(ViTEncoder(TINY).apply)(variables, images)
    chex.assert_type(features, jnp.float32)
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_defaults_are_vit_l_14():
    """CLIP (arXiv:2103.00020) ViT-L/14 at 224 px: 303,179,776 parameters without its projection."""
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    features, variables = jax.eval_shape(
        ViT(ViTConfig(), jnp.bfloat16).init_with_output, jax.random.key(0), images
    )
    assert features.shape == (1, 256, 1024)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 303_179_776
