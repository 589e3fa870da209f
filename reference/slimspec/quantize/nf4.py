"""NF4 (w_method NF of W4A16): 16 levels of a normal distribution, one absmax per block.

    code = argmin |w/absmax - table|;   ŵ = table[code]·absmax

Two codes per byte, the first in the high nibble: the opposite of every integer packing
(math.md 3.7).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, div, model_dtype, mul, sub, to_dtype

from .affine import require_finite

BLOCK = 64
TABLE = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)


def quantize_nf4(
    w: NDArray, block_size: int = BLOCK, name: str = "weight"
) -> tuple[NDArray[np.uint8], NDArray]:
    """Return packed codes and block maxima of a flattened weight.

    The table is first rounded to the dtype of w; of two equally near levels the lower one counts.
    Args: w any shape, float32/float16/bfloat16, size a multiple of block_size, which is even.
    Returns: uint8 [size / 2], absmax [size / block_size] in the dtype of w. A block of zeros
    (0 / 0 has no nearest level) gets code 0 and absmax 0.
    Raises: ValueError for NaN or Inf, or a size that no blocks fill.
    Source: math.md 3.7 (quant_modules.py:514-612).
    """
    dtype = model_dtype(w.dtype)
    require_finite(w, name)
    if block_size < 2 or block_size % 2 or w.size % block_size:
        raise ValueError(f"{name}: {w.size} values do not fill blocks of {block_size} (even)")
    blocks = w.reshape(-1, block_size)
    absmax = np.abs(blocks).max(axis=1)
    scaled = div(blocks, absmax[:, None], dtype)
    levels = to_dtype(TABLE, dtype)
    distance = np.abs(as_float32(sub(scaled[..., None], levels, dtype)))  # (blocks, g, 16)
    code = distance.argmin(axis=-1).astype(np.uint8).reshape(-1)
    return (code[0::2] << np.uint8(4)) | code[1::2], absmax


def dequantize_nf4(packed: NDArray[np.uint8], absmax: NDArray) -> NDArray:
    """Return table[code]·absmax, flat, in the dtype of absmax.

    Args: packed uint8 [size / 2]; absmax [blocks]. Source: math.md 3.7.
    """
    dtype = model_dtype(absmax.dtype)
    code = np.stack([packed >> np.uint8(4), packed & np.uint8(15)], axis=1).reshape(-1)
    values = to_dtype(TABLE, dtype)[code].reshape(absmax.size, -1)
    return mul(values, absmax[:, None], dtype).reshape(-1)
