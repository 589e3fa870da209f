"""A directory is written whole or not at all, and what a killed run left is cleared away."""

from __future__ import annotations

import errno
import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.partial import INFIX, MARK, NewDirectory, remove_abandoned
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.pipeline.shard_write import PartsWriter

ONE = np.ones(4, np.float32)


def write(out: Path) -> None:
    with CheckpointWriter(out, profile="FLOAT") as writer:
        writer.write("a", ONE, None)


def left_behind(out: Path, name: str = "abcdefgh", mark: bool = True) -> Path:
    folder = out.with_name(f"{out.name}{INFIX}{name}")
    folder.mkdir()
    (folder / ".spool-1").write_bytes(b"half")
    if mark:
        (folder / MARK).touch()
    return folder


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_killed_process_leaves_a_folder_that_the_next_run_removes(
    tmp_path: Path, sent: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import os, sys, numpy as np; from slimspec.checkpoint.writer import CheckpointWriter\n"
        "with CheckpointWriter(sys.argv[1], profile='FLOAT') as writer:\n"
        "    writer.write('a', np.ones(4, np.float32), None)\n"
        f"    os.kill(os.getpid(), {sent.value})\n"
    )
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    assert done.returncode == -sent
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("out.partial-")
    assert (left / MARK).is_file()
    write(out)
    assert list(tmp_path.iterdir()) == [out]
    assert [f"removed {left}, left by a run that was killed"] == caplog.messages


def test_folder_of_a_living_process_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    with CheckpointWriter(out, profile="FLOAT") as first:
        write(out)
        assert len(list(tmp_path.iterdir())) == 2
        (held,) = (path for path in tmp_path.iterdir() if path != out)
        assert caplog.messages == [f"warning: another process is writing {out} ({held.name})"]
        first.write("a", ONE, None)
        out.rename(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_only_marked_folders_of_this_name_are_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    out = tmp_path / "out"
    mine, foreign = left_behind(out), left_behind(out, "notes", mark=False)
    other, target = left_behind(tmp_path / "output"), left_behind(tmp_path / "elsewhere")
    link = out.with_name(f"out{INFIX}link")
    link.symlink_to(target, target_is_directory=True)
    remove_abandoned(out)
    assert not mine.exists()
    assert foreign.exists()
    assert other.exists()
    assert link.is_symlink()
    assert (target / MARK).exists()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("kind", ["checkpoint", "parts"])
def test_mark_is_not_published(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "checkpoint":
        write(out)
    else:
        with PartsWriter(out, 2, "W8A8SC", {"version": "1.0.0"}) as writer:
            for rank in range(2):
                writer.write(rank, "a", ONE, "FLOAT")
    assert not list(tmp_path.rglob(f"*{MARK}*"))
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with CheckpointWriter(tmp_path / "out", profile="FLOAT") as writer:
            writer.write("a", ONE, None)
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_was_replacing_is_named_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "out.previous-abcdefgh"
    write(old)
    remove_abandoned(tmp_path / "out")
    assert (old / "model.safetensors").is_file()
    assert f"{old} is what a killed run was about to replace: rename it to out" in caplog.text


def test_file_system_without_locks_still_takes_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    left = left_behind(tmp_path / "out")
    write(tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert left.exists()


def test_directory_that_cannot_be_filled_is_one_error(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    several = shutil.Error([("a", "b", f"[Errno 28] {full.strerror}: 'a' -> 'b'")] * 2)

    def fill(error: OSError) -> None:
        with NewDirectory(tmp_path / "out") as made:
            (made.root / "file").write_text("half")
            raise error

    for error in (full, several):
        with pytest.raises(CheckpointError) as caught:
            fill(error)
        assert str(caught.value).endswith("No space left on device")
        assert "\n" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_new_directory_is_there_when_it_is_whole(tmp_path: Path) -> None:
    with NewDirectory(tmp_path / "out") as made:
        (made.root / "file").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755
    with pytest.raises(CheckpointError, match="is not empty"):
        NewDirectory(tmp_path / "out")
