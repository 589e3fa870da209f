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


def _judge(case: Case, tensors: Tensors, ours: Routine, decode: dict[str, Decoder]) -> list[str]:
    inputs = {name: tensors[name] for name in _stored_names(case["in"])}
    if "error" in case:
        try:
            ours(case, inputs)
        except OUR_ERRORS:
            return []
        return [f"{case['id']}: no error, the producer says {case['error']}"]
    found = ours(case, inputs)
    recorded = {name: e for name, e in case["out"].items() if e != {"value": None}}
    return [
        f"{case['id']}: {name} differs, {case['params']}"
        for name, entry in recorded.items()
        if not _same(found[name], entry, tensors, decode.get(name, np.asarray))
    ]


def mismatches(folder: Path, ours: Routine, decode: dict[str, Decoder]) -> tuple[int, list[str]]:
    """Return the number of cases run and one line per output or error that differs."""
    count, wrong = 0, []
    for case, tensors in cases(folder):
        count += 1
        wrong += _judge(case, tensors, ours, decode)
    return count, wrong
