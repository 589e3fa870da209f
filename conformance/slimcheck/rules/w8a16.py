"""W8A16: int8 weights beside float activations."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.elements import wrong_elements
from slimcheck.findings import Finding
from slimcheck.groups import wrong_group_size
from slimcheck.layouts import DTYPE, SHAPE, UNEXPECTED, breaches, foreign_dtypes
from slimcheck.registry import rule, value_rule
from slimcheck.scales import are_scales, bare_zeros, no_scale
from slimcheck.values.integers import Groups
from slimcheck.values.modules import Module
from slimcheck.values.stacks import Stack

_OFFSET_LIMIT = 128


@rule("W8A16-001")
def weight_and_scales_fit(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A16-001", {DTYPE}, {"weight"})
    yield from breaches(ck, "W8A16-001", {SHAPE})


@value_rule("W8A16-002", by_row=True)
def weight_offset_is_integral(ck: Context, module: Module) -> Iterator[Finding]:
    offset = module.numbers("weight_offset")
    if offset is not None and module.has_offsets:
        fits = (np.abs(offset) <= _OFFSET_LIMIT) & (np.trunc(offset) == offset)
        expected = f"whole numbers of at most {_OFFSET_LIMIT} in size"
        yield from wrong_elements("W8A16-002", module, "weight_offset", ~fits, expected)


@value_rule("W8A16-003", by_row=True)
def weight_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.numbers("weight_scale")
    if scale is not None and not are_scales(module, "weight_scale"):
        wrong = no_scale(scale)  # a zero: W8A16-010
        yield from wrong_elements("W8A16-003", module, "weight_scale", wrong, "finite, above 0")


@rule("W8A16-005")
def scales_have_the_dtype_of_the_model(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A16-005", {DTYPE}, {"weight_scale", "weight_offset"})


@rule("W8A16-006")
def there_is_nothing_static(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A16-006", {UNEXPECTED})


@rule("W8A16-007")
def bias_is_float(ck: Context) -> Iterator[Finding]:
    yield from foreign_dtypes(ck, "W8A16-007", {"bias"})


@rule("W8A16-008")
def group_size_is_described(ck: Context) -> Iterator[Finding]:
    yield from wrong_group_size(ck, "W8A16-008")


def _each_uses_both_ends(ck: Context, stack: Stack) -> bool:
    rows = stack.rows
    return rows is not None and bool(stack.each(_use_both_ends(rows)).any(axis=1).all())


def _use_both_ends(rows: Groups) -> NDArray[np.bool_]:
    return (rows.least == -128) & (rows.most == 127)


@value_rule("W8A16-009", clears=_each_uses_both_ends)
def some_row_uses_both_ends(ck: Context, module: Module) -> Iterator[Finding]:
    stats = module.integers
    if stats is None or not stats.least.size or not module.has_offsets:
        return
    if _use_both_ends(Groups(stats.least, stats.most)).any():  # then the row of a group does too
        return
    rows = module.rows
    if rows is not None and not _use_both_ends(rows).any():
        found = f"offsets, but rows within {int(rows.least.min())} … {int(rows.most.max())}"
        yield Finding(
            "W8A16-009", "range", found, "a row from -128 to 127", (module.tensor("weight"),),
            module.file("weight"),
        )  # fmt: skip


@value_rule("W8A16-010", by_row=True)
def zero_scales_scale_zeros(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.numbers("weight_scale")
    if scale is not None and not are_scales(module, "weight_scale"):
        wrong = bare_zeros(module, scale)
        expected = "above 0: its integers are not all 0"
        yield from wrong_elements("W8A16-010", module, "weight_scale", wrong, expected)
