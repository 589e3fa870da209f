"""Drawn cases against exact arithmetic: 1,000 draws of 128 results each, for each operation."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import dequantize, matmul_int8

DRAWS = settings(derandomize=True, deadline=None, max_examples=1000)
ROWS, COLUMNS = 8, 16  # 128 results a draw
scales = st.floats(2.0**-60, 2.0**20, width=32)


@DRAWS
@given(st.integers(1, 24).flatmap(lambda k: st.binary(min_size=24 * k, max_size=24 * k)))
def test_sums_are_those_of_python_integers(raw: bytes) -> None:
    rows = np.frombuffer(raw, np.int8).reshape(ROWS + COLUMNS, -1)
    x, w = rows[:ROWS], rows[ROWS:]
    wide = rows.tolist()
    exact = [
        [sum(a * b for a, b in zip(p, q, strict=True)) for q in wide[ROWS:]] for p in wide[:ROWS]
    ]
    assert matmul_int8(x, w).tolist() == exact


@DRAWS
@given(st.binary(min_size=512, max_size=512), st.lists(scales, min_size=16, max_size=16))
def test_epilogue_rounds_each_step_once(raw: bytes, drawn: list[float]) -> None:
    acc = np.frombuffer(raw, "<i4").reshape(ROWS, COLUMNS)
    scale = np.array(drawn, np.float32)
    # 24 bits times 24 bits fit float64: the product is exact and rounded to float32 once
    product = acc.astype(np.float32).astype(np.float64) * scale.astype(np.float64)
    with np.errstate(over="ignore"):
        expected = product.astype(np.float32).astype(np.float16)
    found = dequantize(acc, scale, out_dtype=np.float16)
    assert found.tobytes() == expected.tobytes()
