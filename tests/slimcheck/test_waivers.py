"""Waived findings do not count, are still shown, and a waiver for nothing is an error."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slimcheck.cli import main
from slimcheck.engine import Status
from slimcheck.report import ExitCode
from slimcheck.report.jsonl import lines
from slimcheck.report.junit import document
from slimcheck.run import run
from slimcheck.waivers import WaiverError, read_waivers
from slimspec.data import folder
from slimspec.golden.patch import apply
from slimspec.jsonschemas import validator

SHARD = "quant_model_weights-00001-of-00001.safetensors"
UP = "model.layers.{}.mlp.up_proj.input_offset"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A directory that violates W8A8-006 in two layers and lacks its tokenizer."""
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    patch = [
        {"op": "tensor-values", "file": SHARD, "name": UP.format(layer), "at": 0, "value": 0.5}
        for layer in (0, 1)
    ]
    apply([*patch, {"op": "delete", "file": "tokenizer_config.json"}], target)
    return target


@pytest.fixture
def waive(tmp_path: Path):
    def write(*text: str) -> list[Path]:
        path = tmp_path / "waivers.txt"
        path.write_text("\n".join(text) + "\n", encoding="utf-8")
        return [path]

    return write


def test_waived_finding_does_not_count(broken, waive) -> None:
    assert run(broken).exit_code is ExitCode.NOT_CONFORMANT
    report = run(broken, waive=waive("# known", "", "W8A8-006 *.up_proj.* accepted by us"))
    assert report.exit_code is ExitCode.CONFORMANT
    (result,) = (r for r in report.results if r.requirement.id == "W8A8-006")
    assert result.status is Status.WAIVED
    assert report.counts["waived"] == 1
    assert [reason for _, reason in result.waived] == ["accepted by us"]


def test_waiver_of_some_tensors_leaves_the_others(broken, waive) -> None:
    report = run(broken, waive=waive("W8A8-006 model.layers.0.* accepted"))
    assert report.exit_code is ExitCode.NOT_CONFORMANT
    (result,) = (r for r in report.failed if r.requirement.id == "W8A8-006")
    assert [group.tensors for group in result.groups] == [[UP.format(1)]]
    assert [group.tensors for group, _ in result.waived] == [[UP.format(0)]]


def test_two_waivers_may_share_a_group(broken, waive) -> None:
    report = run(
        broken, waive=waive("W8A8-006 model.layers.0.* one", "W8A8-006 model.layers.1.* two")
    )
    assert report.exit_code is ExitCode.CONFORMANT
    (result,) = (r for r in report.results if r.requirement.id == "W8A8-006")
    assert [reason for _, reason in result.waived] == ["one", "two"]


def test_dash_waives_what_names_no_tensor_only(broken, waive) -> None:
    report = run(broken, waive=waive("DIR-012 - elsewhere", "W8A8-006 - no"))
    assert report.exit_code is ExitCode.NOT_CONFORMANT
    assert [w.requirement for w in report.unmatched] == ["W8A8-006"]
    assert {r.requirement.id for r in report.results if r.status is Status.WAIVED} == {"DIR-012"}


def test_file_pattern_waives_a_finding_about_a_file(tmp_path: Path, waive) -> None:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] = {"group_size": 0}
    (target / "config.json").write_text(json.dumps(config))
    report = run(target, strict=True, select=["CFG-011"], waive=waive("CFG-011 config.* known"))
    assert report.exit_code is ExitCode.CONFORMANT


def test_waiver_that_meets_no_finding_has_its_own_exit_code(
    broken, waive, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = waive("W8A8-006 * accepted", "W8A8-006 gone.* mended long ago")
    assert main([str(broken), "--waive", str(path)]) == ExitCode.WAIVER_UNMATCHED == 6
    out = capsys.readouterr().out
    assert "waives nothing: W8A8-006 gone.* (line 2)" in out
    assert "WAIVED" in out
    assert "accepted" in out
    (path,) = waive("W8A8-006 gone.* mended long ago")
    assert main([str(broken), "--waive", str(path), "-q"]) == 1


def test_waiver_of_what_was_not_checked_is_not_unmatched(broken, waive) -> None:
    waivers = waive("W8A8-006 * accepted")
    assert run(broken, level="layout", waive=waivers).exit_code is ExitCode.CONFORMANT
    assert run(broken, ignore=["W8A8-006"], waive=waivers).exit_code is ExitCode.CONFORMANT
    narrowed = run(broken, tensor="*.down_proj.*", waive=waivers)
    assert narrowed.exit_code is ExitCode.CONFORMANT


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("W8A8-006", ":2: found 'W8A8-006', expected ID PATTERN REASON"),
        ("W8A8-006 *", ":2: found"),
        ("W8A8-06 * typo", ":2: no requirement 'W8A8-06'"),
        ("DIR-012 - again", ":2: the same waiver as line 1"),
    ],
)
def test_malformed_line_is_refused_with_its_number(
    broken, waive, line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = waive("DIR-012 - elsewhere", line)
    assert main([str(broken), "--waive", str(path)]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_unreadable_waiver_file_is_refused(broken, tmp_path: Path) -> None:
    assert main([str(broken), "--waive", str(tmp_path / "nowhere")]) == 4
    (tmp_path / "latin").write_bytes(b"DIR-012 - caf\xe9\n")
    with pytest.raises(WaiverError, match="not UTF-8"):
        read_waivers(tmp_path / "latin")


def test_every_form_shows_the_waived_finding(broken, waive) -> None:
    report = run(broken, waive=waive("W8A8-006 * accepted by us", "DIR-012 - elsewhere"))
    rows = [json.loads(line) for line in lines(report)]
    for row in rows:
        validator("report").validate(row)
    reasons = {r["requirement"]: r["reason"] for r in rows if r.get("verdict") == "waived"}
    assert reasons == {"W8A8-006": "accepted by us", "DIR-012": "elsewhere"}
    assert rows[-1]["findings"] == len(rows) - 2
    suite = ElementTree.fromstring(document(report))[0]
    (case,) = (c for c in suite if c.attrib["name"] == "W8A8-006")
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "waived: accepted by us"


def test_pytest_takes_waivers(broken, waive) -> None:
    def code(*text: str) -> int:
        (path,) = waive(*text)
        command = [sys.executable, "-m", "pytest", "--pyargs", "slimcheck.suite", "-q"]
        command += ["-p", "no:cacheprovider", "--slimcheck-checkpoint", str(broken)]
        command += ["--slimcheck-waive", str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert code("W8A8-006 * accepted") == 0
    assert code("W8A8-006 * accepted", "DIR-012 gone accepted") == 6
