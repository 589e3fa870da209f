"""Fixtures of the judge's tests: `builders` makes directories, `judge` says what is wrong."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slimcheck.engine import Options, Result, Status
from slimcheck.engine import judge as run_judge
from slimspec.checkpoint import open_checkpoint

OTHER_CHAPTERS = ("DIR", "IDX", "CFG", "PERM", "SEC", "HYG", "VAL")


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"slimcheck_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def builders() -> ModuleType:
    """The module tests/slimcheck/builders.py."""
    return _load("builders")


@pytest.fixture(scope="session")
def lowbit(builders: ModuleType) -> ModuleType:
    """The module tests/slimcheck/builders_lowbit.py."""
    return _load("builders_lowbit")


class Verdict:
    """What the judge says of one directory, of the chapters about tensors."""

    def __init__(self, results: list[Result]) -> None:
        failed = [r for r in results if r.status is Status.FAILED]
        self.results = {
            r.requirement.id: r for r in failed if r.requirement.chapter not in OTHER_CHAPTERS
        }

    @property
    def ids(self) -> set[str]:
        return set(self.results)

    @property
    def must(self) -> set[str]:
        """Violations that make the directory non-conformant."""
        return {key for key, result in self.results.items() if result.counts}

    def one(self, requirement: str) -> Any:
        """The one group of findings of a requirement."""
        (group,) = self.results[requirement].groups
        return group


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., Verdict]:
    """Write a draft and judge it."""

    def run(draft: Any, **options: Any) -> Verdict:
        directory = draft.write(tmp_path / "checkpoint")
        options.setdefault("producer", draft.profile)
        return Verdict(run_judge(open_checkpoint(directory), Options(**options)))

    return run
