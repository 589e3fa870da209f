"""Named numerics: every way of quantizing that a checkpoint of a type may follow.

The producer's own comes first; the others are what differs between versions, devices and solvers
(math.md 1.1-1.8, 3.2, 3.4, 12): dtype of the arithmetic, formula variant, reciprocal instead of
division, and solvers that choose another scale.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.numeric import as_float32, mul, round_half_even, to_dtype
from slimspec.numeric.saturate import saturate
from slimspec.quantize.affine import Variant, code_range, group_view, quantize, without_lowest
from slimspec.quantize.hqq import quantize_hqq
from slimspec.quantize.minmax import IntegerWeight
from slimspec.quantize.ssz import quantize_ssz
from slimspec.schemes import InputParams, Linear, Options, QuantizedLinear, Scheme

Make = Callable[[Linear], QuantizedLinear]

_SHORT = {"float32": "f32", "float16": "fp16", "bfloat16": "bf16"}
_MX_METHODS = ("ceil_x", "fouroversix", "mse_round")
_SOLVER_LIMIT = 1 << 24  # elements that a solver of many rounds is tried on


@dataclass(frozen=True, slots=True)
class Numerics:
    """One way: `dtype` is what the float weight is cast to first; rows are independent or not."""

    name: str
    dtype: np.dtype[Any]
    make: Make
    by_rows: bool = True


@dataclass(frozen=True)
class Stored:
    """A quantized linear as the files have it, with what is needed to make it again."""

    scheme: Scheme
    record: QuantizedLinear
    variant: Variant
    dtype: np.dtype[Any]  # of the producer's arithmetic
    group_size: int
    parts: dict[str, NDArray[Any]]  # of a wrapper

    @property
    def affine(self) -> bool:
        """Whether the weight is made of integers at even steps."""
        return self.record.weight.dtype == np.int8 and self.scheme.bits in (4, 8)

    @property
    def symmetric(self) -> bool:
        offset = self.record.weight_offset
        return offset is None or not as_float32(offset).any()

    @property
    def per_tensor(self) -> bool:
        """Whether one scale serves all rows (mm_tensor)."""
        scales = (self.record.weight_scale, self.record.deq_scale)
        first = next((scale for scale in scales if scale is not None), None)
        return first is not None and first.shape == (1,) and self.record.weight.shape[0] != 1


def variant_of(profile: str) -> Variant:
    """Which formulas the writers of a profile use (math.md 0.1)."""
    return "v0" if profile in ("L0", "A0", "SC", "SH310") else "v1"


def all_numerics(stored: Stored) -> Iterator[Numerics]:
    """Yield the producer's numerics, then the others; unusable ones raise ValueError when made."""
    own, wide = stored.dtype, np.dtype(np.float32)
    variants: tuple[Variant, ...] = ("v0", "v1")
    other = variants[stored.variant == "v0"]
    for dtype in dict.fromkeys((own, wide)):
        for variant in (stored.variant, other):
            yield _minmax(stored, dtype, variant)
    if "method" in stored.scheme.takes:
        for method in _MX_METHODS:
            yield _minmax(stored, own, stored.variant, method)
    if stored.affine and not stored.group_size and stored.record.weight.size <= _SOLVER_LIMIT:
        yield from _solvers(stored)
    if stored.affine and stored.record.weight_scale is not None and not stored.parts:
        yield _reciprocal(stored)
        for dtype in dict.fromkeys((own, wide)):
            yield _stored_scale(stored, dtype)


def _minmax(
    stored: Stored, dtype: np.dtype[Any], variant: Variant, method: str = "minmax"
) -> Numerics:
    ways = "" if method == "minmax" else f"·{method}"
    name = f"{_SHORT[dtype.name]}·div·half-even·{variant}{ways}"
    if "method" in stored.scheme.takes:
        name = f"{_SHORT[dtype.name]}·{method}"
    options = _options(stored, dtype, variant, method)

    def make(linear: Linear) -> QuantizedLinear:
        given: dict[str, Any] = {"parts": stored.parts} if stored.parts else {}
        return stored.scheme.quantize(linear, **given, **options)

    return Numerics(name, dtype, make, by_rows=not stored.per_tensor)


def _options(stored: Stored, dtype: np.dtype[Any], variant: Variant, method: str) -> dict[str, Any]:
    takes = stored.scheme.takes
    wanted: dict[str, Any] = {
        "group_size": stored.group_size,
        "symmetric": stored.symmetric,
        "per_tensor": stored.per_tensor,
        "method": method,
        "dual_block": _dual_block(stored.record),
        "input_params": _input_params(stored.record, dtype),
    }
    return {"variant": variant, **{key: wanted[key] for key in takes & wanted.keys()}}


