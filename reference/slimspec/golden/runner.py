"""Feed vectors to any executable and judge what it writes.

The command is run once per case. `{inputs}` becomes a directory with `case.txt` and one file per
input tensor, `{outputs}` an empty directory into which one file per output is to be written (see
`slimspec.golden.export`). A command that fails, hangs, or writes files of another size fails its
case and nothing else.
"""

import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import command as commands
from slimspec.golden.compare import compare
from slimspec.golden.explain import Evidence
from slimspec.golden.export import write_case
from slimspec.golden.vectors import VectorCase

_NPY_HEADER = 1 << 16  # bytes that a .npy file may have beside its array


@dataclass(frozen=True)
class Result:
    """What happened to one case: `problems` is empty if it passed."""

    case: VectorCase
    problems: tuple[str, ...]
    outputs: dict[str, NDArray] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.problems


def run_cases(
    cases: Iterable[VectorCase], command: str, timeout: float = 60.0, form: str = "bin"
) -> Iterator[Result]:
    """Yield a result per case.

    Args:
        command: with `{inputs}` and `{outputs}`; split like a shell does, but run without one.
        timeout: seconds per case.
        form: "bin" or "npy".

    Raises:
        ValueError: a command without both placeholders, or that cannot be split.
    """
    words = commands.split(command, ("{inputs}", "{outputs}"))
    with tempfile.TemporaryDirectory(prefix="golden-") as temporary:
        for case in cases:
            yield _run(case, words, Path(temporary) / case.id, timeout, form)


def _run(case: VectorCase, words: list[str], place: Path, timeout: float, form: str) -> Result:
    write_case(case, place, form, answers=False)
    paths = {"{inputs}": place / "inputs", "{outputs}": place / "outputs"}
    try:
        ended = commands.run(commands.fill(words, paths), timeout)
    except ValueError as error:
        return Result(case, (str(error),))
    if ended.code is None:
        return Result(case, (f"timeout: no answer within {timeout:g} s",))
    if ended.code:
        code = ended.code
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Result(case, (ended.told(f"crash: {how}"),))
    return judge(case, place / "outputs", form)


def judge(case: VectorCase, directory: Path, form: str = "bin") -> Result:
    """Compare the files of `directory` with the outputs of a case."""
    found: dict[str, NDArray] = {}
    problems = []
    for name, expected in case.outputs.items():
        path = directory / f"{name}.{form}"
        try:
            found[name] = _read(path, expected)
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {error.strerror if isinstance(error, OSError) else error}")
    if not problems:
        problems = [d.text() for d in compare(case.outputs, found, case.tolerance)]
    return Result(case, tuple(problems), found)


def _read(path: Path, expected: NDArray) -> NDArray:
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise ValueError(f"expected a file {path.name}, found none that is regular")
    if path.suffix == ".npy":
        most = expected.nbytes + _NPY_HEADER
        if info.st_size > most:
            raise ValueError(f"expected at most {most} bytes in {path.name}, found {info.st_size}")
        stored = np.load(path, allow_pickle=False)
        if stored.dtype.itemsize == expected.dtype.itemsize and stored.dtype.kind == "u":
            stored = stored.view(expected.dtype)
        return stored
    if info.st_size != expected.nbytes:
        wanted = f"expected {expected.nbytes} bytes in {path.name}"
        raise ValueError(f"{wanted}, found {info.st_size}")
    return np.frombuffer(path.read_bytes(), expected.dtype).reshape(expected.shape)


def diagnosis(results: Iterable[Result]) -> dict[str, str]:
    """Return operation -> one sentence on what all outputs of a failing kernel follow."""
    evidence: dict[str, Evidence] = {}
    failed = set()
    for result in results:
        if result.outputs.keys() >= result.case.outputs.keys():
            evidence.setdefault(result.case.op, Evidence(result.case.op))
            read = evidence[result.case.op].add(result.case, result.outputs)
            failed |= {result.case.op} if read and not result.passed else set()
    sentences = {op: evidence[op].verdict() for op in sorted(failed)}
    return {op: text for op, text in sentences.items() if text}
