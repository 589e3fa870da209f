"""Every kind of report from the world that the files alone can show is reproduced and caught."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slimspec import requirements

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "real_failures.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_failures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REAL = _load()
ROWS: list[dict[str, Any]] = REAL.rows()
COVERED = [row for row in ROWS if "reason" not in row]


@pytest.mark.parametrize("row", COVERED, ids=lambda row: f"row-{row['row']}")
def test_report_is_reproduced_and_caught(row: dict[str, Any]) -> None:
    result = REAL.outcome(row)
    assert result.caught, f"{row['report']}: {result.said}"


def test_rows_are_126_and_numbered_once() -> None:
    numbers = [row["row"] for row in ROWS]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 126


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"row-{row['row']}")
def test_row_has_a_source_and_one_expectation(row: dict[str, Any]) -> None:
    assert row["sources"]
    assert len([kind for kind in (*REAL.EXPECTATIONS, "reason") if kind in row]) == 1
    if "requirement" in row:
        assert row["requirement"] in requirements.load()
    if "proposal" in row:
        assert row["reason"]


def test_row_that_expects_the_wrong_thing_is_missed() -> None:
    row = {"row": 0, "base": "w8a8-a1-fp16", "patch": []}
    assert not REAL.outcome(row | {"requirement": "DIR-002"}).caught
    assert not REAL.outcome(row | {"refused": "awq"}).caught
    assert not REAL.outcome(row | {"serve": {"engine": "vllm-ascend", "text": "--nothing"}}).caught
    wrong = {"engine": "vllm-ascend", "verdict": "will not load", "because": "W8A8"}
    assert not REAL.outcome(row | {"verdict": wrong}).caught
    broken = {"op": "delete", "file": "config.json"}
    assert not REAL.outcome(row | {"patch": [broken], "accepted": True}).caught
