"""VAL: numbers that a quantizer of the type does not write, elements."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.elements import wrong_elements, wrong_rows
from slimcheck.findings import Finding
from slimcheck.layouts import is_norm
from slimcheck.modules import Module
from slimcheck.registry import value_rule
from slimcheck.scales import Floats, idle
from slimspec.numeric import as_float32, to_dtype

_SCALES = ("weight_scale", "input_scale", "deq_scale")
_TINY = np.float32(2.0**-22)  # twice the smallest scale a quantizer gives
_SHARE, _A_ROW = 0.05, 4
_PEAK = {127: 112, 7: 5}  # GPTQ, HQQ and SSZ leave few largest integers below the end
_SLACK = {127: 14, 7: 3}  # steps of a span that bfloat16 or GPTQ may lose at its ends
_FAR = np.float32(2.0**12)
_HUGE = np.float32(2.0**14)
_ENOUGH, _MOST = 16, 15 / 16
_KEPT = 2.0**-8


@value_rule("VAL-002")
def zero_rows_have_no_scale(ck: Context, module: Module) -> Iterator[Finding]:
    offset = module.numbers("weight_offset")
    if (offset is not None and offset.any()) or "weight_scale_second" in module:
        return
    suffix = "weight_scale" if "weight_scale" in module else "deq_scale"
    scale, limit = module.numbers(suffix), _TINY
    if suffix == "deq_scale":
        given = module.numbers("input_scale")
        scale = module.deq_scale
        if given is None or given.size != 1:
            return
        limit = np.float32(_TINY * given.reshape(-1)[0])
    if scale is None or scale.size == 1:
        return
    zero = idle(module, scale.shape)
    if zero is not None:
        wrong = zero & (scale > limit)
        expected = "that of a row or group of zeros: 0 or 2^-23"
        yield from wrong_elements("VAL-002", module, suffix, wrong, expected, values=scale)


@value_rule("VAL-003")
def few_integers_are_at_the_ends(ck: Context, module: Module) -> Iterator[Finding]:
    stats, form = module.integers, module.form
    if stats is None or form is None or not form.size:
        return
    share = stats.beyond / form.size
    shape = module.cls.shapes.get("weight_scale", ())
    groups = shape[1] if len(shape) == 2 else 1
    limit = max(_SHARE, _A_ROW * groups / form.shape[1])
    if share > limit:
        name = module.tensor("weight")
        found, expected = f"{share:.1%} at the ends", f"{limit:.1%} or less"
        yield Finding("VAL-003", "share", found, expected, (name,), module.file("weight"))


@value_rule("VAL-004")
def no_minus_128(ck: Context, module: Module) -> Iterator[Finding]:
    scale, offset = module.numbers("weight_scale"), module.numbers("weight_offset")
    least = module.row_min
    if least is None or scale is None or scale.shape != (least.size, 1):
        return
    if offset is None or not offset.any():
        yield from wrong_rows("VAL-004", module, least == -128, least, "least", "-127 or more")


@value_rule("VAL-006")
def rows_reach_the_end(ck: Context, module: Module) -> Iterator[Finding]:
    scale, offset = module.numbers("weight_scale"), module.numbers("weight_offset")
    form, stats = module.form, module.integers
    if scale is None or form is None or stats is None or scale.ndim != 2:
        return
    columns = scale.shape[1]
    found = stats.over(columns) if form.shape[1] >= 2 * columns else None
    if found is None or scale.shape[0] != form.shape[0]:
        return
    top = 127 if module.base_label == "W8A16" else 7
    flat = offset is None or not offset.any()
    reach = found.peak if flat else found.span
    wanted = _PEAK[top] if flat else 2 * top - _SLACK[top]
    yield from wrong_elements(
        "VAL-006", module, "weight_scale", (reach < wanted) & (reach > 0),
        f"integers of the row or group that reach {wanted}" if flat else
        f"integers of the row or group that span {wanted}",
        values=reach, kind="peak",
    )  # fmt: skip


@value_rule("VAL-007")
def scales_are_of_one_dtype(ck: Context, module: Module) -> Iterator[Finding]:
    target = ck.model_dtype
    for suffix in _SCALES if target in ("F16", "BF16") else ():
        spec = module.cls.tensors.get(suffix)
        if spec is None or spec.dtype != "F32":
            continue
        scale: Floats = module.array(suffix)
        own = _are_of(scale, target == "F16")
        if scale.size >= _ENOUGH and np.count_nonzero(own) >= _MOST * scale.size:
            wrong = ~own & np.isfinite(scale)
            yield from wrong_elements(
                "VAL-007", module, suffix, wrong, f"a number of {ck.model_dtype}, as the others"
            )


def _are_of(scale: Floats, half: bool) -> NDArray[np.bool_]:
    """Which are numbers of float16, or of bfloat16, the upper half of a float32; NaN is none."""
    if half:
        with np.errstate(all="ignore"):
            return np.asarray(scale.astype(np.float16).astype(np.float32) == scale)
    return np.asarray(((scale.view(np.uint32) & np.uint32(0xFFFF)) == 0) & ~np.isnan(scale))


@value_rule("VAL-008")
def scales_are_of_one_size(ck: Context, module: Module) -> Iterator[Finding]:
    for suffix in ("weight_scale", "deq_scale"):
        scale = module.deq_scale if suffix == "deq_scale" else module.numbers(suffix)
        if scale is None or scale.size < 2:
            continue
        if 0 < scale.max() <= scale.min() * _FAR < np.inf:  # then the median is near to all
            continue
        usable = np.isfinite(scale) & (scale > _TINY * (1 if suffix == "weight_scale" else 0))
        if not usable.any():
            continue
        middle = np.float32(np.median(scale[usable]))
        with np.errstate(over="ignore"):
            wrong = usable & ((scale > middle * _FAR) | (scale < middle / _FAR))
        still = idle(module, scale.shape) if wrong.any() else None
        if still is not None:
            wrong &= ~still
        expected = f"within 2^12 of the median, {middle:.3g}"
        yield from wrong_elements("VAL-008", module, suffix, wrong, expected, values=scale)


@value_rule("VAL-009")
def scales_survive_float16(ck: Context, module: Module) -> Iterator[Finding]:
    if ck.model_dtype != "F16":
        return
    for suffix in ("weight_scale", "input_scale"):
        scale = module.numbers(suffix)
        if scale is None:
            continue
        with np.errstate(all="ignore"):
            cast = as_float32(to_dtype(scale, np.float16))
            wrong = np.isfinite(scale) & (scale > 0) & ~(np.abs(cast / scale - 1) <= _KEPT)
        expected = "within 2^-8 of itself in float16"
        yield from wrong_elements("VAL-009", module, suffix, wrong, expected, instead=cast)


@value_rule("VAL-010")
def norms_are_plausible(ck: Context, module: Module) -> Iterator[Finding]:
    if not is_norm(module.name):
        return
    weight = module.numbers("weight")
    if weight is None or not weight.size:
        return
    if not weight.any():
        name = module.tensor("weight")
        found, expected = "all zero", "the weights of a norm"
        yield Finding("VAL-010", "zero", found, expected, (name,), module.file("weight"))
        return
    wrong: NDArray[Any] = np.isfinite(weight) & (np.abs(weight) > _HUGE)
    yield from wrong_elements("VAL-010", module, "weight", wrong, "2^14 or less", kind="huge")
