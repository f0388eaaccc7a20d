"""Debian's documentation packages: thousands of real pages with images, signed and versioned."""

import logging
import re
import subprocess
import tempfile
from pathlib import Path

from flamingo_jax.errors import UserError

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_log = logging.getLogger(__name__)


def unpack(package: str, folder: Path) -> None:
    """Downloads a package from the archive that the machine's apt uses, and unpacks its files.

    Nothing is installed, and none of the package's scripts is run. A folder that exists is taken
    for an unpacked package.

    Raises:
      UserError: the name is none, or apt-get or dpkg-deb is missing or fails.
    """
    if folder.exists():
        return
    if not _NAME.fullmatch(package):
        raise UserError(f"{package!r} is no name of a Debian package.")
    part = folder.with_name(f"{folder.name}.part")
    with tempfile.TemporaryDirectory() as downloads:
        _run(["apt-get", "download", "-q", package], Path(downloads))
        (file,) = Path(downloads).glob("*.deb")
        part.mkdir(parents=True, exist_ok=True)
        _run(["dpkg-deb", "--extract", str(file), str(part.absolute())], Path(downloads))
    part.rename(folder)


def _run(command: list[str], folder: Path) -> None:
    _log.info("%s", " ".join(command))
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(
            f"{command[0]} cannot be run ({error.strerror}): it is Debian's."
        ) from error
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{' '.join(command[:3])} failed: {words}")
