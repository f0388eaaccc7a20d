"""Small original models with random weights, saved as people save them, and lazy trees read."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import transformers
from torch import nn

from flamingo_jax.checkpoints.tensors import Stacked

FORMS = ("safetensors", "safetensors shards", "bin", "bin shards")
"""How Hugging Face's folders keep tensors."""


def materialised(tree: Any) -> Any:
    """A lazy tree with every tensor read."""

    def read(leaf: Any) -> np.ndarray:
        if isinstance(leaf, Stacked):
            return np.stack([read(part) for part in leaf.parts])
        array = leaf.read()
        assert array.shape == leaf.shape
        assert array.dtype == leaf.dtype
        return array

    return jax.tree.map(read, tree)


def shaken(model: nn.Module, seed: int = 0, scale: float = 0.2) -> Any:
    """The model with noise on all parameters: as initialised, norms and biases test nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)


def save(model: transformers.PreTrainedModel, folder: Path, form: str = "safetensors") -> None:
    """Writes config.json and the tensors in one of `FORMS`."""
    if form == "safetensors":
        model.save_pretrained(folder)
    elif form == "safetensors shards":
        model.save_pretrained(folder, max_shard_size="20KB")
        assert (folder / "model.safetensors.index.json").exists()
    else:
        model.config.save_pretrained(folder)
        save_bin(model.state_dict(), folder, 3 if form == "bin shards" else 1)


def save_bin(state: dict[str, torch.Tensor], folder: Path, shards: int) -> None:
    """Writes pytorch_model.bin, or so many parts of one and their index."""
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return
    files = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    places = {name: files[i % shards] for i, name in enumerate(state)}
    for file in files:
        torch.save({name: state[name] for name in state if places[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def edit_config(folder: Path, **options: Any) -> None:
    """Sets options of config.json; `...` removes one."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(options)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


class MosaicAttention(nn.Module):
    """Attention of MPT-1B: norms of all queries and keys before they are split, ALiBi."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.Wqkv = nn.Linear(width, 3 * width, bias=False)
        self.q_ln = nn.LayerNorm(width, bias=False)
        self.k_ln = nn.LayerNorm(width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, D = x.shape
        q, k, v = self.Wqkv(x).chunk(3, dim=-1)
        q, k, v = (
            part.view(B, T, self.heads, -1).transpose(1, 2)
            for part in (self.q_ln(q), self.k_ln(k), v)
        )
        slopes = torch.tensor([2 ** (-8 * (i + 1) / self.heads) for i in range(self.heads)])
        ago = torch.arange(T)[:, None] - torch.arange(T)[None]
        bias = -slopes[:, None, None] * ago
        bias = bias.masked_fill(ago < 0, -torch.inf)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, bias[None])
        return self.out_proj(mixed.transpose(1, 2).reshape(B, T, D))


class MosaicBlock(nn.Module):
    """A layer of MPT-1B under its own names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = MosaicAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.ModuleDict(
            {
                "mlp_up": nn.Linear(width, 4 * width, bias=False),
                "mlp_down": nn.Linear(4 * width, width, bias=False),
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = nn.functional.gelu(self.mlp["mlp_up"](self.ln_2(x)))
        return x + self.mlp["mlp_down"](hidden)


class MosaicGPT(nn.Module):
    """MPT-1B, whose code is no part of transformers."""

    def __init__(self, vocab: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        blocks = nn.ModuleList([MosaicBlock(width, heads) for _ in range(layers)])
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab, width),
                "blocks": blocks,
                "ln_f": nn.LayerNorm(width, bias=False),
            }
        )
        self.options = {
            "model_type": "mosaic_gpt",
            "vocab_size": vocab,
            "d_model": width,
            "n_heads": heads,
            "n_layers": layers,
            "mlp_ratio": 4,
            "max_seq_len": 64,
            "alibi": True,
            "alibi_bias_max": 8,
            "attn_qk_ln": True,
            "attn_clip_qkv": None,
            "softmax_scale": None,
            "no_bias": True,
            "logit_scale": None,
            "prefix_lm": False,
        }

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.transformer["wte"](tokens)
        for block in self.transformer["blocks"]:
            x = block(x)
        return self.transformer["ln_f"](x) @ self.transformer["wte"].weight.T

    def save(self, folder: Path) -> None:
        """Writes config.json and pytorch_model.bin."""
        (folder / "config.json").write_text(json.dumps(self.options))
        save_bin(self.state_dict(), folder, 1)


class OpenClipBlock(nn.Module):
    """A layer of open_clip's vision tower."""

    def __init__(self, width: int, heads: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", activation)
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class OpenClipTower(nn.Module):
    """open_clip's vision tower, whose package is not needed for the tests; heads of 64 channels."""

    def __init__(
        self, size: int, patch: int, width: int, layers: int, activation: nn.Module
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            OpenClipBlock(width, width // 64, 2 * width, activation) for _ in range(layers)
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, 8))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image's embedding, and the patches' features before the last norm."""
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x)
        return self.ln_post(x[:, 0]) @ self.proj, x[:, 1:]
