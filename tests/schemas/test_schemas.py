"""The data of `schemas/` obeys its own JSON Schemas, and these refuse what they should."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from slimspec.data import folder
from slimspec.layout import description_schema, vocabulary

SCHEMAS = folder("schemas")
FORMS = sorted(SCHEMAS.glob("*.schema.json"))
DATA = sorted(p for p in SCHEMAS.rglob("*.json") if not p.name.endswith(".schema.json"))


def read(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


REGISTRY = Registry().with_resources(
    [(form.name, Resource.from_contents(read(form))) for form in FORMS]
)


def validator(name, part=None):
    schema = read(SCHEMAS / f"{name}.schema.json")
    if part:
        schema = {**schema, "$ref": f"#/$defs/{part}"}
    return Draft202012Validator(schema, registry=REGISTRY)


def relative(path):
    return path.relative_to(SCHEMAS).as_posix()


@pytest.mark.parametrize("path", FORMS, ids=relative)
def test_schema_is_draft_2020_12(path):
    form = read(path)
    assert form["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(form)


@pytest.mark.parametrize("path", DATA, ids=relative)
def test_file_obeys_the_schema_it_names(path):
    data = read(path)
    form = (path.parent / data["$schema"]).resolve()
    assert form in [f.resolve() for f in FORMS]
    assert list(validator(form.name.removesuffix(".schema.json")).iter_errors(data)) == []


@pytest.mark.parametrize("path", DATA, ids=relative)
def test_unknown_member_is_refused_at_every_level(path):
    data = read(path)
    check = validator(Path(data["$schema"]).name.removesuffix(".schema.json"))
    assert not check.is_valid({**data, "surprise": 1})
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            broken = copy.deepcopy(data)
            broken[key][0]["surprise"] = 1
            assert not check.is_valid(broken), key


@pytest.mark.parametrize("path", sorted((SCHEMAS / "layouts").glob("*.json")), ids=relative)
def test_layout_is_named_after_its_type(path):
    assert read(path)["type"] == path.stem


def layout(**changes):
    entry = {
        "profiles": ["A1"],
        "presence": "required",
        "dtype": ["I8"],
        "shape": [["n", "k"]],
        "source": ["measured:x"],
    }
    entry.update(changes)
    return {
        "$schema": "../layout.schema.json",
        "type": "X",
        "kind": "linear",
        "host": "linear",
        "title": "X",
        "profiles": ["A1"],
        "tensors": {"weight": [{k: v for k, v in entry.items() if v is not ...}]},
        "source": ["measured:x"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": ["int8"]},
        {"dtype": []},
        {"dtype": ...},
        {"shape": ...},
        {"shape": [["n", 0]]},
        {"shape": [["n + 1"]]},
        {"presence": "maybe"},
        {"presence": "forbidden"},
        {"profiles": ["Z9"]},
        {"profiles": []},
        {"source": []},
        {"source": ["somewhere"]},
        {"values": {"max": 1}},
        {"label": ["not a label"]},
        {"packing": ["zip"]},
    ],
    ids=str,
)
def test_broken_layout_is_refused(changes):
    check = validator("layout")
    assert check.is_valid(layout())
    assert not check.is_valid(layout(**changes))


def report_lines():
    header = {
        "kind": "header", "tool": "slimcheck", "version": "0.1.0", "directory": "d",
        "profile": "A1", "level": "values", "consumers": ["mindie"], "select": [], "ignore": [],
        "strict": False,
    }  # fmt: skip
    finding = {
        "kind": "finding", "requirement": "W8A8-003", "level": "MUST", "scope": "format",
        "verdict": "violated", "pattern": "a.{0-9}", "count": 11, "tensors": ["a.0"], "file": "f",
        "expected": "e", "found": "f", "fix": "x",
    }  # fmt: skip
    footer = {
        "kind": "footer", "findings": 1, "conformant": False, "exit_code": 1,
        "counts": {"failed": 1},
        "verdicts": {"mindie": {"verdict": "will not load", "reasons": ["W8A8-003"]}},
    }  # fmt: skip
    return {"header": header, "finding": finding, "footer": footer}


@pytest.mark.parametrize("kind", ["header", "finding", "footer"])
def test_report_line_needs_all_its_keys(kind):
    check = validator("report")
    line = report_lines()[kind]
    assert check.is_valid(line)
    assert not check.is_valid({**line, "surprise": 1})
    for key in line:
        assert not check.is_valid({k: v for k, v in line.items() if k != key}), key


def test_report_cannot_claim_conformance_with_a_bad_exit_code():
    footer = report_lines()["footer"]
    assert not validator("report").is_valid({**footer, "conformant": True})
    assert not validator("report").is_valid({**footer, "exit_code": 0})
    assert validator("report").is_valid({**footer, "conformant": True, "exit_code": 0})
    assert not validator("report").is_valid({**footer, "exit_code": 6})


def test_report_names_ten_tensors_at_most():
    finding = report_lines()["finding"]
    assert validator("report").is_valid({**finding, "tensors": ["t"] * 10})
    assert not validator("report").is_valid({**finding, "tensors": ["t"] * 11})
    assert not validator("report").is_valid({**finding, "scope": "somebody"})


@pytest.mark.parametrize(
    ("index", "valid"),
    [
        ({"metadata": {"total_size": 1}, "weight_map": {"a": "x.safetensors"}}, True),
        ({"a.weight": "x.safetensors"}, True),
        ({"metadata": {"total_size": -1}, "weight_map": {}}, False),
        ({"metadata": {"total_size": 1}}, False),
        ({"weight_map": {"a": "x.safetensors"}}, False),
        ({"metadata": {"total_size": 1}, "weight_map": {"a": "../x.safetensors"}}, False),
        ({"metadata": {"total_size": 1}, "weight_map": {"a": "/x.safetensors"}}, False),
        ({"metadata": {"total_size": 1}, "weight_map": {"a": "x.bin"}}, False),
        ({}, False),
        ([], False),
    ],
)
def test_index_forms(index, valid):
    assert validator("index").is_valid(index) is valid


@pytest.mark.parametrize(
    ("part", "description", "valid"),
    [
        ("L0", {"model_quant_type": "W8A8", "a.weight": "W8A8"}, True),
        ("L0", {"model_quant_type": "W8A8", "version": "1.0.0"}, False),
        ("L0", {"model_quant_type": "W4A16", "group_size": 64}, False),
        ("A0", {"model_quant_type": "W8A8", "version": "1.0.0"}, True),
        ("A0", {"model_quant_type": "W8A8"}, False),
        ("A1", {"model_quant_type": "W8A8", "version": "1.0.0", "group_size": 0, "metadata": {},
                "optional": {}}, True),
        ("A1", {"model_quant_type": "W8A8", "version": "1.0.0"}, False),
        ("A1", {"thinker.model_quant_type": "W8A8", "thinker.version": "1.0.0",
                "thinker.group_size": 0, "thinker.metadata": {}, "thinker.optional": {}}, True),
        ("any", {"model_quant_type": "UNKNOWN"}, False),
        ("any", {"group_size": "256"}, False),
        ("any", {"group_size": True}, False),
        ("any", {"kv_cache_type": "KV8"}, False),
        ("any", {"version": "1.0"}, False),
        ("any", {"a.weight": "w8a8"}, False),
        ("any", {"a.weight": 3}, False),
        ("any", {"a.weight": "W8A8_FLATQUANT"}, True),
        ("any", {"a.weight.outdim": 3, "a.bias": 3, "b.bias": "FLOAT"}, True),
        ("any", {"a.weight.outdim": 0}, False),
        ("any", {"a.self_attn.quant_type": "Q_FP8_DYNAMIC_KV_FP8"}, True),
        ("any", {"a.self_attn.quant_type": "VQ_FP8"}, False),
        ("any", {"": "FLOAT"}, False),
    ],
)  # fmt: skip
def test_description_forms(part, description, valid):
    assert validator("description", part).is_valid(description) is valid


def test_description_schema_is_generated_from_the_vocabulary():
    assert read(SCHEMAS / "description.schema.json") == description_schema.build()


@pytest.mark.slow
def test_command_in_the_generated_schema_writes_it():
    command = [sys.executable, "-m", *description_schema.COMMAND.split()[2:]]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout == (SCHEMAS / "description.schema.json").read_text(encoding="utf-8")


def test_config_knows_the_types_that_mindie_accepts():
    spelled = {row.quantize for row in vocabulary.labels().values() if row.quantize}
    assert set(read(SCHEMAS / "config.schema.json")["properties"]["quantize"]["enum"]) == spelled


@pytest.mark.parametrize(
    ("config", "valid"),
    [
        ({"model_type": "qwen2", "hidden_size": 8, "torch_dtype": "bfloat16"}, True),
        ({"quantize": "w8a8", "quantization_config": {"group_size": 64, "act_method": 1}}, True),
        ({"quantize": "W8A8"}, False),
        ({"quantization_config": {"group_size": -1}}, False),
        ({"quantization_config": {"quant_method": "fp8"}}, False),
        ({"torch_dtype": "int8"}, False),
    ],
)
def test_config_is_open_to_the_fields_of_the_model(config, valid):
    assert validator("config").is_valid(config) is valid


def test_golden_manifest_obeys_its_schema():
    manifest = read(folder("golden") / "manifest.json")
    check = validator("manifest")
    assert list(check.iter_errors(manifest)) == []
    path = {"path": "../x", "bytes": 1, "sha256": "0" * 64}
    assert not check.is_valid({**manifest, "files": [path]})
