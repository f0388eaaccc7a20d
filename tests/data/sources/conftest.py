"""Sources keep what they found out about large files: in these tests, in a folder of their own."""

from pathlib import Path

import pytest
from tensorflow_datasets.core.utils import gcs_utils


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(gcs_utils, "_is_gcs_disabled", True)
