"""From what an array means to how a profile stores it."""

from __future__ import annotations

from numpy.typing import NDArray

from slimspec import layout
from slimspec.checkpoint.dtypes import numpy_dtype, tag_of
from slimspec.layout import TensorRule
from slimspec.numeric import to_dtype
from slimspec.numeric.deq_word import encode_deq_scale


def encode(array: NDArray, suffix: str, rule: TensorRule, model_dtype: str) -> NDArray:
    """Return an array in the dtype a writer uses for it.

    That is its own dtype if the rule allows it, else the first of the rule. An int64 deq_scale
    holds the bits of the float32; every other conversion is from float to float.
    Raises: ValueError for any other conversion. Source: formats.md 3.0 (4).
    """
    own = tag_of(array.dtype)
    if own in rule.resolve_dtypes(model_dtype):
        return array
    tag = layout.write_dtype(rule, model_dtype)
    if suffix == "deq_scale" and tag == "I64":
        return encode_deq_scale(array)
    target = numpy_dtype(tag)
    if target is None or array.dtype.kind in "iu" or target.kind in "iu":
        raise ValueError(f"{suffix}: cannot store {own} as {tag}")
    return to_dtype(array, target)
