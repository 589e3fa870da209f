"""Min-max weights: granularities, edges, and the compiled passes against the definition."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.quantize import minmax, minmax_kernels
from slimspec.quantize.affine import qparams, quantize
from slimspec.quantize.minmax import IntegerWeight, quantize_minmax

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float32), np.dtype(np.float16), BF16]
compiled = pytest.mark.skipif(
    not minmax_kernels.available(), reason="NUMBA_DISABLE_JIT: the definition runs instead"
)
quick = settings(derandomize=True, deadline=None, max_examples=30)


def weight(shape: tuple[int, int], dtype: np.dtype, seed: int = 0) -> np.ndarray:
    """Rows of very different sizes, one of zeros, one constant, one near the smallest scale."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], 1)) * 2)
    special = [0.0, 0.75, 1e-6]
    for row, value in zip(range(shape[0]), special, strict=False):
        w[row] = value
    return np.clip(w, -6e4, 6e4).astype(dtype)


def same(a: IntegerWeight, b: IntegerWeight) -> bool:
    pairs = [(a.q, b.q), (a.scale, b.scale), (a.offset, b.offset)]
    return all(x.dtype == y.dtype and x.tobytes() == y.tobytes() for x, y in pairs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("granularity", "g", "shape"),
    [("channel", 0, (5, 1)), ("tensor", 0, (1,)), ("group", 4, (5, 3)), ("group", 1, (5, 12))],
)
def test_scale_has_the_shape_of_its_granularity(
    dtype: np.dtype, granularity: str, g: int, shape: tuple[int, ...]
) -> None:
    made = quantize_minmax(
        weight((5, 12), dtype), variant="v1", granularity=granularity, group_size=g
    )
    assert made.scale.shape == made.offset.shape == shape
    assert made.scale.dtype == dtype
    assert made.q.shape == (5, 12)
    assert made.q.dtype == np.int8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_each_row_is_quantized_by_itself(dtype: np.dtype, symmetric: bool, variant: str) -> None:
    w = weight((6, 11), dtype)
    made = quantize_minmax(w, symmetric=symmetric, variant=variant)
    for i, row in enumerate(w):
        lo, hi = row.min(keepdims=True), row.max(keepdims=True)
        scale, offset = qparams(lo, hi, symmetric=symmetric, variant=variant)
        assert made.scale[i] == scale
        assert made.offset[i] == offset
        np.testing.assert_array_equal(made.q[i], quantize(row, scale, offset))


@quick
@given(seed=st.integers(0, 999), g=st.sampled_from([0, 3]), symmetric=st.booleans())
def test_order_of_rows_does_not_matter(seed: int, g: int, symmetric: bool) -> None:
    w = weight((7, 9), DTYPES[seed % 3], seed)
    order = np.random.default_rng(seed).permutation(7)
    options = {"granularity": "group" if g else "channel", "group_size": g}
    a = quantize_minmax(w, symmetric=symmetric, variant="v0", **options)  # type: ignore[arg-type]
    b = quantize_minmax(w[order], symmetric=symmetric, variant="v0", **options)  # type: ignore[arg-type]
    assert same(IntegerWeight(a.q[order], a.scale[order], a.offset[order]), b)


def test_group_of_one_keeps_the_sign_of_every_value() -> None:
    w = weight((4, 6), np.dtype(np.float32))
    made = quantize_minmax(w, variant="v0", granularity="group", group_size=1, max_bound=127)
    np.testing.assert_array_equal(made.q[1:2], 127 * np.sign(w[1:2]))
    assert (made.q[0] == 0).all()


@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_largest_value_of_a_row_becomes_127(variant: str) -> None:
    w = weight((9, 13), np.dtype(np.float32))[3:]
    made = quantize_minmax(w, variant=variant)
    assert (np.abs(made.q.astype(np.int32)).max(axis=1) == 127).all()


def test_max_bound_keeps_minus_128_out_of_a_bfloat16_row() -> None:
    w = np.array([[-2.828125, 1.0]], BF16)
    assert quantize_minmax(w, variant="v1").q[0, 0] == -128
    assert quantize_minmax(w, variant="v0", max_bound=127).q[0, 0] == -127


