"""flamingo-mini in PyTorch, after the published package, whose old dependencies do not install.

The behaviour and the names of the state dict are the original's; the language model and the vision
tower are transformers' own. Frames and images are as there: pixels [B, N, T, 3, H, W].
"""

import torch
import transformers
from torch import nn

ACTIVATIONS = {"gelu": torch.nn.functional.gelu, "relu": torch.relu}
ACTIVATIONS["sqrelu"] = lambda x: torch.relu(x) ** 2


class Activation(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = ACTIVATIONS[name]

    def forward(self, x):
        return self.function(x)


def feed_forward(width: int, multiplier: int, activation: str) -> nn.Sequential:
    up = nn.Linear(width, multiplier * width, bias=False)
    down = nn.Linear(multiplier * width, width, bias=False)
    return nn.Sequential(nn.LayerNorm(width), up, Activation(activation), down)


def attend(q, k, v, heads: int, visible=None):
    """[B, Q, K * C], [B, S, K * C] twice, bool [B, Q, S] -> [B, Q, K * C]."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if visible is not None:
        scores = scores.masked_fill(~visible[:, None], torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    if visible is not None:  # text before the first image gets nothing
        weights = weights * visible.any(-1)[:, None, :, None]
    return (weights @ v).transpose(1, 2).flatten(2)


class PerceiverAttention(nn.Module):
    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_media, self.norm_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(width, heads * head_dim, bias=False) for _ in range(3)
        )
        self.to_out = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, features, latents):
        latents = self.norm_latents(latents)
        both = torch.cat([self.norm_media(features), latents], dim=1)
        return self.to_out(attend(self.to_q(latents), self.to_k(both), self.to_v(both), self.heads))


class Resampler(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["dim_visual"]
        self.latents = nn.Parameter(torch.randn(config["resampler_num_latents"], width))
        frames = config["resampler_num_time_embeds"]
        self.time_pos_emb = nn.Parameter(torch.randn(frames, 1, width))
        heads, head_dim = config["resampler_heads"], config["resampler_dim_head"]
        mlp = (width, config["resampler_ff_mult"], config["resampler_act"])
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, heads, head_dim), feed_forward(*mlp)])
            for _ in range(config["resampler_depth"])
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features):
        """[M, frames, P, D] -> [M, R, D]."""
        features = (features + self.time_pos_emb[: features.shape[1]]).flatten(1, 2)
        x = self.latents.expand(len(features), -1, -1)
        for attention, mlp in self.layers:
            x = x + attention(features, x)
            x = x + mlp(x)
        return self.norm(x)


class MaskedCrossAttention(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.heads = config["xattn_heads"]
        inner = self.heads * config["xattn_dim_head"]
        self.norm = nn.LayerNorm(config["dim"])
        self.to_q = nn.Linear(config["dim"], inner, bias=False)
        self.to_kv = nn.Linear(config["dim_visual"], 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, config["dim"], bias=False)

    def forward(self, text, media, seen):
        """`seen` [B, T]: number of the image that each token sees, 0 for none."""
        N, R = media.shape[1:3]
        k, v = self.to_kv(media.flatten(1, 2)).chunk(2, dim=-1)
        visible = seen[..., None] == torch.arange(1, N + 1).repeat_interleave(R)
        return self.to_out(attend(self.to_q(self.norm(text)), k, v, self.heads, visible))


class GatedCrossAttention(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.attn = MaskedCrossAttention(config)
        self.alpha_attn, self.alpha_ffw = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.ffw = feed_forward(config["dim"], config["xattn_ff_mult"], config["xattn_act"])

    def forward(self, text, media, seen):
        text = text + self.alpha_attn.tanh() * self.attn(text, media, seen)
        return text + self.alpha_ffw.tanh() * self.ffw(text)


class Wrapped(nn.Module):
    """A layer of the language model after one of cross-attention, told beforehand what to see."""

    def __init__(self, layer: nn.Module, config: dict) -> None:
        super().__init__()
        self.xattn_block, self.lm_block = GatedCrossAttention(config), layer
        self.seen = None

    def forward(self, hidden_states, **kwargs):
        return self.lm_block(self.xattn_block(hidden_states, *self.seen), **kwargs)


class FlamingoMini(nn.Module):
    """The model under its name in the state dict, `flamingo`."""

    def __init__(self, config: dict, opt: dict, clip: dict) -> None:
        super().__init__()
        tower = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**clip))
        language = transformers.OPTForCausalLM(transformers.OPTConfig(**opt))
        self.flamingo = nn.Module()
        self.flamingo.vision_encoder, self.flamingo.resampler = tower, Resampler(config)
        self.flamingo.lm, self.flamingo.lm_head = language.model, language.lm_head
        layers = language.model.decoder.layers
        for i in range(0, len(layers), config["xattn_every"]):
            layers[i] = Wrapped(layers[i], config)

    def original_state(self) -> dict[str, torch.Tensor]:
        """As the original names it: transformers 5 calls the tower's parts without a prefix."""
        outer, inner = "flamingo.vision_encoder.", "flamingo.vision_encoder.vision_model."
        return {
            name if inner in name else name.replace(outer, inner): tensor
            for name, tensor in self.state_dict().items()
        }

    def logits(self, tokens, pixels, media_locations, attention_mask):
        """Next-token logits; `media_locations` [B, T] is 1 where a text shows an image."""
        media, flamingo = self.media(pixels), self.flamingo
        seen = media_locations.cumsum(-1)
        for layer in flamingo.lm.decoder.layers:
            if isinstance(layer, Wrapped):
                layer.seen = (media, seen)
        out = flamingo.lm(input_ids=tokens, attention_mask=attention_mask, use_cache=False)
        return flamingo.lm_head(out.last_hidden_state)

    def media(self, pixels):
        """[B, N, frames, 3, H, W] -> [B, N, R, D]."""
        B, N, frames = pixels.shape[:3]
        features = self.flamingo.vision_encoder(pixels.flatten(0, 2)).last_hidden_state
        latents = self.flamingo.resampler(features.unflatten(0, (B * N, frames)))
        return latents.unflatten(0, (B, N))

    def greedy(self, tokens, pixels, media_locations, attention_mask, steps: int):
        """The next tokens; what is generated shows no image, as with the original's cache."""
        for _ in range(steps):
            logits = self.logits(tokens, pixels, media_locations, attention_mask)
            tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
            media_locations = nn.functional.pad(media_locations, (0, 1))
            attention_mask = nn.functional.pad(attention_mask, (0, 1), value=1)
        return tokens[:, -steps:]
