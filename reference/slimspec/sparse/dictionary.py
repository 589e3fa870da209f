"""The frequency dictionary of an encoder call.

The dictionary lists the most frequent byte values in descending count. Decoding does not depend on
the order of equal counts; byte identity with the vendor's files does, and there it is the order
that an unstable introsort leaves (`"libstdcxx"`). `"value"` orders ties by ascending value.

Source: facts/sparse_codec.md 4.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse.introsort import introsort

TieOrder = Literal["libstdcxx", "value"]


def ranking(histogram: NDArray[np.int64], tie_order: TieOrder = "libstdcxx") -> bytes:
    """Return all 256 byte values, most frequent first.

    Args:
        histogram: int64 [256], count of each unsigned byte value.
        tie_order: order of equal counts.

    Returns:
        256 distinct byte values; a dictionary is its first 36 (low) or 34 (high).

    Raises:
        ValueError: wrong histogram or unknown order.

    Source: facts/sparse_codec.md 4.
    """
    counts = histogram.tolist()
    if len(counts) != 256:
        raise ValueError(f"histogram has {len(counts)} counts, expected 256")
    values = list(range(256))
    if tie_order == "libstdcxx":
        introsort(values, lambda a, b: counts[a] > counts[b])
    elif tie_order == "value":
        values.sort(key=lambda value: -counts[value])
    else:
        raise ValueError(f"tie_order is {tie_order!r}, expected libstdcxx or value")
    return bytes(values)
