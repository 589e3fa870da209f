"""What the page shows beside the findings: scales by type, sizes by type, findings by layer."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.report.model import Report
from slimcheck.report.view import severity_of
from slimspec.checkpoint import Checkpoint, CheckpointError
from slimspec.numeric.deq_word import decode_deq_scale

REST = -1  # the column of names without a number
COLUMNS = 64  # of the heat map
UNDESCRIBED = ""
_NUMBER = re.compile(r"(?:^|\.)(\d{1,9})\.")
_FLOATS = frozenset({"F16", "BF16", "F32"})
_EXPONENTS = frozenset({"U8", "F8_E8M0"})  # powers of two, stored as the exponent + 127


@dataclass
class Scales:
    """All scales of one type and suffix."""

    type: str
    suffix: str
    powers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    tensors: int = 0
    elements: int = 0
    zeros: int = 0
    negative: int = 0
    bad: int = 0  # NaN or infinite
    unreadable: int = 0  # tensors
    smallest: float = float("inf")
    largest: float = 0.0

    def add(self, x: NDArray[np.float32]) -> None:
        """Count float32 scales by exponent: `powers[i]` are those in [2^(i-127), 2^(i-126))."""
        bits = np.ascontiguousarray(x).reshape(-1).view(np.uint32)
        size = bits & np.uint32(0x7FFFFFFF)
        exponents = np.bincount(size >> np.uint32(23), minlength=256)
        zeros = int(np.count_nonzero(size == 0))
        self.bad += int(exponents[255])
        exponents[255] = 0
        exponents[0] -= zeros
        self.powers += exponents
        self.tensors += 1
        self.elements += bits.size
        self.zeros += zeros
        self.negative += int(np.count_nonzero((bits >> np.uint32(31)).astype(bool) & (size != 0)))
        usable = size[(size != 0) & (size < np.uint32(0x7F800000))]
        if usable.size:  # positive floats order as their bits do
            ends = np.array([usable.min(), usable.max()], np.uint32).view(np.float32)
            self.smallest = min(self.smallest, float(ends[0]))
            self.largest = max(self.largest, float(ends[1]))


def scales(report: Report) -> list[Scales]:
    """Histograms of the scales, by type and suffix; reads each scale tensor once."""
    found: dict[tuple[str, str], Scales] = {}
    for holder in _holders(report):
        labels = holder.description.labels if holder.description else {}
        for row in map(int, holder.table.in_storage_order()):
            name = holder.table.names[row]
            suffix = name.rpartition(".")[2]
            read = _reader(suffix, holder.table.dtype(row))
            again = holder.table.index(name) != row
            if read is None or again or not holder.is_asked(name):
                continue
            key = (labels.get(name, UNDESCRIBED), suffix)
            entry = found.setdefault(key, Scales(*key))
            try:
                entry.add(read(holder, name))
            except CheckpointError:
                entry.unreadable += 1
    return [found[key] for key in sorted(found)]


def _reader(suffix: str, dtype: str) -> Any:
    """How to read a scale as float32; None for what is no scale."""
    if not suffix.endswith("scale"):
        return None
    if dtype in _FLOATS:
        return lambda holder, name: holder.tensor(name).astype(np.float32)
    if dtype == "I64" and suffix == "deq_scale":
        return lambda holder, name: decode_deq_scale(holder.tensor(name))
    return _powers if dtype in _EXPONENTS else None


def _powers(holder: Checkpoint, name: str) -> NDArray[np.float32]:
    stored = holder.raw(name)
    values = np.ldexp(np.float32(1), stored.astype(np.int32) - 127).astype(np.float32)
    values[stored == 255] = np.float32("nan")
    return values


@dataclass
class Size:
    """Tensors of one type, in total and by (suffix, dtype)."""

    type: str
    tensors: int = 0
    nbytes: int = 0
    parts: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


def sizes(report: Report) -> list[Size]:
    """Stored bytes by type and suffix, the largest first."""
    found: dict[str, Size] = {}
    for holder in _holders(report):
        labels = holder.description.labels if holder.description else {}
        table = holder.table
        for row, (name, nbytes) in enumerate(zip(table.names, table.sizes.tolist(), strict=True)):
            label = labels.get(name, UNDESCRIBED)
            entry = found.setdefault(label, Size(label))
            entry.tensors += 1
            entry.nbytes += nbytes
            part = (name.rpartition(".")[2], table.dtype(row))
            count, size = entry.parts.get(part, (0, 0))
            entry.parts[part] = (count + 1, size + nbytes)
    for entry in found.values():
        entry.parts = dict(sorted(entry.parts.items(), key=lambda item: -item[1][1]))
    return sorted(found.values(), key=lambda entry: -entry.nbytes)


@dataclass(frozen=True)
class HeatMap:
    """Tensors with findings, requirement by layer; neighbours share a column if there are many."""

    columns: list[tuple[int, int]]  # first and last layer; (REST, REST) for other names
    rows: list[tuple[str, str, list[int]]]  # id, severity, count in each column


def heat_map(report: Report) -> HeatMap:
    """Count the tensors of every finding by layer."""
    layers = sorted({layer_of(n) for h in _holders(report) for n in h.table.names} - {REST})
    rows = list(_rows(report))
    layers = sorted({*layers, *(k for _, _, hits in rows for k in hits)} - {REST})
    width = -(-len(layers) // COLUMNS) or 1
    runs = [layers[i : i + width] for i in range(0, len(layers), width)]
    column = {layer: i for i, run in enumerate(runs) for layer in run} | {REST: len(runs)}
    columns = [(run[0], run[-1]) for run in runs] + [(REST, REST)]
    table = []
    for key, severity, hits in rows:
        counts = [0] * len(columns)
        for layer, count in hits.items():
            counts[column[layer]] += count
        table.append((key, severity, counts))
    return HeatMap(columns, table)


def _rows(report: Report) -> Iterator[tuple[str, str, Counter[int]]]:
    for result in report.results:
        groups = [*result.groups, *(group for group, _ in result.waived)]
        if not groups:
            continue
        hits: Counter[int] = Counter()
        for group in groups:
            hits.update(layer_of(name) for name in group.tensors)
            if not group.tensors:
                hits[REST] += group.count
        yield result.requirement.id, severity_of(result) if result.groups else "WAIVED", hits


def layer_of(name: str) -> int:
    """The first number in a tensor name, which is its layer; REST where there is none."""
    match = _NUMBER.search(name)
    return int(match[1]) if match else REST


def _holders(report: Report) -> list[Checkpoint]:
    """The directories that hold weights."""
    return [part.checkpoint for part in report.checkpoint.parts] or [report.checkpoint]
