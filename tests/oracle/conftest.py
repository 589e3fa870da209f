"""Where the recordings are: SLIMSPEC_ORACLE, else ../shared/oracle beside the project."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from oracle_replay import find_cases, oracle_root


@pytest.fixture(scope="session")
def oracle() -> Path:
    folder = oracle_root()
    if not folder.is_dir():
        pytest.skip(f"no oracle at {folder}; set SLIMSPEC_ORACLE")
    return folder


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `checkpoint` every recorded run and `vector_folder` every recorded function."""
    vectors = oracle_root() / "vectors"
    found = {
        "checkpoint": find_cases(oracle_root()),
        "vector_folder": sorted(vectors.iterdir()) if vectors.is_dir() else [],
    }
    for argument, paths in found.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, paths, ids=[p.name for p in paths])
