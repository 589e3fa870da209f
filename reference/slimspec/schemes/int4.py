"""What the types with int4 weights share: two codes in a byte where the profile packs them."""

from __future__ import annotations

from collections.abc import Mapping

from numpy.typing import NDArray

from slimspec.layout import TensorRule
from slimspec.pack import pack_int4, unpack_int4

from .base import Scheme
from .records import QuantizedLinear

AXES = {"int4-row-pairs": 0, "int4-column-pairs": 1}


class Int4Scheme(Scheme):
    """Weights in [-8, 7], one per int8 in memory; the layout says how they are stored."""

    bits = 4

    def pack(self, q: QuantizedLinear, suffix: str, rule: TensorRule) -> NDArray:
        """Return the array of one suffix, the weight packed along the axis of the profile."""
        array = q.need(suffix)
        packing = (
            packing_of(rule.packing, q.need("weight_scale").shape) if suffix == "weight" else None
        )
        return array if packing not in AXES else pack_int4(array, AXES[packing], f"{q.name}.weight")

    def unpack(self, weight: NDArray, tensors: Mapping[str, NDArray], rule: TensorRule) -> NDArray:
        """Undo `pack` for the weight."""
        packing = packing_of(rule.packing, tensors["weight_scale"].shape)
        return weight if packing not in AXES else unpack_int4(weight, AXES[packing])


def packing_of(packing: tuple[str, ...], scale: tuple[int, ...]) -> str:
    """Return how a weight is packed; where a rule has two ways, the width of the scale decides.

    Args: packing: of the rule; scale: shape of weight_scale, not empty.

    Source: formats.md 3.0 (6); math.md 6.2.
    """
    if len(packing) == 1:
        return packing[0]
    return "int4-column-pairs" if scale[-1] == 1 else "int4-row-pairs"
