"""Every folder of recorded functions is mapped to a routine of ours and reproduced in full.

The tables `vectors_*.py` beside this file map folder -> routine; a folder that none of them maps
fails. `DECODE` names outputs that are compared after decoding; `BOUNDS` names those that depend on
the order of a sum in the producer's libraries, with a derived bound (see `vector_runner`).
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RUNNER = runpy.run_path(str(HERE / "vector_runner.py"))


def _tables() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, list[str]]]:
    """Return routines, decoders, bounds, and folder -> files that map it."""
    routines: dict[str, Any] = {}
    decoders: dict[str, Any] = {}
    bounds: dict[str, Any] = {}
    owners: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("vectors_*.py")):
        table = runpy.run_path(str(path))
        routines |= table["VECTORS"]
        decoders |= table.get("DECODE", {})
        bounds |= table.get("BOUNDS", {})
        for folder in table["VECTORS"]:
            owners.setdefault(folder, []).append(path.name)
    return routines, decoders, bounds, owners


ROUTINES, DECODERS, BOUNDS, OWNERS = _tables()


def test_recorded_function_is_reproduced_in_every_case(vector_folder: Path) -> None:
    name = vector_folder.name
    assert name in ROUTINES, f"no table vectors_*.py maps the folder {name}"
    decode = DECODERS.get(name, {})
    bounds = BOUNDS.get(name, {})
    count, wrong = RUNNER["mismatches"](vector_folder, ROUTINES[name], decode, bounds)
    assert count > 0
    assert not wrong, f"{len(wrong)} differences in {count} cases: {wrong[:5]}"


def test_no_folder_is_mapped_twice() -> None:
    assert {folder: files for folder, files in OWNERS.items() if len(files) > 1} == {}


def test_the_comparison_sees_one_bit_a_sign_of_zero_a_dtype_and_a_shape() -> None:
    same = RUNNER["same_bits"]
    one = np.array([1, np.nan], np.float32)
    assert same(one, -np.array([-1, np.nan], np.float32))
    assert not same(one, np.nextafter(one, np.float32(2)))
    assert not same(np.float32([0]), np.float32([-0.0]))
    assert not same(np.int8([1]), np.int16([1]))
    assert not same(np.int8([1]), np.int8([[1]]))
