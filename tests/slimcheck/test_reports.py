"""One finding model, three forms."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slimcheck.cli import main
from slimcheck.consumers import consumers
from slimcheck.report import Report
from slimcheck.report.jsonl import lines
from slimcheck.report.junit import document
from slimcheck.run import run
from slimspec.data import folder
from slimspec.golden.patch import apply
from slimspec.jsonschemas import validator


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    name = "quant_model_weights-00001-of-00001.safetensors"
    linear = "model.layers.0.mlp.up_proj"
    apply(
        [
            {
                "op": "tensor-values",
                "file": name,
                "name": f"{linear}.input_offset",
                "at": 0,
                "value": 0.5,
            },
            {"op": "delete", "file": "tokenizer_config.json"},
        ],
        target,
    )
    return target


@pytest.fixture
def report(broken: Path) -> Report:
    return run(broken)


def test_every_line_fits_the_schema(report: Report) -> None:
    rows = [json.loads(line) for line in lines(report)]
    for row in rows:
        validator("report").validate(row)
    assert [rows[0]["kind"], rows[-1]["kind"]] == ["header", "footer"]
    findings = {row["requirement"]: row for row in rows[1:-1]}
    assert findings["W8A8-006"]["tensors"] == ["model.layers.0.mlp.up_proj.input_offset"]
    assert findings["W8A8-006"]["scope"] == "format" or findings["W8A8-006"]["scope"] == "producer"
    assert {row["scope"] for row in rows[1:-1] if row["requirement"] == "DIR-012"} == {
        "mindie", "vllm-ascend", "vllm-ascend-310p",
    }  # fmt: skip
    assert rows[-1]["conformant"] is False
    assert rows[-1]["exit_code"] == 1


def test_junit_has_one_case_per_requirement(report: Report) -> None:
    suite = ElementTree.fromstring(document(report))[0]
    assert int(suite.attrib["tests"]) == len(suite) == len(report.results)
    failed = {case.attrib["name"] for case in suite if case.find("failure") is not None}
    assert failed == {"W8A8-006"}
    assert int(suite.attrib["failures"]) == 1
    skipped = sum(case.find("skipped") is not None for case in suite)
    assert int(suite.attrib["skipped"]) == skipped > 0


def test_quiet_prints_the_verdict_only(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(broken), "-q"])
    assert len(capsys.readouterr().out.splitlines()) == len(consumers()) + 1


def test_strict_makes_a_should_count(broken: Path) -> None:
    assert main([str(broken), "--select", "DIR-012", "-q"]) == 0
    assert main([str(broken), "--select", "DIR-012", "--strict", "--consumer", "mindie", "-q"]) == 1


def test_named_consumer_makes_its_must_count(broken: Path) -> None:
    assert main([str(broken), "--select", "W8A8-021", "-q"]) == 0
    options = ["--select", "W8A8-021", "--consumer", "vllm-ascend-310p", "-q"]
    assert main([str(broken), *options]) == 1


def test_select_ignore_and_tensor_narrow_the_judgement(broken: Path) -> None:
    assert main([str(broken), "-q"]) == 1
    assert main([str(broken), "--ignore", "W8A8-*", "-q"]) == 0
    assert main([str(broken), "--select", "DIR-*", "--select", "IDX-*", "-q"]) == 0
    assert main([str(broken), "--tensor", "*.up_proj.*", "-q"]) == 1
    assert main([str(broken), "--tensor", "*.down_proj.*", "-q"]) == 0
    assert main([str(broken), "--level", "layout", "-q"]) == 0


def test_explain_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "w8a8-006"]) == 0
    assert "W8A8-006" in capsys.readouterr().out
    assert main(["explain", "W8A8-06"]) == 4
    assert "near: " in capsys.readouterr().err
    assert main(["rules"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) > 100
    assert any(line.startswith("IDX-001 ") for line in listed)
