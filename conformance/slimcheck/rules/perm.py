"""PERM and SEC: modes of files, and names that must not lead out of the directory."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import EVERYWHERE, rule

_WEIGHTS = 0o400
_JSON = 0o644


@rule("PERM-001", on=EVERYWHERE)
def modes_are_the_producers(ck: Context) -> Iterator[Finding]:
    for entry in ck.checkpoint.files:
        if entry.is_directory or entry.name.startswith("."):
            continue
        if entry.name.endswith((".safetensors", ".json")) and entry.mode & 0o022:
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
    for shard in ck.checkpoint.shards:
        if any(defect.code == "pickle" for defect in shard.defects):
            yield Finding(
                "SEC-001", "pickle", "a Python pickle", "safetensors", file=ck.prefix + shard.name
            )
