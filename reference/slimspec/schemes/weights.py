"""The min-max weights that every scheme starts from, as each producer makes them."""

from __future__ import annotations

from slimspec.quantize.affine import code_range
from slimspec.quantize.minmax import IntegerWeight, quantize_minmax
from slimspec.quantize.weight_lowbit import quantize_lowbit_groups

from .records import Linear, Options


def minmax_weight(linear: Linear, bits: int, options: Options) -> IntegerWeight:
    """Quantize a weight per row, per tensor or per group.

    "v0" keeps symmetric integers within ±(2^(bits-1) - 1) and makes groups in float32 without eps
    (`weight_lowbit`); "v1" uses all integers, and the dtype of the weight for groups too.
    Source: math.md 1.5, 1.6, 3.1.
    """
    w, name, group_size = linear.weight, f"{linear.name}.weight", options.group_size
    if group_size and options.per_tensor:
        raise ValueError(f"{name}: group_size {group_size} and per_tensor exclude each other")
    if group_size and options.variant == "v0":
        return quantize_lowbit_groups(
            w, bits=bits, group_size=group_size, symmetric=options.symmetric, name=name
        )
    positive = code_range(bits)[1]
    return quantize_minmax(
        w,
        bits=bits,
        symmetric=options.symmetric,
        variant=options.variant,
        granularity="tensor" if options.per_tensor else "group" if group_size else "channel",
        group_size=group_size,
        max_bound=positive if options.variant == "v0" and options.symmetric else None,
        name=name,
        threads=options.threads,
    )
