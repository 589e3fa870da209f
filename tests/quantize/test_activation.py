"""Static activation parameters."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.quantize.activation import activation_qparams


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_parameters_are_vectors_of_one_in_the_dtype_of_the_range(
    dtype: type, shape: tuple[int, ...]
) -> None:
    lo, hi = np.full(shape, -1, dtype), np.full(shape, 3, dtype)
    scale, offset = activation_qparams(lo, hi, variant="v1")
    assert scale.shape == offset.shape == (1,)
    assert scale.dtype == offset.dtype == dtype
    assert offset[0] == -64


def test_symmetric_activation_has_no_offset() -> None:
    scale, offset = activation_qparams(
        np.float32(-254), np.float32(1), symmetric=True, variant="v0"
    )
    assert scale.tolist() == [2]
    assert offset.tolist() == [0]


def test_infinite_range_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"q_proj maximum: inf at index \(0,\)"):
        activation_qparams(np.float32(0), np.float32(np.inf), variant="v0", name="q_proj")
