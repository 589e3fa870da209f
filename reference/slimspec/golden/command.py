"""Run the command of somebody else on one case: no shell, bounded in time and in memory."""

import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SHOWN = 300  # characters of what it wrote to stderr
_KEPT = 4 * _SHOWN  # bytes of them
_CHUNK = 1 << 16
_PAUSE = 0.05  # seconds


@dataclass(frozen=True)
class Ended:
    """How a command ended: `code` is negative for a signal and None if time was up first."""

    code: int | None
    said: str

    def told(self, how: str) -> str:
        """`how`, and what the command wrote to stderr at its end."""
        return f"{how}: {self.said}" if self.said else how


def split(command: str, places: Sequence[str]) -> list[str]:
    """Split a command like a shell does.

    Raises:
        ValueError: it cannot be split, or one of the `places` ("{inputs}") is not in it.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"command: {error}") from None
    for place in places:
        if not any(place in word for word in words):
            raise ValueError(f"command: expected {' and '.join(places)} in it")
    return words


def fill(words: Sequence[str], paths: Mapping[str, Path]) -> list[str]:
    """Put paths into the places."""
    filled = list(words)
    for place, path in paths.items():
        filled = [word.replace(place, str(path)) for word in filled]
    return filled


def run(words: Sequence[str], timeout: float) -> Ended:
    """Run a command; what it started is ended with it if time is up or we are interrupted.

    It gets no input, what it prints is dropped, and of stderr only the end is kept.

    Raises:
        ValueError: it cannot be started.
    """
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"cannot run {words[0]}: {reason}") from None
    assert process.stderr is not None
    with process.stderr as stderr:
        try:
            said = _listen(process, stderr.fileno(), time.monotonic() + timeout)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if said is None:
        return Ended(None, "")
    return Ended(process.returncode, said.decode(errors="replace").strip()[-_SHOWN:])


def _listen(process: "subprocess.Popen[bytes]", stderr: int, end: float) -> bytes | None:
    """The end of stderr when the process has ended; None if it has not in time.

    A process that it left behind may hold stderr open, so that the end of stderr is no sign.
    """
    said = b""
    streams = [stderr]
    while (left := end - time.monotonic()) > 0:
        ended = process.poll() is not None
        if select.select(streams, [], [], 0 if ended else min(left, _PAUSE))[0]:
            chunk = os.read(stderr, _CHUNK)
            said = (said + chunk)[-_KEPT:]
            streams = [stderr] if chunk else []
        elif ended:
            return said
    return None
