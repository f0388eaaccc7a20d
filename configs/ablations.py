"""The ablations of the Flamingo paper (arXiv:2204.14198, v2, §3.3 and appendix C.3).

    python -m flamingo_jax.describe --config=configs/ablations.py:no_tanh_gating

The name after the colon is one of `ROWS`: a difference of one or two fields from the recipe of
Flamingo-3B, with the overall score that the paper found. Three of its rows change no field: a
language model pretrained on C4 (62.8) is other weights of the same shape, and the vision encoder,
unfrozen at random (61.4) or pretrained (68.1), is always frozen here.
"""

import copy
import difflib
from typing import Any

import ml_collections

from configs import flamingo_3b
from configs.flamingo_3b import ALIGN, LTIP, M3W, VTP
from flamingo_jax.errors import UserError

LAION: dict[str, Any] = dict(LTIP, name="laion", batch_size=1024, weight=0.4)
"""In the place of both data sets of pairs: as many pairs a step, and their weights together."""

CLIP_VIT_L14 = dict(
    image_size=224, patch_size=14, width=1024, num_layers=24, num_heads=16, mlp_dim=4096
)

ROWS: dict[str, tuple[float, dict[str, Any]]] = {
    "baseline": (70.7, {}),
    # Training data.
    "no_video_text": (67.3, {"mixture.datasets": (M3W, ALIGN, LTIP)}),
    "no_image_text": (60.9, {"mixture.datasets": (M3W, VTP)}),
    "image_text_laion": (66.4, {"mixture.datasets": (M3W, LAION, VTP)}),
    "no_m3w": (53.4, {"mixture.datasets": (ALIGN, LTIP, VTP)}),
    # Gradients of all data sets in each step, or of one after another.
    "round_robin": (62.9, {"mixture.schedule": "round_robin"}),
    # Conditioning of the language model.
    "no_tanh_gating": (66.5, {"xattn.gating": False}),
    "vanilla_xattn": (66.9, {"xattn.conditioning": "vanilla_xattn"}),
    "grafting": (63.1, {"xattn.conditioning": "grafting"}),
    "xattn_single_in_middle": (59.8, {"xattn.first": 12, "xattn.every": 12}),
    "xattn_every_4th": (68.8, {"xattn.every": 4}),
    "xattn_every_2nd": (68.2, {"xattn.every": 2}),
    # In place of the Perceiver; ten layers of an MLP have as many parameters as its six.
    "resampler_mlp": (66.6, {"resampler.kind": "mlp", "resampler.num_layers": 10}),
    "resampler_transformer": (66.7, {"resampler.kind": "transformer"}),
    # What is pretrained.
    "vision_clip_vit_l14": (64.9, {"vision": CLIP_VIT_L14}),
    "vision_nfnet_f0": (62.7, {"vision.depths": (1, 2, 6, 3)}),
    "lm_from_scratch": (57.8, {"language": "from_scratch"}),
    "lm_fine_tuned": (62.7, {"language": "fine_tuned"}),
    # Appendix C.3. The sizes of the resamplers are not published: half the layers, and twice.
    "resampler_small": (67.9, {"resampler.num_layers": 3}),
    "resampler_large": (69.0, {"resampler.num_layers": 12}),
    "all_previous_images": (63.5, {"xattn.sees": "all"}),
    "p_next_0": (69.6, {"mixture.datasets": (dict(M3W, p_next=0.0), ALIGN, LTIP, VTP)}),
    "p_next_1": (70.4, {"mixture.datasets": (dict(M3W, p_next=1.0), ALIGN, LTIP, VTP)}),
}
"""By name: the paper's score, and what is changed."""


def get_config(name: str = "baseline") -> ml_collections.ConfigDict:
    """`flamingo_3b.py` with one row's fields.

    Raises:
      UserError: there is no such row; the nearest one is named.
    """
    if name not in ROWS:
        nearest = difflib.get_close_matches(name, ROWS, 1, 0.0)[0]
        raise UserError(f"There is no ablation {name!r}: did you mean {nearest}?")
    config = flamingo_3b.get_config()
    for field, value in copy.deepcopy(ROWS[name][1]).items():
        *parents, last = field.split(".")
        part: Any = config
        for parent in parents:
            part = part[parent]
        part[last] = ml_collections.ConfigDict(value) if isinstance(value, dict) else value
    return config