def test_no_rows_is_fine_and_no_columns_is_refused() -> None:
    made = quantize_minmax(np.zeros((0, 4), np.float32), variant="v0")
    assert made.q.shape == (0, 4)
    assert made.scale.shape == (0, 1)
    with pytest.raises(ValueError, match="expected a weight"):
        quantize_minmax(np.zeros((4, 0), np.float32), variant="v0")
    with pytest.raises(ValueError, match="expected a weight"):
        quantize_minmax(np.zeros(4, np.float32), variant="v0")


@pytest.mark.parametrize("view", ["transposed", "strided", "readonly", "reversed"])
def test_memory_layout_does_not_matter(view: str) -> None:
    w = weight((12, 10), np.dtype(np.float32))
    cut = {
        "transposed": np.asfortranarray(w),
        "strided": np.repeat(np.repeat(w, 2, 0), 3, 1)[::2, ::3],
        "readonly": w.copy(),
        "reversed": w[::-1][::-1],
    }[view]
    cut.flags.writeable = False
    assert same(quantize_minmax(cut, variant="v1"), quantize_minmax(w, variant="v1"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(3, 5), (40, 1700)])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_name_and_index(
    dtype: np.dtype, size: tuple[int, int], bad: float
) -> None:
    w = weight(size, dtype)
    w[2, 4] = bad
    for g in (0, 5):
        granularity = "group" if g else "channel"
        with pytest.raises(ValueError, match=r"q_proj: .* at index \(2, 4\)"):
            quantize_minmax(w, variant="v0", granularity=granularity, group_size=g, name="q_proj")


@compiled
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("granularity", "g"), [("channel", 0), ("tensor", 0), ("group", 34)])
def test_compiled_passes_give_the_bits_of_the_definition(
    dtype: np.dtype, bits: int, granularity: str, g: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = weight((41, 1700), dtype)
    w[5] = -np.abs(w[5])
    assert w.size >= minmax._FAST_FROM
    for symmetric in (True, False):
        for variant in ("v0", "v1"):
            fast, slow = [], []
            for use, threads in ((fast, 1), (fast, 3), (slow, 1)):
                monkeypatch.setattr(minmax, "_FAST_FROM", 0 if use is fast else w.size + 1)
                use.append(
                    quantize_minmax(
                        w,
                        bits=bits,
                        symmetric=symmetric,
                        variant=variant,  # type: ignore[arg-type]
                        granularity=granularity,  # type: ignore[arg-type]
                        group_size=g,
                        max_bound=2 ** (bits - 1) - 1 if symmetric else None,
                        threads=threads,
                    )
                )
            assert same(fast[0], slow[0])
            assert same(fast[1], slow[0])


@compiled
@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16])
def test_compiled_encoding_is_right_for_every_16_bit_value(dtype: np.dtype) -> None:
    every = np.arange(2**16, dtype=np.uint16).view(dtype)
    x = every[np.isfinite(every.astype(np.float32))].reshape(1, -1)
    rows = np.repeat(x, 3, axis=0)
    scale = np.array([0.01, 1, 300], dtype).astype(np.float32)
    for offset in (np.zeros(3, np.float32), np.float32([-128, 5, 127])):
        found = minmax_kernels.encode_rows(rows, scale, offset, -128, 127)
        expected = quantize(rows, scale.astype(dtype)[:, None], offset.astype(dtype)[:, None])
        np.testing.assert_array_equal(found, expected)


def test_extrema_order_signs_subnormals_and_infinities() -> None:
    for dtype in DTYPES:
        tiny = np.array([1e-45 if dtype == np.float32 else 6e-8], np.float32)
        x = np.array([[0.0, -0.0, 1, -2], [-5, -3, -4, -9], [3, 9, 4, 5]], np.float32)
        x[0, 0] = tiny[0]
        lo, hi = minmax_kernels.row_extrema(x.astype(dtype))
        np.testing.assert_array_equal(lo.astype(np.float32), [-2, -9, 3])
        np.testing.assert_array_equal(hi.astype(np.float32), [1, -3, 9])
        lo, hi = minmax_kernels.row_extrema(np.array([[1, np.inf], [-np.inf, 0]], dtype))
        assert np.isposinf(hi.astype(np.float32)[0])
        assert np.isneginf(lo.astype(np.float32)[1])
