"""The kind of an invalid checkpoint says what must be read to see its fault."""

import json
from collections import Counter
from pathlib import Path

import pytest

from slimcheck.mutations import requirement_of
from slimcheck.run import run
from slimspec.checkpoint.strict import refused
from slimspec.data import folder
from slimspec.golden import CheckpointCase, checkpoint_cases
from slimspec.golden.checkpoints import KINDS
from slimspec.golden.patch import operations
from slimspec.jsonschemas import validator

INVALID = [case for case in checkpoint_cases() if not case.valid]


def kind_of(directory: Path, case: CheckpointCase) -> str:
    """What shows the fault: a strict parser, the layout level of the judge, or the values."""
    if refused(directory):
        return "malformed"
    report = run(directory, level="layout", producer=case.producer, tp=case.tp)
    seen = {result.requirement.id for result in report.failed}
    return "invalid" if requirement_of(case.id) in seen else "wrong-value"


def test_kind_is_the_level_at_which_the_fault_is_found(tmp_path: Path) -> None:
    for case in INVALID:
        directory = case.materialize(tmp_path / case.id)
        assert case.kind == kind_of(directory, case), f'{case.id}: write the right "kind"'


def test_valid_checkpoints_are_of_no_kind() -> None:
    assert all(case.kind is None for case in checkpoint_cases() if case.valid)


def test_there_are_cases_of_every_kind() -> None:
    assert Counter(case.kind for case in INVALID).keys() == KINDS.keys()


def test_schema_knows_every_operation_and_kind() -> None:
    schema = json.loads((folder("schemas") / "patch.schema.json").read_text(encoding="utf-8"))
    assert set(schema["$defs"]["operation"]["properties"]["op"]["enum"]) == operations()
    assert set(schema["$defs"]["kind"]["enum"]) == KINDS.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "wrong"}, {"kind": None}, {"expect": []}, {"extra": 1}, {"tp": 0},
        {"patch": [{"op": "write", "file": "../x", "text": ""}]},
        {"patch": [{"op": "tensor", "file": "x", "name": "w", "dtype": "F16", "shape": [1]}]},
        {"patch": [{"op": "burn", "file": "x"}]},
        {"patch": [{"op": "json", "file": "x", "path": ["a"]}]},
        {"expect": [{"requirement": "X", "pattern": "w", "count": 1}]},
    ],
)  # fmt: skip
def test_schema_refuses(change: dict[str, object]) -> None:
    path = folder("golden") / "checkpoints" / "invalid" / "num-001.json"
    case = json.loads(path.read_text(encoding="utf-8"))
    assert validator("patch").is_valid(case)
    assert not validator("patch").is_valid(case | change)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"a": 1, "a": 2}'), ("a.json", b"[NaN]"), ("a.json", b"{"),
        ("a.json", b"\xff"), ("a.json", b"[" * 100_000), ("part0-of-1/a.safetensors", b"12"),
    ],
)  # fmt: skip
def test_strict_parser_refuses(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert list(refused(tmp_path)) == [name]
