"""What the readers of official annotation files share: layouts, checks, and finding media."""

import abc
import collections
import csv
import io
import json
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from flamingo_jax.errors import UserError
from flamingo_jax.evaluation.benchmark import Benchmark, Example, Media

_LOG = logging.getLogger(__name__)


class Published(Benchmark):
    """A benchmark whose annotations are files that others publish.

    Attributes:
      withdrawn: videos may have left YouTube: examples without theirs are left out, with a warning.
    """

    withdrawn: ClassVar[bool] = False

    def read(self, data_dir: Path, split: str) -> list[Example]:
        """See `Benchmark.read`."""
        if split not in self.splits:
            raise UserError(
                f"{self.name} has no split {split!r}: choose one of {', '.join(self.splits)}."
            )
        self.check(data_dir, split)
        try:
            found = list(self.examples(data_dir, split))
        except UserError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"The annotations of {self.name} ({split}) below {data_dir} are not in their "
                f"official format ({type(error).__name__}: {error}): get them again."
            ) from error
        kept = [example for example in found if example.media]
        if not kept:
            raise UserError(
                f"{self.name} has no example of the split {split!r} with its media below "
                f"{data_dir}.\n{self.layout()}"
            )
        if len(kept) < len(found):
            _LOG.warning(
                "%s: %d of %d examples of the split %s are left out, their videos are not there.",
                self.name,
                len(found) - len(kept),
                len(found),
                split,
            )
        return kept

    @abc.abstractmethod
    def examples(self, data_dir: Path, split: str) -> Iterable[Example]:
        """What `read` gives; those whose withdrawn video is not there have no media."""

    def layout(self) -> str:
        """The files as a tree, with where they are had."""
        lines = ["Expected below the data folder:"]
        shown: set[str] = set()
        for file in self.files:
            *folders, name = file.path.rstrip("/").split("/")
            for depth, folder in enumerate(folders):
                if (path := "/".join(folders[: depth + 1])) not in shown:
                    shown.add(path)
                    lines.append(f"{'  ' * (depth + 1)}{folder}/")
            end = "/" if file.path.endswith("/") else ""
            shown.add(file.path.rstrip("/"))
            lines.append(f"{'  ' * (len(folders) + 1)}{name}{end}    ({file.source})")
        return "\n".join(lines)

    def check(self, data_dir: Path, split: str) -> None:
        """See `Benchmark.check`."""
        for file in self.files:
            path = data_dir / file.path
            wanted = not file.splits or split in file.splits
            if not wanted or (path.is_dir() if file.path.endswith("/") else path.is_file()):
                continue
            raise UserError(
                f"{self.name} needs {path}{_elsewhere(data_dir, path)}.\n{self.layout()}"
            )


def _elsewhere(data_dir: Path, path: Path) -> str:
    """Where a file of that name lies instead."""
    for depth in range(4):
        for found in sorted(data_dir.glob("*/" * depth + path.name)):
            if found != path:
                return f", but it lies at {found}: move it"
    return ", which is not there"


class MediaFolder:
    """Files of folders and of those in them, found by name without its ending."""

    def __init__(self, benchmark: Published, *folders: Path) -> None:
        """Lists the folders once: they hold up to a million files."""
        self._benchmark, self._folders = benchmark, folders
        self._paths: dict[str, Path] = {}
        for folder in folders:
            for parent, _, names in os.walk(folder):
                for name in names:
                    self._paths.setdefault(name.rsplit(".", 1)[0], Path(parent, name))

    def __contains__(self, stem: str) -> bool:
        return stem in self._paths

    def paths(self) -> Iterable[Path]:
        """All files, in no order."""
        return self._paths.values()

    def find(
        self, stem: str, start: float | None = None, end: float | None = None
    ) -> tuple[Media, ...]:
        """The file of a name, or its part from `start` to `end` seconds.

        Returns:
          Nothing if it is not there and may have been withdrawn.

        Raises:
          UserError: it is not there and should be.
        """
        if stem in self._paths:
            return (Media(self._paths[stem], start, end),)
        if self._benchmark.withdrawn:
            return ()
        where = " or ".join(map(str, self._folders))
        raise UserError(
            f"{self._benchmark.name} has an example of {stem}, which is not in {where}.\n"
            f"{self._benchmark.layout()}"
        )


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
      UserError: it is damaged.
    """
    return _read(path, json.loads)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Errors as for `read_json`."""
    return _read(path, lambda text: [line for line in text.split("\n") if line.strip()])


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, by column. Errors as for `read_json`."""
    return _read(path, lambda text: list(csv.DictReader(io.StringIO(text), strict=True)))


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}): get it again.") from error


def grouped(pairs: Iterable[tuple[Any, str]]) -> dict[Any, list[str]]:
    """Texts by key, in their order."""
    found: dict[Any, list[str]] = collections.defaultdict(list)
    for key, text in pairs:
        found[key].append(text)
    return dict(found)
