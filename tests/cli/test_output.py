"""The output of `slimspec`: no reader, no stream, narrow encodings, hostile text, usage."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from slimspec.cli import main
from slimspec.cli.progress import progress_bar
from slimspec.data import folder
from slimspec.output import Output, carried, run_program

VALID = folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16"
STRICT = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(arguments: str, redirect: str = "", **environ: str) -> subprocess.CompletedProcess[bytes]:
    line = f"{sys.executable} -m slimspec {arguments} {redirect}; echo code $? >&2"
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, env=os.environ | environ, check=False
    )


@pytest.mark.parametrize("redirect", [">&-", "> >(exec true)", "> >(head -1)"])
@pytest.mark.parametrize("arguments", [f"inspect {VALID}", "golden list", "--help"])
def test_unheard_output_is_no_error(arguments: str, redirect: str) -> None:
    assert shell(arguments, redirect).stderr == b"code 0\n"


@pytest.mark.parametrize("environ", [{"PYTHONIOENCODING": "latin1"}, STRICT])
def test_any_encoding_carries_the_table(environ: dict[str, str]) -> None:
    result = shell(f"inspect {VALID}", **environ)
    assert result.stderr == b"code 0\n"
    assert b" ... " in result.stdout


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("a × … 中", "utf-8", "a × … 中"),
        ("a × …", "ascii", "a x ..."),
        ("中", "latin1", "\\u4e2d"),
        ("\udc80", "utf-8", "\\udc80"),
    ],
)
def test_carried_drops_nothing(text: str, encoding: str, expected: str) -> None:
    assert carried(text, encoding) == expected


def test_closed_pipe_is_no_failure_and_goes_on() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        output = Output(stream)
        for _ in range(3):
            assert output.write("text\n") == 5
            output.flush()
        assert output.failure == ""


def test_exit_code_of_the_program_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program("p", lambda: 5) == 5
    assert capsys.readouterr().err == ""


def test_progress_titles_are_literal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = StringIO()

    def console(**_: object) -> Console:
        return Console(file=text, force_terminal=True, color_system=None, width=200)

    monkeypatch.setattr("slimspec.cli.progress.Console", console)
    with progress_bar("e[/] [red]\x1b[31m", 10) as advance:
        advance(10)
    assert "e[/] [red]\\x1b[31m" in text.getvalue()


def test_no_command_prints_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 4
    assert "usage: slimspec" in capsys.readouterr().err
    assert main(["--bogus"]) == 4
    assert "arguments" not in capsys.readouterr().err.splitlines()[-1].partition("required:")[2]


def test_vectors_beyond_memory_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = "m=99999999,n=99999999,k=99999999"
    command = ["golden", "generate", str(tmp_path), "--op", "quantize_dynamic", "--shape", size]
    assert main(command) == 4
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
