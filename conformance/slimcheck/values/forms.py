"""How a weight holds integers: in bytes of their own or two in one, in groups of columns."""

from dataclasses import dataclass, field
from functools import lru_cache
from math import lcm

from slimcheck.context import Spec
from slimspec.schemes.int4 import AXES, packing_of

# what the form is told by: the weight, what scales it, what is made of sums of its integers
TELLING = ("weight", "weight_scale", "weight_scale_second", "scale_bias", "quant_bias")
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
            of the scales.
        chunks: the same for sums, which belong to one element of scale_bias too; 0: nothing is made
            of sums.
        stored: rows and columns of its bytes.
        nbytes: their number.
        whole: whether it has elements, and each of its groups bytes of its own.
    """

    shape: tuple[int, int]
    axis: int | None = None
    groups: int = 1
    chunks: int = 1
    stored: tuple[int, int] = field(init=False, compare=False, repr=False)
    nbytes: int = field(init=False, compare=False, repr=False)
    whole: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        n, k = self.shape
        rows, columns = (n // 2, k) if self.axis == 0 else (n, k // 2 if self.axis == 1 else k)
        parts = self.groups, max(self.chunks, 1)
        object.__setattr__(self, "stored", (rows, columns))
        object.__setattr__(self, "nbytes", rows * columns)
        whole = rows * columns > 0 and not any(columns % part for part in parts)
        object.__setattr__(self, "whole", whole)

    @property
    def size(self) -> int:
        """Number of integers."""
        return self.shape[0] * self.shape[1]


@lru_cache(4096)
def form_of(packing: tuple[str, ...], *told: Spec | None) -> Form | None:
    """Args: packing: how the layout packs the weight; told: what the form is told by, if there."""
    weight, scale, second, scale_bias, quant_bias = told
    if weight is None or weight.dtype != "I8" or len(weight.shape) != 2:
        return None
    (n, k), axis = weight.shape, None
    if packing:
        shape = scale.shape if scale else ()
        if not shape:
            return None
        axis = AXES[packing_of(packing, shape)]
        n, k = (2 * n, k) if axis == 0 else (n, 2 * k)
    chunks = int(quant_bias is not None)
    if scale_bias is not None:
        chunks = _cut(n, k, scale, second, scale_bias) if second else _cut(n, k, scale_bias)
    return Form((n, k), axis, _cut(n, k, scale, second), chunks)


def _cut(n: int, k: int, *specs: Spec | None) -> int:
    """Number of groups of columns of which each belongs to one element of each tensor."""
    shapes = [spec.shape for spec in specs if spec is not None and len(spec.shape) == 2]
    groups = lcm(*(c for m, c in shapes if m == n and 0 < c < k and k % c == 0))
    fine = n * k <= _FEW or k >= _LEAST * groups
    return groups if k % groups == 0 and fine else 1
