"""Adversarial properties of a vector, computed from its tensors and not from its comment.

Each predicate takes one vector and tells whether it has the property. `adversarial` says which
operations must have which.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from slimspec.golden.contents.numeric import e2m1, e4m3
from slimspec.golden.operations import operation
from slimspec.golden.vectors import VectorCase, cases

F32, F64 = np.float32, np.float64
SMALLEST_NORMAL = {"float16": 2.0**-14, "bfloat16": 2.0**-126, "float32": 2.0**-126}


def floats(case: VectorCase) -> list[NDArray]:
    """The floating-point inputs, as float64, with their dtype names lost."""
    return [a.astype(F64) for a in case.inputs.values() if a.dtype.name in SMALLEST_NORMAL]


def steps(case: VectorCase) -> tuple[NDArray, NDArray, NDArray] | None:
    """(x, scale, offset) of a quantizer, broadcast to x, in float64; None for another form."""
    i, o, a = case.inputs, case.outputs, case.attributes
    if a.get("form") in ("mul", "atb", "atb_kernel") and case.op == "quantize_static":
        return None
    x = i.get("x", i.get("w", i.get("acc")))
    scale, offset = (i.get(n, o.get(n, np.zeros(1))) for n in ("scale", "offset"))
    if x is None or scale.dtype.kind == "u":
        return None
    if case.op == "fake_quantize" and a["scope"] == "row":
        scale = np.abs(x).max(axis=1, keepdims=True) / 127
    elif case.op == "fake_quantize":
        low, high = x.min().astype(F64), x.max().astype(F64)
        scale = np.array([(high - low) / 255])
        offset = np.rint(-low / scale) - 128
    if case.op.startswith("quantize_dynamic"):
        scale, offset = scale[:, None], offset.reshape(-1, 1)
    if case.op == "quantize_heads":
        scale = scale.reshape(-1, 1, 1)
    if case.op == "requantize":
        scale, offset = 1 / scale.astype(F64), np.rint(offset.astype(F64))
    if a.get("granularity") == "group":
        x = x.reshape(x.shape[0], -1, a["group_size"])
        scale, offset = scale[..., None], offset[..., None]
    return tuple(np.broadcast_arrays(*(v.astype(F64) for v in (x, scale, offset))))  # type: ignore


def tied_codes(case: VectorCase) -> set[float]:
    """Every c for which some x is exactly half way between the codes c and c + 1."""
    found = steps(case)
    if found is None:
        return set()
    x, scale, offset = found
    with np.errstate(all="ignore"):
        half = np.floor(x / scale) + 0.5
        exact = (half * scale == x) & np.isfinite(x)  # 11 bits by 24: no rounding
    return set((half + offset - 0.5)[exact].tolist())


def low_high(case: VectorCase) -> tuple[int, int]:
    bits = case.attributes.get("bits", 4 if case.op == "quantize_flat" else 8)
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def ties_at_every_code(case: VectorCase) -> bool:
    low, high = low_high(case)
    if case.op in ("quantize_dynamic", "quantize_weight", "fake_quantize", "quantize_flat"):
        low += 1  # the scale comes from the largest value, which is a code
    return set(range(low, high)) <= tied_codes(case)


def past_both_ends(case: VectorCase) -> bool:
    found = steps(case)
    if found is None:
        return False
    with np.errstate(all="ignore"):
        moved = found[0] / found[1] + found[2]
    low, high = low_high(case)
    return bool((moved > high + 0.5).any() and (moved < low - 0.5).any())


def float_ends(case: VectorCase) -> bool:
    """Values past the largest number of the format, of both signs."""
    to = case.attributes.get("to", case.attributes.get("out_dtype", "E4M3"))
    top = {"F16": 65520, "E4M3": 448, "FP4": 6, "BF16": 3.39e38}.get(to, np.inf)
    if case.op == "dequantize":
        x = case.intermediates["scaled"].astype(F64)
    else:
        x = case.inputs["x"].astype(F64) / case.inputs.get("scale", np.ones(1))[..., None]
    return bool((x > top).any() and (x < -top).any())


def gives_both_ends(case: VectorCase) -> bool:
    return any({-128, 127} <= set(a.ravel().tolist()) for a in case.outputs.values())


def infinite_results(case: VectorCase) -> bool:
    """Finite inputs give an infinity."""
    finite = all(np.isfinite(x).all() for x in floats(case))
    return finite and any(np.isinf(a.astype(F64)).any() for a in case.outputs.values())


def nine_bits(case: VectorCase) -> bool:
    """A value before the last step is past -256 or 255."""
    i = case.inputs
    if "acc" not in i:
        x = i.get("offset", np.zeros(1)).astype(F64)
    elif i["scale"].dtype.kind == "u":
        return False
    else:
        x = i["acc"].astype(F64) * i["scale"].astype(F64)
    return bool((x > 255.5).any() and (x < -256.5).any())


def both_zeros(case: VectorCase) -> bool:
    return any({False, True} <= set(np.signbit(a[a == 0]).tolist()) for a in floats(case))


def subnormal(case: VectorCase) -> bool:
    found = False
    for a in case.inputs.values():
        size = np.abs(a.astype(F64)) if a.dtype.name in SMALLEST_NORMAL else np.zeros(1)
        found |= bool(((size > 0) & (size < SMALLEST_NORMAL.get(a.dtype.name, 0))).any())
    return found


def nan_and_infinities(case: VectorCase) -> bool:
    x = np.concatenate([a.ravel() for a in floats(case)])
    return bool(np.isnan(x).any() and np.isposinf(x).any() and np.isneginf(x).any())


def rows(case: VectorCase) -> NDArray:
    """The values behind one scale as rows."""
    a = case.inputs
    x = next(a[name] for name in ("acc", "w", "x", "x0") if name in a)
    wide = np.asarray(x).astype(F64)
    size = case.attributes.get("group_size") or {"quantize_mx": 32}.get(case.op)
    if case.op == "observe_heads":
        return wide.reshape(wide.shape[1], -1)
    if size and wide.shape[-1] % size == 0:
        return wide.reshape(-1, size)
    return wide.reshape(-1, wide.shape[-1])


def zero_row(case: VectorCase) -> bool:
    x = rows(case)
    return bool((x == 0).all(axis=1).any())


def range_of_zero(case: VectorCase) -> bool:
    return bool(((case.inputs["lo"] == 0) & (case.inputs["hi"] == 0)).any())


def masked(case: VectorCase) -> bool:
    mask = case.inputs.get("mask", np.zeros((1, 1), F32))
    hidden = np.isneginf(mask)
    return bool(hidden.any() and not hidden.all(axis=1).any())


def shared_heads(case: VectorCase) -> bool:
    q = case.inputs["q"]
    return q.shape[0] > case.attributes.get("kv_heads", case.inputs.get("k", q).shape[0])


def empty_expert(case: VectorCase) -> bool:
    groups = case.inputs["group_list"].astype(np.int64)
    counts = np.diff(groups, prepend=0) if case.attributes["kind"] == "cumsum" else groups
    return bool((counts == 0).any())


def absmax_negative(case: VectorCase) -> bool:
    if case.op == "qparams":
        lo, hi = (case.inputs[n].astype(F64) for n in ("lo", "hi"))
        return bool(case.attributes["symmetric"] and (-lo > np.abs(hi)).any())
    x = rows(case)
    return bool((-x.min(axis=1) > np.abs(x.max(axis=1))).any())


def remainder(case: VectorCase) -> bool:
    """No multiple of 16 rows, or of a block or tile of columns."""
    name = {"dequantize_mx": "weight", "quantize_mx": "w", "nz_to_nd": "", "nd_to_nz": "weight",
            "tile_decode": "", "tile_encode": "weight"}.get(case.op, "x")  # fmt: skip
    shape = case.inputs[name].shape if name else case.outputs["weight"].shape
    return bool(shape[-1] % 32)


def lowest_int8(case: VectorCase) -> bool:
    arrays = [a for a in case.inputs.values() if a.dtype == np.int8]
    return any((a == -128).any() for a in arrays)


def gives_lowest_int8(case: VectorCase) -> bool:
    return any((a == -128).any() for a in case.outputs.values() if a.dtype == np.int8)


def lowest_int4(case: VectorCase) -> bool:
    plain = [a for n, a in case.inputs.items() if n in ("q", "w", "x") and a.dtype == np.int8]
    packed = [a.view(np.uint8) for n, a in case.inputs.items() if n in ("packed", "w_packed")]
    low_or_high = [((a & 15) == 8) | ((a >> 4) == 8) for a in packed]
    return any((a == -8).any() for a in plain) or any(a.any() for a in low_or_high)


def nibbles_differ(case: VectorCase) -> bool:
    """Exchanging the nibbles of every byte, or of every word, changes a packed tensor."""
    words = ("packed", "w_packed", "words", "qweight", "weight")
    arrays = [a for p in (case.inputs, case.outputs) for n, a in p.items() if n in words]
    bits = np.concatenate([np.ascontiguousarray(a).view(np.uint8).ravel() for a in arrays])
    return bool(((bits & 15) != (bits >> 4)).mean() > 0.5)


def exact_sums(case: VectorCase) -> NDArray:
    """Accumulators before any wrap."""
    if "acc" in case.inputs:
        bias = case.inputs.get("quant_bias", np.zeros(1, np.int32))
        return case.inputs["acc"].astype(np.int64) + np.rint(bias).astype(np.int64)
    x, w = (case.inputs[n].astype(np.int64) for n in ("x", "w"))
    if case.op == "grouped_matmul_int8":
        return np.stack([x @ e.T for e in w])
    return x @ w.T


def past_24_bits(case: VectorCase) -> bool:
    sums = exact_sums(case)
    return bool((sums != sums.astype(F32).astype(np.int64)).any())


def past_31_bits(case: VectorCase) -> bool:
    return bool((np.abs(exact_sums(case).astype(F64)) >= 2.0**31).any())


def by_reciprocal(case: VectorCase) -> bool:
    """x/scale and x·(1/scale) in float32 round to other integers."""
    found = steps(case)
    if found is None:
        return False
    x, scale, offset = (v.astype(F32) for v in found)
    with np.errstate(all="ignore"):
        one, two = (np.rint(v + offset) for v in (x / scale, x * (F32(1) / scale)))
    return bool((one != two)[np.isfinite(one) & np.isfinite(two)].any())


def fold_by_reciprocal(case: VectorCase) -> bool:
    kind, scale = case.inputs["weight"].dtype, case.inputs["scale"].astype(F32)
    w = case.inputs["weight"].astype(F32)
    scale = scale[:, None] if w.ndim > 1 else scale
    with np.errstate(all="ignore"):
        rounded = (F32(1) / scale).astype(kind).astype(F32)
        one, two = ((w / scale).astype(kind), (w * rounded).astype(kind))
    return bool((one.astype(F32) != two.astype(F32)).any())


def quantized_in_float64(case: VectorCase) -> bool:
    """float64 arithmetic rounds to other integers than float32 arithmetic."""
    found = steps(case)
    if found is None:
        return False
    with np.errstate(all="ignore"):
        one = np.rint(found[0] / found[1] + found[2])
        x, scale, offset = (v.astype(F32) for v in found)
        two = np.rint(x / scale + offset).astype(F64)
    return bool((one != two)[np.isfinite(one) & np.isfinite(two)].any())


def scaled_in_float64(case: VectorCase) -> bool:
    """The product in float64, rounded to the output at once, is another number."""
    i = case.inputs
    acc = i["acc"] if "acc" in i else i["q"]
    names = [n for n in ("deq_scale", "weight_scale", "pertoken_scale", "scale") if n in i]
    offset = i.get("offset", np.zeros(1))
    if any(i[n].dtype.kind != "f" for n in names) or "quant_bias" in i or "bias" in i:
        return False
    product = acc.astype(F64) - offset.astype(F64)
    for name in names:
        scale = i[name].astype(F64)
        product = product * (scale[:, None] if name == "pertoken_scale" else scale)
    y = next(iter(case.outputs.values()))
    with np.errstate(all="ignore"):
        return product.shape == y.shape and bool((product.astype(y.dtype) != y).any())


@cache
def dtypes_that_matter(op: str) -> frozenset[str]:
    """The 16-bit dtypes in which some vector differs from float32 arithmetic on its inputs."""
    found = set()
    for case in cases(op):
        kinds = {a.dtype.name for a in case.inputs.values()} & {"float16", "bfloat16"}
        if not kinds:
            continue
        wide = {n: a.astype(F32) if a.dtype.name in kinds else a for n, a in case.inputs.items()}
        with np.errstate(all="ignore"):
            made = operation(op).run(wide, case.settings)
            for name, want in case.outputs.items():
                same = np.asarray(made[name]).astype(want.dtype).astype(F64) == want.astype(F64)
                found |= kinds if not (same | np.isnan(want.astype(F64))).all() else set()
    return frozenset(found)


def half_and_bfloat(case: VectorCase) -> bool:
    return dtypes_that_matter(case.op) == {"float16", "bfloat16"}


def ties_of_small_floats(case: VectorCase) -> bool:
    """A tie between every two magnitudes of E4M3 or E2M1 (of the input over its scale)."""
    small = "FP4" in (case.attributes.get("to"), case.attributes.get("format", "").upper()[2:])
    values = [float(v) for v in (e2m1()[:8] if small else e4m3()[:127])]
    middles = {(a + b) / 2 for a, b in pairwise(values)}
    if case.op == "quantize_mx" and case.inputs["w"].shape[-1] % 32:
        return False
    if case.op == "quantize_mx":
        x = rows(case) / np.exp2(case.outputs["exponent"].astype(F64)).reshape(-1, 1)
    else:
        x = case.inputs["w" if "w" in case.inputs else "x"].astype(F64)
        x = x / case.outputs.get("scale", np.ones(1))
    return middles <= set(np.abs(x).ravel().tolist())


def extreme_exponents(case: VectorCase) -> bool:
    """The scale bytes 0 (2^-127), 254 (2^127) and 255 (NaN)."""
    tensors = {**case.inputs, **case.outputs}
    stored = tensors.get("weight_scale", tensors.get("codes", np.zeros(0)))
    return {0, 254, 255} <= set(stored.ravel().tolist())


def offset_of_cache(case: VectorCase) -> bool:
    names = ("offset", "k_offset", "v_offset")
    return any((case.inputs[n] != 0).any() for n in names if n in case.inputs)


def covers(*names: str, values: range) -> Callable[[VectorCase], bool]:
    """Some tensor of these names holds every value."""

    def predicate(case: VectorCase) -> bool:
        arrays = [a for p in (case.inputs, case.outputs) for n, a in p.items() if n in names]
        return any(set(values) <= set(a.ravel().tolist()) for a in arrays)

    return predicate
