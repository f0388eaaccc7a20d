"""What styles hide of a page: all of an element, its text only, or neither."""

import time

import pytest

from flamingo_jax.data.web import html

WORDS = "Boats lie in the harbour."


def shown(inner: str, head: str = "") -> str:
    """What is read of a page: its text, images as ☐, tracking ones as ·."""
    items = html.read(f"<html><head>{head}</head><body>{inner}</body></html>").items
    signs = [item if isinstance(item, str) else "·" if item.tiny else "☐" for item in items]
    return "|".join(signs)


@pytest.mark.parametrize(
    "image",
    [
        "<img style='color:transparent' src=a>",
        "<img style='font-size:0;text-indent:-9999px' src=a>",
        "<img width=0 height=0 style='width:100%;height:auto' src=a>",
        "<img width=1 height=1 style='width:50vw;height:auto' src=a>",
        "<div style='position:relative;height:0;overflow:hidden;padding-bottom:56.25%'>"
        "<img src=a></div>",
        "<div style='height:0;overflow:hidden;padding:75% 0 0'><img src=a></div>",
        "<div style='height:1em;overflow:hidden'><img src=a></div>",
        "<table><tr><td style='font-size:0'><img src=a></td></tr></table>",
        "<div style='color:transparent'><p><img src=a></p></div>",
        "<a style='text-indent:-9999px' href=x><img src=a></a>",
    ],
)
def test_styles_of_texts_and_boxes_hide_no_images(image: str) -> None:
    assert shown(f"<p>{WORDS}</p>{image}") == f"{WORDS}|☐"


@pytest.mark.parametrize(
    "style",
    [
        "display:none",
        "visibility:hidden",
        "opacity:0",
        "position:absolute;clip:rect(0,0,0,0)",
        "position:absolute;left:-9999px",
        "margin-left:-9999px",
    ],
)
def test_other_styles_do(style: str) -> None:
    assert shown(f"<p>{WORDS}</p><img style='{style}' src=a>") == WORDS
    assert shown(f"<p>{WORDS}</p><div style='{style}'>NO<img src=a></div>") == WORDS


@pytest.mark.parametrize(
    ("attributes", "sign"),
    [
        ("width=1 height=1 style='width:100%'", "·"),
        ("width=300 height=200 style='height:1px'", "·"),
        ("width=1 style='width:auto'", "☐"),
        ("width=1 style='height:auto'", "·"),
    ],
)
def test_a_style_replaces_the_side_that_it_tells(attributes: str, sign: str) -> None:
    assert shown(f"<p>{WORDS}</p><img {attributes} src=a>") == f"{WORDS}|{sign}"


@pytest.mark.parametrize(
    "style",
    [
        "height:0;overflow:hidden",
        "height:1px;width:1px;overflow:hidden;padding:0",
        "height:0;overflow:hidden;padding:0 0px",
    ],
)
def test_a_box_without_room_hides_its_content(style: str) -> None:
    assert shown(f"<p>{WORDS}</p><div style='{style}'>NO<img src=a></div>") == WORDS


def test_text_is_shown_again_within_text_that_is_hidden() -> None:
    row = "<div style='font-size:0'>NO <span style='font-size:16px'>yes</span> NO</div>yes"
    assert shown(row) == "yes\n\nyes"
    assert shown("<div style='color:transparent'>NO<p>NO</p><img src=a></div>yes") == "☐|yes"


@pytest.mark.parametrize(
    "sheet",
    [
        "<style id=antiClickjack>body{display:none !important}</style>",
        "<style>body{opacity:0}</style>",
        "<style>html, body{visibility:hidden}</style>",
        "<style media=print>p,img{display:none}</style>",
        "<style media='PRINT, speech'>p,img{display:none}</style>",
        "<style>p{display:none} p{display:block}</style>",
        "<style>.tab{display:none}.tab.active{display:block}</style>",
        "<style>.tab{display:none}</style><style>.active{display:flex}</style>",
        "<style>.tab.active{display:block} .tab{display:none}</style>",
        "<style>#tab{display:block} .tab{display:none}</style>",
        "<style>.wide{display:none}@media (min-width:640px){.md\\:block{display:block}}</style>",
        "<style>.ratio{display:block;height:0;padding:0;overflow:hidden}</style>",
        "<style>@media (max-width:640px){.tab{display:none}}</style>",
    ],
)
def test_sheets_that_hide_nothing(sheet: str) -> None:
    page = f"<div class='tab active wide md:block ratio' id=tab><p>{WORDS}</p><img src=a></div>"
    assert shown(page, sheet) == f"{WORDS}|☐"


@pytest.mark.parametrize(
    "sheet",
    [
        "<style media=screen>.tab{display:none}</style>",
        "<style media='all'>.tab{display:none}</style>",
        "<style media='print, screen and (min-width: 40em)'>.tab{display:none}</style>",
        "<style>.tab{display:none}.tab{top:0;font-size:16px;opacity:1}</style>",
        "<style>.tab{display:block}.tab{display:none}</style>",
        "<style>#tab{display:none}.tab{display:flex}</style>",
        "<style>.tab{display:none}.tab:target{display:block}</style>",
        "<style>.tab{display:none}</style><style media=print>.tab{display:block}</style>",
        "<style>body{display:none}.tab{display:none}</style>",
    ],
)
def test_sheets_that_hide(sheet: str) -> None:
    page = f"<p>{WORDS}</p><div class='tab' id=tab>NO<img src=a></div>"
    assert shown(page, sheet) == WORDS


def test_an_own_style_goes_before_sheets() -> None:
    sheet = "<style>.tab{display:none}</style>"
    page = "<div class=tab>NO</div><div class=tab style='display:block'>yes</div>"
    assert shown(page, sheet) == "yes"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("hidden md:block", "yes"),
        ("lg:inline-flex hidden", "yes"),
        ("d-none d-md-block", "yes"),
        ("d-none d-lg-inline-block", "yes"),
        ("sr-only sm:not-sr-only", "yes"),
        ("hidden", ""),
        ("hidden md:grid-cols-2", ""),
        ("hidden group-hover:block dark:block print:block", ""),
        ("d-none d-print-block d-md-none", ""),
    ],
)
def test_classes_that_show_on_wide_screens(names: str, text: str) -> None:
    assert shown(f"<div class='{names}'>yes</div>") == text


@pytest.mark.parametrize(
    "sheet",
    [
        r".\d83d\de00{display:none}",
        ".x{opacity:0}" + "a{" * 2000,
        ".x{opacity:0} b{" + "(" * 2000,
    ],
)
def test_sheets_that_no_browser_reads_do_no_harm(sheet: str) -> None:
    assert shown(f"<p>{WORDS}</p>", f"<style>{sheet}</style>") == WORDS


@pytest.mark.parametrize(
    "attributes",
    [
        "style='left:" + "1" * 10**6 + "x'",
        "width='1" + " " * 10**6 + "x'",
        "srcset='a 1x," + "\u00a0" * 10**6 + "'",
    ],
)
def test_long_attributes_take_no_time(attributes: str) -> None:
    began = time.monotonic()
    shown(f"<p>{WORDS}</p><img {attributes} src=a>")
    assert time.monotonic() - began < 10  # they took hours
