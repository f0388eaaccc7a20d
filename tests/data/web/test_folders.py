"""Folders of pages: files beside them, and nothing outside."""

import os
from collections import Counter
from pathlib import Path

import pytest

from flamingo_jax.data.documents import Medium, from_bytes, to_bytes
from flamingo_jax.data.web.addresses import resolve
from flamingo_jax.data.web.extraction import Unit, extract
from flamingo_jax.data.web.folders import Folder
from flamingo_jax.data.web.limits import Limits
from flamingo_jax.data.web.settings import Settings
from tests.data.web.pages import TEXT, picture, site

PICTURE = picture(0)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder with a page and an image two levels down, and a secret beside the folder."""
    (tmp_path / "secret.png").write_bytes(PICTURE)
    pictures = {"img/a b.png": PICTURE, "d/e/c.png": PICTURE, "ü.png": PICTURE}
    root = site(tmp_path / "site", {"d/e/page one.html": "<p>text"}, pictures)
    (root / "link.png").symlink_to("../secret.png")
    (root / "inner.png").symlink_to("d/e/c.png")
    return Folder(root, (root / "d" / "e" / "page one.html", root / "none.html"), Limits())


def look_up(folder: Folder, reference: str) -> bytes | None:
    page = next(iter(folder.pages()))
    address = resolve(reference, page.base)
    return folder.find(address) if address else None


def test_pages(folder: Folder) -> None:
    page, none = folder.pages()
    assert page.source.endswith("site/d/e/page one.html")
    assert page.content == b"<p>text"
    assert none.refused == "damaged"


@pytest.mark.parametrize(
    "reference",
    [
        *("c.png", "./c.png?v=2#x", "../../img/a%20b.png", "../../img/a b.png", "/img/a b.png"),
        *("../../%C3%BC.png", "../../ü.png", "../../inner.png", "..\\..\\img\\a b.png"),
    ],
)
def test_images_beside_the_page(folder: Folder, reference: str) -> None:
    assert look_up(folder, reference) == PICTURE


@pytest.mark.parametrize(
    "reference",
    [
        *("../../../secret.png", "../../link.png", "..%2f..%2f..%2fsecret.png", "/../secret.png"),
        *("%2e%2e/%2e%2e/%2e%2e/secret.png", "//secret.png", "file:///etc/passwd", "/etc/passwd"),
        *("http://a.org/c.png", "c.png%00", ".", "..", "none.png", "javascript:c.png", "//[x"),
    ],
)
def test_nothing_else(folder: Folder, reference: str) -> None:
    assert look_up(folder, reference) is None


def test_an_absolute_path_of_the_machine_leads_nowhere(folder: Folder, tmp_path: Path) -> None:
    for path in (tmp_path / "secret.png", tmp_path / "site" / "d" / "e" / "c.png"):
        assert look_up(folder, str(path)) is None
        assert look_up(folder, path.as_uri()) is None


def test_large_files_are_cut(tmp_path: Path) -> None:
    root = site(tmp_path, {"a.html": "a" * 100}, {"a.png": bytes(100)})
    found = Folder(root, (root / "a.html",), Limits(max_page_bytes=9, max_image_bytes=9))
    (page,) = found.pages()
    assert (page.refused, page.content) == ("too_large", b"")
    address = resolve("a.png", page.base)
    assert address is not None
    assert found.find(address) == bytes(10)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name, picture_name = (os.fsdecode(b"caf\xe9" + ending) for ending in (b".html", b".png"))
    text = f"<p>{TEXT}</p><img src='caf%E9.png'>"
    root = site(tmp_path / "site", {name: text}, {picture_name: PICTURE})
    unit = Unit(0, root, (root / name,))
    ((document, _),) = extract(unit, Settings(), Counter())
    assert document.source == rf"{root}/caf\udce9.html"
    assert document.items == (TEXT, Medium("caf%E9.png", PICTURE))
    assert from_bytes(to_bytes(document)) == document
