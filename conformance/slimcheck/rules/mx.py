"""MX: FP8 and FP4 weights, with one power of two per 32 columns or one float per row."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context
from slimcheck.described import has, readable, said, shown
from slimcheck.elements import Mask, wrong_elements
from slimcheck.findings import Finding
from slimcheck.groups import wrong_group_size
from slimcheck.layouts import DTYPE, LABEL, SHAPE, UNEXPECTED, breaches, foreign_dtypes, types_of
from slimcheck.registry import rule, value_rule
from slimcheck.rules.w8a8_values import offsets_are_zero
from slimcheck.scales import are_scales, no_scale, not_above_zero
from slimcheck.values.modules import Module
from slimspec.numeric.e8m0 import NAN_BYTE
from slimspec.numeric.fp8 import NAN_CODE
from slimspec.pack.fp4 import unpack_fp4
from slimspec.quantize.mx_blocks import BLOCK, split_blocks

SVD_BRANCH = frozenset({"svd_lowrank_l1", "svd_lowrank_l2"})
_FLOAT8 = "F8_"  # how the tags of 8-bit float dtypes begin
_MAGNITUDE = np.uint8(0x7F)
_FP4_MAGNITUDE = np.uint8(7)


@rule("MX-001")
def mxfp8_has_its_tensors(ck: Context) -> Iterator[Finding]:
    yield from _blocks(ck, "MX-001")


@rule("MX-004")
def mxfp4_has_its_tensors(ck: Context) -> Iterator[Finding]:
    yield from _blocks(ck, "MX-004")


def _blocks(ck: Context, requirement: str) -> Iterator[Finding]:
    yield from breaches(ck, requirement, {DTYPE}, {"weight"})
    for finding in breaches(ck, requirement, {DTYPE}, {"weight_scale"}):
        if _FLOAT8 not in finding.found:  # MX-012
            yield finding
    yield from breaches(ck, requirement, {SHAPE}, {"weight", "weight_scale", "bias"})
    yield from foreign_dtypes(ck, requirement, {"bias"})
    yield from breaches(ck, requirement, {UNEXPECTED})


@rule("MX-012")
def block_scales_are_bytes(ck: Context) -> Iterator[Finding]:
    for finding in breaches(ck, "MX-012", {DTYPE}, {"weight_scale"}):
        if _FLOAT8 in finding.found:
            yield finding


@rule("MX-002")
def blocks_are_whole_and_even(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("MX-002")):
        shape = cls.shapes.get("weight", ())
        if len(shape) == 2 and shape[1] % (2 * BLOCK):
            names, expected = cls.names("weight"), f"a multiple of {2 * BLOCK}"
            yield Finding("MX-002", "k", f"k = {shape[1]}", expected, names, ck.one_file(names))


@value_rule("MX-003", by_row=True)
def weight_has_no_nan(ck: Context, module: Module) -> Iterator[Finding]:
    spec = module.cls.tensors.get("weight")
    if spec is None or spec.dtype != "F8_E4M3" or module.words("weight").not_finite < 0:
        return
    codes = _fp8(module)
    if codes is not None:
        wrong = (codes & _MAGNITUDE) == NAN_CODE
        yield from wrong_elements("MX-003", module, "weight", wrong, "no NaN", values=codes)


def _fp8(module: Module) -> NDArray[np.uint8] | None:
    """uint8 [n, k]: E4M3 codes of the weight; None if it is no such matrix."""
    spec = module.cls.tensors.get("weight")
    if spec is None or spec.dtype != "F8_E4M3" or len(spec.shape) != 2:
        return None
    return module.array("weight").view(np.uint8)


@value_rule("MX-006", by_row=True)
def block_scales_are_numbers(ck: Context, module: Module) -> Iterator[Finding]:
    spec = module.cls.tensors.get("weight_scale")
    if spec is None or spec.dtype != "U8":
        return
    stored = module.array("weight_scale")
    wrong = stored == NAN_BYTE
    zeros = stored == 0
    if zeros.any():
        alive = _alive(module)
        if alive is not None and alive.shape == zeros.shape:
            wrong |= zeros & alive
    expected = "from 1 to 254, or 0 for a block of zeros"
    yield from wrong_elements("MX-006", module, "weight_scale", wrong, expected)


def _alive(module: Module) -> Mask | None:
    """bool [n, ceil(k/32)]: blocks that hold something other than zero."""
    codes, spec = _fp8(module), module.cls.tensors.get("weight")
    if codes is not None:
        return np.asarray(split_blocks(codes & _MAGNITUDE).any(axis=-1))
    if spec is None or spec.dtype != "U8" or len(spec.shape) != 2:
        return None
    return np.asarray(split_blocks(unpack_fp4(module.array("weight")) & _FP4_MAGNITUDE).any(-1))


@rule("MX-007")
def group_size_is_the_block(ck: Context) -> Iterator[Finding]:
    if ck.profile != "MF":
        yield from wrong_group_size(ck, "MX-007")
        return
    description = readable(ck)
    if description is not None and has(description, "group_size"):
        found = f"group_size {shown(description.get('group_size'))}"
        yield said(ck, "MX-007", "present", found, "no group_size")


@rule("MX-008")
def dynamic_fp8_has_its_tensors(ck: Context) -> Iterator[Finding]:
    tensors = {"weight", "weight_scale", "weight_offset"}
    yield from breaches(ck, "MX-008", {DTYPE}, tensors)
    yield from breaches(ck, "MX-008", {SHAPE}, tensors | {"bias"})
    yield from foreign_dtypes(ck, "MX-008", {"bias"})
    yield from breaches(ck, "MX-008", {UNEXPECTED})


@value_rule("MX-008", by_row=True)
def dynamic_fp8_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    scale = module.numbers("weight_scale")
    if scale is not None and not are_scales(module, "weight_scale"):
        wrong, zeros, codes = no_scale(scale), scale == 0, _fp8(module)
        if codes is not None and scale.shape == (codes.shape[0], 1) and zeros.any():
            wrong |= zeros & (codes & _MAGNITUDE).any(axis=1, keepdims=True)
        yield from wrong_elements("MX-008", module, "weight_scale", wrong, "finite, above 0")
    yield from offsets_are_zero("MX-008", module)


@rule("MX-009")
def vllm_has_another_name(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("MX-009")):
        names = cls.names("weight")
        yield Finding(
            "MX-009", "label", f"label {cls.label}", "W8A8FP8_DYNAMIC", names, ck.description_name
        )


@rule("MX-010")
def dual_scale_is_float32(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "MX-010", {DTYPE, SHAPE}, {"weight_dual_scale"})


@value_rule("MX-010", by_row=True)
def dual_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    yield from not_above_zero("MX-010", module, "weight_dual_scale")


@rule("MX-011")
def low_rank_branch_fits(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "MX-011", {DTYPE, SHAPE, LABEL}, SVD_BRANCH)
