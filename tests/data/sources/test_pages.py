"""Pages whose images cannot all be used: each costs the page that one image."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from flamingo_jax.data.bad_records import BadRecord
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.pictures import read_picture
from flamingo_jax.data.sources import fields
from flamingo_jax.data.sources.opening import open_source
from tests.data.sources import files


def media(document: Document) -> list[Medium]:
    return [item for item in document.items if isinstance(item, Medium)]


def reason(medium: Medium) -> str:
    """Why an image cannot be used; nothing if it can."""
    try:
        read_picture(medium.content, 16, "pad")
    except BadRecord as error:
        return error.reason
    return ""


def mmc4_page(folder: Path, *images: Any) -> Document:
    """A page with these entries of `image_info`, read from a file."""
    row = {"text_list": ["A sentence."], "image_info": list(images)}
    (folder / "docs.jsonl").write_text(json.dumps(row) + "\n")
    return open_source(folder / "docs.jsonl")[0]


def inside(number: int) -> str:
    return base64.b64encode(files.picture(number)).decode()


@pytest.mark.parametrize(
    ("told", "lost"),
    [
        ({"image_base64": None}, "missing_media"),
        ({"image_base64": ""}, "missing_media"),
        ({"image_base64": 3}, "missing_media"),
        ({"image_base64": "%%%"}, "corrupt_image"),
        ({"image_base64": "é"}, "corrupt_image"),
        ({"image_base64": inside(1)[:-9]}, "corrupt_image"),
        ({}, "missing_media"),
        (None, "missing_media"),
        ({"image_name": "none.png", "image_base64": None}, "missing_media"),
        ({"raw_url": "http://[img]http://i.example.org/a.jpg[/img]"}, "missing_media"),
        ({"raw_url": "http://["}, "missing_media"),
    ],
)
def test_an_image_that_is_none_costs_mmc4_that_one(tmp_path: Path, told: Any, lost: str) -> None:
    good = [{"image_name": f"{i}.png", "image_base64": inside(i)} for i in range(3)]
    document = mmc4_page(tmp_path, *good[:2], told, good[2])
    found = media(document)
    assert [reason(medium) for medium in found] == ["", "", lost, ""]
    assert [found[i].content for i in (0, 1, 3)] == [files.picture(i) for i in range(3)]
    assert "A sentence." in document.items


def test_where_there_is_no_base64_the_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(files.picture(1))
    document = mmc4_page(tmp_path, {"image_name": "a.png", "image_base64": None})
    assert media(document) == [Medium("a.png", files.picture(1))]


@pytest.mark.parametrize(
    "address", ["file://{root}/secret.png", "http://../secret.png", "http://a.org/%2e%2e/%2e%2e/x"]
)
def test_an_address_names_nothing_outside_the_folder(tmp_path: Path, address: str) -> None:
    (tmp_path / "secret.png").write_bytes(files.picture(1))
    folder = tmp_path / "data"
    folder.mkdir()
    document = mmc4_page(folder, {"raw_url": address.format(root=tmp_path)})
    assert [reason(medium) for medium in media(document)] == ["missing_media"]


def test_base64_in_several_lines(tmp_path: Path) -> None:
    lines = base64.encodebytes(files.picture(1)).decode()
    assert "\n" in lines.strip()
    document = mmc4_page(tmp_path, {"image_name": "a.png", "image_base64": lines})
    assert media(document) == [Medium("a.png", files.picture(1))]


def test_a_file_that_is_too_large_costs_a_page_that_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fields, "MOST_BYTES", 500)
    (tmp_path / "large.png").write_bytes(files.picture(1) + bytes(500))
    (tmp_path / "a.png").write_bytes(files.picture(2))
    names = ("large.png", "a.png")
    expected = [Medium("large.png", b""), Medium("a.png", files.picture(2))]
    document = mmc4_page(tmp_path, *({"image_name": name} for name in names))
    assert media(document) == expected
    (tmp_path / "docs.jsonl").unlink()
    row = {"texts": [None, None, "After."], "images": [*names, None]}
    row["metadata"] = json.dumps([{"src": name} for name in names] + [None])
    (tmp_path / "pages.jsonl").write_text(json.dumps(row) + "\n")
    document = open_source(tmp_path / "pages.jsonl")[0]
    assert media(document) == expected
    assert document.items[-1] == "After."


def test_an_image_of_another_type_costs_obelics_that_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(files.picture(2))
    row = {"texts": [None, None, "After."], "images": [3, "a.png", None]}
    (tmp_path / "pages.jsonl").write_text(json.dumps(row) + "\n")
    found = media(open_source(tmp_path / "pages.jsonl")[0])
    assert found == [Medium("image 0", b""), Medium("a.png", files.picture(2))]
