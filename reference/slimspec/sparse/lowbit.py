"""W8A8S from "low bit": the bulk of each row on 15 levels, outliers on the same grid further out.

Source: facts/math.md 7.1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32
from slimspec.quantize.affine import quantize, require_finite
from slimspec.quantize.minmax import IntegerWeight
from slimspec.sparse.outliers import Mask, fraction_mask, sigma_mask
from slimspec.sparse.split import SparseWeight, quantize_split

SIGMA_RANGE = (3.0, 4.0)
FRACTION_RANGE = (0.01, 0.1)


@dataclass(frozen=True)
class LowBitOptions:
    """How outliers are found; the names of the fields are the tool's.

    `open_outlier` False keeps all weights in the bulk; `use_sigma` compares with `sigma_factor`
    standard deviations of |w|, otherwise the largest `fraction` of a row are outliers.
    `per_channel` gives each row its scale, otherwise the matrix has one; masks are per row always.
    """

    open_outlier: bool = True
    use_sigma: bool = False
    sigma_factor: float = 3.0
    fraction: float = 0.01
    per_channel: bool = True

    def __post_init__(self) -> None:
        for name, (low, high) in (("sigma_factor", SIGMA_RANGE), ("fraction", FRACTION_RANGE)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: expected {low} to {high}, found {value}")


DEFAULTS = LowBitOptions()


def quantize_lowbit(w: NDArray, options: LowBitOptions = DEFAULTS) -> SparseWeight:
    """Quantize bulk and outliers; arithmetic is float32.

    amax = max|w| over what is no outlier, per row or over the matrix; then `quantize_split`.
    Recorded per-tensor fractions have no outlier at k = 128, c = int(0.011 · 128) = 1, though
    int(0.011 · n · k) is 8: the rank is taken per row there too.

    Args: w [n, k] float32, float16 or bfloat16.
    Returns: q int8 in [-127, 127]; scale [n, 1] or []; a row of zeros has scale 0 and zeros.
    Raises: ValueError for NaN, infinity, or a fraction that asks for no weight of a row.
    Source: math.md 7.1.
    """
    require_finite(w, "weight")
    rows = as_float32(w)
    outlier = _outliers(rows, options)
    bulk = np.where(outlier, np.float32(0), np.abs(rows))
    amax = bulk.max(axis=1, keepdims=True) if options.per_channel else np.asarray(bulk.max())
    return quantize_split(rows, outlier, amax)


def w8a8s_weight(w: NDArray, options: LowBitOptions = DEFAULTS) -> IntegerWeight:
    """Return the weight as the saver stores it: once more from w, on the grid of the bulk.

    q = clip(round_half_even(w / scale), -128, 127), scale as in `quantize_lowbit`

    Args: w [n, k]. Returns: q int8 [n, k]; scale float32 [n, 1] or []; offset zeros.
    Raises: as `quantize_lowbit`. Source: math.md 1.5, 7.1.
    """
    scale = quantize_lowbit(w, options).scale
    offset = np.zeros_like(scale)
    return IntegerWeight(quantize(as_float32(w), scale, offset), scale, offset)


def _outliers(rows: NDArray[np.float32], options: LowBitOptions) -> Mask:
    if not options.open_outlier:
        return np.zeros(rows.shape, np.bool_)
    if options.use_sigma:
        return sigma_mask(rows, options.sigma_factor)[0]
    return fraction_mask(rows, options.fraction, per_row=True)[0]
