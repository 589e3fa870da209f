"""Damage valid checkpoints at random and print how often the judge notices.

    python -m benchmarks.corruption [--times N] [--oracle] [--markdown] [GLOB ...]

Every golden checkpoint whose float model can be made again is damaged in six ways, N times each, at
seeded random places of its data (never of its headers, which level layout guards):

    bit     one bit flipped                    block    4 KiB of random bytes
    byte    one byte replaced                  hole     4 KiB of zeros, aligned in the file
    tensor  two tensors of equal dtype and shape change places
    shard   as `tensor`, for all tensors of two layers: what a shard under a wrong name does

"values" counts a checkpoint with any finding that the undamaged one has not; "MUST" only what makes
it non-conformant; "numeric" adds the comparison with the float model. Where damage leaves the data
as it was (zeros over zeros) the place is drawn again. Small weights are mostly scales: the golden
weights have 4 KiB each, so that a block or hole covers a whole one.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from slimcheck.engine import Options, Status, judge
from slimspec.checkpoint import Checkpoint, open_checkpoint
from slimspec.checkpoint.table import Tensor
from slimspec.data import folder
from slimspec.golden.recipes import recipes
from slimspec.golden.tiny_models import write_float

BLOCK = 4096
SEED = 2024
Finding = tuple[str, str, str]


@dataclass
class Subject:
    """A valid checkpoint in a scratch directory, and the float model it was made from."""

    name: str
    directory: Path
    model: Path | None


@dataclass
class Tally:
    """How often damage of one kind was noticed."""

    tried: int = 0
    values: int = 0
    must: int = 0
    numeric: int | None = None
    silent: list[str] = field(default_factory=list)


class Damaged:
    """Bytes of a file changed for a while."""

    def __init__(self, edits: Sequence[tuple[Path, int, bytes]]) -> None:
        self._edits = edits
        self._old: list[bytes] = []

    def __enter__(self) -> Damaged:
        self._old = [_swap(*edit) for edit in self._edits]
        return self

    def __exit__(self, *error: object) -> None:
        for (path, at, _), old in reversed(list(zip(self._edits, self._old, strict=True))):
            _swap(path, at, old)

    @property
    def changed(self) -> bool:
        return any(old != new for (_, _, new), old in zip(self._edits, self._old, strict=True))


def _swap(path: Path, at: int, new: bytes) -> bytes:
    with path.open("r+b") as stream:
        stream.seek(at)
        old = stream.read(len(new))
        stream.seek(at)
        stream.write(new)
    return old


def _place(checkpoint: Checkpoint, random_: random.Random) -> tuple[Path, Tensor, int]:
    """A random byte of the data: file, tensor, and where in the file."""
    rows = [row for row in checkpoint.table if row.end > row.begin]
    row = random_.choices(rows, [r.end - r.begin for r in rows])[0]
    return checkpoint.path / row.file, row, random_.randrange(row.begin, row.end)


Edits = list[tuple[Path, int, bytes]]


def bit(checkpoint: Checkpoint, random_: random.Random) -> tuple[str, Edits]:
    path, row, at = _place(checkpoint, random_)
    old = path.read_bytes()[at]
    return row.name, [(path, at, bytes([old ^ (1 << random_.randrange(8))]))]


def byte(checkpoint: Checkpoint, random_: random.Random) -> tuple[str, Edits]:
    path, row, at = _place(checkpoint, random_)
    return row.name, [(path, at, random_.randbytes(1))]


def block(checkpoint: Checkpoint, random_: random.Random) -> tuple[str, Edits]:
    return _block(checkpoint, random_, random_.randbytes(BLOCK))


def hole(checkpoint: Checkpoint, random_: random.Random) -> tuple[str, Edits]:
    return _block(checkpoint, random_, bytes(BLOCK))


def _block(checkpoint: Checkpoint, random_: random.Random, content: bytes) -> tuple[str, Edits]:
    path, row, at = _place(checkpoint, random_)
    shard = next(s for s in checkpoint.shards if s.path == path)
    begin = max(at // BLOCK * BLOCK, shard.data_start)
    end = min(at // BLOCK * BLOCK + BLOCK, shard.file_size)
    return row.name, [(path, begin, content[: end - begin])]


def tensor(checkpoint: Checkpoint, random_: random.Random) -> tuple[str, Edits]:
    alike: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}
    for row in checkpoint.table:
        alike.setdefault((row.dtype, row.shape), []).append(row)
    groups = [rows for rows in alike.values() if len(rows) > 1]
    rows = random_.choices(groups, [len(rows) for rows in groups])[0]
    one, other = random_.sample(rows, 2)
    return f"{one.name} and {other.name}", _exchange(checkpoint, [(one, other)])


def shard(checkpoint: Checkpoint, random_: random.Random) -> tuple[str, Edits]:
    layers = sorted({n.split(".layers.")[1].split(".")[0] for n in checkpoint.table.names
                     if ".layers." in n}, key=int)  # fmt: skip
    if len(layers) < 2:
        return "", []
    a, b = random_.sample(layers, 2)
    pairs = []
    for row in checkpoint.table:
        twin = row.name.replace(f".layers.{a}.", f".layers.{b}.")
        at = checkpoint.table.find(twin) if twin != row.name else None
        if at is None:
            continue
        other = checkpoint.table.row(at)
        if (other.dtype, other.shape) == (row.dtype, row.shape):
            pairs.append((row, other))
    return f"layers {a} and {b}", _exchange(checkpoint, pairs)


def _exchange(checkpoint: Checkpoint, pairs: Sequence[tuple[Tensor, Tensor]]) -> Edits:
    edits: Edits = []
    for one, other in pairs:
        for to, source in ((one, other), (other, one)):
            content = checkpoint.raw(source.name).tobytes()
            edits.append((checkpoint.path / to.file, to.begin, content))
    return edits


Kind = Callable[[Checkpoint, random.Random], tuple[str, Edits]]
KINDS: dict[str, Kind] = {
    "bit": bit, "byte": byte, "block": block, "hole": hole, "tensor": tensor, "shard": shard,
}  # fmt: skip


@dataclass
class Said:
    """Findings of one run: what the bytes alone tell, what counts of it, what the model adds."""

    values: set[Finding]
    must: set[Finding]
    numeric: set[Finding]


def findings(subject: Subject) -> Said:
    """Judge a directory, at level numeric where there is a model."""
    model = subject.model
    level = "values" if model is None else "numeric"
    options = Options(level=level, float_model=None if model is None else str(model), threads=1)
    said = Said(set(), set(), set())
    for result in judge(open_checkpoint(subject.directory), options):
        if result.status is not Status.FAILED:
            continue
        found = {
            (result.requirement.id, name, group.found)
            for group in result.groups
            for name in group.tensors or [group.file]
        }
        if result.requirement.phase == "numeric":
            said.numeric |= found
            continue
        said.values |= found
        if result.counts:
            said.must |= found
    return said


def try_kind(subject: Subject, kind: str, times: int, before: Said) -> Tally:
    """Damage a subject `times` times; `before` is what is said of it undamaged."""
    tally = Tally(numeric=None if subject.model is None else 0)
    random_ = random.Random(f"{SEED} {subject.name} {kind}")
    checkpoint = open_checkpoint(subject.directory)
    for _ in range(4 * times):
        if tally.tried == times:
            break
        where, edits = KINDS[kind](checkpoint, random_)
        if not edits:
            break
        with Damaged(edits) as damaged:
            if damaged.changed:
                _count(tally, before, findings(subject), where)
    return tally


def _count(tally: Tally, before: Said, after: Said, where: str) -> None:
    tally.tried += 1
    seen = bool(after.values - before.values)
    tally.values += seen
    tally.must += bool(after.must - before.must)
    if tally.numeric is not None:
        seen = seen or bool(after.numeric - before.numeric)
        tally.numeric += seen
    if not seen:
        tally.silent.append(where)


def golden_subjects(scratch: Path, globs: Sequence[str]) -> Iterator[Subject]:
    """Copies of the golden checkpoints beside their float models, made again from their seeds."""
    valid = folder("golden") / "checkpoints" / "valid"
    for recipe in recipes():
        source = valid / recipe.id
        if recipe.id.startswith("float-") or not _wanted(recipe.id, globs):
            continue
        if any(source.glob("part*")):  # its parts are judged against no float model
            continue
        model = scratch / f"{recipe.model}-{recipe.dtype}"
        if not model.exists():
            write_float(model, recipe.dtype, recipe.model)
        yield Subject(recipe.id, _copy(source, scratch / recipe.id), model)


def _copy(source: Path, directory: Path) -> Path:
    shutil.copytree(source, directory)
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return directory


def oracle_subjects(scratch: Path, globs: Sequence[str]) -> Iterator[Subject]:
    """Copies of the producer's checkpoints beside their float models."""
    root = Path(os.environ.get("SLIMSPEC_ORACLE", folder("golden").parent.parent / "shared/oracle"))
    for case in sorted((root / "checkpoints").glob("*")):
        readme = case / "README.txt"
        named = re.search(r"^float model:\s*(\S+)", readme.read_text("utf-8"), re.MULTILINE)
        for found in sorted((case / "quant").rglob("quant_model_description*.json"))[:1]:
            if not _wanted(case.name, globs) or any(found.parent.glob("part*")):
                continue
            directory = _copy(found.parent, scratch / case.name)
            yield Subject(case.name, directory, (case / named[1]).resolve() if named else None)


