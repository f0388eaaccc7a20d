"""Other colours and mirrored images, where the text says nothing that they would make wrong."""

import re

import numpy as np
from PIL import Image, ImageEnhance

_SIDES = re.compile(
    r"\b(left|right|east|west|clockwise|anticlockwise|counterclockwise|text|letters?|words?|"
    r"signs?|digits?|clock|map|says|reads|written|links|rechts|gauche|droite|izquierda|derecha)\b",
    re.IGNORECASE,
)
_COLOURS = re.compile(
    r"\b(colou?r\w*|hue|dark\w*|bright\w*|light|grey|gray|black|white|red\w*|orange|yellow\w*|"
    r"green\w*|blue\w*|purple|violet|pink|brown|gold\w*|silver|beige|cyan|magenta|turquoise|rot\w*|"
    r"blau\w*|grün\w*|gelb\w*|rouge|bleue?|verte?|jaune|rojo|azul|verde|amarillo)\b",
    re.IGNORECASE,
)
_STRENGTH = 0.2  # largest change of brightness, contrast and saturation, as a share


def augment(
    frames_FxHxWx3: np.ndarray, text: str, flip: bool, colour: bool, rng: np.random.Generator
) -> np.ndarray:
    """Frames of one medium, mirrored half of the time and with other colours, as is allowed.

    A change is left out where the text speaks of sides, of writing or of colours. Flamingo has both
    for all of its data (arXiv:2204.14198, appendix A.3); its strengths are not published.

    Args:
      frames_FxHxWx3: uint8; all of them are changed alike.
      text: of the document.
      flip: mirror left and right.
      colour: change brightness, contrast and saturation.
      rng: decides; it is drawn from alike whatever the text says.
    """
    if not (flip or colour):
        return frames_FxHxWx3
    mirrored, strengths = rng.random() < 0.5, rng.uniform(1 - _STRENGTH, 1 + _STRENGTH, 3)
    if flip and mirrored and not _SIDES.search(text):
        frames_FxHxWx3 = frames_FxHxWx3[:, :, ::-1]
    if colour and not _COLOURS.search(text):
        frames_FxHxWx3 = np.stack([_recoloured(frame, strengths) for frame in frames_FxHxWx3])
    return frames_FxHxWx3


def _recoloured(image_HxWx3: np.ndarray, strengths: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image_HxWx3)
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for kind, strength in zip(kinds, strengths, strict=True):
        picture = kind(picture).enhance(float(strength))
    return np.asarray(picture)
