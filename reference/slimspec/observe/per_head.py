"""Static per-head ranges and scales of attention (FA3): one scale for each head of q, k or v."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, to_dtype
from slimspec.quantize.affine import qparams
from slimspec.quantize.fp8 import fp8_scale

from .recall_window import RecallWindowObserver


class PerHeadObserver:
    """Range of each head over all batches.

    A batch [b, h, s, d] is read as h rows of b·s·d consecutive values. For b > 1 such a row mixes
    heads: a defect of the producer (math.md 15, D-17), reproduced because its files carry it.
    Source: math.md 9.2; msmodelslim processor/quant/fa3/processor.py:79-103.
    """

    def __init__(self, ratio: float = 1.0) -> None:
        self._window = RecallWindowObserver(ratio)

    def update(self, x: NDArray) -> None:
        """Add one batch, x [b, h, s, d] float32/float16/bfloat16."""
        if x.ndim != 4:
            raise ValueError(f"expected [batch, heads, tokens, head_dim], found shape {x.shape}")
        self._window.update(np.ascontiguousarray(x).reshape(x.shape[1], -1))

    def range(self) -> tuple[NDArray, NDArray]:
        """Return (lo, hi), each [h, 1] in the dtype of the samples."""
        return self._window.range()


def per_head_qparams(
    low: NDArray, high: NDArray, dtype: Literal["int8", "fp8_e4m3"] = "int8"
) -> tuple[NDArray, NDArray]:
    """Return symmetric scale and offset (zeros) for each head.

    int8: max(|lo|, |hi|)/127; fp8_e4m3: max(|lo|, |hi|, 1e-12)/448, in the dtype of the range.
    Args: low, high [h, 1]. Returns: scale, offset [h].
    Source: math.md 9.2, 12; msmodelslim ir/api/impl/fp_quantization.py:34-52.
    """
    low, high = low.reshape(-1), high.reshape(-1)
    if dtype == "int8":
        return qparams(low, high, bits=8, symmetric=True, variant="v1")
    if dtype != "fp8_e4m3":
        raise ValueError(f"per-head dtype: expected int8 or fp8_e4m3, found {dtype}")
    amax = np.maximum(np.abs(as_float32(low)), np.abs(as_float32(high)))
    scale = fp8_scale(to_dtype(amax, low.dtype))
    return scale, np.zeros_like(scale)
