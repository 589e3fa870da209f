"""Kinds of findings with a fix of their own: each is met by a broken directory, and told so."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from slimcheck.explain import explanation
from slimcheck.report.jsonl import lines
from slimcheck.report.lang import ZH, fix, why
from slimcheck.report.view import block
from slimcheck.run import run
from slimspec import requirements
from slimspec.data import folder
from slimspec.golden.patch import apply
from slimspec.requirements import Requirement

CATALOGUE = requirements.load()
GOLDEN = folder("golden") / "checkpoints"
SHARD = "quant_model_weights-00001-of-00001.safetensors"
INDEX = "quant_model_weights.safetensors.index.json"
DESCRIPTION = "quant_model_description.json"
CONFIG = "config.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


class Case(NamedTuple):
    """What breaks `w8a8-a1-fp16`, or the name of an invalid golden checkpoint."""

    requirement: str
    kind: str
    broken: list[dict[str, Any]] | str


def write(file: str, text: str) -> list[dict[str, Any]]:
    return [{"op": "write", "file": file, "text": text}]


def value(file: str, path: list[str], new: Any) -> list[dict[str, Any]]:
    return [{"op": "json", "file": file, "path": path, "value": new}]


def header(text: str, file: str = SHARD) -> list[dict[str, Any]]:
    """A weights file with this header and no data."""
    raw = text.encode()
    content = (len(raw).to_bytes(8, "little") + raw).hex()
    return [{"op": "write", "file": file, "hex": content}]


CASES = [
    Case("CFG-008", "unknown", value(CONFIG, ["torch_dtype"], "float8")),
    Case("DEQ-002", "float32", "w8a8-021"),
    Case("DEQ-002", "int64", "deq-002"),
    Case("DESC-001", "json-type", write(DESCRIPTION, "[]")),
    Case("DESC-001", "json-encoding", [{"op": "write", "file": DESCRIPTION, "hex": "ff7b7d"}]),
    Case("DESC-001", "empty-file", write(DESCRIPTION, "")),
    Case("DESC-001", "lfs-pointer", write(DESCRIPTION, POINTER)),
    Case("DESC-001", "empty-key", value(DESCRIPTION, [""], "FLOAT")),
    Case("DESC-007", "object", value(DESCRIPTION, ["optional"], "none")),
    Case("DESC-007", "type", value(DESCRIPTION, ["lm_head.weight"], 8)),
    Case("DIR-001", "conflict", "dir-001"),
    Case("DIR-001", "none", "dir-002-missing"),
    Case("DIR-002", "missing", "dir-002-missing"),
    Case("DIR-002", "several", "dir-002-several"),
    Case("DIR-011", "json-syntax", write(CONFIG, '{"torch_dtype": "float16",}')),
    Case("DIR-011", "lfs-pointer", write(CONFIG, POINTER)),
    Case(
        "DIR-022", "tensor",
        [
            *header("{}", "optional/other.safetensors"),
            *value(DESCRIPTION, ["optional"],
                   {"quarot": {"rotation_map": {"global_rotation": "optional/other.safetensors"}}}),
        ],
    ),
    Case("DYN-001", "dtype", "dyn-001"),
    Case("IDX-001", "lfs-pointer", "idx-001-lfs"),
    Case("IDX-001", "html-page", "idx-001-html"),
    Case("IDX-001", "pickle", "idx-001-pickle"),
    Case("IDX-001", "gguf", write(SHARD, "GGUF and more")),
    Case("IDX-001", "header-metadata", header('{"__metadata__": 3}')),
    Case("IDX-002", "name", [{"op": "copy", "file": INDEX, "to": f"other_{INDEX}"}]),
    Case("IDX-003", "unlisted", "idx-003-unlisted"),
    Case("IDX-003", "absent", "idx-003-absent"),
    Case("IDX-004", "absent", "idx-004"),
    Case(
        "IDX-004", "elsewhere",
        [
            *header(json.dumps({"x": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}}),
                    "extra.safetensors"),
            *value(INDEX, ["weight_map", "lm_head.weight"], "extra.safetensors"),
        ],
    ),
    Case("IDX-005", "interrupted", "idx-005-interrupted"),
    Case("IDX-005", "totals",
         [{"op": "copy", "file": SHARD, "to": SHARD.replace("1-of-00001", "2-of-00003")}]),
    Case("DESC-038", "lm_head", "desc-038-head"),
    Case("DIR-025", "form", "dir-025-outside"),
    Case("DIR-026", "end", "dir-026-end"),
    Case("DIR-026", "lfs-pointer", "dir-026-lfs"),
    Case("KV-002", "shape", "kv-002"),
    Case("NUM-005", "dtype", "num-005"),
    Case("ROT-004", "absent", "rot-004"),
    Case("ROT-004", "index", "rot-004"),
    Case("W4A8-013", "unexpected", "w4a8-013"),
]  # fmt: skip


def broken(case: Case, directory: Path) -> Path:
    if isinstance(case.broken, str):
        path = GOLDEN / "invalid" / f"{case.broken}.json"
        golden = json.loads(path.read_text(encoding="utf-8"))
        shutil.copytree(GOLDEN / "valid" / golden["base"], directory)
        apply(golden["patch"], directory)
    else:
        shutil.copytree(GOLDEN / "valid" / "w8a8-a1-fp16", directory)
        apply(case.broken, directory)
    return directory


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.requirement}-{case.kind}")
def test_finding_is_told_with_the_fix_of_its_kind(case: Case, tmp_path: Path) -> None:
    report = run(broken(case, tmp_path / "x"), level="layout")
    result = next(r for r in report.results if r.requirement.id == case.requirement)
    group = next(group for group in result.groups if group.kind == case.kind)
    advice = CATALOGUE[case.requirement].kinds[case.kind]
    assert advice.fix != result.requirement.fix
    assert [text for _, text in block(result, group).fields][-1] == advice.fix
    assert [text for _, text in block(result, group, ZH).fields][-1] == advice.fix_zh
    assert advice.why in dict(block(result, group).fields)["effect"]
    told = [json.loads(line) for line in lines(report)]
    assert advice.fix in [line["fix"] for line in told if line["kind"] == "finding"]


def test_every_advice_is_shown_by_a_broken_directory() -> None:
    shown = {(case.requirement, case.kind) for case in CASES}
    for key, requirement in CATALOGUE.items():
        for advice in set(requirement.kinds.values()):
            kinds = {kind for kind, own in requirement.kinds.items() if own == advice}
            assert {(key, kind) for kind in kinds} & shown


def test_other_kinds_are_told_the_fix_of_the_requirement() -> None:
    requirement: Requirement = CATALOGUE["IDX-001"]
    assert fix(requirement, "offsets-range") == requirement.fix
    assert why(requirement, "offsets-range", ZH) == requirement.why_zh
    text = " ".join(explanation(requirement).split())
    assert requirement.fix in text
    assert f"lfs-pointer: {fix(requirement, 'lfs-pointer')}" in text
