"""Makes docs/plans.md anew: python docs/plans.py (a quarter of an hour on two cores)."""

from pathlib import Path

from configs import flamingo_3b, flamingo_9b, flamingo_80b
from flamingo_jax.planning import command, report

PAPER = "the paper: 15 days"
TRAINED = (
    (flamingo_3b, "v5e:4x4", ""),
    (flamingo_9b, "v5e:16x16", ""),
    (flamingo_80b, "v4:8x8x16", ""),
    (flamingo_80b, "v4:8x12x16", PAPER),
    (flamingo_80b, "v5p:8x8x8", ""),
    (flamingo_80b, "2*v6e:16x16", "two slices"),
)
SERVED = ((flamingo_80b, "v5e:4x8"), (flamingo_80b, "v5p:2x2x2"), (flamingo_80b, "v5p:4x4x4"))

TEXT = """# Plans

What the published recipes need on slices of TPUs, and how fast they could be at best. Made by
`python docs/plans.py`, without a TPU: nothing here was measured on one. [More on planning](\
training.md#planning-ahead).

## Training

{training}

Batches are sequences a step. The paper tells batch sizes for its ablations only: the recipes have
these, and a slice whose chips they cannot be split over has them raised by as little as it takes.
The roofline is the longest of three times: the step's products and convolutions at the chips' peak
rate (what is computed anew in the backward pass included), its memory traffic, and its
communication. Days are that time for the recipe's 500,000 steps: a bound from below, which real
runs do not reach.

The paper's 80B took 15 days on 1,536 chips: {seconds:.1f} s a step over as many steps, {ratio:.0f}
times the roofline of the batch above. Most of that is batch: what it trained with is not published.

## Serving

{serving}

The batch is of prompts of 1,024 tokens and 32 images; a step of decoding is one token for each.

## Plans in full

{full}
"""


def name_of(recipe: object) -> str:
    """`flamingo_80b` of `configs.flamingo_80b`."""
    return getattr(recipe, "__name__", "").split(".")[-1]


def main() -> None:
    """Compiles all of them and writes the page."""
    trained = []
    for recipe, topology, remark in TRAINED:
        (plan,) = command.train(name_of(recipe), recipe.get_config(), topology, None, False)
        trained.append((plan, remark))
    served = []
    for recipe, topology in SERVED:
        plans = command.serve(name_of(recipe), recipe.get_config(), topology, None, 1024, 32, 32)
        served += [(plan, plan.program) for plan in plans]
    (paper,) = (plan for plan, remark in trained if remark == PAPER)
    seconds = 15 * 86_400 / 500_000
    full = [f"```text\n{report.as_text(plan)}\n```" for plan, _ in trained + served]
    text = TEXT.format(
        training=report.as_markdown(trained),
        serving=report.as_markdown(served),
        seconds=seconds,
        ratio=seconds / paper.roofline_seconds_per_step,
        full="\n\n".join(full),
    )
    Path(__file__).with_name("plans.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