def _wanted(name: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatchcase(name, glob) for glob in globs)


HEADER = ("checkpoint", "damage", "tried", "MUST", "values", "numeric")


def row(name: str, kind: str, tally: Tally) -> tuple[str, ...]:
    """Return the cells of one kind of damage."""

    def share(count: int | None) -> str:
        return "-" if count is None or not tally.tried else f"{count / tally.tried:.0%}"

    return (
        name, kind, str(tally.tried), share(tally.must), share(tally.values), share(tally.numeric),
    )  # fmt: skip


def add(total: Tally, tally: Tally) -> None:
    """Add one tally to another."""
    total.tried += tally.tried
    total.values += tally.values
    total.must += tally.must
    total.numeric = (total.numeric or 0) + (
        tally.values if tally.numeric is None else tally.numeric
    )


def print_row(cells: Sequence[str], markdown: bool) -> None:
    """Print one line of the table."""
    if markdown:
        print("| " + " | ".join(cells) + " |", flush=True)
    else:
        print(f"{cells[0]:<30}{cells[1]:<8}" + "".join(f"{c:>9}" for c in cells[2:]), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 5 if there was nothing to damage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("globs", nargs="*", metavar="GLOB", help="only these checkpoints")
    parser.add_argument("--times", type=int, default=8, help="of each kind (default 8)")
    parser.add_argument("--oracle", action="store_true", help="damage $SLIMSPEC_ORACLE instead")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--silent", action="store_true", help="list what nobody noticed")
    options = parser.parse_args(arguments)
    totals: dict[str, Tally] = {kind: Tally() for kind in KINDS}
    with tempfile.TemporaryDirectory() as temporary:
        make = oracle_subjects if options.oracle else golden_subjects
        print_row(HEADER, options.markdown)
        if options.markdown:
            print("|---|---|--:|--:|--:|--:|")
        for subject in make(Path(temporary), options.globs):
            before = findings(subject)
            for kind in KINDS:
                tally = try_kind(subject, kind, options.times, before)
                if not tally.tried:
                    continue
                add(totals[kind], tally)
                print_row(row(subject.name, kind, tally), options.markdown)
                for where in tally.silent if options.silent else ():
                    print(f"    silent: {where}")
    for kind, tally in totals.items():
        print_row(row("all", kind, tally), options.markdown)
    return 0 if any(tally.tried for tally in totals.values()) else 5


if __name__ == "__main__":
    sys.exit(main())
