"""The wheel carries the data and the suite, and nothing with a generic import name."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_two_packages_only(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"slimspec", "slimcheck"}


def test_wheel_holds_every_data_file(names: set[str]) -> None:
    for folder in ("schemas", "golden"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert (
                    f"slimspec/_data/{folder}/{path.relative_to(ROOT / folder).as_posix()}" in names
                )


def test_wheel_holds_the_suite_and_the_type_marker(names: set[str]) -> None:
    assert {
        "slimcheck/suite/test_conformance.py",
        "slimcheck/suite/test_golden.py",
        "slimspec/py.typed",
        "slimcheck/py.typed",
    } <= names
