"""What of a page is read: text and images in order, and nothing that is hidden or the site's."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_jax.data.web import html
from flamingo_jax.data.web.html import ImageReference

LONG = "This paragraph is about the harbour, its ships, and the people who work there every day. "


def texts(page: str) -> str:
    """All texts of a page, images as ☐."""
    items = html.read(page).items
    return "|".join(item if isinstance(item, str) else "☐" for item in items)


def body(inner: str) -> str:
    return f"<html><head><title>No</title></head><body>{inner}</body></html>"


def test_text_and_images_are_in_the_order_of_the_page() -> None:
    page = body('<p>One<img src="a.png">two</p><img src=b.png><img src=c.png><p>three</p>')
    assert html.read(page).items == (
        "One",
        ImageReference(("a.png",), inline=True),
        "two",
        ImageReference(("b.png",)),
        ImageReference(("c.png",)),
        "three",
    )


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        ("<h1>A</h1><p>b <b>c</b>d\n e</p><p>f", "A\n\nb cd e\n\nf"),
        ("<ul><li>a<li>b</ul>c", "a\nb\n\nc"),
        ("a<br>b<br><br>c<br><br><br><br>d", "a\nb\n\nc\n\nd"),
        ("<pre>if x:\n    y\n\n  z</pre>", "if x:\n    y\n\n  z"),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "a b\nc"),
        ("a <span> b </span> c", "a b c"),
        ("&lt;p&gt; &eacute; &#x1F600; &#xD800;", "<p> é 😀 \ufffd"),
        ("a\x00b\x01c", "abc"),
        ("<dl><dt>a<dd>b</dl>", "a\n\nb"),
        ("a\u00a0b", "a\u00a0b"),
    ],
)
def test_paragraphs_and_lines(inner: str, text: str) -> None:
    assert texts(body(inner)) == text


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>NO</script>",
        "<style>.a{color:red}</style>",
        "<noscript><img src=x.png>NO</noscript>",
        "<template><p>NO</template>",
        "<!-- NO -->",
        "<p hidden>NO</p>",
        "<p style='DISPLAY : none !important'>NO</p>",
        "<p style='visibility:hidden'>NO<img src=x.png></p>",
        "<p style='opacity:0.0'>NO</p>",
        "<p style='font-size:0'>NO</p>",
        "<p style='position:absolute;left:-9999px'>NO</p>",
        "<p style='text-indent:-9999px'>NO</p>",
        "<p style='height:1px;width:1px;overflow:hidden'>NO</p>",
        "<p style='position:absolute;clip:rect(0,0,0,0)'>NO</p>",
        "<i aria-hidden=true>NO</i>",
        "<span class='sr-only'>NO</span>",
        "<svg><text>NO</text></svg>",
        "<iframe>NO</iframe><object>NO</object><video>NO</video><canvas>NO</canvas>",
        "<select><option>NO</select><textarea>NO</textarea><button>NO</button>",
        "<dialog open>NO</dialog>",
        "<img style='display:none' src=x.png>",
        "<style>.x{display:none}</style><p class=x>NO</p>",
        "<style>@media screen{#x, b.y{visibility:hidden}}</style><p id=x>NO</p>",
        "<style>/* .x{} */ .x{color:red} p > .x {opacity:0}</style><p><b class=x>NO</b></p>",
    ],
)
def test_what_no_reader_sees_is_left_out(hidden: str) -> None:
    assert texts(body(f"<p>Seen.</p>{hidden}<p>Seen too.</p>")) == "Seen.\n\nSeen too."


@pytest.mark.parametrize(
    "shown",
    [
        "<p style='display:block;opacity:1;left:-5px'>yes</p>",
        "<p class='hidden-gem' id=hidden>yes</p>",
        "<style>@media print{.x{display:none}}</style><p class=x>yes</p>",
        "<style>.x:hover{display:none}</style><p class=x>yes</p>",
        "<style>.x{display:none} .x{display:block}</style><p class=x>yes</p>",
        "<style>.x{display:none</style><p class=y>yes</p>",
        "<style>]]{{}} ..{display:none}</style><p class=y>yes</p>",
        "<p aria-hidden=false>yes</p>",
    ],
)
def test_what_a_reader_sees_is_not(shown: str) -> None:
    assert texts(body(f"<p>Seen.</p>{shown}")) == "Seen.\n\nyes"


def test_a_body_that_scripts_would_show_is_read() -> None:
    assert texts("<body style='opacity:0'><p>Text</p></body>") == "Text"


@pytest.mark.parametrize(
    "part",
    [
        "<nav><a href=1>NO</a></nav>",
        "<header><img src=logo.png>NO</header>",
        "<footer>NO <img src=x.png></footer>",
        "<aside>NO</aside>",
        "<div role=navigation>NO</div>",
        "<section role=complementary>NO</section>",
        "<div class='main-nav'>NO</div>",
        "<div id=sidebarLeft>NO</div>",
        "<ul class=breadcrumbs><li>NO</ul>",
        "<div id='cookie-notice'>NO</div>",
        "<div class=share-buttons><img src=x.png>NO</div>",
        "<div id=comments>NO</div>",
        "<div class='side-bar'>NO</div>",
        "<div>We use cookies to make this site better. <button>Accept all</button></div>",
        "<p>© 2024 Example Ltd.</p>",
        "<div>Copyright 2024. All rights reserved.</div>",
        "<p><a href=x>Next »</a></p>",
        "<ul><li><a href=1>Home</a><li><a href=2>Products</a><li><a href=3>About us</a></ul>",
        "<p><a href=1>Terms</a> | <a href=2>Privacy</a> | <a href=3>Contact</a></p>",
        "<div><div><a href=1>One story</a></div><div><a href=2>Two</a></div>"
        "<div><a href=3>Three</a></div></div>",
    ],
)
def test_parts_of_the_site_are_left_out(part: str) -> None:
    page = body(f"{part}<div class=content><p>{LONG}</p><img src=a.png><p>{LONG}</p></div>{part}")
    assert texts(page) == f"{LONG.strip()}|☐|{LONG.strip()}"


@pytest.mark.parametrize(
    "part",
    [
        "<article><header><h1>yes</h1></header></article>",
        "<div class=navy>yes</div>",
        "<span class=menu>yes</span>",
        "<p>yes, see <a href=1>one</a>, <a href=2>two</a> and <a href=3>three</a> of the many "
        "places where this was told before in words that are no links.</p>",
        "<p><a href=1>yes</a></p>",
        "<p>Cookies are baked for twelve minutes; then accept yes, they are done.</p>",
        "<div class='card-header'>yes</div>",
    ],
)
def test_parts_of_the_page_are_not(part: str) -> None:
    assert "yes" in texts(body(f"<p>{LONG}</p>{part}"))


def test_a_name_is_not_believed_of_the_page_itself() -> None:
    page = body(f"<div class='has-sidebar'><p>{LONG}</p><div class=sidebar>NO</div></div>")
    assert texts(page) == LONG.strip()


def test_a_long_sidebar_is_left_out_beside_an_article() -> None:
    page = body(f"<div class=sidebar>{LONG * 5}</div><article><p>{LONG}</p></article>")
    assert texts(page) == LONG.strip()


@pytest.mark.parametrize(
    "page",
    [
        "<div role=main><section id=edit-menu>{}</section></div>",
        "<main><div class='row has-sidebar'>{}</div></main>",
        "<article><div class='row has-sidebar'>{}</div></article>",
        "<main><article><div class='social'><div class='toc-less'>{}</div></div></article></main>",
        "<main><div class='with-nav'>{}</div><p>And a little more.</p></main>",
    ],
)
def test_a_name_is_not_believed_of_most_of_an_article(page: str) -> None:
    found = texts(body(page.format(f"<h1>Edit Menu</h1><p>{LONG}</p><img src=a.png><p>{LONG}</p>")))
    assert found.startswith(f"Edit Menu\n\n{LONG.strip()}|☐|{LONG.strip()}")


@pytest.mark.parametrize("around", ["<main>{}</main>", "<article>{}</article>", "<div>{}</div>"])
def test_a_sidebar_within_an_article_is_left_out(around: str) -> None:
    inner = f"<div class=sidebar>NO</div><div class=has-toc><p>{LONG}</p></div><p>{LONG}</p>"
    page = around.format(f"<div class=has-sidebar>{inner}</div><ul class=share><li>NO</ul>")
    assert "NO" not in texts(body(page))
    inner = f"<div class=sidebar>NO <img src=x.png></div><p>{LONG}</p>"
    assert texts(body(around.format(inner))) == LONG.strip()


@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ("<section id=edit-menu>yes</section>", True),
        ("<div class=section id=social-sharing-options>yes</div>", True),
        ("<div class='section level2' id=the-toolbar>yes</div>", True),
        ("<section id=comments>yes</section>", False),
        ("<section class=related-posts>yes</section>", False),
        ("<div id=edit-menu>yes</div>", False),
    ],
)
def test_ids_of_sections_are_made_of_headings(part: str, kept: bool) -> None:
    assert ("yes" in texts(body(f"<main><p>{LONG}</p>{part}</main>"))) is kept


def test_a_main_element_is_the_page() -> None:
    page = body(f"<div>NO, a teaser</div><main><p>{LONG}</p></main><div>NO</div>")
    assert texts(page) == LONG.strip()
    assert texts(body(f"<p>{LONG * 9}</p><main>yes</main>")).endswith("yes")


def test_galleries_without_text_are_kept() -> None:
    gallery = "".join(f"<a href={i}><img src={i}.png></a>" for i in range(4))
    assert texts(body(f"<p>{LONG}</p><div>{gallery}</div>")).count("☐") == 4


def test_images_of_a_picture() -> None:
    page = body(
        "<picture><source type=image/avif srcset=a.avif>"
        "<source type=image/webp srcset='s.webp 320w, l.webp 640w'><img src=a.jpg></picture>"
    )
    assert html.read(page).items == (ImageReference(("l.webp", "s.webp", "a.jpg")),)


@pytest.mark.parametrize(
    ("attributes", "tiny"),
    [
        ("width=1 height=1", True),
        ("width=0", True),
        ("height=2px", True),
        ("style='width:1px;height:1px'", True),
        ("style='width:100%'", False),
        ("width=100%", False),
        ("width=4 height=4", False),
    ],
)
def test_pixels_that_count_readers(attributes: str, tiny: bool) -> None:
    items = html.read(body(f"<img src=a.png {attributes}>")).items
    assert items == (ImageReference(("a.png",), tiny=tiny),)


@pytest.mark.parametrize(
    ("inner", "inline"),
    [
        ("<p>Press <img src=a> now.</p>", True),
        ("Press <b><img src=a></b> <i>now</i>", True),
        ("<p><img src=a> now.</p>", False),
        ("<p>Press <img src=a></p><p>Then</p>", False),
        ("<p>Press <img src=a> </p> <p>Then</p>", False),
        ("Press<br><img src=a>now", False),
        ("Press<img src=a><br>now", False),
        ("Press <img src=a>", False),
    ],
)
def test_images_within_a_line(inner: str, inline: bool) -> None:
    found = [item for item in html.read(body(inner)).items if isinstance(item, ImageReference)]
    assert found == [ImageReference(("a",), inline=inline)]


def test_the_base_of_references() -> None:
    assert html.read("<head><base target=x><base href=/d/></head><p>a").base == "/d/"
    assert html.read("<p>a").base is None


def test_too_deep_pages_are_refused() -> None:
    html.read("<div>" * html.MOST_DEPTH + "a")
    html.read("<p>a<br>" * 5000 + "<li>" * 5000)
    with pytest.raises(html.TooDeep):
        html.read("<div>" * (html.MOST_DEPTH + 1))


MANY = html.MOST_DEPTH + 1


@pytest.mark.parametrize(
    "flat",
    [
        "<script>" + "x = '<div>' + y;" * MANY + "</script>",
        f"<SCRIPT type=application/json>{'<b>' * MANY}</Script >",
        f"<style>{'/* <div> */' * MANY}</style>",
        f"<!-- {'<div>' * MANY} -->",
        f"<!--{'<div>' * MANY}--!>",
        f"<textarea>{'<div>' * MANY}</textarea>",
        f"<svg>{'<path d=z />' * MANY}</svg>",
        f"<math>{'<mspace/>' * MANY}</math>",
        "<div><b>x</b></div>" * MANY,
        "<font><b>x</font></b>" * MANY,
    ],
)
def test_flat_pages_are_not_deep(flat: str) -> None:
    assert texts(body(f"<p>a</p>{flat}<p>b</p>")).startswith("a\n\n")


@pytest.mark.parametrize(
    "deep",
    [
        "<div></b>" * MANY,
        "</div>" * MANY + "<div>" * MANY,
        f"<!-->{'<div>' * MANY}-->",
        f"<!--->{'<div>' * MANY}",
        f"<!-- a -->{'<div>' * MANY}<!-- b -->",
        f"<script>a</script>{'<div>' * MANY}<script>b</script>",
        f"<textarea><script></textarea>{'<div>' * MANY}",
        f"<svg></svg>{'<div/>' * MANY}",
    ],
)
def test_deep_pages_do_not_pass_for_flat(deep: str) -> None:
    with pytest.raises(html.TooDeep):
        html.read(body(deep))


@pytest.mark.parametrize("piece", ["<div></b>", "<script>", "<!--", "<svg", "<i></i>", "</i>"])
def test_depth_is_told_in_linear_time(piece: str) -> None:
    page = piece * (3_000_000 // len(piece))
    start = time.process_time()
    html._is_too_deep(page)
    assert time.process_time() - start < 10  # about 0.5 s; the square of it would take minutes


@pytest.mark.parametrize(
    "page",
    [
        "<img src=a.png>" + "<p>a</p>" * 60_000,
        "<div>" * 900 + "<p></p>" * 60_000,
        "<picture>" + "<source srcset=a.png><img src=b.png>" * 20_000,
    ],
    ids=["paragraphs after an image", "blocks of nothing", "images in one picture"],
)
def test_pages_are_read_in_linear_time(page: str) -> None:
    start = time.process_time()
    html.read(body(page))
    assert time.process_time() - start < 10  # a second or two; the square of it would take minutes


PIECES = [
    *("<p>", "</p>", "<div class=nav>", "</div>", "<a href=x>", "</a>", "<img src=a.png>", "text "),
    *("<table>", "<tr><td>", "</table>", "<main>", "</main>", "<pre>", "<style>a{display:none}"),
    *("</style>", "<!--", "-->", "<svg>", "</svg>", "<template>", "<picture>", "<source srcset=a>"),
    *("<body>", "</body>", "</html>", "<frameset>", "<b", "&#0;", "\x00", "\ud800", "<li>", "<ul>"),
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40).map("".join))
def test_any_page_can_be_read(page: str) -> None:
    items = html.read(page.encode("utf-8", "replace").decode()).items
    assert all(item.strip() for item in items if isinstance(item, str))
    for before, after in itertools.pairwise(items):
        assert not (isinstance(before, str) and isinstance(after, str))
