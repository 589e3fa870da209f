"""Check the whole corpus: bytes, schemas, ids, traceability; and make again what is generated.

Works in a checkout and on an installed wheel. Every check yields sentences about what is wrong;
none means that the corpus is as its manifest says and as this installation makes it.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slimspec.checkpoint.strict import refused
from slimspec.data import folder
from slimspec.golden.adversarial import missing
from slimspec.golden.checkpoints import PATCHES, checkpoint_cases, patch_rows
from slimspec.golden.grid import GENERATED, made, recorded
from slimspec.golden.vectors import (
    case_files,
    cases,
    fingerprint,
    flags,
    listing,
    read_ids,
)

Check = Callable[[], Iterator[str]]
LARGEST = 8_000_000  # bytes of golden/


def verify(fast: bool = False) -> Iterator[tuple[str, list[str]]]:
    """Yield (what was checked, what is wrong) for each check; `fast` leaves out making again."""
    for name, check in CHECKS.items():
        if not (fast and name in _SLOW):
            yield name, list(check())


def _manifest() -> dict[str, Any]:
    path = folder("golden") / "manifest.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _files() -> Iterator[str]:
    root = folder("golden")
    listed = {row["path"]: row for row in _manifest()["files"]}
    stored = {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}
    del stored["manifest.json"]
    for name in sorted(listed.keys() | stored.keys()):
        if name not in stored or name not in listed:
            yield f"{name}: {'is missing' if name in listed else 'is not in the manifest'}"
            continue
        content = stored[name].read_bytes()
        expected = listed[name]["sha256"]
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            yield f"{name}: expected sha256 {expected}, found {found}"
    total = sum(path.stat().st_size for path in stored.values())
    if total > LARGEST:
        yield f"golden/ has {total} bytes, at most {LARGEST} are allowed"


def _schemas() -> Iterator[str]:
    from slimspec.jsonschemas import validator

    root = folder("golden")
    notes = root / "vectors" / "notes.json"
    files = [("manifest", root / "manifest.json"), ("vector_notes", notes)]
    files += [("vector", path) for path in case_files()]
    files += [("grid", root / "checkpoints" / name) for name in ("grid.json", GENERATED)]
    patches = (root / "checkpoints").glob("*/*.json")
    files += [("patch", path) for path in sorted(patches) if path.parent.name in PATCHES]
    for schema, path in files:
        content = json.loads(path.read_text(encoding="utf-8"))
        for error in validator(schema).iter_errors(content):
            place = "/".join(map(str, error.absolute_path))
            yield f"{path.name}: {place}: {error.message}"


def _counts() -> Iterator[str]:
    told, found = _manifest().get("vectors", []), listing(folder("golden"))
    if told != found:
        yield f"the manifest lists {len(told)} vectors, the files hold {len(found)}, or they differ"


def _ids() -> Iterator[str]:
    issued = dict(read_ids(folder("golden") / "vectors" / "ids.txt"))
    stored: dict[str, str] = {}
    for case in cases():
        if case.id in stored:
            yield f"{case.id}: used twice"
        stored[case.id] = fingerprint(case)
    for name in sorted(issued.keys() | stored.keys()):
        if issued.get(name) != stored.get(name):
            yield f"{name}: ids.txt says {issued.get(name)}, the inputs are {stored.get(name)}"


def _traceability() -> Iterator[str]:
    from slimspec.requirements import load

    known, notes, origins = load(), flags(), {}  # type: ignore[var-annotated]
    used = set()
    for case in cases():
        used |= set(case.flags)
        if not case.flags:
            yield f"{case.id}: no flag"
        yield from (f"{case.id}: unknown flag {f}" for f in case.flags if f not in notes)
        for requirement in case.requirements:
            if requirement not in known:
                yield f"{case.id}: unknown requirement {requirement}"
            origins.setdefault(requirement, set()).add(case.origin)
    yield from (f"flag {flag}: no vector has it" for flag in sorted(notes.keys() - used))
    for requirement, found in sorted(origins.items()):
        if found == {"reference"}:
            yield f"{requirement}: rests on reference vectors alone"


def _reference() -> Iterator[str]:
    """Every vector, also a recorded one, against the routines of this installation."""
    from slimspec.golden.compare import compare
    from slimspec.golden.operations import operation

    for case in cases():
        op = operation(case.op)
        made, between = op.split(op.run(case.inputs, case.settings))
        wrong = compare(case.outputs, made, case.tolerance)
        wrong += compare(case.intermediates, between, {})
        if case.tolerance and any("bound" in t for t in case.tolerance.values()):
            wrong = compare(case.outputs, made, case.tolerance)  # intermediates share the bound
        yield from (f"{case.id}: {difference.text()}" for difference in wrong)


def _patches() -> Iterator[str]:
    """Every patch applies; a strict parser refuses what is malformed, and nothing else."""
    told = _manifest()["checkpoints"]
    for name in PATCHES:
        if told[name] != patch_rows(folder("golden"), name):
            yield f"the manifest lists other {name} than the files"
    with tempfile.TemporaryDirectory() as temporary:
        for case in checkpoint_cases():
            try:
                files = refused(case.materialize(Path(temporary) / case.id))
            except (ValueError, OSError, LookupError) as error:
                yield f"{case.id}: the patch does not apply: {error}"
                continue
            if (case.kind == "malformed") != bool(files):
                yield f"{case.id}: is {case.kind or 'valid'}, strict parsers refuse {files}"


def _grid() -> Iterator[str]:
    """Every cell that the layouts allow has a digest, or a reason why it has no checkpoint."""
    told, expected = recorded(), set(made())
    yield from (f"{cell.id}: neither a digest nor a reason" for cell in expected - told.keys())
    yield from (f"{cell.id}: no such cell, or an absent one" for cell in told.keys() - expected)


def _grid_again() -> Iterator[str]:
    from slimspec.golden.grid_build import digests

    told = recorded()
    for cell, found in digests(told).items():
        if found != told[cell]:
            yield f"{cell.id}: expected sha256 {told[cell]}, made again it has {found}"


def _vectors_again() -> Iterator[str]:
    from slimspec.golden.vectors_build import write_vectors

    with tempfile.TemporaryDirectory() as temporary:
        write_vectors(Path(temporary))
        yield from _differing(Path(temporary) / "vectors", folder("golden") / "vectors")


def _checkpoints_again() -> Iterator[str]:
    from slimspec.golden.build import build

    with tempfile.TemporaryDirectory() as temporary:
        build(Path(temporary))
        made = Path(temporary) / "checkpoints" / "valid"
        yield from _differing(made, folder("golden") / "checkpoints" / "valid")


def _differing(made: Path, stored: Path) -> Iterator[str]:
    for path in sorted(made.rglob("*")):
        name = path.relative_to(made)
        if path.is_file():
            other = stored / name
            if not other.is_file():
                yield f"{name.as_posix()}: is made but not stored"
            elif path.read_bytes() != other.read_bytes():
                yield f"{name.as_posix()}: made again it has other bytes"


CHECKS: dict[str, Check] = {
    "files: sha256 and size": _files,
    "schemas": _schemas,
    "counts": _counts,
    "ids: never reused": _ids,
    "traceability: flags and requirements": _traceability,
    "checkpoints: patches apply, malformed or not as stated": _patches,
    "checkpoints: every cell of the grid": _grid,
    "vectors: adversarial properties": missing,
    "vectors: the reference agrees": _reference,
    "vectors: made again": _vectors_again,
    "checkpoints: made again": _checkpoints_again,
    "checkpoints: the grid made again": _grid_again,
}
_SLOW = {name for name in CHECKS if name.endswith("made again")}
