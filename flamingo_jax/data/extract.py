"""Interleaved documents from web pages: text and images in the order of the page.

    python -m flamingo_jax.data.extract --input='crawl/*.warc.gz' --output=data/pages

The input is WARC archives, folders of HTML files with images beside them, or both. Nothing is
fetched. --output appears when it is finished, with a stats.json. Limits are options too:
--limits=min_side=96,min_words=50 (see flamingo_jax/data/web/limits.py).
"""

import json
from pathlib import Path

from absl import flags

from flamingo_jax import cli

_INPUT = flags.DEFINE_list("input", None, "Archives, folders, pages; patterns.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write.", required=True)
_LIMITS = flags.DEFINE_list("limits", [], "NAME=VALUE of limits that differ from the usual.")
_LANGUAGES = flags.DEFINE_list("languages", [], "Languages to keep, such as en,de; all if unset.")
_BLOCK_LIST = flags.DEFINE_string("block_list", None, "File of words and sites to leave out.")
_EXCLUDE = flags.DEFINE_string(
    "exclude_images", None, "File of perceptual hashes of evaluation images to leave out."
)
_TOKENIZER = flags.DEFINE_string("tokenizer", None, "tokenizer.json to count tokens with.")
_RUNNER = flags.DEFINE_string("runner", "DirectRunner", "Apache Beam's runner.")
_WORKERS = flags.DEFINE_integer(
    "workers", 1, "Processes of the DirectRunner; 0 for one a core.", lower_bound=0
)
_BEAM = flags.DEFINE_string("beam", "", "More options for Beam, in quotes.")


def main() -> None:
    """Extracts and prints a summary."""
    from flamingo_jax.checkpoints.files import new_folder
    from flamingo_jax.data.shards import STATS
    from flamingo_jax.data.web import inputs, run, settings

    asked = settings.read(_LIMITS.value, _LANGUAGES.value, _BLOCK_LIST.value, _EXCLUDE.value)
    units = inputs.units(_INPUT.value)
    output = Path(_OUTPUT.value)
    runner = run.RunnerConfig(_RUNNER.value, _WORKERS.value, _BEAM.value)
    tokenizer = Path(_TOKENIZER.value) if _TOKENIZER.value else None
    with new_folder(output) as folder:
        run.run(units, asked, folder, runner, tokenizer)
    print(run.summary(json.loads((output / STATS).read_text()), output))


if __name__ == "__main__":
    cli.run(main)
