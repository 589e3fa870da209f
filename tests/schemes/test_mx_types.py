"""The MX types: bytes, bounds and exact products, judged by ml_dtypes and fractions."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec import schemes
from slimspec.schemes import Linear

FP4 = ("W4A4_MXFP4", "W4A8_MXFP")
MX = (*FP4, "W8A8_MXFP8")
DUAL = "W4A4_MXFP4_DUALSCALE"
CHECK = settings(derandomize=True, deadline=None, max_examples=40)


def weights(seed: int, n: int, k: int, dtype=np.float32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.integers(-12, 12, (n, 1)).astype(np.float32))
    return (rng.standard_normal((n, k), np.float32) * spread).astype(dtype)


def decoded(label: str, tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Elements and scales of a stored linear, by ml_dtypes alone."""
    stored = tensors["weight"]
    if stored.dtype == np.uint8:
        codes = np.stack([stored & 15, stored >> 4], axis=-1).reshape(stored.shape[0], -1)
        stored = codes.view(ml_dtypes.float4_e2m1fn)
    scale = tensors["weight_scale"].view(ml_dtypes.float8_e8m0fnu)
    return stored.astype(np.float64), scale.astype(np.float64)


@pytest.mark.parametrize("label", MX)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), k=st.integers(1, 40))
@CHECK
def test_dequantized_weight_is_element_times_power_of_two(label, seed, n, k) -> None:
    scheme = schemes.get(label)
    q = scheme.quantize(Linear(weights(seed, n, 2 * k)), variant="v1")
    tensors = scheme.tensors(q, "A1", "F32")
    elements, scale = decoded(label, tensors)
    expected = elements * np.repeat(scale, 32, axis=1)[:, : 2 * k]
    assert scale.shape == (n, -(-2 * k // 32))
    assert (scheme.dequantize(scheme.from_tensors(tensors, "A1")) == expected).all()


@pytest.mark.parametrize("label", MX)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), k=st.integers(1, 40))
@CHECK
def test_error_is_at_most_what_clipping_and_half_a_step_allow(label, seed, n, k) -> None:
    """A block is below 7·2^e (FP4, largest element 6, step 2 at the top) or 2^(e+9) (FP8, 448, 32).

    Clipping costs less than 1 or 64 times 2^e, half a top step 1 or 16; the logarithm may be off
    by one float32 ulp at the border, which the factor 1.01 covers.
    """
    w = weights(seed, n, 2 * k)
    scheme = schemes.get(label)
    q = scheme.quantize(Linear(w), variant="v1")
    power = decoded(label, scheme.tensors(q, "A1", "F32"))[1]
    bound = np.repeat(power, 32, axis=1)[:, : 2 * k] * (64 if label == "W8A8_MXFP8" else 1)
    assert (np.abs(scheme.dequantize(q) - w.astype(np.float64)) <= 1.01 * bound).all()


def test_a_block_up_to_six_keeps_exponent_zero_and_packs_the_even_column_low() -> None:
    w = np.zeros((1, 32), np.float32)
    w[0, :4] = 6, -1.5, 0.5, -4
    scheme = schemes.get("W4A4_MXFP4")
    tensors = scheme.tensors(scheme.quantize(Linear(w), variant="v1"), "A1", "F32")
    assert tensors["weight_scale"].tolist() == [[127]]
    assert tensors["weight"][0, :3].tolist() == [0xB7, 0xE1, 0]  # 7 | 11 << 4, 1 | 14 << 4


@pytest.mark.parametrize("label", MX)
def test_zeros_stay_zeros(label: str) -> None:
    scheme = schemes.get(label)
    q = scheme.quantize(Linear(np.zeros((2, 64), np.float32)), variant="v1")
    assert not scheme.dequantize(q).any()
    x = np.ones((3, 64), np.float32)
    assert not scheme.forward(q, x).any()


@pytest.mark.parametrize("label", MX)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_rows_are_independent_and_profiles_store_the_same_bytes(label, dtype) -> None:
    w = weights(1, 6, 64, dtype)
    scheme = schemes.get(label)
    q = scheme.quantize(Linear(w, np.ones(6, dtype)), variant="v1")
    back = scheme.quantize(Linear(np.ascontiguousarray(w[::-1])), variant="v1")
    assert (back.weight[::-1].view(np.uint8) == q.weight.view(np.uint8)).all()
    assert (back.weight_scale[::-1] == q.weight_scale).all()
    a1 = scheme.tensors(q, "A1", "F32")
    assert {s: t.dtype for s, t in a1.items()} == {
        "weight": np.uint8 if label in FP4 else ml_dtypes.float8_e4m3fn,
        "weight_scale": np.uint8,
        "bias": np.float32,
    }
    if label != "W4A8_MXFP":
        mf = scheme.tensors(q, "MF", "F32")
        assert all((mf[s].view(np.uint8) == a1[s].view(np.uint8)).all() for s in a1)


@pytest.mark.parametrize("label", MX)
def test_forward_on_the_grid_is_the_exact_product(label: str) -> None:
    """Small integers are in every grid: the product is one of fractions, rounded once."""
    rng = np.random.default_rng(3)
    w = rng.choice([-4, -2, -1, 0, 1, 2, 3, 4], (5, 96)).astype(np.float32)
    x = rng.choice([-3, -1, 0, 1, 2, 4], (4, 96)).astype(np.float32)
    w[:, ::32], x[:, ::32] = 4, 4  # so that no block has a finer exponent than 2^0
    bias = np.array([0.5, -1, 0, 2, 3], np.float32)
    scheme = schemes.get(label)
    y = scheme.forward(scheme.quantize(Linear(w, bias), variant="v1"), x)
    for row, token in enumerate(x):
        for column, line in enumerate(w):
            exact = sum(
                Fraction(float(a)) * Fraction(float(b)) for a, b in zip(token, line, strict=True)
            )
            assert Fraction(float(y[row, column])) == exact + Fraction(float(bias[column]))


