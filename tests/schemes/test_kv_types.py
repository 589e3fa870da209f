"""C8: scales of the KV cache per channel, in both producers' ways."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec import layout
from slimspec.attention import attention_float
from slimspec.schemes.c8 import C8, cache_rows, channel_range

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]
SCHEME = C8()


def states(seed: int, *shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(dtype)


def both(*batches: np.ndarray) -> dict[str, list[np.ndarray]]:
    return {"k_proj": list(batches), "v_proj": list(batches)}


def test_cache_rows_put_heads_side_by_side() -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    rows = cache_rows(x)
    assert rows.shape == (3, 8)
    assert rows[0].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]


def test_v0_keeps_running_extremes_and_v1_only_the_last_batch() -> None:
    first, last = np.full((1, 1, 2, 3), 127, np.float32), np.full((1, 1, 2, 3), 63.5, np.float32)
    v1 = SCHEME.quantize(both(first, last), variant="v1")
    assert v1.need("k_proj.kv_cache_scale").tolist() == [0.5] * 3
    flat = both(first.reshape(2, 3), last.reshape(2, 3))
    v0 = SCHEME.quantize(flat, variant="v0")
    assert v0.need("v_proj.kv_cache_scale").tolist() == [1] * 3


@given(seed=st.integers(0, 10**6), tokens=st.integers(1, 9), heads=st.integers(1, 3))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_what_is_read_back_is_within_half_a_step(seed, tokens, heads) -> None:
    """Scale, quotient and product are rounded to float32: 1e-5 of a step of 127 covers them."""
    x = states(seed, heads, tokens, 4)
    a = SCHEME.quantize(both(x[None]), variant="v1")
    back = SCHEME.round_trip(a, "k_proj", x)
    scale = a.need("k_proj.kv_cache_scale").reshape(heads, 1, 4)
    assert (np.abs(back - x) <= scale * (0.5 + 127 * 1e-5)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_symmetric_offsets_are_zero_and_everything_keeps_the_model_dtype(dtype, variant) -> None:
    x = states(1, 1, 2, 5, 4, dtype=dtype)
    a = SCHEME.quantize(both(x if variant == "v1" else cache_rows(x)), variant=variant)
    assert {t.dtype for t in a.values.values()} == {np.dtype(dtype)}
    assert not a.need("k_proj.kv_cache_offset").any()


def test_asymmetric_scales_use_the_whole_code_range() -> None:
    x = np.linspace(0, 255, 6, dtype=np.float32).reshape(1, 1, 6, 1)
    a = SCHEME.quantize(both(x), variant="v1", symmetric=False)
    assert a.need("k_proj.kv_cache_scale").tolist() == [1]
    assert a.need("k_proj.kv_cache_offset").tolist() == [-128]


@pytest.mark.parametrize("profile", ["L0", "A0", "A1"])
def test_written_set_comes_back(profile: str) -> None:
    a = SCHEME.quantize(both(states(1, 1, 2, 5, 4)), variant="v1")
    written = SCHEME.tensors(a, profile, "F32")
    assert set(written) == {
        f"{p}.kv_cache_{w}" for p in ("k_proj", "v_proj") for w in ("scale", "offset")
    }
    assert all(t.shape == (8,) for t in written.values())
    again = SCHEME.from_tensors(written, profile)
    assert all((again.need(s) == t).all() for s, t in written.items())


def test_profiles_without_it_refuse() -> None:
    a = SCHEME.quantize(both(states(1, 1, 2, 5, 4)), variant="v1")
    with pytest.raises(layout.LayoutError, match="not written by MF"):
        SCHEME.tensors(a, "MF", "F32")


def test_missing_tensor_is_named() -> None:
    written = SCHEME.tensors(
        SCHEME.quantize(both(states(1, 1, 2, 5, 4)), variant="v1"), "A1", "F32"
    )
    del written["v_proj.kv_cache_offset"]
    with pytest.raises(ValueError, match=r"m: C8 needs v_proj\.kv_cache_offset in profile A1"):
        SCHEME.from_tensors(written, "A1", "m")


def test_forward_is_near_the_float_attention() -> None:
    q, k, v = states(1, 4, 3, 8), states(2, 2, 7, 8), states(3, 2, 7, 8)
    a = SCHEME.quantize({"k_proj": [k[None]], "v_proj": [v[None]]}, variant="v1")
    y = SCHEME.forward(a, q, k, v)
    assert y.shape == (4, 3, 8)
    assert np.abs(y - attention_float(q, k, v)).max() < 0.05


@pytest.mark.parametrize(
    ("batches", "reason"),
    [
        ({"k_proj": [states(1, 1, 1, 2, 3)]}, "no calibration batch for v_proj"),
        (both(), "no calibration batch for k_proj"),
        ({**both(states(1, 1, 1, 2, 3)), "q_proj": []}, "C8 has no q_proj"),
        (both(states(1, 2, 3)), "expected .batch, heads, tokens, head_dim."),
        (both(np.full((1, 1, 2, 3), np.nan, np.float32)), "a.k_proj output minimum: nan"),
    ],
)
def test_bad_calibration_is_refused(batches: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SCHEME.quantize(batches, variant="v1", name="a")


def test_a_channel_of_zeros_gets_the_least_scale() -> None:
    lo, hi = channel_range([np.zeros((4, 2), np.float32)])
    assert not lo.any()
    assert not hi.any()
    a = SCHEME.quantize(both(np.zeros((1, 1, 4, 2), np.float32)), variant="v1")
    assert (a.need("k_proj.kv_cache_scale") == np.float32(2.0**-23)).all()
