"""Run one folder of recorded function vectors against a routine of ours.

Loaded with runpy, as test files here are no package. A routine takes the case of the manifest and
its input arrays by name, and returns the output arrays by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

Case = dict[str, Any]
Arrays = dict[str, Any]
Routine = Callable[[Case, Arrays], Arrays]
Decoder = Callable[[np.ndarray], np.ndarray]

OUR_ERRORS = (ValueError, TypeError)


def _arrays(entries: Case, tensors: Arrays) -> Arrays:
    return {name: tensors[e["tensor"]] for name, e in entries.items() if "tensor" in e}


def cases(folder: Path) -> Iterator[tuple[Case, Arrays, Arrays]]:
    """Yield each case with its input and output arrays."""
    manifest = json.loads((folder / "manifest.json").read_text())
    tensors = load_file(folder / "cases.safetensors")
    for case in manifest["cases"]:
        yield case, _arrays(case["in"], tensors), _arrays(case.get("out", {}), tensors)


def same_bits(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal dtype, shape and bytes; a NaN equals any NaN, as its sign depends on the machine."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    width = np.dtype(f"u{found.dtype.itemsize}")
    equal = np.ascontiguousarray(found).view(width) == np.ascontiguousarray(expected).view(width)
    if found.dtype.kind not in "iub":
        equal |= np.isnan(found) & np.isnan(expected)
    return bool(np.all(equal))


def _judge(case: Case, inputs: Arrays, outputs: Arrays, ours: Routine, decode: dict) -> list[str]:
    if "error" in case:
        try:
            ours(case, inputs)
        except OUR_ERRORS:
            return []
        return [f"{case['id']}: no error, the producer says {case['error']}"]
    found = ours(case, inputs)
    wrong = []
    for name, expected in outputs.items():
        as_value: Decoder = decode.get(name, np.asarray)
        if not same_bits(as_value(np.asarray(found[name])), as_value(expected)):
            wrong.append(f"{case['id']}: {name} differs, {case['params']}")
    return wrong


def mismatches(folder: Path, ours: Routine, decode: dict[str, Decoder]) -> tuple[int, list[str]]:
    """Return the number of cases run and one line per output or error that differs."""
    count, wrong = 0, []
    for case, inputs, outputs in cases(folder):
        count += 1
        wrong += _judge(case, inputs, outputs, ours, decode)
    return count, wrong
