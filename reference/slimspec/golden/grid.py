"""The grid of valid checkpoints: every type, in each profile that writes it, dtype and model.

Which cells there are follows from `schemas/layouts` and `schemas/derivations.json`; those without
a checkpoint stand in `golden/checkpoints/grid.json` with the reason. The others are made on demand
(`grid_make`); `golden/checkpoints/generated.json` has the digest of each (`grid_build`).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from slimspec import layout
from slimspec.data import folder
from slimspec.golden.tiny_models import DTYPES

GENERATED = "generated.json"


@dataclass(frozen=True)
class Cell:
    """One place of the grid.

    Attributes:
        type: layout or derived label; "reduce" and "rotation" hang on a linear of another type.
        profile: producer profile.
        dtype, model: of the tiny float model.
    """

    type: str
    profile: str
    dtype: str
    model: str

    @property
    def id(self) -> str:
        parts = (self.type, self.profile, self.dtype, self.model)
        return "-".join(parts).lower().replace("_", "-")

    @property
    def model_dtype(self) -> str:
        """The safetensors tag of `dtype`."""
        return DTYPES[self.dtype][0]


@dataclass(frozen=True)
class Absence:
    """Why cells have no checkpoint; an empty tuple stands for all.

    Attributes:
        instead: golden case that shows the profile or the type all the same.
    """

    types: tuple[str, ...]
    profiles: tuple[str, ...]
    model_dtypes: tuple[str, ...]
    models: tuple[str, ...]
    reason: str
    instead: str | None

    def covers(self, cell: Cell) -> bool:
        pairs = (
            (self.types, cell.type),
            (self.profiles, cell.profile),
            (self.model_dtypes, cell.model_dtype),
            (self.models, cell.model),
        )
        return all(not allowed or value in allowed for allowed, value in pairs)


def cells() -> Iterator[Cell]:
    """Yield every cell that the layouts allow, in a fixed order."""
    for label, profile in _written():
        for dtype in DTYPES:
            for model in _data()["models"]:
                yield Cell(label, profile, dtype, model)


def made() -> list[Cell]:
    """Return the cells that have a checkpoint."""
    return [cell for cell in cells() if not any(row.covers(cell) for row in absences())]


@cache
def absences() -> tuple[Absence, ...]:
    """Return the cells without a checkpoint, each group with its reason."""
    axes = ("types", "profiles", "model_dtypes", "models")
    return tuple(
        Absence(
            **{axis: tuple(row.get(axis, ())) for axis in axes},
            reason=row["reason"],
            instead=row.get("instead"),
        )
        for row in _data()["absent"]
    )


def digest(directory: Path) -> str:
    """Return the sha256 of the text that `sha256sum` prints for the files, sorted by path.

    In a shell: `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum`.
    """
    names = sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()
    )
    lines = (f"{_sha256((directory / name).read_bytes())}  {name}\n" for name in names)
    return _sha256("".join(lines).encode())


def rows(digests: dict[Cell, str]) -> list[dict[str, Any]]:
    """The rows of `generated.json`: type, profile and dtype, with the digest for each model."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for cell, value in digests.items():
        row = {"type": cell.type, "profile": cell.profile, "model_dtype": cell.model_dtype}
        key = (cell.type, cell.profile, cell.dtype)
        found.setdefault(key, {**row, "sha256": {}})["sha256"][cell.model] = value
    return list(found.values())


def recorded() -> dict[Cell, str]:
    """Return cell -> digest, as `generated.json` has them."""
    dtypes = {tag: dtype for dtype, (tag, _) in DTYPES.items()}
    return {
        Cell(row["type"], row["profile"], dtypes[row["model_dtype"]], model): value
        for row in _read(GENERATED)["checkpoints"]
        for model, value in row["sha256"].items()
    }


def _written() -> list[tuple[str, str]]:
    """(type, profile) of everything but norms, which stand in every directory."""
    found = [
        (name, profile)
        for name in layout.types()
        if layout.load(name).kind != "norm"
        for profile in layout.load(name).profiles
    ]
    for label in _data()["derived"]:
        for derivation in layout.derivations().values():
            if derivation.base(label) is not None:
                found += [(label, profile) for profile in derivation.profiles]
    return list(dict.fromkeys(found))


@cache
def _data() -> dict[str, Any]:
    return _read("grid.json")


def _read(name: str) -> dict[str, Any]:
    path = folder("golden") / "checkpoints" / name
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
