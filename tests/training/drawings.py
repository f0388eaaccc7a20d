"""A few made-up drawings: squares of a colour for each base, in two shades."""

import numpy as np

from flamingo_jax.data.drawings import Drawing

WORDS = [f"word{i}" for i in range(40)]


def make_drawings(side=32):
    """12 bases to train on and 4 in each held-out split, two variants each."""
    rng = np.random.default_rng(0)
    splits = ["train"] * 12 + ["validation"] * 4 + ["test"] * 4
    drawings = []
    for i, split in enumerate(splits):
        colour, kind = rng.integers(0, 255, 3), ("even", "odd")[i % 2]
        for shade in (0, 20):
            image = np.full((side, side, 3), 255, np.uint8)
            image[8:24, 8:24] = np.clip(colour + shade, 0, 255)
            drawing = Drawing(
                code=f"base{i}-{shade}",
                base=f"base{i}",
                names={"en": f"name {i}", "fr": f"nom {i}"},
                category=kind,
                group=f"{kind}-kind",
                colour=None,
                split=split,
                image=image,
            )
            drawings.append(drawing)
    return drawings
