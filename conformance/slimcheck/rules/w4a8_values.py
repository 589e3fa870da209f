"""W4A8_DYNAMIC: int4 weights under int8 activations, elements."""

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.elements import Mask, wrong_elements
from slimcheck.findings import Finding
from slimcheck.registry import value_rule
from slimcheck.rules.w4a8 import variant_of
from slimcheck.rules.w8a8_values import offsets_are_zero
from slimcheck.scales import Floats, are_scales, no_scale, not_above_zero
from slimcheck.values.integers import lowest_codes
from slimcheck.values.modules import Module
from slimcheck.values.stacks import Stack
from slimspec.numeric import as_float32, to_dtype
from slimspec.numeric.jit import jit_pays
from slimspec.schemes.w4a8_dynamic import bias_terms, level_one, scale_bias_chunks

Integers = NDArray[np.int64]

LARGEST_SECOND = 19  # ceil(127 / 7)
_INT8 = 127
_RARE = 32  # of so many codes one may be -8; of random ones, two would be
_SUM_ERROR = 2.0**-20  # of a sum: 16 roundings to float32


@value_rule("W4A8-003", by_row=True)
def weight_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    yield from not_above_zero("W4A8-003", module, "weight_scale", idle=True)


@value_rule("W4A8-004", by_row=True)
def second_scale_is_a_small_integer(ck: Context, module: Module) -> Iterator[Finding]:
    second = module.numbers("weight_scale_second")
    if second is not None and not _levels_fit(module):
        expected = f"a whole number from 1 to {LARGEST_SECOND}"
        yield from wrong_elements(
            "W4A8-004", module, "weight_scale_second", ~_second_level(second), expected
        )


def _second_level(second: Floats) -> Mask:
    return (second >= 1) & (second <= LARGEST_SECOND) & (np.trunc(second) == second)


@value_rule("W4A8-005", by_row=True)
def second_offset_is_zero(ck: Context, module: Module) -> Iterator[Finding]:
    spec = module.cls.tensors.get("weight_offset_second")
    if spec is not None and spec.dtype == "I64":
        wrong = module.array("weight_offset_second") != 0
        yield from wrong_elements("W4A8-005", module, "weight_offset_second", wrong, "all 0")


@value_rule("W4A8-006", by_row=True)
def weight_offset_is_zero(ck: Context, module: Module) -> Iterator[Finding]:
    yield from offsets_are_zero("W4A8-006", module)


@value_rule("W4A8-007", by_row=True)
def first_level_is_int8(ck: Context, module: Module) -> Iterator[Finding]:
    product = None if _levels_fit(module) else _peaks(module)
    if product is not None:
        yield from wrong_elements(
            "W4A8-007", module, "weight_scale_second", product > _INT8,
            f"{_INT8} or less, times the largest code of the group", values=product,
        )  # fmt: skip


def _levels_fit(module: Module) -> bool:
    """Whether many second scales are seen at once to be what these rules ask for."""
    second = module.numbers("weight_scale_second")
    if second is None or second.ndim != 2 or not jit_pays(second.size):
        return False
    groups = module.integers.over(second.shape[1]) if module.integers else None
    if groups is None or len(groups.least) != second.shape[0]:
        return False
    from slimcheck.values.level_kernels import levels_fit

    return bool(levels_fit(second, groups.least, groups.most, LARGEST_SECOND, _INT8))


def _peaks(module: Module) -> Integers | None:
    """int64 [n, k/g]: largest |code| of each group times its second scale, 0 for no scale."""
    stats, second = module.integers, module.numbers("weight_scale_second")
    if stats is None or second is None or second.ndim != 2 or second.shape[0] != len(stats.least):
        return None
    found = stats.over(second.shape[1])
    if found is None or not module.form or not module.form.size:
        return None
    whole = np.where(_second_level(second), second, np.float32(0)).astype(np.int64)
    return whole * found.peak


def _have_no_minus_8(ck: Context, stack: Stack) -> bool:
    return stack.integers is not None and stack.integers.least.min(initial=0) > -8


@value_rule("W4A8-008", clears=_have_no_minus_8)
def minus_8_is_the_exception(ck: Context, module: Module) -> Iterator[Finding]:
    stats, form = module.integers, module.form
    if stats is None or form is None or not form.size:
        return
    count = lowest_codes(module.array("weight"), module.packed) if stats.least.min() <= -8 else 0
    if count * _RARE >= form.size:
        found, expected = f"{count} of {form.size} codes are -8", f"fewer than one in {_RARE}"
        name = module.tensor("weight")
        yield Finding("W4A8-008", "share", found, expected, (name,), module.file("weight"))


@value_rule("W4A8-010", by_row=True)
def scale_bias_is_eight_sums(ck: Context, module: Module) -> Iterator[Finding]:
    """Sums of integers are exact; what a float32 sum in any order gives lies near them."""
    stored, form = _float32(module, "scale_bias"), module.form
    if stored is None or form is None:
        return
    chunks = scale_bias_chunks(module.name, variant_of(ck.profile))
    if chunks is None or stored.shape != (form.shape[0], chunks):  # W4A8-009, -011, -017
        return
    if _biases_are_near(module, stored):
        return
    scale, sums = _row_scale(module), _level_sums(module, chunks)
    if scale is None or sums is None:
        return
    rows, usable = scale
    used = _rounded(module, rows).astype(np.float64)
    with np.errstate(all="ignore"):  # a scale near the largest float32 is infinite in bfloat16
        wanted = 8.0 * sums * used
    wrong = ~_near(stored, wanted, used) & usable
    yield from wrong_elements(
        "W4A8-010", module, "scale_bias", wrong, "8 Σ codes · scales",
        instead=wanted, note=_likely(stored, wrong, sums, rows, used),
    )  # fmt: skip


