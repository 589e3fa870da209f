"""Run every quantized linear of the recorded checkpoints; print bits and signal-to-noise.

    python benchmarks/matmul_forward.py

Per run and type: how many linears, how many outputs equal the plain form in every bit (integers in
int64, floats by NumPy and ml_dtypes operators, written here a second time), and the SQNR against
the float linear in float64, in dB, smallest and median over the linears. Inputs are the recorded
calibration activations; a run that recorded none gets normal ones ("drawn"). Linears whose float
weight was not kept (smoothed or rotated runs) count without SQNR.

The oracle is $SLIMSPEC_ORACLE or ../shared/oracle. Exit code 1 if a bit differs, 5 if nothing ran.
"""

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec.matmul import (
    linear_w8a8,
    linear_w8a8_dynamic,
    loaded_scale,
    matmul_w4a8,
    matmul_weight_only,
    quantize_dynamic,
)
from slimspec.pack import unpack_int4

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle"))
from oracle_replay import Case, find_cases, oracle_root

F16, F32, F64 = np.float16, np.float32, np.float64
Tensors = dict[str, NDArray]
DRAWN = 16  # tokens where none were recorded


def static(x: NDArray, t: Tensors) -> NDArray:
    return linear_w8a8(
        x, t["weight"], t["input_scale"], t["input_offset"], t["deq_scale"], t["quant_bias"]
    )


def static_plain(x: NDArray, t: Tensors) -> NDArray:
    scale, offset = t["input_scale"].astype(F32), t["input_offset"].astype(F32)
    q = np.clip(np.rint(x.astype(F32) / scale + offset), -128, 127)
    total = q.astype(np.int64) @ t["weight"].astype(np.int64).T + t["quant_bias"]
    deq = t["deq_scale"]
    if deq.dtype == np.int64 or deq.size == 1:
        bits = deq.astype(np.uint32) if deq.dtype == np.int64 else deq.view(np.uint32)
        deq = (bits >> 13 << 13).view(F32)
    return (total.astype(np.int32).astype(F32) * deq).astype(x.dtype)


def dynamic(x: NDArray, t: Tensors) -> NDArray:
    scale = loaded_scale(t["weight_scale"], x.dtype)
    return linear_w8a8_dynamic(x, t["weight"], scale, t.get("bias"))


def tokens_plain(x: NDArray) -> tuple[NDArray, NDArray]:
    wide = x.astype(F32)
    scale = np.abs(wide).max(axis=1, keepdims=True) * F32(1 / 127)
    return np.rint(wide / scale).astype(np.int64), scale


def dynamic_plain(x: NDArray, t: Tensors) -> NDArray:
    q, token = tokens_plain(x)
    acc = (q @ t["weight"].astype(np.int64).T).astype(F32)
    y = acc * t["weight_scale"].astype(x.dtype).astype(F32).reshape(-1) * token
    return (y + t["bias"].astype(F32) if "bias" in t else y).astype(x.dtype)


def unpacked(t: Tensors) -> NDArray:
    """W4A16 pairs columns per channel and rows per group."""
    return unpack_int4(t["weight"], axis=1 if t["weight_scale"].shape[-1] == 1 else 0)


def weight_only(x: NDArray, t: Tensors, w: NDArray | None = None) -> NDArray:
    w = t["weight"] if w is None else w
    return matmul_weight_only(x, w, t["weight_scale"], -t["weight_offset"], t.get("bias"))


