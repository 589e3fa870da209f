"""W4A4_DYNAMIC: int4 weights and activations, one code per byte."""

from collections.abc import Iterator

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.layouts import DTYPE, SHAPE, breaches, foreign_dtypes, types_of
from slimcheck.registry import rule, value_rule
from slimcheck.rules.w4a16 import whole_offsets
from slimcheck.rules.w8a8_values import offsets_are_zero
from slimcheck.values.modules import Module

_PAIR = {"weight_scale", "weight_offset"}
_INT32_CODES = 8  # int4 codes in an int32


@rule("W4A4-001")
def weight_is_not_packed(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A4-001", {DTYPE, SHAPE}, {"weight"})


@rule("W4A4-002")
def scales_and_offsets_fit(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A4-002", {DTYPE}, _PAIR)
    yield from breaches(ck, "W4A4-002", {SHAPE}, _PAIR | {"bias"})
    yield from foreign_dtypes(ck, "W4A4-002", {"bias"})


@value_rule("W4A4-002", by_row=True)
def weight_offset_is_integral(ck: Context, module: Module) -> Iterator[Finding]:
    yield from whole_offsets("W4A4-002", module)


@rule("W4A4-003")
def columns_fill_int32(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W4A4-003")):
        shape = cls.shapes.get("weight", ())
        if len(shape) == 2 and shape[1] % _INT32_CODES:
            names, found = cls.names("weight"), f"k = {shape[1]}"
            expected = f"a multiple of {_INT32_CODES}"
            yield Finding("W4A4-003", "k", found, expected, names, ck.one_file(names))


@value_rule("W4A4-004", by_row=True)
def weight_offset_is_zero(ck: Context, module: Module) -> Iterator[Finding]:
    yield from offsets_are_zero("W4A4-004", module)
