"""The integers of a weight, as each producer makes them from the weight alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from slimspec.quantize.affine import code_range
from slimspec.quantize.minmax import IntegerWeight, quantize_minmax
from slimspec.quantize.ssz import quantize_ssz
from slimspec.quantize.weight_lowbit import quantize_lowbit_groups

from .records import Linear, Options

METHODS = ("minmax", "ssz")


def integer_weight(linear: Linear, bits: int, options: Options) -> IntegerWeight:
    """Quantize a weight by `options.method`. Raises: ValueError for a method that does not fit."""
    if options.method == "minmax":
        return minmax_weight(linear, bits, options)
    if options.method == "ssz":
        return ssz_weight(linear, bits, options)
    known = ", ".join(METHODS)
    raise ValueError(f"{linear.name}.weight: method {options.method!r}, expected one of {known}")


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


def ssz_weight(linear: Linear, bits: int, options: Options) -> IntegerWeight:
    """Quantize the rows of a weight by SSZ; "v1" has it for symmetric scales per row only.

    The errors that decide are of the dtype of the activations that pass while the weight is made:
    through static types, and through what is in one group with them. Where none pass the weight is
    made when it is saved, and they are float32.
    Source: math.md 3.2; msmodelslim core/quantizer/linear.py (forward, deploy), ir/qal/qbase.py
    (set_value_float_type), processor/container/group.py (is_data_free).
    """
    name = f"{linear.name}.weight"
    if options.variant != "v1" or options.group_size or options.per_tensor or not options.symmetric:
        raise ValueError(f"{name}: ssz makes symmetric scales per row of producers A1 and MF only")
    return quantize_ssz(linear.weight, bits=bits, error_dtype=_errors(linear, options), name=name)


def _errors(linear: Linear, options: Options) -> DTypeLike:
    if options.error_dtype is not None:
        return options.error_dtype
    static = options.activation_range is not None or options.input_params is not None
    return linear.weight.dtype if static else np.float32
