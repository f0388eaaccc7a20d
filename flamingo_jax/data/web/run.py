"""Runs the extraction on a Beam runner and shows how far it is."""

import contextlib
import dataclasses
import logging
import shlex
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import apache_beam as beam
import tokenizers
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from tqdm import tqdm

from flamingo_jax.data.web.extraction import Unit
from flamingo_jax.data.web.pipeline import CANDIDATES, TokenCount, build
from flamingo_jax.data.web.settings import Settings
from flamingo_jax.data.web.texts import count_words
from flamingo_jax.errors import UserError

_EVERY_S = 0.5


@dataclasses.dataclass(frozen=True)
class RunnerConfig:
    """Where the work is done.

    Attributes:
      name: of the Beam runner.
      workers: processes of the direct runner; 0 for one a core.
      options: of Beam and its runner, as on a command line.
    """

    name: str = "DirectRunner"
    workers: int = 1
    options: str = ""


def run(
    units: list[Unit],
    settings: Settings,
    folder: Path,
    runner: RunnerConfig,
    tokenizer: Path | None = None,
) -> None:
    """Extracts documents into a folder and ends when it is finished.

    Args:
      units: the input.
      settings: how pages become documents.
      folder: exists, and all workers can reach it by this name.
      runner: where the work is done.
      tokenizer: a `tokenizer.json` to count tokens with; words are counted without.

    Raises:
      UserError: the tokenizer cannot be read, or Beam refuses the runner or its options.
    """
    tokens = _tokens(tokenizer)
    candidates = folder / CANDIDATES
    candidates.mkdir()
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    pipeline = _pipeline(runner)
    build(pipeline, units, settings, folder, tokens)
    with _progress(candidates, len(units)):
        try:
            pipeline.run().wait_until_finish()
        except RuntimeError as error:  # Beam makes one of what a worker raises
            if "KeyboardInterrupt" in str(error):
                raise KeyboardInterrupt from error
            raise
    shutil.rmtree(candidates)


def _pipeline(runner: RunnerConfig) -> beam.Pipeline:
    arguments = shlex.split(runner.options)
    direct = runner.name == "DirectRunner"
    if direct:
        mode = "in_memory" if runner.workers == 1 else "multi_processing"
        arguments += [f"--direct_num_workers={runner.workers}", f"--direct_running_mode={mode}"]
        arguments.append("--default_sdk_harness_log_level=ERROR")  # of the workers' processes
    try:
        options = PipelineOptions(arguments)
        return beam.Pipeline(_direct(options) if direct else runner.name, options)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"--runner={runner.name} cannot be used: {error}") from error


def _direct(options: PipelineOptions) -> FnApiRunner:
    """The runner for one machine, whose workers know the options.

    Beam's name `DirectRunner` stands for one that first looks for a program to download.
    """
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return FnApiRunner(provision_info=ExtendedProvisionInfo(provision))


def _tokens(path: Path | None) -> TokenCount:
    if path is None:
        return TokenCount("words", count_words)
    try:
        return TokenCount(str(path), _Tokens(tokenizers.Tokenizer.from_file(str(path))))
    except Exception as error:  # tokenizers raises bare Exception
        raise UserError(f"{path} cannot be read as a tokenizer: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Tokens:
    tokenizer: tokenizers.Tokenizer

    def __call__(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


@contextlib.contextmanager
def _progress(candidates: Path, units: int) -> Iterator[None]:
    """A bar of the units read, which are counted by the files that workers leave."""
    done = threading.Event()

    def watch() -> None:
        with tqdm(total=units, desc="Reading", unit="part", disable=None) as bar:
            while not done.wait(_EVERY_S):
                bar.update(_finished(candidates) - bar.n)
            bar.update(units - bar.n)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _finished(candidates: Path) -> int:
    return sum(path.suffix == ".array_record" for path in candidates.iterdir())


def summary(stats: dict, folder: Path) -> str:
    """What was kept and why the rest was not, for people."""
    lines = [f"{folder}: {stats['pages']['kept']:,} documents, {stats['tokens']:,} tokens."]
    if unreadable := stats.get("archives", {}).get("unreadable"):
        lines.append(f"archives: {unreadable:,} could not be read, or held no record")
    if bad := stats.get("records", {}).get("bad"):
        lines.append(f"records that could not be read: {_reasons(bad)}")
    for kind in ("pages", "images"):
        count = stats[kind]
        dropped = _reasons(count["dropped"]) or "none"
        lines.append(f"{kind}: {count['kept']:,} of {count['in']:,} kept; left out: {dropped}")
    return "\n".join(lines)


def _reasons(counts: Mapping[str, int]) -> str:
    """Reasons and how often there was each, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{reason} {number:,}" for reason, number in ordered if number)