@pytest.mark.parametrize("method", ["ceil_x", "fouroversix"])
def test_methods_write_the_same_set_and_other_numbers(method: str) -> None:
    scheme = schemes.get("W4A4_MXFP4")
    linear = Linear(weights(5, 8, 64))
    plain = scheme.quantize(linear, variant="v1")
    other = scheme.quantize(linear, variant="v1", method=method)
    assert scheme.tensors(other, "A1", "F32").keys() == scheme.tensors(plain, "A1", "F32").keys()
    assert (other.weight != plain.weight).any()


def test_mse_round_is_never_worse_than_minmax() -> None:
    scheme = schemes.get("W8A8_MXFP8")
    w = weights(6, 16, 64)

    def errors(method: str) -> np.ndarray:
        q = scheme.quantize(Linear(w), variant="v1", method=method)
        return ((scheme.dequantize(q) - w) ** 2).reshape(16, 2, 32).mean(axis=-1)

    assert (errors("mse_round") <= errors("minmax") * (1 + 1e-5)).all()


@pytest.mark.parametrize("label", MX)
@pytest.mark.parametrize("options", [{"group_size": 32}, {"symmetric": False}, {"dual_block": 32}])
def test_options_of_other_types_are_refused(label: str, options: dict) -> None:
    with pytest.raises(ValueError, match=f"{label} does not take"):
        schemes.get(label).quantize(Linear(weights(1, 2, 32)), variant="v1", **options)


def test_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method 'best'"):
        schemes.get("W4A4_MXFP4").quantize(Linear(weights(1, 2, 32)), variant="v1", method="best")


@pytest.mark.parametrize("label", FP4)
def test_odd_columns_cannot_be_packed(label: str) -> None:
    scheme = schemes.get(label)
    q = scheme.quantize(Linear(weights(1, 2, 33), name="x.y"), variant="v1")
    with pytest.raises(ValueError, match=r"x\.y\.weight"):
        scheme.tensors(q, "A1", "F32")


@pytest.mark.parametrize("scale", [np.full((2, 3), 127, np.uint8), np.ones((2, 2), np.float32)])
def test_scale_of_another_shape_or_dtype_is_refused(scale: np.ndarray) -> None:
    scheme = schemes.get("W8A8_MXFP8")
    tensors = {"weight": np.zeros((2, 64), ml_dtypes.float8_e4m3fn), "weight_scale": scale}
    with pytest.raises(ValueError, match=r"a.b: weight_scale is .*, expected uint8 \(2, 2\)"):
        scheme.dequantize(scheme.from_tensors(tensors, "A1", "a.b"))


def test_dual_scale_is_a_sixth_of_the_largest_value_of_its_block() -> None:
    w = weights(9, 4, 128)
    scheme = schemes.get(DUAL)
    q = scheme.quantize(Linear(w), variant="v1", dual_block=64)
    tensors = scheme.tensors(q, "A1", "F32")
    amax = np.abs(w).reshape(4, 2, 64).max(axis=-1)
    assert tensors["weight_dual_scale"].shape == (4, 2, 1)
    assert (tensors["weight_dual_scale"][..., 0] == amax / np.float32(6)).all()
    back = scheme.dequantize(scheme.from_tensors(tensors, "A1"))
    # the largest value is 6 times its own scale: the inner exponent is 0 there
    assert np.allclose(np.abs(back).reshape(4, 2, 64).max(axis=-1), amax, rtol=1e-6)


def test_bias_of_dual_scale_is_written_in_both_profiles() -> None:
    scheme = schemes.get(DUAL)
    q = scheme.quantize(
        Linear(weights(9, 4, 64), np.ones(4, np.float32)), variant="v1", dual_block=32
    )
    for profile in ("A1", "MF"):
        assert set(scheme.tensors(q, profile, "F32")) == {
            "weight", "weight_scale", "weight_dual_scale", "bias"
        }  # fmt: skip


@pytest.mark.parametrize("block", [0, 48, 65, -1])
def test_dual_block_must_divide_the_columns(block: int) -> None:
    with pytest.raises(ValueError, match=f"dual_block {block} does not divide 64|does not take"):
        schemes.get(DUAL).quantize(Linear(weights(1, 2, 64)), variant="v1", dual_block=block)


def test_dual_block_of_zeros_is_refused_by_place() -> None:
    w = weights(1, 3, 64)
    w[1, 32:] = 0
    with pytest.raises(ValueError, match="row 1, dual block 1"):
        schemes.get(DUAL).quantize(Linear(w, name="a"), variant="v1", dual_block=32)


def test_dual_scale_forward_keeps_a_token_of_zeros() -> None:
    scheme = schemes.get(DUAL)
    bias = np.arange(4, dtype=np.float32)
    q = scheme.quantize(Linear(weights(2, 4, 64), bias), variant="v1", dual_block=32)
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    x[1] = 0
    x[2, :32] = 0
    y = scheme.forward(q, x)
    assert (y[1] == bias).all()
    assert np.isfinite(y).all()


def test_nf4_is_refused_with_its_reason() -> None:
    with pytest.raises(ValueError, match=r"NF4 is refused\. No absmax is stored"):
        schemes.get("NF4")
