"""FlatQuant labels: the transform and its inverse, layouts, and refusals."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec import layout, schemes
from slimspec.schemes import Linear
from slimspec.schemes.flatquant import clip_tokens, transform_input, transform_weight

BASES = ("W8A8", "W8A8_DYNAMIC", "W4A4_DYNAMIC", "W4A4_MXFP4", "W8A8_MXFP8", "FLOAT")


def derived(base: str) -> str:
    return layout.derivations()["FLATQUANT"].derive(base)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def orthogonal(seed: int, size: int) -> np.ndarray:
    return np.linalg.qr(normal(seed, size, size).astype(np.float64))[0].astype(np.float32)


def parts(seed: int, rows: int, columns: int, clip: float | None = None) -> dict[str, np.ndarray]:
    found = {"left_trans": orthogonal(seed, rows), "right_trans": orthogonal(seed + 1, columns)}
    if clip is not None:
        found["clip_ratio"] = np.array([clip], np.float32)
    return found


def options(base: str) -> dict[str, object]:
    lo, hi = np.float32(-6), np.float32(6)
    return {"activation_range": (np.array(lo), np.array(hi))} if base == "W8A8" else {}


@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    right=st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_transforms_keep_the_product_of_weight_and_input(seed, rows, columns, right) -> None:
    """<x', w'> = <x, w>; x' is float32: k terms, two matrices, each 2^-24 relative to |x|·|w|."""
    k = rows * columns
    given_ = parts(seed, rows, columns)
    left, other = given_["left_trans"], given_["right_trans"] if right else None
    x, w = normal(seed + 2, 3, k), normal(seed + 3, 4, k)
    changed = transform_input(x, left, other).astype(np.float64)
    y = changed @ transform_weight(w, left, other).T
    size = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=1)
    assert (
        np.abs(y - x.astype(np.float64) @ w.T.astype(np.float64)) <= 8 * k * 2.0**-24 * size
    ).all()


def test_transform_is_the_kronecker_product_of_both_matrices() -> None:
    """leftᵀ · x · right is x · kron(left, right): two float32 sums, of 6 and of 4 terms."""
    left, right, x = normal(1, 4, 4), normal(2, 6, 6), normal(3, 2, 24)
    whole = np.kron(left.astype(np.float64), right.astype(np.float64))
    error = np.abs(transform_input(x, left, right) - x.astype(np.float64) @ whole)
    assert (error <= np.abs(x).astype(np.float64) @ np.abs(whole) * 12 * 2.0**-24).all()


def test_transform_rounds_after_each_product() -> None:
    """1 + 2^-11 rounds to 1 after the right product; one rounding would give 1.5 + 2^-10."""
    left, right = np.float16([[1.5]]), np.float16([[1, 0], [2**-11, 1]])
    assert transform_input(np.float16([[1, 1]]), left, right).tolist() == [[1.5, 1.5]]
    assert np.float16(1.5 * (1 + 2**-11)) == 1.5 + 2**-10


@pytest.mark.parametrize("base", BASES)
def test_unit_matrices_change_nothing(base: str) -> None:
    scheme, inner = schemes.get(derived(base)), schemes.get(base)
    linear = Linear(normal(1, 8, 64), normal(2, 8))
    units = {"left_trans": np.eye(4, dtype=np.float32), "right_trans": np.eye(16, dtype=np.float32)}
    q = scheme.quantize(linear, parts=units, variant="v1", **options(base))
    plain = inner.quantize(linear, variant="v1", **options(base))
    assert q.label == derived(base)
    assert (q.weight.view(np.uint8) == plain.weight.view(np.uint8)).all()
    assert (scheme.dequantize(q) == inner.dequantize(plain)).all()
    x = normal(3, 5, 64)
    assert (scheme.forward(q, x) == inner.forward(plain, x)).all()


@pytest.mark.parametrize("base", BASES)
def test_written_set_is_the_one_of_the_base_and_the_transforms(base: str) -> None:
    scheme = schemes.get(derived(base))
    linear = Linear(normal(1, 8, 64), normal(2, 8))
    q = scheme.quantize(linear, parts=parts(1, 4, 16, 0.9), variant="v1", **options(base))
    plain = schemes.get(base).quantize(linear, variant="v1", **options(base))
    written = scheme.tensors(q, "A1", "BF16")
    inner = schemes.get(base).tensors(plain, "A1", "BF16")
    assert set(written) == set(inner) | {"left_trans", "right_trans", "clip_ratio"}
    assert {s: written[s].dtype for s in inner} == {s: t.dtype for s, t in inner.items()}
    again = scheme.from_tensors(written, "A1", "a")
    assert (scheme.dequantize(again) == scheme.dequantize(q)).all()