def _dual_block(record: QuantizedLinear) -> int:
    dual = record.weight_dual_scale
    if dual is None or dual.ndim < 2 or not dual.shape[1]:
        return 0
    return int(record.weight.shape[1] // dual.shape[1])


def _input_params(record: QuantizedLinear, dtype: np.dtype[Any]) -> InputParams | None:
    """The stored ones, in the dtype of the model where they were widened when they were saved."""
    scale, offset = record.input_scale, record.input_offset
    if scale is None or offset is None:
        return None
    if offset.dtype == np.int8:
        offset = offset.astype(np.float32)
    narrow = to_dtype(as_float32(scale), dtype)
    if np.array_equal(as_float32(narrow), as_float32(scale)):
        scale, offset = narrow, to_dtype(as_float32(offset), dtype)
    return InputParams(scale.reshape(1), offset.reshape(1))


def _solvers(stored: Stored) -> Iterator[Numerics]:
    bits = stored.scheme.bits
    options = Options(
        stored.variant,
        symmetric=stored.symmetric,
        input_params=_input_params(stored.record, stored.dtype),
    )

    def assembled(solve: Callable[[Linear], IntegerWeight]) -> Make:
        return lambda linear: stored.scheme.assemble(linear, solve(linear), options)

    short = _SHORT[stored.dtype.name]
    if stored.variant == "v1" and stored.symmetric and not stored.parts:
        for error in dict.fromkeys((np.dtype(np.float32), stored.dtype)):
            yield Numerics(
                f"{short}·ssz", stored.dtype,
                assembled(partial(_ssz, bits=bits, error=error)),
                by_rows=False,
            )  # fmt: skip
    if stored.variant == "v0" and not stored.per_tensor and not stored.parts:
        yield Numerics(
            "f32·hqq", stored.dtype,
            assembled(partial(_hqq, bits=bits, symmetric=stored.symmetric)),
            by_rows=False,
        )  # fmt: skip


def _ssz(linear: Linear, bits: int, error: np.dtype[Any]) -> IntegerWeight:
    return quantize_ssz(linear.weight, bits=bits, error_dtype=error)


def _hqq(linear: Linear, bits: int, symmetric: bool) -> IntegerWeight:
    made = quantize_hqq(linear.weight, bits=bits, symmetric=symmetric)
    return replace(made, q=without_lowest(made.q, bits)) if symmetric else made


def _reciprocal(stored: Stored) -> Numerics:
    def make(linear: Linear) -> QuantizedLinear:
        scale, offset, groups = _per_group(linear, stored)
        inverse = np.float32(1) / as_float32(scale)
        moved = mul(as_float32(groups), inverse, np.float32) + as_float32(offset)
        low, high = code_range(stored.scheme.bits)
        codes = saturate(round_half_even(moved), low, high, np.int8)
        return _with_codes(stored.record, codes.reshape(linear.weight.shape))

    name = "stored scale, f32·reciprocal·half-even"
    return Numerics(name, np.dtype(np.float32), make, by_rows=False)


def _stored_scale(stored: Stored, dtype: np.dtype[Any]) -> Numerics:
    def make(linear: Linear) -> QuantizedLinear:
        scale, offset, groups = _per_group(linear, stored)
        with np.errstate(all="ignore"):
            codes = quantize(groups, scale, offset, bits=stored.scheme.bits)
        return _with_codes(stored.record, codes.reshape(linear.weight.shape))

    name = f"stored scale, {_SHORT[dtype.name]}·div·half-even"
    return Numerics(name, dtype, make, by_rows=False)


def _per_group(linear: Linear, stored: Stored) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Stored scale and offset [n, k/g, 1], and the weight [n, k/g, g]; in one dtype if it fits."""
    if stored.record.weight_scale_second is not None:
        raise ValueError("two levels have no scale of their own")
    dtype = linear.weight.dtype
    groups = group_view(linear.weight, stored.group_size)  # (n, k // g, g)
    scale = np.broadcast_to(as_float32(stored.record.need("weight_scale")), groups.shape[:2])
    offset = stored.record.weight_offset
    zero = np.zeros((), np.float32) if offset is None else as_float32(offset)
    zeros = np.broadcast_to(zero, groups.shape[:2])
    narrow = to_dtype(np.ascontiguousarray(scale), dtype)
    kept = narrow if np.array_equal(as_float32(narrow), scale) else scale
    return kept[..., None], to_dtype(np.ascontiguousarray(zeros), dtype)[..., None], groups


def _with_codes(record: QuantizedLinear, codes: NDArray[np.int8]) -> QuantizedLinear:
    """The record with other codes, and nothing that would be compared beside them."""
    return replace(
        record, weight=codes, deq_scale=None, quant_bias=None, scale_bias=None, bias=None
    )


def stored_linear(
    scheme: Scheme, tensors: dict[str, NDArray[Any]], profile: str, name: str, dtype: np.dtype[Any]
) -> Stored:
    """Read a linear. Raises: ValueError, LayoutError if its tensors are not those of its type."""
    record = scheme.from_tensors(tensors, profile, name)
    wrapper = [*getattr(scheme, "required", ()), *getattr(scheme, "optional", ())]
    parts = {key: value for key in wrapper if (value := getattr(record, key, None)) is not None}
    return Stored(scheme, record, variant_of(profile), dtype, _group_size(scheme, record), parts)


def _group_size(scheme: Scheme, record: QuantizedLinear) -> int:
    """Columns that share a scale by its width; 0 for one scale a row."""
    second, scale = record.weight_scale_second, record.weight_scale
    if "group_size" not in scheme.takes:
        return 0
    if second is not None:
        return int(record.weight.shape[1] // max(second.shape[1], 1))
    if scale is None or scale.ndim != 2 or scale.shape[1] < 2:
        return 0
    return int(record.weight.shape[1] // scale.shape[1])
