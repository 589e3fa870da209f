"""Run one folder of recorded function vectors against a routine of ours.

Loaded with runpy, as test files here are no package. A routine takes the case of the manifest and
the input arrays by their stored names, and returns the outputs by name; an output is an array, a
plain value, or a list or dict of those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

Case = dict[str, Any]
Tensors = Mapping[str, np.ndarray]
Routine = Callable[[Case, Tensors], dict[str, Any]]
Decoder = Callable[[np.ndarray], np.ndarray]
# (case, inputs, found, expected) -> which elements lie within a derived bound; and the share of all
# elements of the folder that must.
Bound = tuple[Callable[[Case, Tensors, np.ndarray, np.ndarray], np.ndarray], float]

OUR_ERRORS = (ValueError, TypeError)


def cases(folder: Path) -> Iterator[tuple[Case, Tensors]]:
    """Yield each case with all tensors of the folder."""
    tensors = load_file(folder / "cases.safetensors")
    for case in json.loads((folder / "manifest.json").read_text())["cases"]:
        yield case, tensors


def _stored_names(entry: Any) -> Iterator[str]:
    if isinstance(entry, dict):
        if "tensor" in entry:
            yield entry["tensor"]
        else:
            for inner in entry.values():
                yield from _stored_names(inner)
    elif isinstance(entry, list):
        for inner in entry:
            yield from _stored_names(inner)


def same_bits(found: Any, expected: np.ndarray) -> bool:
    """Equal dtype, shape and bytes; a NaN equals any NaN, as its sign depends on the machine."""
    found = np.asarray(found)
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    width = np.dtype(f"u{found.dtype.itemsize}")
    equal = np.ascontiguousarray(found).view(width) == np.ascontiguousarray(expected).view(width)
    if found.dtype.kind not in "iub":
        equal |= np.isnan(found) & np.isnan(expected)
    return bool(np.all(equal))


def _same(found: Any, entry: Any, tensors: Tensors, decode: Decoder) -> bool:
    """Compare with a manifest entry: a tensor, a list, a dict or a plain value."""
    if "tensor" in entry:
        return same_bits(decode(np.asarray(found)), decode(tensors[entry["tensor"]]))
    if "list" in entry:
        pairs = zip(found, entry["list"], strict=True)
        return all(_same(f, e, tensors, decode) for f, e in pairs)
    if "dict" in entry:
        return all(_same(found[name], e, tensors, decode) for name, e in entry["dict"].items())
    return bool(found == entry["value"])


def _judge(
    case: Case,
    tensors: Tensors,
    ours: Routine,
    decode: dict[str, Decoder],
    tallies: dict[str, Tally],
) -> list[str]:
    inputs = {name: tensors[name] for name in _stored_names(case["in"])}
    if "error" in case:
        try:
            ours(case, inputs)
        except OUR_ERRORS:
            return []
        return [f"{case['id']}: no error, the producer says {case['error']}"]
    found = ours(case, inputs)
    wrong = []
    for name, entry in case["out"].items():
        if entry == {"value": None}:
            continue
        if name in tallies:
            same = tallies[name].add(case, inputs, found[name], _expected(entry, tensors))
        else:
            same = _same(found[name], entry, tensors, decode.get(name, np.asarray))
        if not same:
            wrong.append(f"{case['id']}: {name} differs, {case['params']}")
    return wrong


def _expected(entry: Any, tensors: Tensors) -> np.ndarray:
    if "list" in entry:
        return np.asarray([_expected(item, tensors) for item in entry["list"]])
    return tensors[entry["tensor"]] if "tensor" in entry else np.asarray(entry["value"])


class Tally:
    """Counts, over all cases of a folder, the elements of one output that miss their bound."""

    def __init__(self, bound: Bound) -> None:
        self._close, self._share = bound
        self._outside = self._total = 0

    def add(self, case: Case, inputs: Tensors, found: Any, expected: np.ndarray) -> bool:
        """Count one case. Returns: whether dtype and shape are the recorded ones."""
        found = np.asarray(found)
        if found.dtype != expected.dtype or found.shape != expected.shape:
            return False
        close = np.asarray(self._close(case, inputs, found, expected))
        self._outside += int((~close).sum())
        self._total += close.size
        return True

    def verdict(self, name: str) -> list[str]:
        """Return one line if fewer elements than asked for keep the bound."""
        if self._outside <= (1 - self._share) * self._total:
            return []
        return [f"{name}: {self._outside} of {self._total} elements outside the bound"]


def mismatches(
    folder: Path,
    ours: Routine,
    decode: dict[str, Decoder],
    bounds: dict[str, Bound] | None = None,
) -> tuple[int, list[str]]:
    """Return the number of cases run and one line per output or error that differs.

    Outputs named in `bounds` are counted over the whole folder instead of compared bit for bit.
    """
    count, wrong = 0, []
    tallies = {name: Tally(bound) for name, bound in (bounds or {}).items()}
    for case, tensors in cases(folder):
        count += 1
        wrong += _judge(case, tensors, ours, decode, tallies)
    for name, tally in tallies.items():
        wrong += tally.verdict(name)
    return count, wrong
