"""W4A16, W4A8_DYNAMIC, W4A4_DYNAMIC: packing by profile, two levels, scale_bias."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.schemes import Linear, get
from slimspec.schemes.w4a8_dynamic import level_one, scale_bias

BF16 = np.dtype(ml_dtypes.bfloat16)


def linear(n: int = 4, k: int = 32, name: str = "mlp.up_proj") -> Linear:
    w = np.random.default_rng(0).standard_normal((n, k)).astype(np.float32)
    return Linear(w, None, name)


def test_w4a16_pairs_columns_per_row_and_rows_per_group() -> None:
    w4a16, source = get("W4A16"), linear()
    per_row = w4a16.quantize(source, variant="v0")
    grouped = w4a16.quantize(source, variant="v0", group_size=8)
    assert w4a16.tensors(per_row, "A0", "F16")["weight"].shape == (4, 16)
    assert w4a16.tensors(grouped, "A0", "F16")["weight"].shape == (2, 32)
    for q in (per_row, grouped):
        np.testing.assert_array_equal(w4a16.tensors(q, "L0", "F16")["weight"], q.weight)


def test_one_group_as_wide_as_the_row_is_packed_along_columns() -> None:
    q = get("W4A16").quantize(linear(), variant="v0", group_size=32)
    assert q.need("weight_scale").shape == (4, 1)
    assert get("W4A16").tensors(q, "A0", "F16")["weight"].shape == (4, 16)


def test_low_nibble_is_the_even_row() -> None:
    source = linear(k=16, name="down_proj")
    made = get("W4A8_DYNAMIC").quantize(source, variant="v1")
    packed = get("W4A8_DYNAMIC").tensors(made, "A1", "F32")["weight"]
    even, odd = made.weight[0::2], made.weight[1::2]
    np.testing.assert_array_equal(
        packed, ((odd.astype(np.int32) << 4) | (even & 15)).astype(np.int8)
    )


def test_an_odd_number_of_rows_cannot_be_packed() -> None:
    q = get("W4A8_DYNAMIC").quantize(linear(n=3), variant="v1")
    with pytest.raises(ValueError, match=r"mlp.up_proj.weight: axis 0 has odd size 3"):
        get("W4A8_DYNAMIC").tensors(q, "A1", "F32")


def test_two_level_weight_is_the_product_of_both_scales() -> None:
    w = np.float32([[1.19, -0.5, 0.33, 0.07, 0.02, -0.1, 0.6, 0.9]] * 2)
    w4a8 = get("W4A8_DYNAMIC")
    q = w4a8.quantize(Linear(w), variant="v0", group_size=4)
    expected = [1.19, -0.51, 0.34, 0, 0, -0.13, 0.65, 0.91]
    # scale = 1.19/119 is within 2^-24, integer · scale rounds once more
    np.testing.assert_allclose(w4a8.dequantize(q)[0], expected, rtol=2.0**-22)
    assert q.need("weight_offset_second").dtype == np.int64
    assert (q.need("weight_offset_second") == 0).all()


@pytest.mark.parametrize(("variant", "g"), [("v0", 0), ("v1", 8)])
def test_levels_follow_the_producer(variant: str, g: int) -> None:
    with pytest.raises(ValueError, match="v0 needs groups, v1 has none"):
        get("W4A8_DYNAMIC").quantize(linear(), variant=variant, group_size=g)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "v0", "v1"),
    [
        ("a.up_proj", 1, 1),
        ("a.gate_proj", 1, 1),
        ("a.q_proj", 1, 1),
        ("a.k_proj", 1, 1),
        ("a.v_proj", 1, 1),
        ("a.down_proj", 16, 16),
        ("a.o_proj", 16, 16),
        ("a.w1", 32, 1),
        ("a.w2", 32, 16),
        ("a.w3", 32, 1),
        ("a.kv_b_proj", 32, 32),
    ],
)
def test_scale_bias_is_summed_as_the_name_asks(name: str, v0: int, v1: int) -> None:
    w = np.arange(64, dtype=np.float32).reshape(2, 32)
    for variant, columns in (("v0", v0), ("v1", v1)):
        found = scale_bias(w, name, variant)  # type: ignore[arg-type]
        assert found.shape == (2, columns)
        factor = 1 if columns == 32 else 8  # an unknown name keeps the plain weight
        np.testing.assert_array_equal(found, factor * w.reshape(2, columns, -1).sum(axis=2))


def test_scale_bias_needs_sixteen_chunks() -> None:
    with pytest.raises(ValueError, match="o_proj: 24 columns do not make 16 chunks"):
        scale_bias(np.zeros((2, 24), np.float32), "o_proj", "v1")


def test_two_level_scale_bias_takes_the_row_scale_in_bfloat16() -> None:
    source = linear(name="x.up_proj")
    q = get("W4A8_DYNAMIC").quantize(source, variant="v0", group_size=8)
    int8 = q.weight.astype(np.float64) * np.repeat(q.need("weight_scale_second"), 8, axis=1)
    narrow = q.need("weight_scale").astype(BF16).astype(np.float64)
    exact = 8 * (int8.sum(axis=1, keepdims=True) * narrow)
    # 32 float32 products and 31 sums of at most Σ|ŵ|
    bound = 64 * 2.0**-24 * 8 * (np.abs(int8) * narrow).sum(axis=1, keepdims=True)
    assert (np.abs(q.need("scale_bias") - exact) <= bound).all()


@pytest.mark.parametrize(("scale", "said"), [(-16.25, None), (18.0, None), (18.5, "18.5"),
                                             (np.nan, "nan"), (-np.inf, "-inf")])  # fmt: skip
def test_second_scale_whose_products_are_no_int8_is_refused(scale: float, said: str | None) -> None:
    """A cast of such a float is what the processor makes of it."""
    q = np.array([[7, -7, 1, 0, 2, 2, 7, 7]], np.int8)
    second = np.array([[1, scale]], np.float32)
    if said is None:
        np.testing.assert_array_equal(level_one(q, second)[0, 4:], np.trunc(scale * q[0, 4:]))
        return
    with pytest.raises(ValueError, match=rf"weight_scale_second: found {said} at \[0, 1\]"):
        level_one(q, second)


def test_nibble_split_of_the_device_adds_up_to_the_plain_product() -> None:
    """x = 16·(x >> 4) + ((x & 15) - 8) + 8: the last term is what scale_bias is for."""
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (3, 32))
    source = linear(name="x.up_proj")
    q = get("W4A8_DYNAMIC").quantize(source, variant="v1")
    w = q.weight.astype(np.int64)
    split = 16 * ((x >> 4) @ w.T) + ((x & 15) - 8) @ w.T + 8 * w.sum(axis=1)
    np.testing.assert_array_equal(split, x @ w.T)


def test_w4a4_stores_one_code_per_byte() -> None:
    w4a4 = get("W4A4_DYNAMIC")
    q = w4a4.quantize(linear(), variant="v1")
    made = w4a4.tensors(q, "A1", "BF16")
    np.testing.assert_array_equal(made["weight"], q.weight)
    assert made["weight_scale"].dtype == np.float32
    assert np.abs(q.weight.astype(np.int32)).max() == 7
