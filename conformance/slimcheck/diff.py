"""What changed between two checkpoints: tensors, labels, values, metadata, config, other files.

Tensors are compared by name, whatever file holds them, so a checkpoint cut into other shards is
the same checkpoint. Values are compared byte for byte, in pieces, tensor by tensor.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.checkpoint.dtypes import BITS
from slimspec.checkpoint.errors import clip
from slimspec.checkpoint.index import SUFFIX
from slimspec.checkpoint.table import Tensor
from slimspec.patterns import collapse

PIECE = 16 << 20  # bytes compared at once
ABSENT = "absent"
KINDS = ("part", "tensor", "dtype", "shape", "label", "values", "metadata", "config", "file")


@dataclass
class Change:
    """One kind of difference, with every name that it concerns."""

    kind: str  # one of KINDS
    a: str  # what A has; "" where it is not shown
    b: str
    names: list[str] = field(default_factory=list)

    @property
    def pattern(self) -> str:
        return collapse(self.names)


def diff(
    a: str | Path,
    b: str | Path,
    *,
    values: bool = True,
    advance: Callable[[int], None] = lambda nbytes: None,
) -> list[Change]:
    """Return the differences between two directories; [] = the same checkpoint.

    Args:
        values: also compare the bytes of tensors of one dtype and shape.
        advance: called with the number of bytes of each tensor that was compared.

    Raises:
        CheckpointError: a directory cannot be compared as a whole: it is missing, holds no tensor,
            or has a file whose header, description or config.json cannot be read.
    """
    one, two = _open(a), _open(b)
    comparison = _Comparison(values, advance)
    parts_a = {part.name: part.checkpoint for part in one.parts}
    parts_b = {part.name: part.checkpoint for part in two.parts}
    for name in sorted({*parts_a, *parts_b}):
        part_a, part_b = parts_a.get(name), parts_b.get(name)
        if part_a is None or part_b is None:
            comparison.add("part", _presence(part_a), _presence(part_b), name)
        else:
            comparison.compare(part_a, part_b, name + "/")
    comparison.compare(one, two)
    return list(comparison.changes.values())


def _open(path: str | Path) -> Checkpoint:
    checkpoint = open_checkpoint(path)
    holders = [checkpoint, *(part.checkpoint for part in checkpoint.parts)]
    for holder in holders:
        _check_readable(holder)
    if not any(len(holder.table) for holder in holders):
        raise CheckpointError(f"{clip(str(path))}: no *.safetensors file with tensors")
    return checkpoint


def _check_readable(holder: Checkpoint) -> None:
    """Refuse what would make the comparison say less than it seems to."""
    where = clip(str(holder.path))
    for file in (*holder.shards, holder.config, holder.description):
        for found in file.defects if file is not None else ():
            if found.code != "config-dtype":
                raise CheckpointError(f"{where}: {found.message}")
    if holder.table.duplicates:
        name = next(iter(holder.table.duplicates))
        raise CheckpointError(f"{where}: tensor {clip(name, 120)!r} is in several files")
    if holder.description is None and len(holder.description_candidates) > 1:
        raise CheckpointError(f"{where}: several description files")


class _Comparison:
    """The comparison under way; changes are gathered by kind and by what the sides have."""

    def __init__(self, values: bool, advance: Callable[[int], None]) -> None:
        self.changes: dict[tuple[str, ...], Change] = {}
        self._values, self._advance = values, advance
        self._prefix = ""

    def add(self, kind: str, a: str, b: str, name: str) -> None:
        key = (kind, a, b, name.rpartition(".")[2], str(name.count(".")))
        change = self.changes.setdefault(key, Change(kind, a, b))
        change.names.append(self._prefix + name)

    def compare(self, a: Checkpoint, b: Checkpoint, prefix: str = "") -> None:
        """Compare two directories without their parts; `prefix` goes before every name."""
        self._prefix = prefix
        self._tensors(a, b)
        self._labels(a, b)
        self._members("metadata", _metadata(a), _metadata(b))
        self._members("config", _config(a), _config(b))
        self._files(_others(a), _others(b))

    def _tensors(self, a: Checkpoint, b: Checkpoint) -> None:
        for one in map(a.table.row, map(int, a.table.in_storage_order())):
            j = b.table.find(one.name)
            if j is None:
                self.add("tensor", _spec(one), ABSENT, one.name)
            else:
                self._tensor(a, b, one, b.table.row(j))
        for two in b.table:
            if two.name not in a.table:
                self.add("tensor", ABSENT, _spec(two), two.name)

    def _tensor(self, a: Checkpoint, b: Checkpoint, one: Tensor, two: Tensor) -> None:
        if one.dtype != two.dtype:
            self.add("dtype", one.dtype, two.dtype, one.name)
        if one.shape != two.shape:
            self.add("shape", str(list(one.shape)), str(list(two.shape)), one.name)
        if self._values and (one.dtype, one.shape) == (two.dtype, two.shape):
            if not _same_bytes(a, b, one):
                self.add("values", "", "", one.name)
            self._advance(one.end - one.begin)

    def _labels(self, a: Checkpoint, b: Checkpoint) -> None:
        """Labels of entries; an entry that came or went with its tensor is not said twice."""
        one, two = _entries(a), _entries(b)
        for name in {**one, **two}:
            x, y = one.get(name, ABSENT), two.get(name, ABSENT)
            moved = (name in a.table) != (name in b.table) and ABSENT in (x, y)
            if x != y and not moved:
                self.add("label", x, y, name)

    def _members(self, kind: str, one: Mapping[str, str], two: Mapping[str, str]) -> None:
        for key in sorted({*one, *two}):
            x, y = one.get(key, ABSENT), two.get(key, ABSENT)
            if x != y:
                self.add(kind, x, y, key)

    def _files(self, one: Mapping[str, Path], two: Mapping[str, Path]) -> None:
        for name in sorted({*one, *two}):
            if name not in one or name not in two:
                self.add("file", _presence(one.get(name)), _presence(two.get(name)), name)
            elif not _same_file(one[name], two[name]):
                self.add("file", "", "", name)


def _spec(row: Tensor) -> str:
    return f"{row.dtype} {list(row.shape)}"


def _presence(thing: object) -> str:
    return ABSENT if thing is None else "present"


def _same_bytes(a: Checkpoint, b: Checkpoint, row: Tensor) -> bool:
    """Whether both sides hold the same bytes of a tensor.

    Raises:
        CheckpointError: the bytes cannot be read, or are not those of its dtype and shape.
    """
    one, two = a.raw(row.name), b.raw(row.name)
    if one.size != two.size or 8 * one.size != BITS[row.dtype] * prod(row.shape):
        raise CheckpointError(f"{clip(row.file)}: tensor {clip(row.name, 120)!r}: unusable offsets")
    return all(
        np.array_equal(one[at : at + PIECE], two[at : at + PIECE])
        for at in range(0, one.size, PIECE)
    )


def _entries(side: Checkpoint) -> Mapping[str, str]:
    if side.description is None:
        return {}
    other = {name: repr(value) for name, value in side.description.other.items()}
    return {**side.description.labels, **other}


def _metadata(side: Checkpoint) -> dict[str, str]:
    return dict(_leaves(side.description.metadata)) if side.description is not None else {}


def _config(side: Checkpoint) -> dict[str, str]:
    return dict(_leaves(side.config.value)) if side.config is not None else {}


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, value) of every member that is no object, or an empty one.

    The reader has bounded the depth.
    """
    for key, member in value.items():
        where = f"{path}.{key}" if path else key
        if isinstance(member, dict) and member:
            yield from _leaves(member, where)
        else:
            yield where, repr(member)


def _others(side: Checkpoint) -> dict[str, Path]:
    """Tokenizer, code and the like: not weights, their index, config.json or the description."""
    told = {"config.json", *side.description_candidates}
    return {
        entry.name: side.path / entry.name
        for entry in side.files
        if not entry.is_directory
        and entry.name not in told
        and not entry.name.endswith((".safetensors", SUFFIX))
    }


def _same_file(a: Path, b: Path) -> bool:
    try:
        if not (a.is_file() and b.is_file()):
            raise CheckpointError(f"{a.name}: found no regular file, expected one on both sides")
        with a.open("rb") as one, b.open("rb") as two:
            while True:
                x, y = one.read(PIECE), two.read(PIECE)
                if x != y:
                    return False
                if not x:
                    return True
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read: {error.strerror}") from None
