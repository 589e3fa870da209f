"""Packing, FP8, MX and deq_scale words equal the producer's recordings, every case, every bit."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
TABLE = runpy.run_path(str(HERE / "vectors_numeric.py"))
RUNNER = runpy.run_path(str(HERE / "vector_runner.py"))


@pytest.mark.parametrize("folder", sorted(TABLE["VECTORS"]))
def test_every_recorded_case_is_reproduced(oracle: Path, folder: str) -> None:
    path = oracle / "vectors" / folder
    if not path.is_dir():
        pytest.skip(f"this oracle has no vectors of {folder}")
    decode = TABLE["DECODE"].get(folder, {})
    count, wrong = RUNNER["mismatches"](path, TABLE["VECTORS"][folder], decode)
    assert count > 0
    assert not wrong, f"{len(wrong)} of {count} cases: {wrong[:5]}"


def test_the_comparison_sees_one_bit_a_sign_of_zero_a_dtype_and_a_shape() -> None:
    same = RUNNER["same_bits"]
    one = np.array([1, np.nan], np.float32)
    assert same(one, -np.array([-1, np.nan], np.float32))
    assert not same(one, np.nextafter(one, np.float32(2)))
    assert not same(np.float32([0]), np.float32([-0.0]))
    assert not same(np.int8([1]), np.int16([1]))
    assert not same(np.int8([1]), np.int8([[1]]))
