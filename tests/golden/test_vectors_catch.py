"""The vectors of the newer operations fail kernels that make one mistake each.

A mistake is a change of the inputs, attributes or outputs of the right kernel, or a short kernel of
its own. That the right kernel passes is a check of `slimspec golden verify`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from slimspec.golden import VectorCase, cases
from slimspec.golden.compare import compare
from slimspec.golden.explain import Evidence
from slimspec.golden.mistakes import MISTAKES, mistaken
from slimspec.golden.operations import operation
from slimspec.quantize.minmax import quantize_minmax

Tensors = Mapping[str, Any]
Wrong = Callable[[str, Tensors, Tensors], Tensors]
F32 = np.float32


def right(op: str, t: Tensors, a: Tensors) -> dict[str, Any]:
    return operation(op).split(operation(op).run(t, a))[0]


def given(**changes: Callable[[Tensors], Any]) -> Wrong:
    """The right kernel on changed inputs."""
    return lambda op, t, a: right(op, {**t, **{n: f(t) for n, f in changes.items()}}, a)


def told(**attributes: Any) -> Wrong:
    """The right kernel with other attributes."""
    return lambda op, t, a: right(op, t, {**a, **attributes})


def without(name: str) -> Wrong:
    return lambda op, t, a: right(op, {n: x for n, x in t.items() if n != name}, a)


def turned(t: Tensors) -> Any:
    return np.ascontiguousarray(t["rotation"].T)


def nearest(op: str, t: Tensors, a: Tensors) -> Tensors:
    """Rounding to nearest: no error is pushed."""
    options = {n: a[n] for n in ("bits", "symmetric", "granularity", "group_size") if n in a}
    made = quantize_minmax(t["w"], variant=a["variant"], **options)
    return {"q": made.q, "scale": made.scale, "offset": made.offset}


def first_scale(op: str, t: Tensors, a: Tensors) -> Tensors:
    made = quantize_minmax(t["w"], bits=a["bits"], symmetric=True, variant="v1")
    return {"q": made.q, "scale": made.scale, "offset": made.offset}


def last_scale(op: str, t: Tensors, a: Tensors) -> Tensors:
    """Σ w·q / Σ q² of the min-max codes, also where the error grows."""
    made = quantize_minmax(t["w"], bits=a["bits"], symmetric=True, variant="v1")
    q, w = (x.astype(np.float64) for x in (made.q, t["w"]))
    norm = np.maximum((q * q).sum(axis=1), 1e-30)
    scale = ((w * q).sum(axis=1) / norm)[:, None].astype(F32).astype(t["w"].dtype)
    return {"q": made.q, "scale": scale, "offset": np.zeros_like(scale)}


def without_root(op: str, t: Tensors, a: Tensors) -> Tensors:
    n = t["x"].shape[-1]
    return {"y": right(op, t, a)["y"] * t["x"].dtype.type(np.sqrt(n))}


def swapped_nibbles(name: str) -> Callable[[Tensors], Any]:
    def swap(t: Tensors) -> Any:
        bits = t[name].view(np.uint8)
        return (bits << np.uint8(4) | bits >> np.uint8(4)).view(t[name].dtype)

    return swap


def next_byte(t: Tensors) -> Any:
    """The exponent with a bias of 126."""
    return np.where(t["weight_scale"] < 254, t["weight_scale"] + 1, t["weight_scale"])


def of_first_block(t: Tensors) -> Any:
    return np.repeat(t["weight_scale"][:, :1], t["weight_scale"].shape[1], axis=1)


def half_up(op: str, t: Tensors, a: Tensors) -> Tensors:
    """Elements rounded to E4M3 with ties to even."""
    made = right(op, t, a)
    wide = np.repeat(np.exp2(made["exponent"].astype(F32)), 32, axis=1)[:, : t["w"].shape[1]]
    with np.errstate(all="ignore"):
        ratio = np.clip(t["w"].astype(F32) / wide, -448, 448)
    even = ratio.astype(ml_dtypes.float8_e4m3fn).astype(t["w"].dtype)
    return made | ({"elements": even} if a["format"] == "mxfp8" else {})


def negated_offset(op: str, t: Tensors, a: Tensors) -> Tensors:
    made = right(op, t, a)
    return {**made, "weight_offset": -made["weight_offset"]}


def all_quantized(op: str, t: Tensors, a: Tensors) -> Tensors:
    """The sum of probabilities is that of the quantized ones."""
    made = operation(op).run(t, a)
    p = made["p"].astype(F32) * made["p_scale"]
    v = t["v"].astype(F32) * t["v_scale"].reshape(-1, 1, 1)
    v = np.repeat(v, p.shape[0] // v.shape[0], axis=0)
    return {"y": (p @ v / p.sum(axis=-1, keepdims=True)).astype(made["y"].dtype)}


def unclipped_window(op: str, t: Tensors, a: Tensors) -> Tensors:
    return right(op, t, {**a, "ratio": 1.0})


WRONG: list[tuple[str, str, Wrong]] = [
    ("quantize_gptq", "no error is pushed", nearest),
    ("quantize_gptq", "the last batch is not seen", without("x1")),
    ("quantize_ssz", "the scale is not searched", first_scale),
    ("quantize_ssz", "the last scale is kept", last_scale),
    ("optimize_hqq", "nothing is searched", told(solve_scale=False)),
    ("optimize_hqq", "one scale for all rows", told(per_tensor=True)),
    ("quantize_lowbit", "no outlier", told(open_outlier=False)),
    ("quantize_lowbit", "one scale for all rows", told(per_channel=False)),
    ("observe_range", "extremes instead of their mean", told(method="extremes")),
    ("observe_range", "mean instead of extremes", told(method="mean")),
    ("reduce_mantissa", "truncated", told(nearest=False)),
    ("reduce_mantissa", "one bit more", told(bits=3)),
    ("reduce_mantissa", "nothing is kept", without("keep")),
    ("w16a16s_weight", "a batch is missing", without("x1")),
    ("hadamard_transform", "without 1/sqrt(n)", without_root),
    ("rotate_inputs", "transposed", given(rotation=turned)),
    ("rotate_outputs", "transposed", given(rotation=turned)),
    ("fuse_norm", "1 + weight", given(norm_weight=lambda t: t["norm_weight"] + 1)),
    ("fake_quantize", "the other scope", lambda op, t, a: right(
        op, t, {"scope": {"row": "tensor", "tensor": "row"}[a["scope"]]})),
    ("dequantize_mx", "bias 126", given(weight_scale=next_byte)),
    ("dequantize_mx", "one exponent per row", given(weight_scale=of_first_block)),
    ("dequantize_mx", "nibbles exchanged", given(weight=swapped_nibbles("weight"))),
    ("quantize_mx", "ties to even", half_up),
    ("quantize_mx_dualscale", "one large block", told(dual_block=1 << 20)),
    ("awq_to_w4a16", "words in sequence", given(qweight=lambda t: _in_sequence(t["qweight"]))),
    ("awq_to_w4a16", "offset negated", negated_offset),
    ("w4a16_to_awq", "nibbles exchanged", given(weight=swapped_nibbles("weight"))),
    ("nz_to_nd", "the padding is looked at", lambda op, t, a: {
        "weight": np.ascontiguousarray(t["nz"].reshape(-1)[: a["n"] * a["k"]].reshape(a["n"], -1))
    }),
    ("observe_heads", "no window", unclipped_window),
    ("round_heads_fp8", "one scale for all heads", given(
        scale=lambda t: np.full_like(t.get("scale", np.ones((2, 1), F32)), 1))),
    ("attention_int8", "the quantized probabilities are summed", all_quantized),
    ("attention_int8", "online instead of offline", without("p_scale")),
    ("attention_int8", "unmasked", without("mask")),
    ("mla_attention_latent", "no scale of the latent", given(
        k_scale=lambda t: np.ones_like(t["k_scale"]))),
    ("mla_attention_latent", "no rotary part", given(q_rope=lambda t: t["q_rope"] * 0)),
    ("mla_attention_int8", "scores of the rotary part scaled too",
     given(q_rope=lambda t: t["q_rope"] * t["k_scale"].astype(np.float16))),
    ("mla_attention_int8", "one scale for all heads", given(
        q_scale=lambda t: np.full_like(t["q_scale"], t["q_scale"][0]))),
    ("attention_float", "softmax scale of another size", told(softmax_scale=0.5)),
    ("decode_attention", "offset ignored", without("v_offset")),
    ("dequantize_kv", "offset negated", given(offset=lambda t: -t.get("offset", np.zeros(1, F32)))),
    ("fold_norm", "the other producer", lambda op, t, a: right(
        op, t, {"variant": {"v0": "v1", "v1": "v0"}[a["variant"]]})),
    ("scale_bias", "second scale ignored", without("second")),
    ("quantize_fp8", "no least scale", lambda op, t, a: {
        **right(op, t, a), "scale": (np.abs(t["w"].astype(F32)).max(axis=1, keepdims=True) / 448)}),
]  # fmt: skip


def _in_sequence(words: Any) -> Any:
    """Nibbles 0 2 4 6 1 3 5 7 put in the order 0 to 7."""
    bits = words.view(np.uint32)
    order = (0, 4, 1, 5, 2, 6, 3, 7)
    parts = [(bits >> np.uint32(4 * p) & np.uint32(15)) << np.uint32(4 * i)
             for i, p in enumerate(order)]  # fmt: skip
    return np.bitwise_or.reduce(parts).view(np.int32)


# what the diagnosis says of those whose mistake it knows
NAMES = {
    ("rotate_inputs", "transposed"): "rotation transposed",
    ("rotate_outputs", "transposed"): "rotation transposed",
    ("fuse_norm", "1 + weight"): "1 + weight",
    ("dequantize_mx", "bias 126"): "exponent bias 126",
    ("dequantize_mx", "one exponent per row"): "one exponent for the whole row",
    ("dequantize_mx", "nibbles exchanged"): "nibbles swapped",
    ("awq_to_w4a16", "words in sequence"): "words read in sequence",
    ("awq_to_w4a16", "offset negated"): "offset negated",
    ("w4a16_to_awq", "nibbles exchanged"): "nibbles swapped",
    ("observe_heads", "no window"): "all samples instead of the window",
    ("reduce_mantissa", "truncated"): "truncated",
    ("scale_bias", "second scale ignored"): "second scale ignored",
    ("attention_int8", "unmasked"): "mask ignored",
    ("mla_attention_latent", "no rotary part"): "rotary part ignored",
    ("decode_attention", "offset ignored"): "value offset ignored",
}


def outputs(case: VectorCase, wrong: Wrong) -> dict[str, Any]:
    with np.errstate(all="ignore"):
        found = wrong(case.op, case.inputs, case.settings)
    return {name: np.ascontiguousarray(value) for name, value in found.items()}


def fails(case: VectorCase, wrong: Wrong) -> bool:
    return bool(compare(case.outputs, outputs(case, wrong), case.tolerance))


@pytest.mark.parametrize(
    ("op", "mistake", "wrong"), WRONG, ids=[f"{op}: {mistake}" for op, mistake, _ in WRONG]
)
def test_wrong_kernel_fails(op: str, mistake: str, wrong: Wrong) -> None:
    assert any(fails(case, wrong) for case in cases(op)), mistake


@pytest.mark.parametrize(("op", "mistake"), NAMES, ids=[f"{op}: {m}" for op, m in NAMES])
def test_wrong_kernel_is_named(op: str, mistake: str) -> None:
    (wrong,) = (w for known, what, w in WRONG if (known, what) == (op, mistake))
    evidence = Evidence(op)
    for case in cases(op):
        assert evidence.add(case, outputs(case, wrong)), case.id
    assert str(evidence.verdict()).startswith(f'all elements equal "{NAMES[op, mistake]}"')


KNOWN = [(op, name) for op, axes in MISTAKES.items() for named in axes.values() for name in named]


@pytest.mark.parametrize(("op", "name"), KNOWN, ids=[f"{op}: {name}" for op, name in KNOWN])
def test_known_mistake_fails_and_is_told_from_the_others(op: str, name: str) -> None:
    (mistake,) = (named[name] for named in MISTAKES[op].values() if name in named)
    evidence, failed = Evidence(op), False
    with np.errstate(all="ignore"):
        for case in cases(op):
            made = mistaken(case, mistake)
            failed |= bool(compare(case.outputs, made, case.tolerance))
            evidence.add(case, made)
    assert failed
    assert str(evidence.verdict()).startswith(f'all elements equal "{name}"')


def test_right_outputs_follow_no_mistake() -> None:
    for op in MISTAKES:
        evidence = Evidence(op)
        for case in cases(op):
            evidence.add(case, case.outputs)
        assert str(evidence.verdict()).startswith('all elements equal "canonical"'), op
