"""FQ: the transforms of FlatQuant, beside a linear of any type."""

from collections.abc import Iterator
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from slimcheck.context import Context, ModuleClass
from slimcheck.described import as_count
from slimcheck.elements import wrong_elements
from slimcheck.findings import Finding
from slimcheck.layouts import DTYPE, LABEL, SHAPE, breaches, label_of, rules_of, types_of
from slimcheck.registry import rule, value_rule
from slimcheck.values.modules import Module
from slimspec import layout
from slimspec.pipeline.shard_map import row_parallel

TRANSFORMS = ("left_trans", "right_trans")
FLATQUANT_TENSORS = frozenset({*TRANSFORMS, "clip_ratio"})
_LARGEST = 256  # size of a factor that the kernel takes
_LARGEST_JUDGED = 1024  # size of a matrix whose singular values are computed
_EPSILON = float(np.finfo(np.float32).eps)
_DEFAULT_TP = 4  # of vllm-ascend, where the description has no max_supported_tp


@rule("FQ-001")
def transforms_fit_the_input(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "FQ-001", {DTYPE, SHAPE}, TRANSFORMS)
    for cls in ck.of(*types_of("FQ-001")):
        sizes = _sizes(ck, cls)
        if sizes and not _fits(sizes) and not _packed(cls, sizes):  # FQ-006
            names = cls.names("right_trans")
            found = f"L · R = {sizes['L']} · {sizes['R']}"
            yield Finding(
                "FQ-001", "product", found, f"k = {sizes['k']}", names, ck.one_file(names)
            )


def _sizes(ck: Context, cls: ModuleClass) -> dict[str, int] | None:
    """L, R and k; None where a transform is absent or the shapes contradict each other."""
    label = label_of(cls, ck.profile)
    rules = rules_of(label, ck.profile) if label else None
    bound = layout.bind(rules, cls.shapes) if rules else None
    known = bound is not None and bound.ok and {"L", "R", "k"} <= bound.env.keys()
    return dict(bound.env) if bound is not None and known else None


def _fits(sizes: dict[str, int]) -> bool:
    """Whether the constraints that the layouts put on the wrapper hold."""
    known = layout.derivations()["FLATQUANT"].constraints
    return all(layout.holds(c.expr, sizes) is not False for c in known if c.phase == "layout")


def _packed(cls: ModuleClass, sizes: dict[str, int]) -> bool:
    weight = cls.tensors.get("weight")
    return weight is not None and weight.dtype == "I8" and sizes["L"] * sizes["R"] == 2 * sizes["k"]


@rule("FQ-006")
def weight_is_not_packed(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("FQ-006")):
        sizes = _sizes(ck, cls)
        if sizes and _packed(cls, sizes):
            names, expected = cls.names("weight"), f"{sizes['L'] * sizes['R']} = L · R columns"
            found = f"{sizes['k']} columns, half of L · R"
            yield Finding("FQ-006", "packed", found, expected, names, ck.one_file(names))


@rule("FQ-002")
def factors_lie_close_together(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("FQ-002")):
        sizes = _sizes(ck, cls)
        if not sizes or not _fits(sizes) or not sizes["k"]:
            continue
        wanted = balanced_factors(sizes["k"])
        members = [m for m in cls.members if not _by_engine(ck, cls, m)]  # FQ-007
        if members and wanted and (sizes["L"], sizes["R"]) != wanted:
            names = tuple(f"{member}.left_trans" for member in members)
            found = f"L, R = {sizes['L']}, {sizes['R']}"
            expected = f"{wanted[0]}, {wanted[1]}"
            yield Finding("FQ-002", "factors", found, expected, names, ck.one_file(names))


