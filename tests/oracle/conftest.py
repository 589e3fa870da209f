"""Where the recordings are: SLIMSPEC_ORACLE, else ../shared/oracle beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def oracle() -> Path:
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "oracle"
    folder = Path(os.environ.get("SLIMSPEC_ORACLE", beside))
    if not folder.is_dir():
        pytest.skip(f"no oracle at {folder}; set SLIMSPEC_ORACLE")
    return folder
