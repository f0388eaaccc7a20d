"""Plans a run on TPUs with no TPU: does it fit, and how fast can it be at best?

    python -m flamingo_jax.plan --config=configs/flamingo_80b.py --topology=v4:8x8x16
        [--batch=384] [--search] [--serve] [--json]

Compiles the real training step for the slice, or with --serve the two programs that answer prompts.
A config whose mesh has one device gets one chosen; two slices are written 2*v5e:16x16. The
compiler for TPUs comes with `pip install 'flamingo_jax[plan]'`.
"""

import json
import os
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from flamingo_jax import cli, config_flag

_CONFIG = config_flag.define("flamingo_jax.config:RunConfig", "Recipe, a file in configs/.")
_TOPOLOGY = flags.DEFINE_string("topology", None, "Slice of v4, v5e, v5p or v6e chips.")
_BATCH = flags.DEFINE_integer(
    "batch",
    None,
    "Sequences a step of the first data set, the others in proportion; or prompts with --serve.",
    lower_bound=1,
)
_SEARCH = flags.DEFINE_bool("search", False, "Try several meshes and remat policies; rank them.")
_SERVE = flags.DEFINE_bool("serve", False, "Plan prefill and decoding instead of training.")
_TOKENS = flags.DEFINE_integer("tokens", 1024, "With --serve: tokens a prompt.", lower_bound=1)
_IMAGES = flags.DEFINE_integer("images", 32, "With --serve: images a prompt.", lower_bound=0)
_NEW_TOKENS = flags.DEFINE_integer("new_tokens", 32, "With --serve: of an answer.", lower_bound=1)
_JSON = flags.DEFINE_bool("json", False, "Print JSON instead of text.")
flags.mark_flags_as_required(["config", "topology"])


def main() -> None:
    """Prints the plan that the flags ask for."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # what is planned for need not be here
    from flamingo_jax.planning import command, report

    name = Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem
    topology = _TOPOLOGY.value or ""
    if _SERVE.value:
        sizes = (_BATCH.value, _TOKENS.value, _IMAGES.value, _NEW_TOKENS.value)
        plans = command.serve(name, _CONFIG.value, topology, *sizes)
        found = {"programs": [report.as_json(plan) for plan in plans]}
        text = "\n\n".join(map(report.as_text, plans))
    else:
        asked = (_BATCH.value, _SEARCH.value)
        best, *others = command.train(name, _CONFIG.value, topology, *asked)
        found, text = report.as_json(best), report.as_text(best)
        if others:
            found["others"] = [report.as_json(plan) for plan in others]
            text = f"{report.as_ranking([best, *others])}\n\n{text}"
    print(json.dumps(found) if _JSON.value else text)


if __name__ == "__main__":
    cli.run(main)
