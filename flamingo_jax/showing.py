"""What `flamingo_jax.data.show` does: documents of a source on the terminal, or on a page."""

import json
import sys
import tempfile
from pathlib import Path

from flamingo_jax.checkpoints import smollm2
from flamingo_jax.checkpoints.files import replaced
from flamingo_jax.data.bad_records import BadRecord, Problem
from flamingo_jax.data.listing import as_json, as_text, documents, summary
from flamingo_jax.data.sources.opening import open_source
from flamingo_jax.data.tokenizer import Tokenizer
from flamingo_jax.data.view import make_card, render
from flamingo_jax.errors import UserError

_ON_A_PAGE = 20  # documents, unless said


def print_documents(path: str, limit: int | None, json_lines: bool) -> None:
    """Prints documents to stdout; what cannot be used, and how much of it there is, to stderr.

    Raises:
      UserError: the path is no source, or nothing in it can be used.
    """
    source, problems, given = open_source(path), _Problems(), 0
    try:
        for shown in documents(source, path, limit, problems.tell):
            print(json.dumps(as_json(shown), ensure_ascii=False) if json_lines else as_text(shown))
            given += 1
        sys.stdout.flush()
    except BrokenPipeError:  # `head` has enough
        sys.stdout = None
        return
    problems.sum_up(path, given)


def write_page(path: str, page: Path, limit: int | None, tokenizer: Path | None) -> None:
    """Writes a page that shows the first documents as training sequences, whole or not at all.

    Args:
      path: of the source.
      page: the file to write.
      limit: most documents; None for a few.
      tokenizer: a tokenizer.json; None for that of the installed language model.

    Raises:
      UserError: the path is no source, nothing in it can be used, or there is no tokenizer.
    """
    source, problems, cards = open_source(path), _Problems(), []
    words = _tokenizer(tokenizer)
    for shown in documents(source, path, limit or _ON_A_PAGE, problems.tell):
        try:
            cards.append(make_card(shown.document, source.schema.gives, words, shown.number))
        except BadRecord as error:
            problems.tell(Problem(shown.document.source, error.reason, str(error)))
    problems.sum_up(path, len(cards))
    try:
        with replaced(page) as part:
            html = render(path, cards, problems)
            # What is told of problems may have files' names in it, which need not be UTF-8.
            part.write_text(html, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(f"{page} could not be written ({error.strerror}).") from error


class _Problems(list[Problem]):
    """Problems, told on stderr as they come."""

    def tell(self, problem: Problem) -> None:
        self.append(problem)
        medium = f", {problem.medium}" if problem.medium else ""
        line = f"{problem.source}{medium}: {problem.reason}, {problem.message}"
        print(line.encode("utf-8", "replace").decode(), file=sys.stderr)

    def sum_up(self, path: str, given: int) -> None:
        """Raises UserError if nothing was given."""
        if self:
            print(summary(self, given), file=sys.stderr)
        if not given:
            raise UserError(f"Nothing in {path} can be used.")


def _tokenizer(path: Path | None) -> Tokenizer:
    if path is not None:
        return Tokenizer.load(path)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "tokenizer.json"
        smollm2.write_tokenizer(smollm2.find_gguf(), written)
        return Tokenizer.load(written)
