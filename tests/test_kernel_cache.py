"""Kernels compile also where the installation and the home are read-only."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimspec.kernel_cache import VARIABLE, provide


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, below which nothing can be made by anybody."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(VARIABLE, "")
    return tmp_path / "file"


def test_a_place_that_can_be_written_is_left_to_numba(
    tmp_path: Path, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provide(tmp_path)
    assert not os.environ[VARIABLE]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    provide(nowhere)
    assert not os.environ[VARIABLE]
    monkeypatch.setenv(VARIABLE, "mine")
    provide(nowhere)
    assert os.environ[VARIABLE] == "mine"


def test_a_private_place_lasts_as_long_as_the_run(nowhere: Path, tmp_path: Path) -> None:
    code = f"""
import os, pathlib
from slimspec.kernel_cache import provide
provide(pathlib.Path({str(nowhere)!r}))
place = pathlib.Path(os.environ["NUMBA_CACHE_DIR"])
print(place, oct(place.stat().st_mode & 0o777))
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    place, mode = done.stdout.split()
    assert mode == "0o700"
    assert Path(place).parent == tmp_path
    assert not Path(place).exists()
