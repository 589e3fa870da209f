"""The commands of docs/golden.md print what the page says."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from slimspec.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "golden.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
STEPS = [step for block in BLOCK.findall(PAGE) for step in re.split(r"^\$ ", block, flags=re.M)[1:]]


def answer(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command of the page prints; three programs are known."""
    program, *arguments = shlex.split(command)
    if program == "ls":
        return "".join(f"{name}\n" for name in sorted(os.listdir(*arguments)))
    if program == "cat":
        return Path(*arguments).read_text(encoding="utf-8")
    assert program == "slimspec", command
    assert main(arguments) in (0, 1)
    return capsys.readouterr().out


def test_commands_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    assert len(STEPS) >= 6
    for step in STEPS:
        command, _, told = step.partition("\n")
        assert answer(command, capsys) == told, command
