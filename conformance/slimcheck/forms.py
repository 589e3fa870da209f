"""How a weight holds integers: in bytes of their own or two in one, in groups of columns."""

from dataclasses import dataclass
from functools import lru_cache
from math import lcm

from slimcheck.context import Spec
from slimspec.schemes.int4 import AXES, packing_of

SUMMED = ("quant_bias", "scale_bias")  # what is made of sums of the integers
CUTS = ("weight", "weight_scale", "weight_scale_second", "scale_bias")
# Elements of a group in a large weight, or its statistics would take far more than its bytes. Two
# cuts make no smaller ones: below scales of 32 j columns and 16 chunks of a row they have at least
# gcd(32, k / 16) elements, which is even as k is a multiple of 32.
_LEAST = 2
_FEW = 1 << 24  # elements of a weight that is not large


@dataclass(frozen=True, slots=True)
class Form:
    """How a weight holds integers [n, k].

    Attributes:
        shape: (n, k).
        axis: along which two int4 codes share a byte; None: one code in each.
        groups: into how many groups of columns a row is cut, so that each lies below one element
            of the scales and one of scale_bias.
        summed: whether sums of the integers are judged.
    """

    shape: tuple[int, int]
    axis: int | None
    groups: int
    summed: bool

    @property
    def size(self) -> int:
        """Number of integers."""
        return self.shape[0] * self.shape[1]


@lru_cache(4096)
def form_of(
    packing: tuple[str, ...], summed: bool, weight: Spec | None, *cuts: Spec | None
) -> Form | None:
    """Args: packing: how the layout packs the weight; cuts: what has columns for its groups."""
    if weight is None or weight.dtype != "I8" or len(weight.shape) != 2:
        return None
    (n, k), axis = weight.shape, None
    if packing:
        scale = cuts[0].shape if cuts[0] else ()
        if not scale:
            return None
        axis = AXES[packing_of(packing, scale)]
        n, k = (2 * n, k) if axis == 0 else (n, 2 * k)
    shapes = [spec.shape for spec in cuts if spec is not None and len(spec.shape) == 2]
    groups = lcm(*(c for m, c in shapes if m == n and 0 < c < k and k % c == 0))
    fine = n * k <= _FEW or k >= _LEAST * groups
    return Form((n, k), axis, groups if groups and k % groups == 0 and fine else 1, summed)
