"""Where reports go, and that output decides no exit code."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from slimcheck import run as run_module
from slimcheck.cli import main
from slimcheck.run import RunError, check_requests
from slimspec.data import folder

DESCRIPTION = "quant_model_description.json"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    return target


def judge(checkpoint: Path, report: Path | str) -> int:
    return main([str(checkpoint), "--level", "layout", "-q", "--report", f"jsonl={report}"])


def is_whole(content: bytes) -> bool:
    return bool(json.loads(content.splitlines()[-1])["kind"] == "footer")


def test_fifo_is_written_through(checkpoint: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()), daemon=True)
    reader.start()
    assert judge(checkpoint, fifo) == 0
    reader.join(10)
    assert is_whole(got[0])
    assert stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.parametrize("there", [True, False])
def test_symlink_stays_and_its_target_is_written(
    checkpoint: Path, tmp_path: Path, there: bool
) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    if there:
        target.write_text("old")
    link.symlink_to(target.name)
    assert judge(checkpoint, link) == 0
    assert link.is_symlink()
    assert is_whole(target.read_bytes())


@pytest.mark.parametrize(
    ("mode", "through"), [(stat.S_IFCHR, True), (stat.S_IFIFO, True), (stat.S_IFREG, False)]
)
def test_only_a_regular_file_is_replaced(mode: int, through: bool) -> None:
    class Fake:
        def stat(self) -> os.stat_result:
            return os.stat_result((mode | 0o666, 1 << 60, 1 << 60, 1, 0, 0, 0, 0, 0, 0))

    assert run_module._through(Fake()) is through  # type: ignore[arg-type]


def test_own_standard_output_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slimcheck", str(checkpoint), "--level", "layout", "-q",
               "--report", "jsonl=/dev/stdout"]  # fmt: skip
    with (tmp_path / "out").open("wb") as stream:
        assert subprocess.run(command, stdout=stream, check=False).returncode == 0
    content = (tmp_path / "out").read_bytes()
    assert not content.startswith(b"{")  # the verdict, then the report
    assert is_whole(content)


@pytest.mark.parametrize("how", ["direct", "link", "dots"])
def test_report_inside_the_judged_directory_is_refused(
    checkpoint: Path, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = checkpoint / DESCRIPTION
    before = target.read_bytes()
    report = {"direct": target, "link": tmp_path / "link", "dots": checkpoint / "x" / ".." / "new"}
    if how == "link":
        report[how].symlink_to(target)
    assert judge(checkpoint, report[how]) == 4
    assert "is judged" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert not (checkpoint / "new").exists()


def test_new_report_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(
    checkpoint: Path, tmp_path: Path
) -> None:
    old = os.umask(0o027)
    try:
        report = tmp_path / "report"
        assert judge(checkpoint, report) == 0
        assert stat.S_IMODE(report.stat().st_mode) == 0o640
        report.chmod(0o604)
        assert judge(checkpoint, report) == 0
        assert stat.S_IMODE(report.stat().st_mode) == 0o604
    finally:
        os.umask(old)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "report"]


@pytest.mark.parametrize("name", ["missing/report", ".", "loop"])
def test_report_that_cannot_be_made_stops_before_judging(
    checkpoint: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert judge(checkpoint, tmp_path / name) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("slimcheck: cannot write report ")


def test_check_leaves_nothing_behind(tmp_path: Path) -> None:
    check_requests([f"jsonl={tmp_path / 'report'}"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunError, match="is judged"):
        check_requests([f"jsonl={tmp_path / 'report'}"], tmp_path)


def test_two_reports_do_not_share_a_file(tmp_path: Path) -> None:
    again = tmp_path / "." / "report"
    with pytest.raises(RunError, match="two reports into one file"):
        check_requests([f"jsonl={tmp_path / 'report'}", f"html={again}"])


SHELL = "{python} -m {command} {redirect}; echo code $? >&2"


def shell(command: str, redirect: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    line = SHELL.format(python=sys.executable, command=command, redirect=redirect)
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, env=os.environ | environ, check=False
    )


@pytest.mark.parametrize("redirect", [">&-", "> >(exec true)", "> >(head -1)", ">&- 2>/dev/null"])
@pytest.mark.parametrize("conformant", [True, False])
def test_unheard_output_keeps_the_exit_code(
    checkpoint: Path, redirect: str, conformant: bool
) -> None:
    if not conformant:
        (checkpoint / DESCRIPTION).unlink()
    result = shell(f"slimcheck {checkpoint} --level layout", redirect)
    assert result.stderr == f"code {0 if conformant else 1}\n".encode()


def test_full_device_is_told(checkpoint: Path) -> None:
    result = shell(f"slimcheck {checkpoint} --level layout", ">/dev/full")
    assert result.stderr.splitlines()[-1] == b"code 4"
    assert b"standard output cannot be written" in result.stderr
    assert result.stderr.count(b"\n") == 2


STRICT = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environ", [{"PYTHONIOENCODING": "latin1"}, STRICT])
def test_rules_are_listed_in_any_encoding(environ: dict[str, str]) -> None:
    result = shell("slimcheck rules", "", **environ)
    assert result.stderr == b"code 0\n"
    assert result.stdout.count(b"\n") > 100
    for command in ("rules", "explain W8A8-001"):
        refused = shell(f"slimcheck {command} --lang zh", "", **environ)
        assert refused.stderr.endswith(b"\ncode 4\n")
        assert b"no Chinese" in refused.stderr


def test_empty_name_is_not_the_current_directory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkpoint)
    assert main([""]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_found_text_is_escaped_once(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = checkpoint / "quant_model_weights.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["a\x1bb"] = "c\x1bd.safetensors"
    index.write_text(json.dumps(content))
    description = json.loads((checkpoint / DESCRIPTION).read_text())
    description["e\x1bf.weight"] = "W8\x1bA8"
    (checkpoint / DESCRIPTION).write_text(json.dumps(description))
    main([str(checkpoint), "--level", "layout"])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "c\\x1bd.safetensors" in out
    assert "W8\\x1bA8" in out
    assert "\\\\x1b" not in out
