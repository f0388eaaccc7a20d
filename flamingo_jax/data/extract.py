"""Interleaved documents from web pages: text and images in the order of the page.

    python -m flamingo_jax.data.extract --input='crawl/*.warc.gz' --output=data/pages

The input is WARC archives, folders of HTML files with images beside them, or both; no page's
address is ever asked for anything. --output appears when it is finished, with a stats.json. Limits
are options too: --limits=min_side=96,min_words=50 (see flamingo_jax/data/web/limits.py). A config
names the input and its settings; if that is a Debian package, it is downloaded first.
"""

import json
from pathlib import Path

from absl import flags

from flamingo_jax import cli, config_flag
from flamingo_jax.errors import Interrupted, UserError

_CONFIG = config_flag.define(
    "flamingo_jax.data.web.settings:Recipe", "What to extract, configs/data/."
)
_INPUT = flags.DEFINE_list("input", None, "Archives, folders, pages; patterns.")
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
    from flamingo_jax.data.web import debian, inputs, settings

    recipe = settings.read_recipe(dict(_CONFIG.value or {}))
    options = (_LIMITS.value, _LANGUAGES.value, _BLOCK_LIST.value, _EXCLUDE.value)
    asked = settings.read(*options, recipe)
    if recipe.package and not _INPUT.value:
        debian.unpack(recipe.package, Path(recipe.folder))
    units = inputs.units(_INPUT.value or recipe.input)
    output = Path(_OUTPUT.value)
    if output.exists():
        raise UserError(f"{output} exists: choose another --output, or delete it.")
    from flamingo_jax.data.web import run  # Beam takes seconds: mistakes are told before

    runner = run.RunnerConfig(_RUNNER.value, _WORKERS.value, _BEAM.value)
    tokenizer = Path(_TOKENIZER.value) if _TOKENIZER.value else None
    try:
        with new_folder(output) as folder:
            run.run(units, asked, folder, runner, tokenizer)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"Stopped: {output} was not written.") from stop
    print(run.summary(json.loads((output / STATS).read_text()), output))


if __name__ == "__main__":
    cli.run(main)
