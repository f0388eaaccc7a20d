"""Folders of saved pages: HTML files, and the images beside them."""

import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from flamingo_jax.data.web.archives import Page
from flamingo_jax.data.web.limits import Limits

SUFFIXES = (".html", ".htm", ".xhtml")
"""Of files that are pages."""

# The folder as if it were a site: `..` ends at its root, as in a browser. No such site can exist.
_SITE = "http://folder.invalid/"


class Folder:
    """Some pages of a folder.

    Attributes:
      tally: nothing; an archive counts its records there.
    """

    def __init__(self, root: Path, pages: Sequence[Path], limits: Limits) -> None:
        """`pages` are in `root`, outside of which nothing is read."""
        self._root = root
        self._inside = root.resolve()
        self._pages = pages
        self._limits = limits
        self.tally: Counter[str] = Counter()

    def close(self) -> None:
        """Does nothing: files are open only while they are read."""

    def pages(self) -> Iterator[Page]:
        """The pages in the order given."""
        most = self._limits.max_page_bytes
        for path in self._pages:
            base = _SITE + urllib.parse.quote(os.fsencode(path.relative_to(self._root).as_posix()))
            content = self._read(path, most)
            if content is None:
                yield Page(str(path), base, b"", refused="damaged")
            elif len(content) > most:
                yield Page(str(path), base, b"", refused="too_large")
            else:
                yield Page(str(path), base, content)

    def find(self, address: str) -> bytes | None:
        """The file that a page's address leads to; None if it is none, or outside the folder."""
        if not address.startswith(_SITE):
            return None
        name = re.split("[?#]", address[len(_SITE) :], maxsplit=1)[0]
        path = self._root / os.fsdecode(urllib.parse.unquote_to_bytes(name))
        return self._read(path, self._limits.max_image_bytes)

    def _read(self, path: Path, most: int) -> bytes | None:
        """A file, at most a byte more than `most`."""
        try:
            # Links and escaped slashes may lead anywhere.
            whole = path.resolve()
            if not whole.is_relative_to(self._inside) or not whole.is_file():
                return None
            with whole.open("rb") as file:
                return file.read(most + 1)
        except (OSError, ValueError):  # a name with a zero byte
            return None
