"""Golden checkpoints as cases: where they lie, how they are made, what a judge must say.

A *valid* case is a directory, a *variant*: a patch over one that is valid again, or *generated*: a
cell of the grid. A conforming judge reports no violation. An *invalid* case is a patch over a valid
one; a judge must report exactly the violations that the case states.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slimspec import requirements
from slimspec.data import folder
from slimspec.golden.grid import Cell, recorded
from slimspec.golden.patch import apply

PATCHES = ("variants", "invalid")  # folders of `checkpoints/` that hold patches
KINDS = {
    "malformed": "a strict parser of safetensors or JSON refuses a file",
    "invalid": "names, dtypes, shapes and JSON members show the fault",
    "wrong-value": "only the bytes of tensors show the fault",
}


@dataclass(frozen=True)
class Expected:
    """One group of findings: requirement, pattern of the tensors (or files) and their number."""

    requirement: str
    pattern: str
    count: int


@dataclass(frozen=True)
class CheckpointCase:
    """One golden checkpoint.

    Attributes:
        id: stable name, never reused.
        comment: what the case shows.
        base: directory of the valid checkpoint, relative to `golden/`.
        patch: operations over a copy of it.
        expected: the violations a judge must report, no more and no fewer.
        notes: whether `expected` lists violated SHOULD and consumer requirements too.
        producer: profile to force (None: detected).
        tp: number of ranks that are to serve it (None: not said).
        float_model: `{model, dtype}` of `tiny_models`, to compare the weights with (None: no
            such comparison).
        kind: what must be read to see the fault, one of `KINDS` (None: there is none).
        cell: place in the grid of what is made on demand; there is no base then.
    """

    id: str
    comment: str
    base: str
    patch: tuple[dict[str, Any], ...]
    expected: frozenset[Expected]
    notes: bool
    producer: str | None
    tp: int | None = None
    float_model: dict[str, str] | None = None
    kind: str | None = None
    cell: Cell | None = None

    @property
    def valid(self) -> bool:
        return not self.expected

    @property
    def verdict(self) -> str:
        """What a judge must do: "accept", "refuse", or "either" if no MUST of the writer fails."""
        if self.valid:
            return "accept"
        known = (requirements.load()[finding.requirement] for finding in self.expected)
        counts = any(r.level == "MUST" and r.scope.kind != "consumer" for r in known)
        return "refuse" if counts else "either"

    def materialize(self, directory: Path) -> Path:
        """Write the checkpoint to `directory`, which must not exist: the base, then the patch.

        The modes of the files are those of a producer, whatever an unpacked archive gave them.
        """
        if self.cell is not None:
            from slimspec.golden.grid_make import make

            with tempfile.TemporaryDirectory(prefix="golden-") as work:
                make(self.cell, directory, Path(work))
            return directory
        shutil.copytree(folder("golden") / self.base, directory)
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        apply(self.patch, directory)
        return directory

    def materialize_float(self, directory: Path) -> Path | None:
        """Write the float model to `directory` (which must not exist), if the case has one."""
        from slimspec.golden.tiny_models import write_float

        if self.float_model is None:
            return None
        write_float(directory, self.float_model["dtype"], self.float_model["model"])
        return directory


def load_manifest() -> dict[str, Any]:
    """Return `golden/manifest.json`."""
    path = folder("golden") / "manifest.json"
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def patch_rows(golden: Path, name: str) -> list[dict[str, Any]]:
    """The rows of the manifest for the patches in `checkpoints/{name}`, one of `PATCHES`."""
    rows = []
    for path in sorted((golden / "checkpoints" / name).glob("*.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        row = {"path": path.relative_to(golden).as_posix()} | case
        rows.append({key: row[key] for key in ("id", "path", "base", "kind") if key in row})
    return rows


def checkpoint_cases() -> list[CheckpointCase]:
    """Every golden checkpoint, valid ones first, in the order of the manifest."""
    manifest = load_manifest()
    bases = {row["id"]: row["path"] for row in manifest["checkpoints"]["valid"]}
    cases = [
        CheckpointCase(row["id"], row["comment"], row["path"], (), frozenset(), False, None)
        for row in manifest["checkpoints"]["valid"]
    ]
    for row in (*manifest["checkpoints"]["variants"], *manifest["checkpoints"]["invalid"]):
        case = json.loads((folder("golden") / row["path"]).read_text(encoding="utf-8"))
        cases.append(
            CheckpointCase(
                case["id"],
                case["comment"],
                bases[case["base"]],
                tuple(case["patch"]),
                frozenset(
                    Expected(e["requirement"], e["pattern"], e["count"]) for e in case["expect"]
                ),
                case.get("notes", False),
                case.get("producer"),
                case.get("tp"),
                case.get("float_model"),
                case.get("kind"),
            )
        )
    return cases


def generated_cases() -> list[CheckpointCase]:
    """The cells of the grid, which are made on demand."""
    return [
        CheckpointCase(
            cell.id,
            f"{cell.type} as {cell.profile} writes it, {cell.model} in {cell.model_dtype}",
            "", (), frozenset(), False, None, cell=cell,
        )
        for cell in recorded()
    ]  # fmt: skip