def weight_only_plain(x: NDArray, t: Tensors, w: NDArray | None = None) -> NDArray:
    w = t["weight"] if w is None else w
    scale, offset = (np.atleast_2d(t[n]).astype(x.dtype) for n in ("weight_scale", "weight_offset"))
    scale, offset = (np.repeat(a, w.shape[1] // a.shape[1], axis=1) for a in (scale, offset))
    shifted = w.astype(F32) - offset.astype(F32)
    if x.dtype == F16:
        shifted = shifted.astype(F16).astype(F32)
    weight = (shifted * scale.astype(F32)).astype(x.dtype)
    y = np.zeros((x.shape[0], w.shape[0]))
    for k in range(w.shape[1]):
        y += x[:, k, None].astype(F64) * weight[None, :, k].astype(F64)
    y = y.astype(F32) + t["bias"].astype(F32) if "bias" in t else y.astype(F32)
    return y.astype(x.dtype)


def group_scale(t: Tensors) -> NDArray:
    """(n, groups): first level times second level, or the first alone."""
    second = t.get("weight_scale_second", np.ones((1, 1), F32))
    return t["weight_scale"].astype(F32) * second.astype(F32)


def w4a8(x: NDArray, t: Tensors) -> NDArray:
    q, w = quantize_dynamic(x), unpack_int4(t["weight"], axis=0)
    return matmul_w4a8(q.q, w, group_scale(t), t["scale_bias"], q.scale, out_dtype=x.dtype)


def w4a8_plain(x: NDArray, t: Tensors) -> NDArray:
    q, token = tokens_plain(x)
    byte = t["weight"].view(np.uint8).astype(np.int64)
    w = np.stack([byte & 15, byte >> 4], axis=1).reshape(-1, byte.shape[1])
    w, scale = (w ^ 8) - 8, group_scale(t)
    g = w.shape[1] // scale.shape[1]
    sums = []
    for half in (q // 16, q % 16 - 8):
        total = np.zeros((x.shape[0], w.shape[0]), F16)
        for j in range(scale.shape[1]):
            acc = half[:, j * g : (j + 1) * g] @ w[:, j * g : (j + 1) * g].T
            total = total + (acc.astype(F32) * scale[:, j]).astype(F16)
        sums.append(total.astype(F32))
    bias = t["scale_bias"].reshape(w.shape[0], -1)
    for c in range(bias.shape[1]):
        sums.append(bias[:, c])
    y = F32(16) * sums[0] + sums[1] + sum(sums[3:], sums[2])
    return (y * token).astype(x.dtype)


Form = Callable[[NDArray, Tensors], NDArray]
FORMS: dict[str, tuple[Form, Form]] = {
    "W8A8": (static, static_plain),
    "W8A8S": (static, static_plain),
    "W8A8_MIX decode": (static, static_plain),
    "W8A8_MIX prefill": (dynamic, dynamic_plain),
    "W8A8_DYNAMIC": (dynamic, dynamic_plain),
    "W8A16": (weight_only, weight_only_plain),
    "W4A16": (
        lambda x, t: weight_only(x, t, unpacked(t)),
        lambda x, t: weight_only_plain(x, t, unpacked(t)),
    ),
    "W4A8_DYNAMIC": (w4a8, w4a8_plain),
}


def inputs(case: Case, name: str, k: int, dtype: np.dtype) -> tuple[NDArray, bool]:
    """(tokens, k) activations of a linear, and whether they were recorded."""
    kept = [case.resolve(ref) for ref in case.linear(name).get("inputs", [])]
    kept = [x.reshape(-1, x.shape[-1]) for x in kept if x is not None]
    if kept:
        return np.concatenate(kept), True
    rng = np.random.default_rng(k)
    return rng.normal(size=(DRAWN, k)).astype(dtype), False


def sqnr(exact: NDArray, y: NDArray) -> float:
    """10·log10(Σ exact² / Σ (exact − y)²)."""
    noise = np.square(exact - y.astype(F64)).sum()
    return float(10 * np.log10(np.square(exact).sum() / noise)) if noise else float("inf")


def run(case: Case) -> dict[tuple[str, str], list[tuple[bool, float | None]]]:
    """{(type, inputs): [(bits equal, SQNR)]} of one recorded run."""
    rows: dict[tuple[str, str], list[tuple[bool, float | None]]] = defaultdict(list)
    for output in case.outputs[:1]:
        for name in case.capture.get("linears", {}):
            label = output.description.get(f"{name}.weight")
            for form in (f for f in FORMS if f.split()[0] == label):
                stored = [k for k in output.tensors if k.startswith(f"{name}.")]
                t = {k.removeprefix(f"{name}."): output.tensors[k] for k in stored}
                recorded, cell = judge(case, name, form, t)
                rows[form, "recorded" if recorded else "drawn"].append(cell)
    return rows


def judge(case: Case, name: str, form: str, t: Tensors) -> tuple[bool, tuple[bool, float | None]]:
    """Whether the inputs were recorded, whether the bits are equal, and the SQNR."""
    weight = case.resolve(case.linear(name).get("float_weight"))
    k = unpacked(t).shape[1] if form == "W4A16" else t["weight"].shape[1]
    x, recorded = inputs(case, name, k, model_dtype(t, weight))
    ours, plain = FORMS[form]
    y = ours(x, t)
    same = y.tobytes() == plain(x, t).tobytes()
    if weight is None:
        return recorded, (same, None)
    exact = x.astype(F64) @ weight.astype(F64).T
    bias = case.resolve(case.linear(name).get("float_bias"))
    return recorded, (same, sqnr(exact if bias is None else exact + bias.astype(F64), y))


def model_dtype(t: Tensors, weight: NDArray | None) -> np.dtype:
    """Dtype of the float model; an int64 deq_scale means fp16."""
    if weight is not None:
        return weight.dtype
    fp16 = "deq_scale" in t and t["deq_scale"].dtype == np.int64
    return np.dtype(F16 if fp16 else ml_dtypes.bfloat16)


def line(run: str, form: str, source: str, *numbers: object) -> str:
    """One row of the table."""
    return f"{run:44} {form:17} {source:9}" + "".join(f" {n!s:>8}" for n in numbers)


def main() -> int:
    print(line("run", "type", "inputs", "linears", "equal", "min dB", "median"))
    ran = equal = 0
    for path in find_cases(oracle_root()):
        for (form, source), cells in sorted(run(Case(path)).items()):
            known = [ratio for _, ratio in cells if ratio is not None]
            decibels = [f"{f(known):.1f}" for f in (min, statistics.median)] if known else "--"
            same = sum(s for s, _ in cells)
            print(line(path.name, form, source, len(cells), same, *decibels))
            ran, equal = ran + len(cells), equal + same
    print(f"{equal} of {ran} linears equal the plain form in every bit")
    return 5 if not ran else int(equal != ran)


if __name__ == "__main__":
    raise SystemExit(main())
