"""Weight solvers that search scales or look at calibration inputs, sparse weights, the pruner."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.quantize.gptq import quantize_gptq
from slimspec.quantize.hqq import HqqOptions, optimize_hqq
from slimspec.quantize.minmax import IntegerWeight
from slimspec.quantize.ssz import STEPS, quantize_ssz
from slimspec.sparse.admm import InputStatistics, w16a16s_weight
from slimspec.sparse.lowbit import LowBitOptions, quantize_lowbit
from slimspec.sparse.mantissa import reduce_mantissa

from .model import Attributes, Operation, Tensors, batches, dtype_of


def _integers(made: IntegerWeight) -> dict[str, NDArray]:
    return {"q": made.q, "scale": made.scale, "offset": made.offset}


def _gptq(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    given: Any = {"granularity": "channel"} | dict(a)
    return _integers(quantize_gptq(t["w"], batches(t), **given))


def _ssz(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    error = dtype_of(a, "error_dtype", "F32")
    steps = a.get("steps", STEPS)
    return _integers(quantize_ssz(t["w"], bits=a["bits"], steps=steps, error_dtype=error))


def _hqq(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    options = HqqOptions(scale=a.get("solve_scale", True), zero=a.get("solve_offset", False))
    per_tensor = a.get("per_tensor", False)
    scale, offset = optimize_hqq(
        t["w"], t["scale"], t["offset"], bits=a["bits"], per_tensor=per_tensor, options=options
    )
    return {"scale_out": scale, "offset_out": offset}


def _lowbit(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    made = quantize_lowbit(t["w"], LowBitOptions(**a))
    return {"q": made.q, "scale": made.scale}


def _admm(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    statistics = InputStatistics(t["w"].shape[1])
    for x in batches(t):
        statistics.add(x)
    return {"weight": w16a16s_weight(t["w"], statistics, a["ratio"])}


def _mantissa(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    keep = t["keep"] != 0 if "keep" in t else None
    y = reduce_mantissa(t["w"], keep, bits=a.get("bits", 2), nearest=a.get("nearest", True))
    return {"y": np.asarray(y)}


OPERATIONS = (
    Operation(
        "quantize_gptq", "w_j -= (w_i - ŵ_i)/U_ii·U_ij for j >= i, U from H = 2/N Σ xᵀx", _gptq,
        ("q", "scale", "offset"),
    ),
    Operation(
        "quantize_ssz", "q = clip(rint(w/s)), s = Σ w·q / Σ q², repeated; the best s is kept", _ssz,
        ("q", "scale", "offset"),
    ),
    Operation(
        "optimize_hqq", "T = w - shrink(w - ŵ), s = Σ q·T / Σ q², while mean|w - ŵ| falls", _hqq,
        ("scale_out", "offset_out"),
    ),
    Operation(
        "quantize_lowbit", "bulk clip(rint(w/s), ±7) with s = amax/7 of it, outliers ±127", _lowbit,
        ("q", "scale"),
    ),
    Operation(
        "w16a16s_weight", "ADMM: int(ratio·n·k) zeros, the rest moved to keep x·Wᵀ, then thinned",
        _admm, ("weight",),
    ),
    Operation(
        "reduce_mantissa", "±m·2^e in fp16 with m rounded to `bits` bits, subnormals 0", _mantissa,
        ("y",),
    ),
)  # fmt: skip
