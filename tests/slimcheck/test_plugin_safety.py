"""pytest judges a directory and runs nothing of it; its verdict and its exit code agree."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slimspec.data import folder

VALID = "w8a8-dynamic-a1-bf16"
SHARD = "quant_model_weights-00001-of-00001.safetensors"
ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "conformance"
SUITE = CONFORMANCE / "slimcheck" / "suite"

# how to run the suite on DIR: from where, and with what
FORMS = {
    "after": (ROOT, ["conformance", "--checkpoint", "DIR"]),
    "after=": (ROOT, ["conformance", "--checkpoint=DIR"]),
    "before": (ROOT, ["--checkpoint", "DIR", "conformance"]),
    "below": (CONFORMANCE, [".", "--checkpoint", "DIR"]),
    "wheel": (None, ["--pyargs", "slimcheck.suite", "--slimcheck-checkpoint", "DIR"]),
    "wheel=": (None, ["--pyargs", "slimcheck.suite", "--slimcheck-checkpoint=DIR"]),
}
READS_SETTINGS = ("before", "wheel")  # pytest takes DIR for a path until it knows the options


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / VALID, target)
    return target


@pytest.fixture
def bad(checkpoint: Path) -> Path:
    """The checkpoint, violating IDX-001."""
    (checkpoint / SHARD).write_bytes((checkpoint / SHARD).read_bytes()[:-7])
    return checkpoint


@pytest.fixture
def marker(checkpoint: Path) -> Path:
    """What the checkpoint's own code would write if it ran."""
    return checkpoint.parent / "ran"


def run_pytest(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += map(str, arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def run_form(form: str, directory: Path, *more: str) -> subprocess.CompletedProcess[str]:
    cwd, arguments = FORMS[form]
    if cwd is None:
        cwd = directory.parent / "elsewhere"
        cwd.mkdir()
    return run_pytest(cwd, *(a.replace("DIR", str(directory)) for a in arguments), *more)


@pytest.mark.parametrize("form", FORMS)
def test_code_of_the_judged_directory_never_runs(form: str, checkpoint: Path, marker: Path) -> None:
    code = f"open({str(marker)!r}, 'w').close()\n"
    for name in ("conftest.py", "test_it/conftest.py", "test_it.py", "tests/test_that.py"):
        (checkpoint / name).parent.mkdir(exist_ok=True)
        (checkpoint / name).write_text(code)
    result = run_form(form, checkpoint, "--slimcheck-ignore=DIR-*", "--slimcheck-ignore=SEC-*")
    assert not marker.exists()
    assert result.returncode in (0, 1), result.stderr
    assert "CONFORMANT" in result.stdout


@pytest.mark.parametrize("form", FORMS)
def test_settings_of_the_judged_directory_have_no_effect(form: str, bad: Path) -> None:
    (bad / "pytest.ini").write_text("[pytest]\naddopts = --co\n")
    result = run_form(form, bad)
    if form in READS_SETTINGS:
        assert result.returncode == 4
        assert "settings of pytest lie in the directory to judge" in result.stderr
        assert "CONFORMANT" not in result.stdout
    else:
        assert result.returncode == 1
        assert "NOT CONFORMANT" in result.stdout


def test_a_session_that_is_started_in_the_judged_directory_is_refused(
    checkpoint: Path, marker: Path
) -> None:
    (checkpoint / "conftest.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    result = run_pytest(checkpoint, "--pyargs", "slimcheck.suite", "--slimcheck-checkpoint=.")
    assert result.returncode == 4
    assert "directory to judge" in result.stderr
    assert not marker.exists()


def test_a_judged_directory_below_the_start_is_not_entered(checkpoint: Path, marker: Path) -> None:
    inner = checkpoint.rename(checkpoint.parent / "test_model")
    arguments = ("--pyargs", "slimcheck.suite", "--slimcheck-checkpoint=test_model")
    assert run_pytest(inner.parent, *arguments).returncode == 0
    (inner / "conftest.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    assert run_pytest(inner.parent, *arguments).returncode == 4
    assert not marker.exists()


def test_requirements_left_out_leave_no_verdict(bad: Path) -> None:
    result = run_pytest(ROOT, "conformance", "--checkpoint", bad, "-k", "IDX-002 or DYN-001")
    assert "CONFORMANT" not in result.stdout
    assert "requirements ran: no verdict" in result.stdout
    result = run_pytest(ROOT, "conformance", "--checkpoint", bad, "--co")
    assert "CONFORMANT" not in result.stdout


def test_only_skipped_requirements_exit_with_5(checkpoint: Path) -> None:
    result = run_pytest(ROOT, "conformance", "--checkpoint", checkpoint, "-k", "W8A16-001")
    assert result.returncode == 5
    assert "1 skipped" in result.stdout


@pytest.mark.parametrize("path", [SUITE / "test_golden.py", ROOT / "tests" / "test_patterns.py"])
def test_a_checkpoint_without_the_suite_is_wrong_usage(path: Path, bad: Path) -> None:
    result = run_pytest(ROOT, path, "--checkpoint", bad)
    assert result.returncode == 4
    assert "suite that judges it is not collected" in result.stderr
    assert "CONFORMANT" not in result.stdout


def test_the_suite_without_a_checkpoint_is_skipped(tmp_path: Path) -> None:
    result = run_pytest(ROOT, SUITE / "test_conformance.py", "-rs")
    assert result.returncode == 5
    assert "no checkpoint was named" in result.stdout
    assert "KeyError" not in result.stdout


def test_a_wrong_report_request_stops_before_the_judgement(bad: Path) -> None:
    result = run_pytest(ROOT, "conformance", "--checkpoint", bad, "--report", "pdf=x")
    assert result.returncode == 4
    assert "expected FORM=FILE" in result.stderr
    assert "IDX-001" not in result.stdout