def _biases_are_near(module: Module, stored: Floats) -> bool:
    """Whether many are seen at once to be right."""
    scale, stats = _float32(module, "weight_scale"), module.integers
    second = module.numbers("weight_scale_second")
    if not jit_pays(stored.size) or stats is None or stats.sums is None or scale is None:
        return False
    if scale.shape != (len(stored), 1) or not are_scales(module, "weight_scale"):
        return False
    if second is None:
        second = np.ones_like(scale)
        second.flags.writeable = False
    elif not _levels_fit(module):
        return False
    if stats.sums.shape[1] % stored.shape[1] or stats.sums.shape[1] % second.shape[1]:
        return False
    from slimcheck.values.level_kernels import biases_are_near

    step = _rounded(module, scale).astype(np.float64)[:, 0]
    return bool(biases_are_near(stored, stats.sums, second, step, _SUM_ERROR))


def _near(stored: Floats, wanted: NDArray[np.float64], step: NDArray[np.float64]) -> Mask:
    """Within a quarter of what one code contributes, or within the error of the sum."""
    with np.errstate(all="ignore"):  # NaN and infinity are near nothing
        bound = np.abs(wanted)
        bound *= _SUM_ERROR
        np.maximum(bound, 8.0 * step / 4, out=bound)
        error = wanted - stored
        return np.asarray(np.abs(error, out=error) <= bound)


def _float32(module: Module, suffix: str) -> Floats | None:
    spec = module.cls.tensors.get(suffix)
    return module.numbers(suffix) if spec is not None and spec.dtype == "F32" else None


def _row_scale(module: Module) -> tuple[Floats, Mask] | None:
    """float32 [n, 1]: weight_scale with 1 for what is none; bool [n, 1]: which rows to judge."""
    scale, form = _float32(module, "weight_scale"), module.form
    if scale is None or form is None or scale.shape != (form.shape[0], 1):
        return None
    usable = ~no_scale(scale)
    second = module.numbers("weight_scale_second")
    if second is not None:  # W4A8-004, W4A8-007
        peaks = _peaks(module)
        if peaks is None:
            return None
        usable &= (_second_level(second) & (peaks <= _INT8)).all(axis=1, keepdims=True)
    return np.where(usable, scale, np.float32(1)), usable


def _level_sums(module: Module, chunks: int) -> Integers | None:
    """int64 [n, chunks]: sums of the codes, on two levels times their second scale.

    None where the columns do not make so many chunks; a group whose scale is none counts nothing.
    """
    stats, second = module.integers, module.numbers("weight_scale_second")
    if stats is None or stats.sums is None:
        return None
    sums = stats.sums
    if second is not None:
        peaks = _peaks(module)
        if peaks is None or sums.shape[1] % peaks.shape[1]:
            return None
        fits = _second_level(second) & (peaks <= _INT8)
        whole = np.where(fits, second, np.float32(0)).astype(np.int64)
        sums = sums * np.repeat(whole, sums.shape[1] // whole.shape[1], axis=1)
    n, groups = sums.shape
    if groups == chunks:
        return sums
    return sums.reshape(n, chunks, -1).sum(axis=2) if groups and groups % chunks == 0 else None


def _int8_level(module: Module) -> NDArray[np.int8] | None:
    """int8 [n, k]: the codes, on two levels times their second scale; rows of none are zero."""
    codes, second = module.codes, module.numbers("weight_scale_second")
    if codes is None or second is None:
        return codes
    peaks = _peaks(module)
    if peaks is None:
        return None
    fits = _second_level(second) & (peaks <= _INT8)
    return level_one(codes, np.where(fits, second, np.float32(0)))


def _rounded(module: Module, scale: Floats) -> Floats:
    """The scale as the sum takes it: in bfloat16 on two levels."""
    if "weight_scale_second" not in module:
        return scale
    return as_float32(to_dtype(scale, ml_dtypes.bfloat16))


def _likely(
    stored: Floats, wrong: Mask, sums: Integers, scale: Floats, used: NDArray[np.float64]
) -> str:
    """The cause, where one explains every wrong element."""
    if not wrong.any():
        return ""
    wide = scale.astype(np.float64)
    causes: dict[str, tuple[Any, NDArray[np.float64]]] = {
        "the factor 8 is left out": (1.0 * sums * used, used),
        "the sign is turned": (-8.0 * sums * used, used),
        "weight_scale is not in bfloat16": (8.0 * sums * wide, wide),
    }
    for cause, (values, step) in causes.items():
        if _near(stored, values, step)[wrong].all():
            return cause
    return ""


@value_rule("W4A8-019", by_row=True)
def unsummed_scale_bias_is_the_weight(ck: Context, module: Module) -> Iterator[Finding]:
    stored, form = _float32(module, "scale_bias"), module.form
    if stored is None or form is None or stored.shape != form.shape:
        return
    scale = _row_scale(module)
    if scale is None or scale_bias_chunks(module.name, variant_of(ck.profile)) is not None:
        return
    rows, usable = scale
    level = _int8_level(module)
    if level is None:
        return
    wanted = bias_terms(level, _rounded(module, rows))
    wrong = (stored != wanted) & usable
    yield from wrong_elements(
        "W4A8-019", module, "scale_bias", wrong, "code · scales, not summed", instead=wanted
    )
