"""The 64-bit dequantization word of the output path.

    bits 0-31   float32 bits of the scale; the hardware uses bits 13-31 (FP19 = 1 + 8 + 10)
    bits 37-45  signed 9-bit offset (int8 output only)
    bit  46     set by npu_trans_quant_param

    word = bits(fp19(scale)) | 1 << 46                           without offset
    word = ... | (clip(rint(offset), -256, 255) & 0x1FF) << 37   with offset

A checkpoint stores the bare float32 bits as int64: no mask and no bit 46. Both forms parse to the
same scale, because the mask is applied when the word is used.

Source: integer_semantics.md B.1; math.md 4.2.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slimspec.numeric import round_fp19, round_half_even, saturate_int9, truncate_fp19

SIGN_FLAG = np.uint64(1 << 46)
OFFSET_SHIFT = np.uint64(37)
OFFSET_MASK = np.uint64(0x1FF)
LOW_WORD = np.uint64(0xFFFFFFFF)


class DeqWord(NamedTuple):
    """What the hardware reads from a word: scale float32 (FP19 value) and offset int32."""

    scale: NDArray[np.float32]
    offset: NDArray[np.int32]


def trans_quant_param(
    scale: ArrayLike, offset: ArrayLike | None = None, round_mode: int = 0
) -> NDArray[np.uint64]:
    """Build the words that the kernels take from a float scale and an optional offset.

    Args:
        scale: (n,) or scalar, taken as float32.
        offset: broadcastable to scale, taken as float32; rounded half to even, clipped to 9 bits.
        round_mode: 0 truncates the scale to FP19; 1 rounds it half to even, subnormals to ±0.

    Returns:
        uint64, shape of scale and offset broadcast.

    Raises:
        ValueError: the offset holds a NaN, or the mode is not 0 or 1.
    """
    if round_mode not in (0, 1):
        raise ValueError(f"round_mode: expected 0 or 1, found {round_mode!r}")
    fp19 = (round_fp19 if round_mode else truncate_fp19)(np.asarray(scale, np.float32))
    words = fp19.view(np.uint32).astype(np.uint64) | SIGN_FLAG
    if offset is None:
        return words
    nine = saturate_int9(round_half_even(np.asarray(offset, np.float32)))
    return words | (nine.astype(np.uint64) & OFFSET_MASK) << OFFSET_SHIFT


def parse_quant_param(words: NDArray) -> DeqWord:
    """Read scale and offset as the hardware does.

    Args:
        words: int64 or uint64, from a checkpoint or from `trans_quant_param`.

    Returns:
        DeqWord: scale float32 truncated to FP19, offset int32 in [-256, 255].

    Raises:
        TypeError: words are not 64-bit integers.
    """
    words = _as_uint64(words)
    scale = truncate_fp19(scale_bits(words))
    nine = (words >> OFFSET_SHIFT & OFFSET_MASK).astype(np.int32)
    return DeqWord(scale, (nine ^ np.int32(256)) - np.int32(256))


def scale_bits(words: NDArray) -> NDArray[np.float32]:
    """The float32 in the low half of the words, not truncated (how W4A8 kernels read them)."""
    return (_as_uint64(words) & LOW_WORD).astype(np.uint32).view(np.float32)


def _as_uint64(words: NDArray) -> NDArray[np.uint64]:
    words = np.asarray(words)
    if words.dtype not in (np.dtype(np.int64), np.dtype(np.uint64)):
        raise TypeError(f"words: expected int64 or uint64, found {words.dtype} {words.shape}")
    return words.view(np.uint64)
