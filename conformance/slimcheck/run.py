"""One run of the judge, shared by the command and the pytest plugin."""

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from slimcheck.consumers import consumers as known_consumers
from slimcheck.engine import LEVELS, Options
from slimcheck.report import Report, build
from slimcheck.report.jsonl import lines
from slimcheck.report.junit import document
from slimspec import requirements
from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.layout import profiles


class RunError(Exception):
    """The user's request cannot be carried out; the message is one line."""


def run(
    directory: str | Path,
    *,
    level: str = "values",
    producer: str | None = None,
    consumers: Sequence[str] = (),
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    tensor: str | None = None,
    strict: bool = False,
    tp: int | None = None,
) -> Report:
    """Judge a directory.

    Raises:
        RunError: unknown level, profile, consumer or id glob; a tp below 1; a directory that cannot
            be read or is no checkpoint of this family.
    """
    if tp is not None and tp < 1:
        raise RunError(f"--tp {tp}: expected a number of ranks, 1 or more")
    _check_names(level, producer, consumers, (*select, *ignore))
    options = Options(
        level, producer, tuple(consumers), tuple(select), tuple(ignore), tensor, strict, tp
    )
    try:
        checkpoint = open_checkpoint(directory)
        _check_family(checkpoint)
        return build(checkpoint, options)
    except CheckpointError as error:
        raise RunError(str(error)) from None


def _check_family(checkpoint: Checkpoint) -> None:
    """Stop where there is nothing of this family to judge, and say what is there instead.

    Weights of an unknown family are judged: quantized weights without their description are.
    """
    if checkpoint.foreign and not (checkpoint.kind == "unknown" and checkpoint.shards):
        raise RunError(f"{checkpoint.path}: {checkpoint.foreign}")


def _check_names(
    level: str, producer: str | None, consumers: Iterable[str], globs: Iterable[str]
) -> None:
    if level not in LEVELS:
        raise RunError(f"no level {level!r}: one of {', '.join(LEVELS)}")
    if level == "numeric":
        raise RunError("level numeric needs a float model to compare with; not available yet")
    if producer is not None and producer not in profiles.names():
        raise RunError(f"no producer profile {producer!r}: one of {', '.join(profiles.names())}")
    for name in consumers:
        if name not in known_consumers():
            raise RunError(f"no consumer {name!r}: one of {', '.join(known_consumers())}")
    for glob in globs:
        if not any(fnmatchcase(key, glob) for key in requirements.load()):
            raise RunError(f"no requirement id matches {glob!r} (see `slimcheck rules`)")


def write_reports(report: Report, requests: Sequence[str]) -> None:
    """Write each `FORM=FILE` of `requests`.

    Raises:
        RunError: an unknown form, or a file that cannot be written.
    """
    for request in requests:
        form, _, file = request.partition("=")
        writer = _FORMS.get(form)
        if writer is None or not file:
            raise RunError(
                f"--report {request!r}: expected {' or '.join(_FORMS)} followed by =FILE"
            )
        _write(Path(file), writer(report))


def _jsonl(report: Report) -> bytes:
    return "".join(line + "\n" for line in lines(report)).encode()


_FORMS: dict[str, Callable[[Report], bytes]] = {"jsonl": _jsonl, "junit": document}


def _write(file: Path, content: bytes) -> None:
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise RunError(f"cannot write report {file}: {error.strerror}") from None
