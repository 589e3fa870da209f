"""GPTQ against a literal column-by-column form and against what it is for."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.quantize.affine import dequantize_rows
from slimspec.quantize.gptq import (
    hessian_all_batches,
    hessian_first_batch,
    inverse_factor,
    quantize_gptq,
)
from slimspec.quantize.minmax import quantize_minmax


def _data(n: int = 6, k: int = 48, t: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((t, k)) @ rng.standard_normal((k, k))  # correlated inputs
    return rng.standard_normal((n, k)).astype(np.float32), x.astype(np.float32)


def _output_error(w: np.ndarray, x: np.ndarray, made) -> float:
    change = dequantize_rows(made.q, made.scale, made.offset).astype(np.float64) - w
    return float(((x.astype(np.float64) @ change.T) ** 2).sum())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("variant", "share"), [("v0", 1.0), ("v1", 0.7)])
def test_outputs_are_closer_than_with_min_max(bits: int, variant: str, share: float) -> None:
    """v0 gives part of the gain away: it quantizes the compensated weight again, on new scales."""
    w, x = _data()
    made = quantize_gptq(w, [x[None]], bits=bits, variant=variant)
    plain = quantize_minmax(w, bits=bits, variant=variant)
    assert _output_error(w, x, made) < share * _output_error(w, x, plain)


def _literal(w: np.ndarray, u: np.ndarray, scale: np.ndarray, top: int) -> np.ndarray:
    """One column after the other in float64, without blocks."""
    w = w.astype(np.float64)
    q = np.zeros_like(w)
    for i in range(w.shape[1]):
        q[:, i] = np.clip(np.rint(w[:, i] / scale), -top - 1, top)
        error = (w[:, i] - q[:, i] * scale) / u[i, i]
        w[:, i:] -= np.outer(error, u[i, i:])
    return q


@pytest.mark.parametrize("block", [1, 7, 48, 128])
def test_blocks_change_no_code(block: int) -> None:
    w, x = _data()
    made = quantize_gptq(w, [x], bits=4, variant="v1", block_size=block)
    u = inverse_factor(hessian_all_batches([x]))
    expected = _literal(w, u, made.scale[:, 0].astype(np.float64), 7)
    # float32 against float64: a code may differ where a value is within 2^-20 of a boundary.
    assert np.mean(made.q == expected) > 0.995


def test_factor_squares_to_the_inverse_of_the_damped_hessian() -> None:
    _, x = _data()
    h = hessian_first_batch(x[None])
    u = inverse_factor(h, 0.01)
    damped = h + np.eye(len(h)) * 0.01 * np.diag(h).mean()
    assert np.allclose(u.T @ u @ damped, np.eye(len(h)), atol=1e-6)
    assert (np.tril(u, -1) == 0).all()


def test_hessians_count_batches_as_their_producers_do() -> None:
    _, x = _data(t=12)
    split = hessian_all_batches([x[:5], x[5:]])
    exact = 2 / 12 * x.T.astype(np.float64) @ x.astype(np.float64)
    # The scaled inputs are rounded to float32, once per batch: 2^-24 relative per factor.
    reach = 2 / 12 * np.abs(x).T.astype(np.float64) @ np.abs(x)
    assert (np.abs(split - exact) <= reach * 2.0**-21).all()
    first = hessian_first_batch(np.stack([x[:6], x[6:]]))  # B = 2 sequences: 2/B, not 2/tokens
    assert (np.abs(first - 6 * exact) <= 6 * reach * 2.0**-21).all()


def test_only_the_first_batch_counts_in_v0() -> None:
    w, x = _data()
    one = quantize_gptq(w, [x[None]], variant="v0")
    two = quantize_gptq(w, [x[None], x[None] * np.float32(100)], variant="v0")
    assert (one.q == two.q).all()


@pytest.mark.parametrize("variant", ["v0", "v1"])
def test_groups_have_their_own_scales(variant: str) -> None:
    w, x = _data()
    made = quantize_gptq(w, [x], bits=4, variant=variant, granularity="group", group_size=16)
    assert made.scale.shape == made.offset.shape == (6, 3)
    assert _output_error(w, x, made) < _output_error(
        w, x, quantize_minmax(w, bits=4, variant=variant, granularity="group", group_size=16)
    )


def test_one_scale_for_the_tensor() -> None:
    w, x = _data()
    assert quantize_gptq(w, [x], variant="v0", granularity="tensor").scale.shape == (1,)


def test_channel_that_no_input_reaches_becomes_zero() -> None:
    w, x = _data()
    x[:, 5] = 0
    assert (quantize_gptq(w, [x], variant="v1").q[:, 5] == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bit_weights_are_for_v0_only(dtype: type) -> None:
    w, x = _data()
    made = quantize_gptq(w.astype(dtype), [x.astype(dtype)], variant="v0")
    assert made.scale.dtype == np.dtype(dtype)
    with pytest.raises(TypeError, match="float32"):
        quantize_gptq(w.astype(dtype), [x.astype(dtype)], variant="v1")


def test_bad_input_is_refused() -> None:
    w, x = _data()
    with pytest.raises(ValueError, match="at least one"):
        quantize_gptq(w, [], variant="v1")
    with pytest.raises(ValueError, match="group size"):
        quantize_gptq(w, [x], variant="v1", granularity="group", group_size=7)
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        quantize_gptq(w, [x], variant="v1")
    with pytest.raises(ValueError, match="positive definite"):
        inverse_factor(-np.eye(3), 0.0)
