"""Pictures and archives for the tests of pages."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

TEXT = "The lighthouse at the end of the old pier has been shining over the harbour for many years."


def picture(seed: int, width: int = 96, height: int = 80, kind: str = "PNG", **options) -> bytes:
    """A file of noise in large squares, another one for each seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, kind, **options)
    return buffer.getvalue()


def response(
    writer: WARCWriter,
    address: str,
    content: bytes,
    kind: str = "text/html; charset=utf-8",
    status: str = "200 OK",
    headers: Sequence[tuple[str, str]] = (),
) -> None:
    """Writes a response record."""
    named = StatusAndHeaders(status, [("Content-Type", kind), *headers], protocol="HTTP/1.1")
    payload = io.BytesIO(content)
    writer.write_record(
        writer.create_warc_record(address, "response", payload=payload, http_headers=named)
    )


def archive(*answers: tuple, gzip: bool = True) -> bytes:
    """A WARC file of responses, given by the arguments of `response`."""
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=gzip)
    writer.write_record(writer.create_warcinfo_record("test.warc.gz", {"software": "tests"}))
    for answer in answers:
        response(writer, *answer)
    return buffer.getvalue()


def site(folder: Path, pages: dict[str, str], pictures: dict[str, bytes]) -> Path:
    """A folder of pages and pictures."""
    for name, content in {**pages, **pictures}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
