"""Weights that are not min-max: the sparse type, HQQ and GPTQ, and what a run keeps for them.

GPTQ needs the first text's input of each linear. It is kept, not the integers made of it: the
input is the smaller one, and the writer makes the same integers again.

Source: math.md 1.5, 3.3, 3.4, 7; msmodelslim pytorch/llm_ptq/llm_ptq_tools/quant_modules.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import schemes
from slimspec.checkpoint import CheckpointError
from slimspec.numeric import as_float32, to_dtype
from slimspec.quantize.affine import dequantize_rows, group_view, quantize, without_lowest
from slimspec.quantize.gptq import quantize_gptq
from slimspec.quantize.hqq import quantize_hqq, quantize_hqq_groups
from slimspec.quantize.minmax import IntegerWeight
from slimspec.quantize.weight_lowbit import quantize_lowbit_groups
from slimspec.schemes import Linear
from slimspec.sparse.cosparse import quantize_cosparse
from slimspec.sparse.lowbit import LowBitOptions, quantize_lowbit, w8a8s_weight

from .config import MIN_MAX, QuantizationConfig
from .config_rules import Choice, low_rows, per_tensor
from .recipe import Rule

WEIGHT_ONLY = ("W8A16", "W4A16")
SPARSE = ("W8A8S",)
INT8 = ("W8A8", "W8A8_MIX", "W8A8_DYNAMIC", "W8A16")


@dataclass(frozen=True)
class Solved:
    """One weight.

    Attributes:
        stored: as the file has it.
        seen: as a run sees it, float32 [n, k]; the dtype of the model is not yet applied.
    """

    stored: IntegerWeight
    seen: NDArray[np.float32]


Solve = Callable[[Linear, Rule, NDArray | None], Solved]


@dataclass
class WeightSolver:
    """Makes the weights of the linears of some types; those of others are min-max.

    Attributes:
        types: labels of those types.
        solve: makes one weight, also from the first input [t, k] if `keeps` is set.
        keeps: the first input of each linear is kept.
        inputs: what was kept, by linear.
    """

    types: tuple[str, ...]
    solve: Solve
    keeps: bool = False
    inputs: dict[str, NDArray] = field(default_factory=dict)

    def takes(self, label: str) -> bool:
        """True for a type whose weights are made here."""
        return label in self.types

    def see(self, name: str, x: NDArray) -> None:
        """Take note of an input of a linear in a run."""
        if self.keeps:
            self.inputs.setdefault(name, x)

    def __call__(self, linear: Linear, rule: Rule) -> Solved:
        """Make one weight.

        Raises: CheckpointError: an input is needed, and no text gave one; it does not suit.
        """
        x = self.inputs.get(linear.name)
        if self.keeps and x is None:
            raise CheckpointError(
                f"{linear.name}: no calibration text reaches this linear, and GPTQ needs its "
                "inputs: add texts, or put it in disable_names"
            )
        try:
            return self.solve(linear, rule, x)
        except ValueError as error:
            named = "" if linear.name in str(error) else f"{linear.name}.weight: "
            raise CheckpointError(
                f"{named}{error}; leave it float with --disable_names {linear.name}"
            ) from None


def make_solver(config: QuantizationConfig, choice: Choice, w_method: str) -> WeightSolver | None:
    """Return what makes the weights of a config; None where all of them are min-max.

    Raises: CheckpointError: a w_method for a type without it.
    """
    if w_method != MIN_MAX:
        if choice.type not in WEIGHT_ONLY or low_rows(config):
            raise CheckpointError(
                f"w_method {w_method}: makes weights of W8A16 and W4A16 per row, or per group with "
                f"is_lowbit True and open_outlier False; set a_bit 16, or w_method {MIN_MAX}"
            )
        gptq = w_method == "GPTQ"
        return WeightSolver(WEIGHT_ONLY, _gptq if gptq else _hqq, keeps=gptq)
    if low_rows(config):
        return WeightSolver(INT8, _low_rows)
    if choice.type != "W8A8S":
        return None
    if config.co_sparse and not config.is_lowbit:
        whole = per_tensor(config)
        return WeightSolver(SPARSE, partial(_cosparse, config.fraction, not whole))
    return WeightSolver(SPARSE, partial(_lowbit, lowbit_options(config)))


def lowbit_options(config: QuantizationConfig) -> LowBitOptions:
    """Return how outliers of low-bit weights are found.

    `sigma_factor` is left out: whatever is asked for, the tool's weights are those of 3.0 (recorded
    with 3.4 and 4.0; with use_sigma, alone and with co_sparse).
    """
    return LowBitOptions(
        open_outlier=config.open_outlier,
        use_sigma=config.use_sigma,
        fraction=config.fraction,
        per_channel=not per_tensor(config),
    )


def _cosparse(
    fraction: float, per_channel: bool, linear: Linear, rule: Rule, x: NDArray | None
) -> Solved:
    made = quantize_cosparse(linear.weight, fraction, per_channel=per_channel)
    scale = to_dtype(made.scale, linear.weight.dtype)  # as recorded, unlike that of low bit
    return Solved(IntegerWeight(made.q, scale, np.zeros_like(scale)), made.approximate)


def _lowbit(options: LowBitOptions, linear: Linear, rule: Rule, x: NDArray | None) -> Solved:
    seen = quantize_lowbit(linear.weight, options).approximate
    return Solved(w8a8s_weight(linear.weight, options), seen)


def _low_rows(linear: Linear, rule: Rule, x: NDArray | None) -> Solved:
    made = quantize_lowbit_groups(
        linear.weight,
        bits=schemes.get(rule.type).bits,
        group_size=linear.weight.shape[1],
        symmetric=rule.options.get("symmetric", True),
        name=f"{linear.name}.weight",
    )
    return Solved(made, _values(made))


def _hqq(linear: Linear, rule: Rule, x: NDArray | None) -> Solved:
    if "group_size" in rule.options:
        made = quantize_hqq_groups(linear.weight, **_grouped(linear, rule))
        return Solved(made, _values(made))
    made = quantize_hqq(
        linear.weight,
        bits=schemes.get(rule.type).bits,
        symmetric=rule.options.get("symmetric", True),
        per_tensor=rule.options.get("per_tensor", False),
        name=f"{linear.name}.weight",
    )
    return _bounded(made, rule)


def _gptq(linear: Linear, rule: Rule, x: NDArray | None) -> Solved:
    assert x is not None
    if "group_size" in rule.options:
        return _gptq_groups(linear, rule, x)
    made = quantize_gptq(
        linear.weight,
        [x],
        bits=schemes.get(rule.type).bits,
        symmetric=rule.options.get("symmetric", True),
        variant="v0",
        granularity="tensor" if rule.options.get("per_tensor") else "channel",
        name=f"{linear.name}.weight",
    )
    return _bounded(made, rule)


def _gptq_groups(linear: Linear, rule: Rule, x: NDArray) -> Solved:
    """The file has the float weight once more on the scales of GPTQ, without its compensation."""
    how = _grouped(linear, rule)
    made = quantize_gptq(linear.weight, [x], variant="v0", granularity="group", **how)
    groups = group_view(linear.weight, how["group_size"])  # (n, k // g, g)
    scale, offset = made.scale[..., None], made.offset[..., None]
    q = quantize(groups, scale, offset, bits=how["bits"]).reshape(made.q.shape)
    return Solved(IntegerWeight(q, made.scale, made.offset), _values(made))


def _grouped(linear: Linear, rule: Rule) -> dict[str, Any]:
    return {
        "bits": schemes.get(rule.type).bits,
        "group_size": rule.options["group_size"],
        "symmetric": rule.options.get("symmetric", True),
        "name": f"{linear.name}.weight",
    }


def _values(made: IntegerWeight) -> NDArray[np.float32]:
    return dequantize_rows(made.q, as_float32(made.scale), as_float32(made.offset))


def _bounded(made: IntegerWeight, rule: Rule) -> Solved:
    """Symmetric integers go to the file without their most negative one (math.md 1.5)."""
    q = made.q
    if rule.options.get("symmetric", True):
        q = without_lowest(q, schemes.get(rule.type).bits)
    return Solved(IntegerWeight(q, made.scale, made.offset), _values(made))


__all__ = ["Solved", "WeightSolver", "lowbit_options", "make_solver"]
