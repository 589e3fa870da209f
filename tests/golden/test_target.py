"""The commands that make `golden/` write into a folder that is named, and nowhere else."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from slimspec.data import folder
from slimspec.golden import build
from slimspec.golden.recipes import Recipe
from slimspec.golden.target import target


def test_folder_is_the_one_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["build"])
    assert target(None) == folder("golden")
    monkeypatch.setattr("sys.argv", ["build", "elsewhere"])
    assert target(None) == Path("elsewhere")


@pytest.mark.parametrize("name", ["build", "grid_build", "vectors_build"])
def test_an_option_is_no_folder(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    description = importlib.import_module(f"slimspec.golden.{name}").__doc__
    for option, code in (("--help", 0), ("--fast", 2)):
        monkeypatch.setattr("sys.argv", [name, option])
        with pytest.raises(SystemExit) as stop:
            target(description)
        assert stop.value.code == code
    assert "golden" in capsys.readouterr().out


def test_what_is_there_stays_until_all_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "checkpoints" / "valid" / "kept"
    kept.mkdir(parents=True)
    (first,) = (recipe for recipe in build.recipes() if recipe.id == "float-a1-fp16")

    def broken() -> Iterator[Recipe]:
        yield first
        raise ValueError("no such recipe")

    monkeypatch.setattr(build, "recipes", broken)
    with pytest.raises(ValueError, match="no such recipe"):
        build.build(tmp_path)
    assert sorted(tmp_path.rglob("*")) == [kept.parents[1], kept.parent, kept]
