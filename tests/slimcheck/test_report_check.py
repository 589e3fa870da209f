"""Nothing fails open: each way in which a judgement is missing has an error and an exit code."""

import json
import os
import shutil
from pathlib import Path

import pytest

from slimcheck.cli import main
from slimspec.data import folder

SHARD = "quant_model_weights-00001-of-00001.safetensors"
DESCRIPTION = "quant_model_description.json"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    return target


@pytest.fixture
def report(directory: Path, tmp_path: Path) -> Path:
    """A stored report with findings."""
    (directory / "tokenizer_config.json").unlink()
    path = tmp_path / "report.jsonl"
    assert main([str(directory), "-q", "--report", f"jsonl={path}"]) == 0
    return path


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["report-check", str(path)])
    out, err = capsys.readouterr()
    assert (out + err).count("\n") == 1
    return code, out + err


def test_whole_report_returns_the_code_of_its_run(
    directory: Path, report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(report, capsys)[0] == 0
    os.truncate(directory / SHARD, 1000)
    assert main([str(directory), "-q", "--report", f"jsonl={report}"]) == 1
    code, said = check(report, capsys)
    assert code == 1
    assert "not conformant" in said


def test_report_cut_anywhere_is_truncated(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = report.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for size in (1, 100, ends[0] + 5, *ends[:-1], len(content) - 1):
        report.write_bytes(content[:size])
        code, said = check(report, capsys)
        assert code == 7, size
        assert "truncated" in said


def test_lost_line_is_noticed(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = report.read_bytes().splitlines(keepends=True)
    report.write_bytes(b"".join([lines[0], *lines[2:]]))
    code, said = check(report, capsys)
    assert code == 7
    assert "lines are missing" in said


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[]\n", b"<html>\n", b"[" * 99999 + b"\n"])
def test_what_is_no_report_exits_with_4(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert check(path, capsys)[0] == 4
    assert check(tmp_path / "nowhere", capsys)[0] == 4


def test_two_reports_in_one_file_are_refused(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.write_bytes(report.read_bytes() * 2)
    assert check(report, capsys)[0] == 4


def test_findings_before_the_header_are_refused(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = report.read_bytes().splitlines(keepends=True)
    report.write_bytes(b"".join(lines[1:]))
    assert check(report, capsys)[0] == 4


def test_shard_that_cannot_be_read_is_an_error(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / SHARD).unlink()
    (directory / SHARD).symlink_to(directory / "gone")
    assert main([str(directory)]) == 1
    assert "ERROR IDX-001" in capsys.readouterr().out


def test_deselected_rule_does_not_hide_an_unreadable_shard(directory: Path) -> None:
    os.truncate(directory / SHARD, (directory / SHARD).stat().st_size - 1)
    assert main([str(directory), "-q"]) == 1
    assert main([str(directory), "-q", "--select", "W8A8-*"]) != 0


def test_unknown_type_is_an_error(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    description = json.loads((directory / DESCRIPTION).read_text())
    known = {k: "W3A3_NEW" if v == "W8A8" else v for k, v in description.items()}
    (directory / DESCRIPTION).write_text(json.dumps(known))
    assert main([str(directory)]) == 1
    assert "W3A3_NEW" in capsys.readouterr().out


def test_no_applicable_rule_exits_with_5(directory: Path) -> None:
    assert main([str(directory), "-q", "--select", "W8A16-*"]) == 5
    assert main([str(directory), "-q", "--select", "W8A8-012", "--level", "layout"]) == 5


def test_tensor_glob_that_meets_nothing_exits_with_4(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(directory), "--tensor", "no.such.*"]) == 4
    assert "has no such tensor" in capsys.readouterr().err


def test_report_is_refused_before_the_work(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(directory), "--report", "pdf=x"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "jsonl, junit, sarif, markdown, html" in err


def test_file_name_that_is_no_text_breaks_no_report(directory: Path, tmp_path: Path) -> None:
    try:
        (directory / os.fsdecode(b"quant_model_weights\xff.npy")).write_bytes(b"x")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    forms = ("jsonl", "junit", "sarif", "markdown", "html")
    requests = [f"--report={form}={tmp_path / form}" for form in forms]
    assert main([str(directory), *requests]) in (0, 1)
    for form in forms:
        (tmp_path / form).read_text(encoding="utf-8")
