"""VAL: numbers that a quantizer of the type does not write, elements."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.elements import wrong_elements, wrong_rows
from slimcheck.findings import Finding
from slimcheck.layouts import is_norm
from slimcheck.registry import value_rule
from slimcheck.scales import Floats, idle
from slimcheck.values.forms import Form
from slimcheck.values.modules import Module
from slimcheck.values.stacks import Stack
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


@value_rule("VAL-002", by_row=True)
def zero_rows_have_no_scale(ck: Context, module: Module) -> Iterator[Finding]:
    if module.has_offsets or "weight_scale_second" in module:
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
    if zero is not None and zero.any():
        wrong = zero & (scale > limit)
        expected = "that of a row or group of zeros: 0 or 2^-23"
        yield from wrong_elements("VAL-002", module, suffix, wrong, expected, values=scale)


def _have_few_at_the_ends(ck: Context, stack: Stack) -> bool:
    stats, form = stack.integers, stack.members[0].form
    return stats is not None and form is not None and stats.beyond <= _most_at_the_ends(stack, form)


def _most_at_the_ends(module: Module, form: Form) -> float:
    """How many integers at the ends a quantizer leaves in a weight."""
    shape = module.cls.shapes.get("weight_scale", ())
    groups = shape[1] if len(shape) == 2 else 1
    return max(_SHARE * form.size, _A_ROW * groups * form.shape[0])


@value_rule("VAL-003", clears=_have_few_at_the_ends)
def few_integers_are_at_the_ends(ck: Context, module: Module) -> Iterator[Finding]:
    stats, form = module.integers, module.form
    if stats is None or form is None or not form.size:
        return
    most = _most_at_the_ends(module, form)
    if stats.beyond > most:
        share, limit = stats.beyond / form.size, most / form.size
        name = module.tensor("weight")
        found, expected = f"{share:.1%} at the ends", f"{limit:.1%} or less"
        yield Finding("VAL-003", "share", found, expected, (name,), module.file("weight"))


@value_rule("VAL-004", by_row=True)
def no_minus_128(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.numbers("weight_scale")
    if scale is None or scale.ndim != 2 or scale.shape[1] != 1 or module.has_offsets:
        return
    least = module.row_min
    if least is not None and least.size == scale.size:
        yield from wrong_rows("VAL-004", module, least == -128, least, "least", "-127 or more")


@value_rule("VAL-006", by_row=True)
def rows_reach_the_end(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.numbers("weight_scale")
    form, stats = module.form, module.integers
    if scale is None or form is None or stats is None or scale.ndim != 2:
        return
    columns = scale.shape[1]
    found = stats.over(columns) if form.shape[1] >= 2 * columns else None
    if found is None or scale.shape[0] != form.shape[0]:
        return
    top = 127 if module.base_label == "W8A16" else 7
    flat = not module.has_offsets
    reach = found.peak if flat else found.span
    wanted = _PEAK[top] if flat else 2 * top - _SLACK[top]
    yield from wrong_elements(
        "VAL-006", module, "weight_scale", (reach < wanted) & (reach > 0),
        f"integers of the row or group that reach {wanted}" if flat else
        f"integers of the row or group that span {wanted}",
        values=reach, kind="peak",
    )  # fmt: skip


def _are_of_one_dtype(ck: Context, stack: Stack) -> bool:
    """None is of the model's dtype, or too few for one member; or all are."""
    for _, scale in _float32_scales(ck, stack):
        own = np.count_nonzero(_are_of(scale, ck.model_dtype == "F16"))
        if _MOST * scale.size / len(stack.members) <= own < scale.size:
            return False
    return True


@value_rule("VAL-007", clears=_are_of_one_dtype)
def scales_are_of_one_dtype(ck: Context, module: Module) -> Iterator[Finding]:
    for suffix, scale in _float32_scales(ck, module):
        if scale.size < _ENOUGH or _many_are_not(scale, ck.model_dtype == "F16"):
            continue
        own = _are_of(scale, ck.model_dtype == "F16")
        if np.count_nonzero(own) >= _MOST * scale.size:
            wrong = ~own & np.isfinite(scale)
            yield from wrong_elements(
                "VAL-007", module, suffix, wrong, f"a number of {ck.model_dtype}, as the others"
            )


def _many_are_not(scale: Floats, half: bool) -> bool:
    """Whether the first elements alone are more than may be of another dtype."""
    first = scale.reshape(-1)[: scale.size // 8]
    return bool(np.count_nonzero(~_are_of(first, half)) > (1 - _MOST) * scale.size)


def _float32_scales(ck: Context, module: Module) -> Iterator[tuple[str, Floats]]:
    """The scales in float32 of a model of 16 bits."""
    for suffix in _SCALES if ck.model_dtype in ("F16", "BF16") else ():
        spec = module.cls.tensors.get(suffix)
        if spec is not None and spec.dtype == "F32":
            yield suffix, module.array(suffix)


def _are_of(scale: Floats, half: bool) -> NDArray[np.bool_]:
    """Which are numbers of float16, or of bfloat16, the upper half of a float32; NaN is none."""
    if half:
        with np.errstate(all="ignore"):
            return np.asarray(scale.astype(np.float16).astype(np.float32) == scale)
    return np.asarray(((scale.view(np.uint32) & np.uint32(0xFFFF)) == 0) & ~np.isnan(scale))


def _are_near(ck: Context, stack: Stack) -> bool:
    return not any(True for _ in _far_scales(stack))


def _far_scales(module: Module) -> Iterator[tuple[str, Floats]]:
    """Scales that are not so near to each other that each is near to the median of any of them."""
    for suffix in ("weight_scale", "deq_scale"):
        scale = module.deq_scale if suffix == "deq_scale" else module.numbers(suffix)
        if scale is None or scale.size < 2:
            continue
        of_words = suffix == "deq_scale"
        least, most = (scale.min(), scale.max()) if of_words else module.between(suffix)
        if not 0 < most <= least * _FAR < np.inf:
            yield suffix, scale


@value_rule("VAL-008", clears=_are_near)
def scales_are_of_one_size(ck: Context, module: Module) -> Iterator[Finding]:
    for suffix, scale in _far_scales(module):
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


@value_rule("VAL-009", by_row=True)
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


@value_rule("VAL-010", clears=lambda ck, stack: not is_norm(stack.name))
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
