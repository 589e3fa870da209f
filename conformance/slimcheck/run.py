"""One run of the judge, shared by the command and the pytest plugin."""

import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from slimcheck.consumers import choose, socs
from slimcheck.distributed import ClusterError
from slimcheck.engine import LEVELS, Options
from slimcheck.report import Report, build
from slimcheck.report.jsonl import lines
from slimcheck.report.junit import document
from slimcheck.report.lang import EN
from slimcheck.values.scan import Progress
from slimcheck.waivers import WaiverError, read_waivers
from slimspec import requirements
from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.layout import profiles

_MAX_RANKS = 1 << 12


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
    waive: Sequence[str | Path] = (),
    only_shards: Sequence[str] = (),
    threads: int = 0,
    float_model: str | Path | None = None,
    sample: str = "all",
    soc: str = "",
    dask: str = "",
    progress: Progress | None = None,
) -> Report:
    """Judge a directory.

    Args:
        progress: see `slimcheck.values.scan.scan`.

    Raises:
        RunError: unknown level, profile, consumer, SoC or id glob; a tp out of range; a tensor or
            shard glob that meets nothing; level numeric without a float model, or one without it;
            a sample that means nothing; an unusable waiver file; a directory that cannot be read
            or is no checkpoint of this family.
    """
    if "" in (directory, float_model):
        raise RunError("expected the name of a directory, found an empty one")
    soc = _check_engines(consumers, soc)
    options = Options(
        level, producer, tuple(consumers), tuple(select), tuple(ignore), tensor, strict, tp,
        tuple(only_shards), threads, str(float_model) if float_model else None, sample, soc, dask,
    )  # fmt: skip
    _check_options(options)
    try:
        waivers = [waiver for file in waive for waiver in read_waivers(file)]
        checkpoint = open_checkpoint(directory)
        _check_family(checkpoint)
        _check_tensor(checkpoint, tensor)
        _check_shards(checkpoint, only_shards)
        return build(checkpoint, options, waivers, progress)
    except (CheckpointError, WaiverError, ClusterError) as error:
        raise RunError(str(error)) from None


def _check_family(checkpoint: Checkpoint) -> None:
    """Stop where there is nothing of this family to judge, and say what is there instead.

    Weights of an unknown family are judged: quantized weights without their description are.
    """
    if checkpoint.foreign and not (checkpoint.kind == "unknown" and checkpoint.shards):
        raise RunError(f"{checkpoint.path}: {checkpoint.foreign}")


def _check_tensor(checkpoint: Checkpoint, glob: str | None) -> None:
    """A glob that meets no tensor would let everything pass."""
    if glob is None:
        return
    for holder in (checkpoint, *(part.checkpoint for part in checkpoint.parts)):
        described = holder.description.labels if holder.description else ()
        if any(fnmatchcase(name, glob) for name in (*holder.table.names, *described)):
            return
    raise RunError(f"--tensor {glob!r}: {checkpoint.path} has no such tensor")


def _check_shards(checkpoint: Checkpoint, globs: Iterable[str]) -> None:
    names = [shard.name for shard in checkpoint.shards]
    names += [f"{part.name}/{s.name}" for part in checkpoint.parts for s in part.checkpoint.shards]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise RunError(f"--only-shards {glob!r}: {checkpoint.path} has no such file")


def _check_options(options: Options) -> None:
    """Refuse what means nothing, before anything is read."""
    if options.tp is not None and not 1 <= options.tp <= _MAX_RANKS:
        raise RunError(f"--tp {options.tp}: expected a number of ranks, 1 to {_MAX_RANKS}")
    if options.threads < 0:
        raise RunError(f"--threads {options.threads}: expected 1 or more, or 0 for all processors")
    _check_names(options.level, options.producer, (*options.select, *options.ignore))
    if options.dask and options.level == "layout":
        raise RunError("--dask spreads the scan of values: not with --level layout")
    if (options.level == "numeric") != (options.float_model is not None):
        raise RunError("--level numeric and --float-model DIR go together")
    if options.level == "numeric":
        from slimcheck.numeric.sample import SampleError, parse

        try:
            parse(options.sample)
        except SampleError as error:
            raise RunError(str(error)) from None
    elif options.sample != "all":
        raise RunError(f"--sample {options.sample}: goes with --level numeric only")


def _check_names(level: str, producer: str | None, globs: Iterable[str]) -> None:
    if level not in LEVELS:
        raise RunError(f"no level {level!r}: one of {', '.join(LEVELS)}")
    if producer is not None and producer not in profiles.names():
        raise RunError(f"no producer profile {producer!r}: one of {', '.join(profiles.names())}")
    for glob in globs:
        if not any(fnmatchcase(key, glob) for key in requirements.load()):
            raise RunError(f"no requirement id matches {glob!r} (see `slimcheck rules`)")


