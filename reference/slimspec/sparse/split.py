"""Two scales for one weight: a coarse grid for the bulk, the same grid far out for the outliers.

    normal  s = amax / 7                       q = clip(ste(w / s), ±7)
    outlier s' = ((amax · 127) / 7) / 127      q' = clip(ste(w / s'), ±127)
    stored  q + q'                             ŵ = s·q + s'·q'

s' is s up to the last digit; the producers compute it in this order, in float32.

Source: facts/math.md 7.1, 7.2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import div, mul
from slimspec.sparse.outliers import Mask
from slimspec.sparse.straight_through import symmetric_codes

Float32 = NDArray[np.float32]
NORMAL_BOUND = 7
OUTLIER_BOUND = 127


@dataclass(frozen=True)
class SparseWeight:
    """q int8 [n, k]; scale float32, [n, 1] or [] or [1]; approximate float32 [n, k], the ŵ."""

    q: NDArray[np.int8]
    scale: Float32
    approximate: Float32


def quantize_split(w: Float32, outlier: Mask, amax: Float32) -> SparseWeight:
    """Quantize bulk and outliers with their two scales.

    Args: w float32 [n, k]; outlier bool [n, k]; amax float32, the bound of the bulk, broadcasts.
    Returns: the integers of both parts in one int8. Source: math.md 7.1.
    """
    f32 = np.float32
    keep = outlier.astype(f32)
    scale = div(amax, NORMAL_BOUND, f32)
    far = div(div(mul(amax, OUTLIER_BOUND, f32), NORMAL_BOUND, f32), OUTLIER_BOUND, f32)
    normal = symmetric_codes(w * (f32(1) - keep), scale, NORMAL_BOUND)
    beyond = symmetric_codes(w * keep, far, OUTLIER_BOUND)
    approximate = mul(normal, scale, f32) + mul(beyond, far, f32)
    return SparseWeight(normal + beyond, scale, approximate)
