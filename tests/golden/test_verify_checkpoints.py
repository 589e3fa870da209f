"""`slimspec golden verify` says what is wrong with checkpoints, patches and the grid."""

from dataclasses import replace

import pytest

from slimspec.golden import checkpoint_cases, verify
from slimspec.golden.checkpoints import CheckpointCase
from slimspec.golden.grid import recorded


def told(monkeypatch: pytest.MonkeyPatch, case: CheckpointCase) -> list[str]:
    monkeypatch.setattr(verify, "checkpoint_cases", lambda: [case])
    return list(verify.CHECKS["checkpoints: patches apply, malformed or not as stated"]())


def case_of(name: str) -> CheckpointCase:
    return next(case for case in checkpoint_cases() if case.id == name)


@pytest.mark.parametrize("name", ["idx-001-pickle", "num-001", "llama-a1-bf16"])
def test_right_kind_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, case_of(name)) == []


def test_wrong_kind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = told(monkeypatch, replace(case_of("idx-001-pickle"), kind="invalid"))
    assert line.startswith("idx-001-pickle: is invalid, strict parsers refuse {'quant_model_")
    (line,) = told(monkeypatch, replace(case_of("num-001"), kind="malformed"))
    assert line == "num-001: is malformed, strict parsers refuse {}"


@pytest.mark.parametrize(
    "operation",
    [{"op": "burn", "file": "x"}, {"op": "delete", "file": "x"}, {"op": "json", "file": "x"}],
)
def test_patch_that_does_not_apply_is_told(
    operation: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = told(monkeypatch, replace(case_of("num-001"), patch=(operation,)))
    assert line.startswith("num-001: the patch does not apply: ")


def test_cell_without_digest_and_digest_without_cell_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, *others = recorded().items()
    changed = {**dict(others), replace(first[0], type="W9"): first[1]}
    monkeypatch.setattr(verify, "recorded", lambda: changed)
    assert list(verify.CHECKS["checkpoints: every cell of the grid"]()) == [
        f"{first[0].id}: neither a digest nor a reason",
        f"{replace(first[0], type='W9').id}: no such cell, or an absent one",
    ]


def test_other_bytes_of_a_cell_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, value = next(iter(recorded().items()))
    monkeypatch.setattr(verify, "recorded", lambda: {cell: "0" * 64})
    assert list(verify.CHECKS["checkpoints: the grid made again"]()) == [
        f"{cell.id}: expected sha256 {'0' * 64}, made again it has {value}"
    ]
