"""The forward pass of each quantization type a second time, in plain NumPy and ml_dtypes.

Independent of `slimspec`: integers in int64, floats by the operators of NumPy, sums over k in
float64 one column after the other. Each form takes x [m, k] of the model's dtype T and the tensors
of one linear by suffix, as they are stored, and returns y [m, n] of T.

`benchmarks.matmul_forward` compares them with the package, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

F16, F32, F64 = np.float16, np.float32, np.float64
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], F32)
Tensors = dict[str, NDArray]
Form = Callable[[NDArray, Tensors], NDArray]


def product(x: NDArray, w: NDArray, bias: NDArray | None = None) -> NDArray:
    """float32(Σ_k x·w) + bias in float32."""
    y = np.zeros((x.shape[0], w.shape[0]))
    for k in range(w.shape[1]):
        y += x[:, k, None].astype(F64) * w[None, :, k].astype(F64)
    return y.astype(F32) if bias is None else y.astype(F32) + bias.astype(F32)


def floating(x: NDArray, t: Tensors) -> NDArray:
    """FLOAT, W16A16S: y = T(float32(Σ x·w) + bias)."""
    return product(x, t["weight"], t.get("bias")).astype(x.dtype)


def static(x: NDArray, t: Tensors) -> NDArray:
    """W8A8: y = T(fp32(Σ q·w + quant_bias)·deq_scale), a word or a single scale cut to FP19."""
    scale, offset = t["input_scale"].astype(F32), t["input_offset"].astype(F32)
    q = np.clip(np.rint(x.astype(F32) / scale + offset), -128, 127)
    total = q.astype(np.int64) @ t["weight"].astype(np.int64).T + t["quant_bias"]
    deq = t["deq_scale"]
    if deq.dtype == np.int64 or deq.size == 1:
        bits = deq.astype(np.uint32) if deq.dtype == np.int64 else deq.view(np.uint32)
        deq = (bits >> 13 << 13).view(F32)
    return (total.astype(np.int32).astype(F32) * deq).astype(x.dtype)


def tokens(x: NDArray, top: int = 127) -> tuple[NDArray, NDArray]:
    """Integers and scale of each token: scale = max|x|·fp32(1/top)."""
    wide = x.astype(F32)
    scale = np.abs(wide).max(axis=1, keepdims=True) * F32(1 / top)
    return np.rint(wide / scale).astype(np.int64), scale


def dynamic(x: NDArray, t: Tensors, top: int = 127, loaded: bool = True) -> NDArray:
    """W8A8_DYNAMIC, W4A4_DYNAMIC: y = T((acc·weight_scale)·s + bias); `loaded`: scale as T."""
    q, token = tokens(x, top)
    scale = t["weight_scale"]
    scale = (scale.astype(x.dtype) if loaded else scale).astype(F32).reshape(-1)
    y = (q @ t["weight"].astype(np.int64).T).astype(F32) * scale * token
    return (y + t["bias"].astype(F32) if "bias" in t else y).astype(x.dtype)


def nibbles(packed: NDArray, axis: int) -> NDArray:
    """int4 codes of a packed weight: even places in the low nibbles."""
    byte = packed.view(np.uint8).astype(np.int64)
    pairs = np.stack([byte & 15, byte >> 4], axis=axis + 1)
    shape = list(byte.shape)
    shape[axis] *= 2
    return (pairs.reshape(shape) ^ 8) - 8


def weight_only(x: NDArray, t: Tensors) -> NDArray:
    """W8A16: ŵ = T(T(q - offset)·scale), for bfloat16 and float32 rounded once."""
    w = t["weight"]
    scale, offset = (np.atleast_2d(t[n]).astype(x.dtype) for n in ("weight_scale", "weight_offset"))
    scale, offset = (np.repeat(a, w.shape[1] // a.shape[1], axis=1) for a in (scale, offset))
    shifted = w.astype(F32) - offset.astype(F32)
    if x.dtype == F16:
        shifted = shifted.astype(F16).astype(F32)
    weight = (shifted * scale.astype(F32)).astype(x.dtype)
    return product(x, weight, t.get("bias")).astype(x.dtype)


def weight_only_int4(x: NDArray, t: Tensors) -> NDArray:
    """W4A16: columns in pairs per channel, rows in pairs per group."""
    w = nibbles(t["weight"], axis=1 if t["weight_scale"].shape[-1] == 1 else 0)
    return weight_only(x, t | {"weight": w.astype(np.int8)})


def two_level(x: NDArray, t: Tensors) -> NDArray:
    """W4A8_DYNAMIC on the device: nibbles of x apart, each group's sum added in fp16."""
    q, token = tokens(x)
    w = nibbles(t["weight"], axis=0)
    scale = t["weight_scale"].astype(F32)
    scale = scale * t.get("weight_scale_second", np.ones((1, 1), F32)).astype(F32)
    g = w.shape[1] // scale.shape[1]
    sums = []
    for half in (q // 16, q % 16 - 8):
        total = np.zeros((x.shape[0], w.shape[0]), F16)
        for j in range(scale.shape[1]):
            acc = half[:, j * g : (j + 1) * g] @ w[:, j * g : (j + 1) * g].T
            total = total + (acc.astype(F32) * scale[:, j]).astype(F16)
        sums.append(total.astype(F32))
    bias = t["scale_bias"].reshape(w.shape[0], -1)
    sums += [bias[:, c] for c in range(bias.shape[1])]
    y = F32(16) * sums[0] + sums[1] + sum(sums[3:], sums[2])
    return (y * token).astype(x.dtype)


def two_level_exact(x: NDArray, t: Tensors) -> NDArray:
    """W4A8_DYNAMIC by exact sums: the second level multiplied into the integers."""
    w = nibbles(t["weight"], axis=0)
    second = t.get("weight_scale_second", np.ones((1, 1), F32))
    wide = w * np.repeat(second.astype(np.int64), w.shape[1] // second.shape[1], axis=1)
    return dynamic(x, t | {"weight": wide}, loaded=False)


def fp8(x: NDArray, t: Tensors) -> NDArray:
    """WFP8AFP8_DYNAMIC: E4M3 of x / s, s = max(max|x|, 1e-12) / 448 per token."""
    wide = x.astype(F32)
    token = np.maximum(np.abs(wide).max(axis=1, keepdims=True), F32(1e-12)) / F32(448)
    q = np.clip(wide / token, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    acc = (q.astype(F64) @ t["weight"].astype(F64).T).astype(F32)
    y = acc * t["weight_scale"].reshape(-1) * token
    return (y + t["bias"].astype(F32) if "bias" in t else y).astype(x.dtype)


def blocks(x: NDArray) -> NDArray:
    """[m, k] as [m, ceil(k / 32), 32], zeros appended."""
    return np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(x.shape[0], -1, 32)


def powers(exponent: NDArray) -> NDArray:
    """2^e of integers, as float32."""
    return np.ldexp(F32(1), exponent.astype(np.int32))


def binade(r: NDArray) -> NDArray:
    """floor(log2 r) from the bits of r; 0 for 0."""
    return np.where(r > 0, np.frexp(r)[1] - 1, 0)


def mx_input(x: NDArray, bits: int) -> NDArray:
    """x̂ [m, k] in T: MXFP8 or MXFP4 with the exponent from the largest value of each block."""
    cut = blocks(x)
    peak = np.abs(cut.astype(F32)).max(axis=2)
    if bits == 8:
        log = np.log2(np.where(peak == 0, 2.0**-126, peak.astype(F64)))
        e = np.floor(log.astype(x.dtype).astype(F64)) - 8
    else:
        grown = (peak / F32(0.875)).astype(x.dtype).astype(F32) + F32(9.6e-7)
        e = np.floor(np.log2(grown.astype(x.dtype).astype(F64)).astype(x.dtype).astype(F64)) - 2
    e = np.clip(e, -127, 127)[..., None]
    r = np.abs(cut.astype(F32)) / powers(e)
    if bits == 8:
        step = powers(np.maximum(binade(r), -6) - 3)
        q = np.minimum(np.floor(r / step + F32(0.5)) * step, F32(448))
    else:
        step = powers(np.clip(binade(r + F32(9.6e-7)), 0, 2) - 1)
        q = np.minimum(np.floor(r / step + F32(0.5)) * step, F32(6))
    value = (np.copysign(q, cut.astype(F32)) * powers(e)).astype(x.dtype)
    return value.reshape(x.shape[0], -1)[:, : x.shape[1]]


def mx(x: NDArray, t: Tensors, weight_bits: int, input_bits: int) -> NDArray:
    """MX types: ŵ = element·2^(byte - 127), y = T(float32(Σ x̂·ŵ) + bias)."""
    stored = t["weight"]
    if weight_bits == 4:
        code = stored.view(np.uint8)
        code = np.stack([code & 15, code >> 4], axis=2).reshape(code.shape[0], -1)
        elements = np.where(code & 8, -E2M1[code & 7], E2M1[code & 7])
    else:
        elements = stored.astype(F32)
    scale = powers(t["weight_scale"].astype(np.int32) - 127)
    w = (blocks(elements) * scale[..., None]).reshape(elements.shape[0], -1)
    return product(mx_input(x, input_bits), w[:, : x.shape[1]], t.get("bias")).astype(x.dtype)


def turned(x: NDArray, left: NDArray, right: NDArray | None) -> NDArray:
    """leftᵀ·x·right of each row read as a matrix, rounded to T after each product."""
    left = left.astype(x.dtype)
    y = x.reshape(x.shape[0], left.shape[0], -1)  # (m, L, R)
    if right is not None:
        rows = y.reshape(-1, y.shape[2])
        y = product(rows, right.astype(x.dtype).T).astype(x.dtype).reshape(y.shape)
    rows = y.transpose(0, 2, 1).reshape(-1, left.shape[0])
    back = product(rows, left.T).astype(x.dtype).reshape(x.shape[0], -1, left.shape[0])
    return back.transpose(0, 2, 1).reshape(x.shape)


def flatquant(x: NDArray, t: Tensors, inner: Form) -> NDArray:
    """The inner form of the transformed input, clipped to clip_ratio of each token's range."""
    y = turned(x, t["left_trans"], t.get("right_trans"))
    if "clip_ratio" in t:
        ratio, wide = t["clip_ratio"].astype(x.dtype).astype(F32), y.astype(F32)
        low, high = wide.min(axis=1, keepdims=True), wide.max(axis=1, keepdims=True)
        low, high = np.minimum(low, F32(0)) * ratio, np.maximum(high, F32(0)) * ratio
        y = np.clip(wide, low.astype(x.dtype).astype(F32), high.astype(x.dtype).astype(F32))
    return inner(y.astype(x.dtype), t)


def svd(x: NDArray, t: Tensors, inner: Form) -> NDArray:
    """inner(x) + T(T(x·l1ᵀ)·l2ᵀ)."""
    low = product(x, t["svd_lowrank_l1"]).astype(x.dtype)
    branch = product(low, t["svd_lowrank_l2"]).astype(x.dtype)
    return (inner(x, t).astype(F32) + branch.astype(F32)).astype(x.dtype)


PLAIN: dict[str, Form] = {
    "FLOAT": floating,
    "W16A16S": floating,
    "W8A8": static,
    "W8A8S": static,
    "W8A8_DYNAMIC": dynamic,
    "W8A16": weight_only,
    "W4A16": weight_only_int4,
    "W4A8_DYNAMIC": two_level_exact,
    "W4A4_DYNAMIC": partial(dynamic, top=7, loaded=False),
    "WFP8AFP8_DYNAMIC": fp8,
    "W8A8_MXFP8": partial(mx, weight_bits=8, input_bits=8),
    "W4A8_MXFP": partial(mx, weight_bits=4, input_bits=8),
    "W4A4_MXFP4": partial(mx, weight_bits=4, input_bits=4),
}
WRAPPERS: dict[str, Callable[[NDArray, Tensors, Form], NDArray]] = {
    "FLATQUANT": flatquant,
    "SVD": svd,
}
