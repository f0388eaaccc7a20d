"""The word for a drawing's dominant colour."""

import numpy as np
from PIL import Image

_HUES = (  # upper end of each range of hue, degrees
    (15, "red"),
    (42, "orange"),
    (70, "yellow"),
    (170, "green"),
    (260, "blue"),
    (300, "purple"),
    (345, "pink"),
    (360, "red"),
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "grey", "black")


def dominant_colour(image_HxWx3: np.ndarray, share: float = 0.55) -> str | None:
    """The colour of more than `share` of a uint8 picture's pixels that are not white or outline.

    None where no colour has that share, or hardly anything is drawn.
    """
    hsv = np.asarray(Image.fromarray(image_HxWx3).convert("HSV"), np.float32).reshape(-1, 3)
    hue, saturation, value = hsv[:, 0] * 360 / 255, hsv[:, 1] / 255, hsv[:, 2] / 255
    words = np.full(len(hsv), "", dtype=object)
    for upper, word in reversed(_HUES):
        words[hue <= upper] = word
    words[(words == "orange") & (value < 0.7)] = "brown"
    words[saturation < 0.2] = "grey"
    words[value < 0.2] = "black"
    drawn = ~((saturation < 0.1) & (value > 0.9))
    filled = drawn & (words != "black")  # drawings have black outlines
    chosen = filled if filled.sum() > 0.3 * drawn.sum() else drawn
    if chosen.sum() < 0.05 * len(hsv):
        return None
    found, counts = np.unique(words[chosen].astype(str), return_counts=True)
    best = int(np.argmax(counts))
    return str(found[best]) if counts[best] > share * chosen.sum() else None