@pytest.mark.parametrize("base", BASES)
def test_dequantized_weight_is_in_the_basis_of_the_input(base: str) -> None:
    scheme = schemes.get(derived(base))
    linear = Linear(normal(1, 16, 64))
    q = scheme.quantize(linear, parts=parts(5, 8, 8), variant="v1", **options(base))
    error = np.linalg.norm(scheme.dequantize(q) - linear.weight) / np.linalg.norm(linear.weight)
    assert error < (0.25 if "4" in base else 0.05)
    x = normal(9, 32, 64)
    y = scheme.forward(q, x)
    expected = x @ linear.weight.T
    limit = 0.5 if "4" in base else 0.1
    assert np.abs(y - expected).max() <= limit * np.abs(expected).max()


@pytest.mark.parametrize("profile", ["L0", "A0"])
def test_older_profiles_write_the_flatquant_label(profile: str) -> None:
    scheme = schemes.get("W4A4_FLATQUANT_DYNAMIC")
    q = scheme.quantize(Linear(normal(1, 8, 64)), parts=parts(1, 4, 16), variant="v0")
    written = scheme.tensors(q, profile, "F32")
    assert set(written) == {"weight", "weight_scale", "weight_offset", "left_trans", "right_trans"}
    assert written["weight"].dtype == np.int8


def test_without_a_right_matrix_only_the_left_one_acts() -> None:
    scheme = schemes.get("W8A8_FLATQUANT_DYNAMIC")
    left = {"left_trans": orthogonal(1, 4)}
    linear = Linear(normal(1, 8, 64))
    q = scheme.quantize(linear, parts=left, variant="v1")
    assert "right_trans" not in scheme.tensors(q, "A1", "F32")
    assert np.abs(scheme.dequantize(q) - linear.weight).max() < 0.05


def test_clip_scales_both_extremes_of_each_token_and_keeps_zero_inside() -> None:
    x = np.array([[-4, -2, 1, 2], [1, 2, 3, 4], [-1, -2, -3, -4]], np.float32)
    clipped = clip_tokens(x, np.array([0.5], np.float32))
    assert clipped.tolist() == [[-2, -2, 1, 1], [1, 2, 2, 2], [-1, -2, -2, -2]]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_models_keep_their_dtype(dtype) -> None:
    scheme = schemes.get("W8A8_FLATQUANT_DYNAMIC")
    linear = Linear(normal(1, 8, 64).astype(dtype))
    q = scheme.quantize(linear, parts=parts(1, 4, 16, 0.9), variant="v1")
    assert scheme.forward(q, normal(2, 3, 64).astype(dtype)).dtype == dtype
    assert scheme.dequantize(q).dtype == np.float32


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ({}, "needs left_trans"),
        ({"left_trans": np.eye(4), "scale": np.eye(4)}, "has no scale"),
        (parts(1, 4, 8), "64 columns are not left 4 x right 8"),
        ({"left_trans": np.eye(5, dtype=np.float32)}, "64 columns are not left 5"),
        ({"left_trans": np.zeros((4, 4), np.float32)}, "left_trans cannot be inverted"),
        ({"left_trans": np.ones((4, 3), np.float32)}, "expected a square matrix"),
    ],
)
def test_bad_transforms_are_refused(given_: dict, reason: str) -> None:
    scheme = schemes.get("W8A8_FLATQUANT_DYNAMIC")
    with pytest.raises(ValueError, match=reason):
        scheme.quantize(Linear(normal(1, 8, 64), name="m"), parts=given_, variant="v1")


def test_a_missing_transform_in_a_file_is_named() -> None:
    scheme = schemes.get("W8A8_FLATQUANT_DYNAMIC")
    q = scheme.quantize(Linear(normal(1, 8, 64)), parts=parts(1, 4, 16), variant="v1")
    written = scheme.tensors(q, "A1", "F32")
    del written["left_trans"]
    with pytest.raises(ValueError, match="needs left_trans in profile A1"):
        scheme.from_tensors(written, "A1", "m")
