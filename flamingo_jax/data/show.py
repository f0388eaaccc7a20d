"""The documents of any source, one after another.

    python -m flamingo_jax.data.show PATH [--json] [--limit=100] [--html=FILE]
        [--tokenizer=runs/openmoji/tokenizer.json]

What cannot be used is told on stderr, and how much that was at the end. `--json` prints an object a
line: {"source": address or path, "items": [{"text": …} | {"image": name or address, "width": …,
"height": …, "sha256": of the file's bytes} | {"video": …, "frames": …, …}, …]}. `--html` writes a
page to look at: the first documents as token sequences, what each token may look at, and the loss
mask.
"""

from pathlib import Path

from absl import flags

from flamingo_jax import cli

_JSON = flags.DEFINE_bool("json", False, "Print a JSON object a line.")
_LIMIT = flags.DEFINE_integer("limit", None, "Most documents.", lower_bound=1)
_HTML = flags.DEFINE_string("html", None, "File of a page to look at.")
_TOKENIZER = flags.DEFINE_string(
    "tokenizer", None, "A tokenizer.json for --html; that of the language model if absent."
)


def main(path: str) -> None:
    """Prints the documents of a path."""
    from flamingo_jax import showing

    if _HTML.value:
        tokenizer = Path(_TOKENIZER.value) if _TOKENIZER.value else None
        showing.write_page(path, Path(_HTML.value), _LIMIT.value, tokenizer)
    else:
        showing.print_documents(path, _LIMIT.value, _JSON.value)


if __name__ == "__main__":
    cli.run(main, arguments=("PATH",))
