"""Bad input gets one clear line and the right exit code, from the command and from pytest."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slimcheck.cli import main
from slimspec.data import folder

VALID = "w8a8-dynamic-a1-bf16"
SHARD = "quant_model_weights-00001-of-00001.safetensors"
INDEX = "quant_model_weights.safetensors.index.json"
DESCRIPTION = "quant_model_description.json"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / VALID, target)
    return target


def truncated(d: Path) -> None:
    (d / SHARD).write_bytes((d / SHARD).read_bytes()[:-7])


def endless_header(d: Path) -> None:
    content = (d / SHARD).read_bytes()
    (d / SHARD).write_bytes((2**60).to_bytes(8, "little") + content[8:])


def duplicate_key(d: Path) -> None:
    text = (d / DESCRIPTION).read_text().replace("{", '{"lm_head.weight": "W8A8",', 1)
    (d / DESCRIPTION).write_text(text)


def leads_outside(d: Path) -> None:
    text = (d / INDEX).read_text().replace(f'"{SHARD}"', '"../x.safetensors"', 1)
    (d / INDEX).write_text(text)


def empty_shard(d: Path) -> None:
    (d / SHARD).write_bytes(b"")


def pickled(d: Path) -> None:
    (d / SHARD).write_bytes(b"\x80\x04\x95" + b"\x00" * 64)


def no_description(d: Path) -> None:
    (d / DESCRIPTION).unlink()


def deep_json(d: Path) -> None:
    (d / DESCRIPTION).write_text("[" * 100_000)


BROKEN: list[tuple[Callable[[Path], None], str, str]] = [
    (truncated, "IDX-001", "the size of the data"),
    (endless_header, "IDX-001", "1152921504606846976"),
    (duplicate_key, "DESC-001", "lm_head.weight"),
    (leads_outside, "SEC-001", "../x.safetensors"),
    (empty_shard, "IDX-001", "0 bytes"),
    (pickled, "IDX-001", "pickle"),
    (no_description, "DIR-002", "no quant_model_description"),
    (deep_json, "DESC-001", ""),
]


@pytest.mark.parametrize(
    ("damage", "requirement", "said"), BROKEN, ids=lambda v: getattr(v, "__name__", "")
)
def test_damage_is_a_finding_of_its_requirement(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    requirement: str,
    said: str,
) -> None:
    damage(checkpoint)
    assert main([str(checkpoint)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    block = out.split(f"ERROR {requirement}")[1].split("\n\n")[0]
    assert said in block
    assert "Traceback" not in out


def not_there(d: Path) -> Path:
    return d / "nowhere"


def a_file(d: Path) -> Path:
    return d / "config.json"


def empty_directory(d: Path) -> Path:
    (d / "empty").mkdir()
    return d / "empty"


def float_model(d: Path) -> Path:
    (d / DESCRIPTION).unlink()
    (d / INDEX).unlink()
    from slimspec.golden.tiny_models import write_float

    write_float(d / "float", "fp16")
    return d / "float"


def awq_model(d: Path) -> Path:
    target = d / "awq"
    target.mkdir()
    (target / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    return target


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (not_there, "no such directory"),
        (a_file, "not a directory"),
        (empty_directory, "no checkpoint of a known family"),
        (float_model, "a float model"),
        (awq_model, "of the awq family"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_what_cannot_be_judged_is_said_in_one_line(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    place: Callable[[Path], Path],
    said: str,
) -> None:
    assert main([str(place(checkpoint))]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--consumer", "nobody"],
        ["--producer", "Z9"],
        ["--select", "NOPE-*"],
        ["--ignore", "w8a8-001"],
        ["--report", "pdf=x"],
        ["--report", "jsonl="],
        ["--report", "jsonl=/no/such/place/x"],
        ["--level", "deep"],
        ["--level", "numeric"],
        ["--threads", "-1"],
        ["--threads", "many"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_4(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    directory = [str(checkpoint)] if arguments else []
    assert main([*directory, *arguments]) == 4
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_checked_exits_with_5(checkpoint: Path) -> None:
    assert main([str(checkpoint), "--select", "DIR-016", "-q"]) == 5  # needs --tp
    assert main([str(checkpoint), "--select", "W8A16-001", "-q"]) == 5


def run_pytest(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "--pyargs", "slimcheck.suite", "-q"]
    command += ["-p", "no:cacheprovider", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_pytest_gives_the_same_verdicts(checkpoint: Path, tmp_path: Path) -> None:
    option = "--slimcheck-checkpoint"
    assert run_pytest(option, checkpoint).returncode == 0
    assert run_pytest(option, tmp_path / "nowhere").returncode == 4
    assert run_pytest(option, checkpoint, "--slimcheck-select", "W8A16-001").returncode == 5
    truncated(checkpoint)
    result = run_pytest(option, checkpoint)
    assert result.returncode == 1
    assert "IDX-001" in result.stdout
    assert "Traceback" not in result.stdout


def test_pytest_writes_the_reports(checkpoint: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.jsonl"
    run_pytest("--slimcheck-checkpoint", checkpoint, "--slimcheck-report", f"jsonl={report}")
    assert report.read_text().splitlines()[-1].startswith('{"kind": "footer"')
