"""PERM and SEC: modes of files, and names that must not lead out of the directory."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import EVERYWHERE, rule
from slimspec.checkpoint.index import is_safe_name


@rule("PERM-001", on=EVERYWHERE)
def modes_are_the_producers(ck: Context) -> Iterator[Finding]:
    for entry in ck.checkpoint.files:
        if entry.name.endswith(".json") and entry.mode & 0o022:  # weights: DIR-013
            yield Finding(
                "PERM-001", "mode", f"mode {entry.mode:04o}", "not writable by group or others",
                file=ck.prefix + entry.name,
            )  # fmt: skip


@rule("SEC-001", on=EVERYWHERE)
def nothing_leads_outside(ck: Context) -> Iterator[Finding]:
    for _, path in ck.optional_tensors():
        parts = PurePosixPath(path).parts
        if path.startswith("/") or "\\" in path or ".." in parts or ":" in path:
            yield Finding(
                "SEC-001", "path", f"optional file {path!r}", "a path below the directory",
                file=ck.description_name,
            )  # fmt: skip
    for index in ck.checkpoint.indexes:
        for file in index.files:
            if not is_safe_name(file):
                tensors = tuple(t for t, listed in index.weight_map.items() if listed == file)
                yield Finding(
                    "SEC-001",
                    "index",
                    f"file {file!r}",
                    "the plain name of a file in the directory",
                    tensors,
                    file=ck.prefix + index.name,
                )
