"""Every scheme: float linear -> tensors of a profile -> record -> float weight -> y."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec import layout, schemes
from slimspec.checkpoint.dtypes import tag_of
from slimspec.schemes import Linear, QuantizedLinear, Scheme
from slimspec.schemes.base import register

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float32), np.dtype(np.float16), BF16]
VARIANT = {"L0": "v0", "A0": "v0", "A1": "v1", "MF": "v1"}
STATIC = {"W8A8", "W8A8_MIX", "W8A8S", "W8A8SC"}
N, K = 8, 64


def linear(dtype: np.dtype, bias: bool = True, seed: int = 0) -> Linear:
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((N, K)) * 0.1).astype(dtype)
    b = rng.standard_normal(N).astype(dtype)
    return Linear(w, b if bias else None, "layers.0.mlp.up_proj")


def options(label: str, variant: str, dtype: np.dtype) -> dict[str, object]:
    found: dict[str, object] = {"variant": variant}
    if label in STATIC:
        found["activation_range"] = (np.array(-1, dtype), np.array(3, dtype))
    if label == "W4A8_DYNAMIC" and variant == "v0":
        found["group_size"] = 32
    if label == "W4A4_MXFP4_DUALSCALE":
        found["dual_block"] = 32
    return found


def written() -> list[tuple[str, str]]:
    """Return every (label, profile) that a registered scheme can write."""
    labels = sorted(schemes.schemes())
    return [(x, p) for x in labels for p in layout.load(x).profiles if p in VARIANT]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("label", "profile"), written())
def test_tensor_set_is_the_one_of_the_layout(
    label: str, profile: str, bias: bool, dtype: np.dtype
) -> None:
    scheme, source = schemes.get(label), linear(dtype, bias)
    q = scheme.quantize(source, **options(label, VARIANT[profile], dtype))  # type: ignore[arg-type]
    tag = tag_of(dtype)
    assert tag is not None
    made = scheme.tensors(q, profile, tag)
    rules = layout.load(label).rules(profile)
    required = {s for s, r in rules.items() if r.presence == "required"}
    allowed = {s for s, r in rules.items() if r.presence != "forbidden"}
    assert required <= made.keys() <= allowed
    assert ("bias" in made) == bias
    for suffix, array in made.items():
        assert tag_of(array.dtype) in rules[suffix].resolve_dtypes(tag), suffix
    assert layout.bind(rules, {s: a.shape for s, a in made.items()}).ok


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("label", "profile"), written())
def test_reading_back_gives_the_same_weight(label: str, profile: str, dtype: np.dtype) -> None:
    scheme, source = schemes.get(label), linear(dtype)
    q = scheme.quantize(source, **options(label, VARIANT[profile], dtype))  # type: ignore[arg-type]
    made = scheme.tensors(q, profile, str(tag_of(dtype)))
    read = scheme.from_tensors(made, profile)
    np.testing.assert_array_equal(read.weight, q.weight)
    assert read.weight.dtype == q.weight.dtype
    again = scheme.tensors(read, profile, str(tag_of(dtype)))
    assert {s: a.tobytes() for s, a in again.items()} == {s: a.tobytes() for s, a in made.items()}
    if q.deq_scale is not None:
        np.testing.assert_array_equal(read.need("deq_scale"), q.deq_scale)


@pytest.mark.parametrize("label", sorted(schemes.schemes()))
@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_forward_is_near_the_float_product(label: str, variant: str) -> None:
    """A smoke bound: relative error of a few steps of the coarsest code, not a numerics claim."""
    scheme, source = schemes.get(label), linear(DTYPES[0])
    q = scheme.quantize(source, **options(label, variant, DTYPES[0]))  # type: ignore[arg-type]
    x = np.random.default_rng(1).uniform(-1, 3, (5, K)).astype(np.float32)
    y = scheme.forward(q, x)
    expected = x @ source.weight.T + source.bias
    assert y.dtype == np.float32
    coarse = "W4" in label or "FP8" in label or label.startswith("W8A8S")  # ±7 in W8A8S
    limit = 0.5 if label.startswith("W4A4") else 0.2 if coarse else 0.03
    assert np.abs(y - expected).max() <= limit * np.abs(expected).max()


@pytest.mark.parametrize("label", ["W8A8", "W8A8_MIX", "W8A8_DYNAMIC", "W8A16"])
@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_dequantized_weight_is_within_half_a_step(label: str, variant: str) -> None:
    scheme, source = schemes.get(label), linear(DTYPES[0])
    q = scheme.quantize(source, **options(label, variant, DTYPES[0]))  # type: ignore[arg-type]
    error = np.abs(scheme.dequantize(q) - source.weight)
    # half a step, and 2^-22 of 127 steps for the roundings of scale, quotient and product
    assert (error <= q.need("weight_scale") * (0.5 + 127 * 2.0**-22)).all()


def test_output_keeps_the_dtype_of_the_input() -> None:
    for label in schemes.schemes():
        for dtype in DTYPES:
            q = schemes.get(label).quantize(linear(dtype), **options(label, "v1", dtype))  # type: ignore[arg-type]
            x = np.ones((2, K), dtype)
            assert schemes.get(label).forward(q, x).dtype == dtype, label


def test_a_second_scheme_with_a_label_is_refused() -> None:
    with pytest.raises(ValueError, match="two schemes are labelled 'W8A8'"):

        @register
        class Another(Scheme):
            label = "W8A8"

            def forward(self, q: QuantizedLinear, x: np.ndarray) -> np.ndarray:
                return x

    assert type(schemes.get("W8A8")).__name__ == "W8A8"


def test_unknown_label_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no scheme for label 'W9A9', only for FLOAT, "):
        schemes.get("W9A9")


@pytest.mark.parametrize(
    ("label", "option"),
    [
        ("W8A8_DYNAMIC", {"symmetric": False}),
        ("W8A8", {"group_size": 32}),
        ("W8A16", {"activation_symmetric": True}),
        ("FLOAT", {"per_tensor": True}),
        ("W4A4_DYNAMIC", {"activation_range": (np.float32(0), np.float32(1))}),
    ],
)
def test_options_a_type_does_not_have_are_refused(label: str, option: dict[str, object]) -> None:
    name = next(iter(option))
    with pytest.raises(ValueError, match=f"{label} does not take {name}"):
        schemes.get(label).quantize(linear(DTYPES[0]), variant="v0", **option)  # type: ignore[arg-type]


def test_missing_tensor_is_named() -> None:
    with pytest.raises(ValueError, match=r"q_proj: W8A16 needs weight_scale in profile A1"):
        schemes.get("W8A16").from_tensors({"weight": np.zeros((2, 2), np.int8)}, "A1", "q_proj")
    record = QuantizedLinear("W8A16", np.zeros((2, 2), np.int8), name="q_proj")
    with pytest.raises(ValueError, match="q_proj: W8A16 has no weight_scale"):
        schemes.get("W8A16").tensors(record, "A1", "F16")


@pytest.mark.parametrize("label", sorted(schemes.schemes()))
def test_non_finite_weights_are_refused_by_name(label: str) -> None:
    if label == "FLOAT":
        pytest.skip("float weights pass as they are")
    source = linear(DTYPES[0])
    source.weight[3, 7] = np.nan
    with pytest.raises(ValueError, match=r"up_proj\.weight: nan at index \(3, 7\)"):
        schemes.get(label).quantize(source, **options(label, "v1", DTYPES[0]))  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_refused() -> None:
    w = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"bias of shape \(3,\) beside weight \(2, 3\)"):
        Linear(w, np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"weight of shape \(2,\)"):
        Linear(w[:, 0])
    with pytest.raises(TypeError, match="found float64"):
        Linear(w.astype(np.float64))
