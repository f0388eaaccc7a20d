"""`flamingo_jax.data.show`: JSON as promised, pages that are safe to open, mistakes in one line."""

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from flamingo_jax import showing
from flamingo_jax.data.documents import Document, Medium
from flamingo_jax.data.shards import write_index, write_shard
from flamingo_jax.errors import UserError
from tests.data.sources import files
from tests.tiny_run import ROOT, python, tokenizer_file


def shown(path: Path, capsys: pytest.CaptureFixture[str], limit: int | None = None) -> list[dict]:
    showing.print_documents(str(path), limit, True)
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_of_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(files.extracted(tmp_path / "set"), capsys)
    assert len(found) == files.COUNT
    images = [
        {
            "image": f"2-{k}.png",
            "width": 40 + k,
            "height": 30,
            "sha256": hashlib.sha256(files.picture(2, 40 + k)).hexdigest(),
        }
        for k in range(2)
    ]
    texts = [{"text": text} for text in ("Page 2.", "Between.", "After.")]
    items = [texts[0], images[0], texts[1], images[1], texts[2]]
    assert found[2] == {"source": "https://a.org/2", "items": items}


def test_json_of_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = files.videos(tmp_path / "set")
    found = shown(folder, capsys, limit=3)
    assert [document["items"][0] for document in found] == [
        {
            "video": f"{i}.{kind}",
            "width": 16,
            "height": 16,
            "frames": 12,
            "sha256": files.digest(files.movie(i, kind=kind)),
        }
        for i, kind in enumerate(("mp4", "webm", "gif"))
    ]
    assert found[0]["items"][1] == {"text": files.caption(0)}


def test_what_cannot_be_used_is_told_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = files.obelics(tmp_path / "set")
    (folder / "images" / "1-0.png").write_bytes(b"no")
    for k in range(2):
        (folder / "images" / f"3-{k}.png").unlink()
    showing.print_documents(str(folder), None, True)
    out, errors = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [document["source"][-1] for document in found] == ["0", "1", "2", "4", "5"]
    assert [next(iter(item)) for item in found[1]["items"]] == ["text", "text", "image", "text"]
    first, second, last = errors.splitlines()
    assert first.startswith("https://a.org/1, https://b.org/p/1-0.png: corrupt_image, ")
    assert second == "https://a.org/3: missing_media, the file is missing or empty"
    assert last.startswith("5 documents; skipped: 1 records and 1 media of others (")


@pytest.mark.parametrize("json_lines", [True, False])
def test_names_that_are_no_utf8(
    tmp_path: Path, json_lines: bool, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    content = {}
    for i, told in enumerate(({}, {"url": "http://x/\ud800"}, {})):
        content[f"caf\udce9{i}.jpg"] = files.picture(i, kind="JPEG") if i < 2 else b"no"
        content[f"caf\udce9{i}.json"] = json.dumps({"caption": "a wall", **told}).encode()
    files.tar(folder / "a\udce9.tar", content)
    showing.print_documents(str(folder), None, json_lines)
    out, errors = capsysbinary.readouterr()
    lines = out.decode()
    for name in (r"caf\udce90.jpg", r"http://x/\ud800"):
        assert (json.dumps(name) if json_lines else f"[{name}, ") in lines
    assert b"corrupt_image" in errors
    page = tmp_path / "page.html"
    showing.write_page(str(folder), page, None, tokenizer_file())
    html = page.read_text(encoding="utf-8")
    assert html.count("<section>") == 2
    assert r"a\udce9.tar#caf\udce91" in html


def test_a_listing_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    showing.print_documents(str(files.webdataset(tmp_path / "set")), 2, False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("0  ")
    assert lines[0].endswith("00000.tar#000000000")
    assert lines[1] == "    [http://d.org/0.jpg, 40 × 30]"
    assert lines[2] == f"    {files.caption(0)}"
    assert sum(line.endswith(f"#00000000{i}") for i in range(3) for line in lines) == 2


def test_a_page_to_look_at(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    showing.write_page(str(files.obelics(tmp_path / "set")), page, 3, tokenizer_file())
    html = page.read_text(encoding="utf-8")
    assert html.count("<section>") == 3
    assert html.count("data:image/jpeg;base64,") == 6
    assert not re.search(r"(src|href)=\"(?!data:)", html)  # nothing from elsewhere
    first = html.split("<section>")[1]
    assert "Page</span>" in first
    tokens = re.findall(r'<span class="see(\d)( scored)?( marker)?" title="([^"]+)">([^<]*)', first)
    images = [token for token in tokens if token[4] == "&lt;image&gt;"]
    assert len(images) == 2
    assert not any(scored for _, scored, _, _, _ in images)
    assert all(f"looks at {see}" in title for see, _, _, title, _ in tokens if see != "0")
    text = [token for token in tokens if not token[2]]
    assert text
    assert all(scored for _, scored, _, _, _ in text)


def test_foreign_text_and_images_do_nothing_on_the_page(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (40, 30))
    picture.save(buffer, "JPEG", comment=b"<script>alert(1)</script>")
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    document = Document(f"https://a.org/{evil}", (evil, Medium(evil, buffer.getvalue()), evil))
    folder = tmp_path / "set"
    folder.mkdir()
    write_index(folder, [write_shard(folder / "a.array_record", [document])], {})
    page = tmp_path / "page.html"
    showing.write_page(str(folder), page, None, tokenizer_file())
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img src=x" not in html


def test_nothing_to_show(tmp_path: Path) -> None:
    folder = files.table_csv(tmp_path / "set")
    for path in folder.glob("*.webp"):
        path.unlink()
    with pytest.raises(UserError, match=r"Nothing in .*/set can be used"):
        showing.print_documents(str(folder), None, True)
    page = tmp_path / "page.html"
    with pytest.raises(UserError, match="can be used"):
        showing.write_page(str(folder), page, None, tokenizer_file())
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    folder = files.mmc4_gzip(tmp_path / "set")
    done = python("flamingo_jax.data.show", folder, "--json", "--limit=2")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    for arguments, said in (((), "PATH is missing"), ((tmp_path / "no",), "There is no file")):
        done = python("flamingo_jax.data.show", *arguments)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr
    line = f"{sys.executable} -m flamingo_jax.data.show {folder} --json | head -n 1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
