"""The arrows of docs/architecture.md, read from the import statements."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "reference").rglob("*.py")) + sorted((ROOT / "conformance").rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of every module that a source file imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[1:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module or "").split(".") if node.module else ())))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def below(path: Path, *folders: str) -> bool:
    return path.is_relative_to(ROOT.joinpath(*folders))


def test_sources_are_found() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_arrows_run_one_way(path: Path) -> None:
    found = set(imports(path))
    if below(path, "reference"):
        assert not {name for name in found if name.split(".")[0] == "slimcheck"}
    if below(path, "reference", "slimspec", "numeric"):
        ours = {name for name in found if name.startswith("slimspec")}
        assert all(name.startswith("slimspec.numeric") for name in ours)
    if not below(path, "reference", "slimspec", "checkpoint"):
        assert "safetensors" not in found, "tensors are read through slimspec.checkpoint"
    assert not {name for name in found if name.split(".")[0] in ("torch", "pickle", "tests")}


FLOORS = (  # a folder imports from the floors below it and from itself
    {"numeric", "layout"},
    {"pack", "checkpoint"},
    {"quantize", "matmul"},
    {"observe", "smooth", "attention", "model"},
    {"sparse"},
    {"schemes"},
    {"pipeline"},
    {"golden", "teach"},
    {"cli"},
)


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_folders_import_from_the_floors_below(floor: int) -> None:
    above = set().union(*FLOORS[floor:])
    for folder in FLOORS[floor]:
        paths = [p for p in SOURCES if below(p, "reference", "slimspec", folder)]
        assert paths, folder
        for path in paths:
            used = {name.split(".")[1] for name in imports(path) if name.startswith("slimspec.")}
            assert not used & (above - {folder}), path


def test_every_folder_stands_on_a_floor() -> None:
    folders = {p.parent.name for p in (ROOT / "reference" / "slimspec").glob("*/__init__.py")}
    assert folders == set().union(*FLOORS)


@pytest.mark.parametrize(
    "module", ["slimspec.cli", "slimcheck.cli", "slimcheck.plugin", "slimspec.checkpoint"]
)
def test_start_up_does_not_import_numba(module: str) -> None:
    import subprocess
    import sys

    code = f"import sys, {module}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_schemas_are_read_by_their_own_readers_only() -> None:
    readers = {
        "layouts": ROOT / "reference" / "slimspec" / "layout" / "model.py",
        "requirements": ROOT / "reference" / "slimspec" / "requirements.py",
        "consumers": ROOT / "conformance" / "slimcheck" / "consumers.py",
    }
    for folder, reader in readers.items():
        found = [path for path in SOURCES if _names_schema_folder(path, folder)]
        assert found == [reader]


def _names_schema_folder(path: Path, folder: str) -> bool:
    """Whether a source file spells `… / "layouts"` or `"schemas/layouts"`, whatever the quotes."""
    text = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return bool(re.search(rf"/\s*[\"']{folder}[\"']|[\"']schemas/{folder}\b", text))