def _check_engines(consumers: Sequence[str], soc: str) -> str:
    """Return the SoC by the name that the data use."""
    if soc and soc not in socs():
        raise RunError(f"no SoC {soc!r}: one of {', '.join(socs())}")
    soc = socs()[soc].name if soc else ""
    try:
        choose(consumers, soc)
    except ValueError as error:
        raise RunError(str(error)) from None
    return soc


def write_reports(report: Report, requests: Sequence[str], lang: str = EN) -> None:
    """Write each `FORM=FILE` of `requests`; the forms for readers in language `lang`.

    Raises:
        RunError: an unknown form, or a file that cannot be written or lies in what was judged.
    """
    for file, form in check_requests(requests, report.directory):
        _write(file, _FORMS[form](report, lang))


def check_requests(requests: Sequence[str], *judged: str | Path) -> list[tuple[Path, str]]:
    """Return (file, form) of each `FORM=FILE`.

    Raises:
        RunError: an unknown form, no file, one that cannot be written, one named twice, or one in
            a directory that is judged.
    """
    found = [_request(request) for request in requests]
    for number, (file, _) in enumerate(found):
        _check_target(file, judged)
        if any(file.resolve() == other.resolve() for other, _ in found[:number]):
            raise RunError(f"--report: two reports into one file, {file}")
    return found


def _request(request: str) -> tuple[Path, str]:
    form, _, file = request.partition("=")
    if form not in _FORMS or not file:
        forms = ", ".join(_FORMS)
        raise RunError(f"--report {request!r}: expected FORM=FILE with a form of {forms}")
    return Path(file), form


def _jsonl(report: Report, lang: str) -> bytes:
    # a file name that is not UTF-8 has lone surrogates: as \udcXX they stay valid JSON
    return "".join(line + "\n" for line in lines(report)).encode("utf-8", "backslashreplace")


def _junit(report: Report, lang: str) -> bytes:
    return document(report)


def _sarif(report: Report, lang: str) -> bytes:
    from slimcheck.report.sarif import document

    return document(report)


def _markdown(report: Report, lang: str) -> bytes:
    from slimcheck.report.markdown import document

    return document(report, lang)


def _html(report: Report, lang: str) -> bytes:
    from slimcheck.report.html import document

    return document(report, lang)


def _numeric(report: Report, lang: str) -> bytes:
    from slimcheck.numeric.table import lines as rows

    options = report.options
    text = rows(report.comparisons, report.directory, options.float_model, options.sample)
    return "".join(line + "\n" for line in text).encode("utf-8", "backslashreplace")


_FORMS: dict[str, Callable[[Report, str], bytes]] = {
    "jsonl": _jsonl,
    "junit": _junit,
    "sarif": _sarif,
    "markdown": _markdown,
    "html": _html,
    "numeric": _numeric,
}


def _check_target(file: Path, judged: Sequence[str | Path]) -> None:
    """Stop, before anything is judged, where a report cannot or must not be written."""
    for directory in judged:
        places = (os.path.realpath(file), os.path.join(os.path.realpath(file.parent), file.name))
        if any(Path(place).is_relative_to(os.path.realpath(directory)) for place in places):
            raise RunError(f"report {file}: lies in {directory}, which is judged")
    try:
        if _through(file):
            if not os.access(file, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            os.unlink(_temporary(Path(os.path.realpath(file)), b""))
    except OSError as error:
        raise RunError(f"cannot write report {file}: {error.strerror}") from None


def _through(file: Path) -> bool:
    """Whether to write into the file itself: a device, a pipe, our own output; not to replace it.

    Raises:
        OSError: a directory, or a path that cannot be looked at.
    """
    try:
        status = file.stat()
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return not stat.S_ISREG(status.st_mode) or _own_output(status) is not None


def _own_output(status: os.stat_result) -> int | None:
    """The descriptor of our output or error stream that is this file, as /dev/stdout may be."""
    for descriptor in (1, 2):
        try:
            if os.path.samestat(os.fstat(descriptor), status):
                return descriptor
        except OSError:
            continue
    return None


def _write(file: Path, content: bytes) -> None:
    try:
        if _through(file):
            _write_through(file, content)
            return
        target = Path(os.path.realpath(file))
        name = _temporary(target, content)
        try:
            if target.exists():
                name.chmod(stat.S_IMODE(target.stat().st_mode))
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise RunError(f"cannot write report {file}: {error.strerror}") from None


def _write_through(file: Path, content: bytes) -> None:
    own = _own_output(file.stat())
    if own is not None:
        sys.stdout.flush()
    with open(file if own is None else os.dup(own), "wb") as stream:
        stream.write(content)


def _temporary(target: Path, content: bytes) -> Path:
    """Write a new file beside the target, with the mode that the umask leaves; return its path."""
    name = target.parent / f".slimcheck-{secrets.token_hex(8)}"
    with open(name, "xb") as stream:
        try:
            stream.write(content)
            stream.flush()
        except BaseException:
            os.unlink(name)
            raise
    return name
