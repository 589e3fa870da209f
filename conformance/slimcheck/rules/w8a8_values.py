"""W8A8: static int8 linears, elements."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.elements import Mask, wrong_elements, wrong_rows
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS
from slimcheck.registry import value_rule
from slimcheck.scales import (
    SMALLEST_NORMAL,
    SMALLEST_NORMAL_F16,
    Floats,
    are_scales,
    bare_zeros,
    by_number,
    no_scale,
    not_above_zero,
    usable,
)
from slimcheck.values.modules import Module
from slimspec.checkpoint.dtypes import numpy_dtype
from slimspec.numeric import as_float32, mul
from slimspec.schemes.w8a8 import folded_bias

_FOLDED = "rint(bias / deq_scale - Σ weight · input_offset)"
PEAK = 120  # what the largest integer of a row reaches; of scales that a search found 124


@value_rule("W8A8-002")
def weight_has_no_minus_128(ck: Context, module: Module) -> Iterator[Finding]:
    least = module.row_min
    if least is not None:
        yield from wrong_rows("W8A8-002", module, least == -128, least, "least", "-127 or more")


@value_rule("W8A8-004")
def input_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    yield from not_above_zero("W8A8-004", module, "input_scale")


@value_rule("W8A8-006")
def input_offset_is_an_int8_number(ck: Context, module: Module) -> Iterator[Finding]:
    offset = module.numbers("input_offset")
    if offset is not None:
        expected = "a whole number from -128 to 127"
        yield from wrong_elements("W8A8-006", module, "input_offset", ~_fits_int8(offset), expected)


def _fits_int8(x: Floats) -> Mask:
    return (x >= -128) & (x <= 127) & (np.trunc(x) == x)


@value_rule("W8A8-010")
def deq_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.deq_scale
    if scale is not None and not by_number(module):  # DEQ-006
        wrong = no_scale(scale) | bare_zeros(module, scale)
        yield from wrong_elements(
            "W8A8-010", module, "deq_scale", wrong, "bits of a finite float32 above 0", values=scale
        )


@value_rule("W8A8-011")
def deq_scale_is_the_product(ck: Context, module: Module) -> Iterator[Finding]:
    deq_scale, product = module.deq_scale, _product(module)
    if deq_scale is None or product is None or product.shape != deq_scale.shape:
        return
    wrong = (deq_scale != product) & usable(module, deq_scale) & ~no_scale(product)
    note = ""
    wide = _product(module, np.float32)
    if wide is not None and wrong.any() and (deq_scale == wide)[wrong].all():
        note = "they are the product in float32"
    expected = "input_scale · weight_scale, rounded in their dtype"
    yield from wrong_elements(
        "W8A8-011", module, "deq_scale", wrong, expected,
        values=deq_scale, instead=product, note=note,
    )  # fmt: skip


def _product(module: Module, dtype: Any = None) -> Floats | None:
    """float32 [n] or [1]: input_scale · weight_scale, None where they are not stored (as such)."""
    pair = [_float(module, suffix) for suffix in ("input_scale", "weight_scale")]
    given, scale = pair
    if given is None or scale is None or given.shape != (1,) or scale.shape[1:] not in ((1,), ()):
        return None
    common = given.dtype if given.dtype == scale.dtype else np.dtype(np.float32)
    return as_float32(mul(given, scale.reshape(-1), dtype or common))


def _float(module: Module, suffix: str) -> NDArray[Any] | None:
    spec = module.cls.tensors.get(suffix)
    return module.array(suffix) if spec is not None and spec.dtype in FLOATS else None


@value_rule("W8A8-012")
def quant_bias_folds_the_offset(ck: Context, module: Module) -> Iterator[Finding]:
    yield from _quant_bias("W8A8-012", module, [np.float32])


@value_rule("W8A8-026")
def quant_bias_folds_the_offset_in_model_dtype(ck: Context, module: Module) -> Iterator[Finding]:
    model = numpy_dtype(ck.model_dtype) if ck.model_dtype else None
    yield from _quant_bias("W8A8-026", module, [model, np.float32] if model else [np.float32])


def _quant_bias(requirement: str, module: Module, ratio_dtypes: list[Any]) -> Iterator[Finding]:
    """Recompute quant_bias from the stored tensors; any of the dtypes may explain an element."""
    stored = _quant_bias_stored(module)
    offset = module.numbers("input_offset")
    sums = module.row_sum
    if stored is None or sums is None or sums.shape != stored.shape:
        return
    if offset is None or offset.shape != (1,) or not _fits_int8(offset).all():  # W8A8-006
        return
    bias = module.numbers("bias")
    if "bias" in module and (bias is None or bias.shape != stored.shape):  # W8A8-016
        return
    wanted = [
        folded_bias(sums, offset, bias, scale, dtype)
        for scale in _divisors(module, bias, stored.shape)
        for dtype in ratio_dtypes
    ]
    if not wanted:
        return
    wrong = np.logical_and.reduce([stored != want for want in wanted])
    if bias is not None:
        wrong &= np.isfinite(bias)  # NUM-001
    scale = module.deq_scale
    if bias is not None and scale is not None and scale.shape in ((1,), stored.shape):
        wrong &= usable(module, scale)
    yield from wrong_elements(
        requirement, module, "quant_bias", wrong, _FOLDED,
        instead=wanted[0], note=_likely(stored, wrong, wanted[0], sums, offset),
    )  # fmt: skip


def _quant_bias_stored(module: Module) -> NDArray[np.int32] | None:
    spec = module.cls.tensors.get("quant_bias")
    return module.array("quant_bias") if spec is not None and spec.dtype == "I32" else None


def _divisors(module: Module, bias: Floats | None, rows: tuple[int, ...]) -> list[Floats]:
    """The deq_scale as stored and as it should be: a wrong one is reported once, by W8A8-011.

    No bias counts as 0: any divisor will do, but for the deq_scale 0 of a row of zeros, where the
    producer's CPU converts 0 / 0 to -2^31 (another CPU to 0).
    """
    found = [scale for scale in (module.deq_scale, _product(module)) if scale is not None]
    found = [scale for scale in found if scale.shape in ((1,), rows)]
    return found if bias is not None else [np.ones(1, np.float32), *found]


def _likely(
    stored: NDArray[np.int32],
    wrong: Mask,
    wanted: NDArray[np.int32],
    sums: NDArray[np.int64],
    offset: Floats,
) -> str:
    """The cause, where one explains every wrong element."""
    folded = np.rint(sums * offset.astype(float)).astype(np.int64)
    bias_part = wanted.astype(np.int64) + folded
    causes = {
        "the bias is left out": -folded,
        "the offset is left out": bias_part,
        "the offset has the other sign": bias_part + folded,
    }
    for cause, values in causes.items():
        if wrong.any() and (np.abs(values - stored)[wrong] <= 1).all():
            return cause
    return ""


@value_rule("W8A8-014")
def weight_offset_is_zero(ck: Context, module: Module) -> Iterator[Finding]:
    yield from offsets_are_zero("W8A8-014", module)


@value_rule("W8A8-023")
def weight_offset_of_mix_is_zero(ck: Context, module: Module) -> Iterator[Finding]:
    yield from offsets_are_zero("W8A8-023", module)


def offsets_are_zero(requirement: str, module: Module) -> Iterator[Finding]:
    offset = module.numbers("weight_offset")
    if offset is not None and module.has_offsets:
        yield from wrong_elements(requirement, module, "weight_offset", offset != 0, "all 0")


@value_rule("W8A8-019")
def rows_use_the_range(ck: Context, module: Module) -> Iterator[Finding]:
    if module.cls.tensors["weight"].shape != () and not _per_tensor(module):
        yield from weak_rows("W8A8-019", module)


def _per_tensor(module: Module) -> bool:
    """Whether one scale serves all rows (mm_tensor): then a row may peak anywhere."""
    return any(module.cls.shapes.get(suffix) == (1,) for suffix in ("deq_scale", "weight_scale"))


def weak_rows(requirement: str, module: Module) -> Iterator[Finding]:
    """Rows that are not zero and stay below PEAK."""
    if module.rows is None or not module.rows.least.size:
        return
    peak = module.rows.peak[:, 0]
    wrong = (peak < PEAK) & (peak > 0)
    yield from wrong_rows(requirement, module, wrong, peak, "peak", f"{PEAK} or more")


@value_rule("W8A8-020")
def weight_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.numbers("weight_scale")
    if scale is not None and not are_scales(module, "weight_scale"):
        wrong = bare_zeros(module, scale)
        yield from wrong_elements("W8A8-020", module, "weight_scale", wrong, "above 0")


@value_rule("W8A8-025")
def deq_scale_is_normal(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.deq_scale
    if scale is not None:
        wrong = (scale > 0) & (scale < SMALLEST_NORMAL)
        yield from wrong_elements(
            "W8A8-025", module, "deq_scale", wrong, "2^-126 or more", values=scale
        )


@value_rule("W8A8-027")
def deq_scale_is_normal_in_float16(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.deq_scale
    if scale is not None and ck.model_dtype == "F16":
        wrong = (scale >= SMALLEST_NORMAL) & (scale < SMALLEST_NORMAL_F16)
        yield from wrong_elements(
            "W8A8-027", module, "deq_scale", wrong, "2^-14 or more in a F16 model", values=scale
        )
