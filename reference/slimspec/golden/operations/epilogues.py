"""Integer matmul and what turns accumulators into outputs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.matmul.accumulate import accumulate
from slimspec.matmul.dequantize import add_int32_bias, dequantize, read_scale, scaled
from slimspec.matmul.grouped import grouped_matmul_int8
from slimspec.matmul.int4 import matmul_int8_int4
from slimspec.matmul.integer import matmul_int8
from slimspec.matmul.linear import MixTensors, linear_w8a8_mix
from slimspec.matmul.per_token import dequantize_per_token, scale_per_token
from slimspec.matmul.requantize import requantize
from slimspec.numeric import round_half_even, saturate_int9

from .model import Attributes, Operation, Tensors, dtype_of, numerics


def _matmul(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    """The overflow status of each sum is an intermediate where there is any."""
    overflow = accumulate(t["x"], t["w"]).overflow
    return {"acc": matmul_int8(t["x"], t["w"])} | ({"overflow": overflow} if overflow.any() else {})


def _int4(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    return {"acc": matmul_int8_int4(t["x"], t["w_packed"], a.get("axis", 1))}


def _grouped(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    kind = a.get("kind", "count")
    return {"acc": grouped_matmul_int8(t["x"], t["w"], t["group_list"], kind)}


def _dequantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    acc, scale, bias = t["acc"], t["deq_scale"], t.get("quant_bias")
    total = add_int32_bias(acc, bias)
    return {
        "y": dequantize(acc, scale, bias, dtype_of(a), numerics(a)),
        "biased": total,
        "scaled": scaled(total, read_scale(scale)),
    }


def _per_token(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    acc, channel, token, bias = t["acc"], t["weight_scale"], t["pertoken_scale"], t.get("bias")
    order = a.get("order", "scale_first")
    return {
        "y": dequantize_per_token(acc, channel, token, bias, dtype_of(a), order, numerics(a)),
        "scaled": scale_per_token(add_int32_bias(acc, bias), channel, token, order),
    }


def _requantize(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    total = add_int32_bias(t["acc"], t.get("quant_bias"))
    nine = saturate_int9(round_half_even(scaled(total, read_scale(t["scale"]))))
    q = requantize(t["acc"], t["scale"], t.get("offset"), t.get("quant_bias"))
    return {"q": q, "nine_bit": nine}


def _mix(t: Tensors, a: Attributes) -> dict[str, NDArray]:
    names = ("weight", "input_scale", "input_offset", "deq_scale", "quant_bias", "weight_scale")
    tensors = MixTensors(**{name: t[name] for name in names}, bias=t.get("bias"))
    return {"y": linear_w8a8_mix(t["x"], tensors, a["phase"], numerics(a))}


def _codes(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    m, n, k = sizes.get("m", 16), sizes.get("n", 32), sizes.get("k", 64)
    x, w = (random.randint(-128, 128, shape).astype(np.int8) for shape in ((m, k), (n, k)))
    return {"x": x, "w": w}, dict(attributes)


def _experts(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    """g experts; the first has no token."""
    inputs, given = _codes(random, sizes, attributes)
    m, experts = inputs["x"].shape[0], sizes.get("g", 4)
    shape = (experts, *inputs["w"].shape)
    inputs["w"] = random.randint(-128, 128, shape).astype(np.int8)
    owners = random.randint(min(1, experts - 1), experts, m)
    inputs["group_list"] = np.bincount(owners, minlength=experts).astype(np.int64)
    return inputs, {"kind": "count"} | given


def _accumulators(random: np.random.RandomState, sizes: Any) -> tuple[NDArray, NDArray]:
    m, n = sizes.get("m", 16), sizes.get("n", 64)
    acc = random.randint(-(2**21), 2**21, (m, n)).astype(np.int32)
    scale = random.uniform(1e-5, 1e-3, size=n)
    return acc, np.asarray(scale, np.float32)


def _static(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    acc, scale = _accumulators(random, sizes)
    bias = random.randint(-5000, 5000, scale.shape).astype(np.int32)
    given = {"out_dtype": "F16"} | dict(attributes)
    inputs = {"acc": acc, "deq_scale": scale.view(np.int32).astype(np.int64), "quant_bias": bias}
    if given.pop("scale", "word") == "float":
        inputs["deq_scale"] = scale
    return inputs, given


def _dynamic(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    acc, scale = _accumulators(random, sizes)
    token = np.asarray(random.uniform(0.01, 0.1, acc.shape[0]), np.float32)
    inputs = {"acc": acc, "weight_scale": scale, "pertoken_scale": token}
    return inputs, {"out_dtype": "F16"} | dict(attributes)


def _to_int8(random: np.random.RandomState, sizes: Any, attributes: Attributes) -> Any:
    acc, scale = _accumulators(random, sizes)
    offset = random.randint(-20, 20, scale.shape).astype(np.float32)
    return {"acc": acc, "scale": scale, "offset": offset}, dict(attributes)


OPERATIONS = (
    Operation(
        "matmul_int8", "acc[i, j] = Σ_k x[i, k]·w[j, k] modulo 2^32", _matmul, ("acc",), _codes,
        "matmul_int8",
    ),
    Operation(
        "matmul_int8_int4", "as matmul_int8 with w unpacked from nibbles", _int4, ("acc",),
    ),
    Operation(
        "grouped_matmul_int8", "acc[t, j] = Σ_k x[t, k]·w[e(t), j, k] modulo 2^32", _grouped,
        ("acc",), _experts,
    ),
    Operation(
        "dequantize", "y = T(fp32(acc + quant_bias)·deq_scale), words read as FP19", _dequantize,
        ("y",), _static, "dequantize",
    ),
    Operation(
        "dequantize_per_token", "y = T((fp32(acc)·weight_scale)·pertoken_scale + bias)", _per_token,
        ("y",), _dynamic, "dequantize_per_token",
    ),
    Operation(
        "requantize", "q = sat8(sat9(rint(fp32(acc)·scale)) + sat9(rint(offset)))", _requantize,
        ("q",), _to_int8, "requantize",
    ),
    Operation("linear_w8a8_mix", "dynamic per token in prefill, static in decode", _mix, ("y",)),
)  # fmt: skip
