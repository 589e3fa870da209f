"""W4A16: int4 weights beside float activations."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, ModuleClass
from slimcheck.elements import wrong_elements
from slimcheck.findings import Finding
from slimcheck.groups import stated_group_size, unusual_group_size, wrong_group_size
from slimcheck.layouts import (
    DTYPE,
    SHAPE,
    breach,
    breaches,
    foreign_dtypes,
    rules_of,
    types_of,
)
from slimcheck.registry import rule, value_rule
from slimcheck.values.modules import Module
from slimspec import layout
from slimspec.schemes.int4 import AXES

_PAIR = {"weight_scale", "weight_offset"}
_PER_ROW, _GROUPED = "int4-column-pairs", "int4-row-pairs"


@rule("W4A16-001")
def weight_is_not_packed(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A16-001", {DTYPE, SHAPE}, {"weight"})


@rule("W4A16-002")
def columns_pair_under_one_scale_per_row(ck: Context) -> Iterator[Finding]:
    yield from _pairs(ck, "W4A16-002", _PER_ROW)


@rule("W4A16-003")
def rows_pair_under_scales_in_groups(ck: Context) -> Iterator[Finding]:
    yield from _pairs(ck, "W4A16-003", _GROUPED)


def _pairs(ck: Context, requirement: str, packing: str) -> Iterator[Finding]:
    for problem in ck.problems:
        if problem.type in types_of(requirement) and problem.suffix == "weight":
            own = problem.aspect in (DTYPE, SHAPE) and _packing(problem.cls) == packing
            if own and not _odd_rows(problem.cls):  # W4A16-004
                yield breach(ck, requirement, problem)
    for cls in ck.of(*types_of(requirement)):
        rules = rules_of(cls.label, ck.profile) if cls.label else None
        if rules is None or _packing(cls) != packing:
            continue
        bound, known = layout.bind(rules, cls.shapes), rules["weight"].packing
        chosen = bound.chosen.get("weight")
        if bound.ok and chosen is not None and known[chosen] != packing:
            axis, names = "rows" if AXES[packing] == 0 else "columns", cls.names("weight")
            found = f"shape {list(cls.shapes['weight'])}, pairs along the other axis"
            expected = f"pairs of {axis} under weight_scale {list(cls.shapes['weight_scale'])}"
            yield Finding(requirement, "pairs", found, expected, names, ck.one_file(names))


def _packing(cls: ModuleClass) -> str | None:
    """How the width of weight_scale says that the weight is packed."""
    scale = cls.shapes.get("weight_scale")
    if not scale:
        return None
    return _PER_ROW if scale[-1] == 1 else _GROUPED


def _odd_rows(cls: ModuleClass) -> bool:
    return _packing(cls) == _GROUPED and cls.shapes["weight_scale"][0] % 2 == 1


@rule("W4A16-004")
def packed_rows_are_even(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W4A16-004")):
        if "weight" in cls.tensors and _odd_rows(cls):
            names, rows = cls.names("weight"), cls.shapes["weight_scale"][0]
            yield Finding(
                "W4A16-004", "odd", f"{rows} rows by weight_scale", "an even number of rows",
                names, ck.one_file(names),
            )  # fmt: skip


@rule("W4A16-006")
def scales_and_offsets_fit(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A16-006", {SHAPE}, _PAIR | {"bias"})
    yield from foreign_dtypes(ck, "W4A16-006", _PAIR | {"bias"})


@value_rule("W4A16-006", by_row=True)
def weight_offset_is_integral(ck: Context, module: Module) -> Iterator[Finding]:
    yield from whole_offsets("W4A16-006", module)


def whole_offsets(requirement: str, module: Module) -> Iterator[Finding]:
    offset = module.numbers("weight_offset")
    if offset is not None and module.has_offsets:
        wrong = ~(np.isfinite(offset) & (np.trunc(offset) == offset))
        yield from wrong_elements(requirement, module, "weight_offset", wrong, "whole numbers")


_MOSTLY = 0.5  # of the bytes: some that leave the range are NUM-002's
_FIRST = 1 << 12  # bytes: of packed ones some leave the range at once


@value_rule("W4A16-007")
def version_tells_whether_codes_are_packed(ck: Context, module: Module) -> Iterator[Finding]:
    """In packed bytes the upper nibble is a code of its own, in others it repeats the sign."""
    spec = module.cls.tensors.get("weight")
    if spec is None or spec.dtype != "I8":
        return
    packed = ck.metadata("version") not in (None, "0.0.0")
    stored, stats = module.array("weight"), module.integers
    if packed:
        wrong = _are_codes(stored.reshape(-1)[:_FIRST]) == 1 and _are_codes(stored) == 1
    elif not module.packed and stats is not None and _are_codes(stats.least, stats.most) == 1:
        wrong = False
    else:
        wrong = _are_codes(stored) < _MOSTLY
    if wrong and stored.any():
        stated = f"version {ck.metadata('version')}" if packed else "no version"
        found = f"{stated}, bytes that hold {'one code' if packed else 'two codes'} each"
        expected = "packed codes" if packed else "one code per byte"
        name = module.tensor("weight")
        yield Finding("W4A16-007", "packing", found, expected, (name,), module.file("weight"))


def _are_codes(*stored: NDArray[Any]) -> float:
    """Share of the numbers that are int4 codes; 0 of none."""
    inside = sum(np.count_nonzero((x >= -8) & (x <= 7)) for x in stored)
    return inside / max(sum(x.size for x in stored), 1)


@rule("W4A16-008")
def group_size_is_described(ck: Context) -> Iterator[Finding]:
    yield from wrong_group_size(ck, "W4A16-008")


@rule("W4A16-009")
def group_size_is_usual(ck: Context) -> Iterator[Finding]:
    yield from unusual_group_size(ck, "W4A16-009", "weight_scale")


@rule("W4A16-010")
def rows_have_several_groups(ck: Context) -> Iterator[Finding]:
    stated = stated_group_size(ck)
    for cls in ck.of(*types_of("W4A16-010")):
        weight = cls.shapes.get("weight", ())
        if stated and _packing(cls) == _PER_ROW and weight[1:] == (stated / 2,):
            names = cls.names("weight")
            yield Finding(
                "W4A16-010", "one group", f"k = group_size = {stated}", "several groups in a row",
                names, ck.one_file(names),
            )  # fmt: skip


@rule("W4A16-011")
def vllm_has_another_form(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W4A16-011")):
        names = cls.names("weight")
        yield Finding(
            "W4A16-011", "form", "W4A16 as int4 in bytes", "int32 weight_packed and weight_shape",
            names, ck.one_file(names),
        )  # fmt: skip


@rule("W4A16-012")
def profile_writes_the_type(ck: Context) -> Iterator[Finding]:
    writers = layout.load("W4A16").profiles
    if not ck.profile or ck.profile in writers:
        return
    for cls in ck.of(*types_of("W4A16-012")):
        names = cls.names("weight")
        found, expected = f"W4A16 in a directory of {ck.profile}", f"{' or '.join(writers)}"
        yield Finding("W4A16-012", "writer", found, expected, names, ck.one_file(names))