def balanced_factors(k: int) -> tuple[int, int] | None:
    """The two factors of k of equal parity that lie closest together; None if there are none.

    k = a² - b² = (a - b)(a + b) for the least such a.
    Source: vllm_ascend/quantization/methods/w4a4_flatquant.py:39-50.
    """
    for small in range(isqrt(k), 0, -1):
        if k % small == 0 and (small + k // small) % 2 == 0:
            return small, k // small
    return None


def _by_engine(ck: Context, cls: ModuleClass, member: str) -> bool:
    own = layout.base_label(cls.label or "", ck.profile) in types_of("FQ-007")
    return own and row_parallel(member)


@rule("FQ-007")
def factors_are_those_of_the_engine(ck: Context) -> Iterator[Finding]:
    stated = as_count(ck.metadata("max_supported_tp"))
    tp = stated or _DEFAULT_TP
    for cls in ck.of(*types_of("FQ-007")):
        sizes = _sizes(ck, cls)
        for row in (True, False) if sizes and _fits(sizes) else ():
            members = [m for m in cls.members if row_parallel(m) is row]
            wanted = engine_factors(sizes["k"], tp if row else 1) if sizes else None
            if not members or not sizes or (sizes["L"], sizes["R"]) == wanted:
                continue
            names = tuple(f"{member}.left_trans" for member in members)
            found = f"L, R = {sizes['L']}, {sizes['R']}"
            expected = f"{wanted[0]}, {wanted[1]}" if wanted else f"factors of at most {_LARGEST}"
            expected += f" for max_supported_tp {tp}" if row else ""
            yield Finding("FQ-007", "factors", found, expected, names, ck.one_file(names))


def engine_factors(k: int, tp: int) -> tuple[int, int] | None:
    """L and R that vllm-ascend registers for W4A4_MXFP4_FLATQUANT; None where it refuses.

    Column-parallel layers have tp 1. Source: w4a4_mxfp4_flatquant.py:34-60, 82-100.
    """
    part = k // tp
    if not 0 < part <= _LARGEST * _LARGEST:  # (a - b)(a + b) of two numbers up to the largest
        return None
    factors = balanced_factors(part)
    if factors is None or factors[1] > _LARGEST:
        return None
    small, large = factors
    if small * tp > _LARGEST:
        large = tp * part // _LARGEST
    return (k // large, large) if large else None


@rule("FQ-008")
def factors_suit_the_kernel(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("FQ-008")):
        for suffix in TRANSFORMS:
            shape = cls.shapes.get(suffix, ())
            if shape and max(shape) > _LARGEST:
                names, found = cls.names(suffix), f"shape {list(shape)}"
                expected = f"at most {_LARGEST}"
                yield Finding("FQ-008", "size", found, expected, names, ck.one_file(names))


@rule("FQ-005")
def transforms_carry_the_label(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "FQ-005", {LABEL}, FLATQUANT_TENSORS)


@rule("FQ-003")
def clip_ratio_has_one_element(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "FQ-003", {DTYPE, SHAPE}, {"clip_ratio"})


@value_rule("FQ-003")
def clip_ratio_is_a_share(ck: Context, module: Module) -> Iterator[Finding]:
    ratio = module.numbers("clip_ratio")
    if ratio is not None:
        wrong = ~((ratio > 0) & (ratio <= 1))
        yield from wrong_elements("FQ-003", module, "clip_ratio", wrong, "above 0, at most 1")


@value_rule("FQ-004")
def transforms_are_invertible(ck: Context, module: Module) -> Iterator[Finding]:
    for suffix in TRANSFORMS:
        matrix = module.numbers(suffix)
        if matrix is None:
            continue
        wrong = ~np.isfinite(matrix)
        if wrong.any():
            yield from wrong_elements("FQ-004", module, suffix, wrong, "finite", kind="finite")
        elif matrix.ndim == 2 and _singular(matrix):
            name, found = module.tensor(suffix), "a singular matrix"
            yield Finding(
                "FQ-004", "singular", found, "an invertible one", (name,), module.file(suffix)
            )


def _singular(matrix: NDArray[np.float32]) -> bool:
    size = matrix.shape[0]
    if matrix.shape != (size, size) or not 0 < size <= _LARGEST_JUDGED:
        return False
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return bool(values[-1] <= values[0] * size * _EPSILON)
