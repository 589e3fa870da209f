"""W16A16S: ADMM pruning and the reduction of mantissas."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.sparse.admm import InputStatistics, prune_admm, w16a16s_weight
from slimspec.sparse.mantissa import reduce_mantissa, split_float16
from slimspec.sparse.topk import prune_smallest

F32 = np.float32
FINITE = np.array([u for u in range(1 << 16) if u & 0x7C00 != 0x7C00], np.uint16).view(np.float16)


def layer(seed: int, n: int = 12, k: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(0, 1, (k, k))
    x = (rng.normal(0, 1, (4, 50, k)) @ mixing).astype(F32)
    return rng.normal(0, 1, (n, k)).astype(F32), x


def statistics(*batches: np.ndarray) -> InputStatistics:
    found = InputStatistics(batches[0].shape[-1])
    for batch in batches:
        found.add(batch)
    return found


def test_every_finite_float16_is_its_mantissa_times_its_power() -> None:
    mantissa, exponent = split_float16(FINITE)
    assert mantissa.dtype == np.float16
    assert exponent.dtype == np.int32
    size = np.abs(mantissa.astype(F32))
    normal = np.abs(FINITE.astype(F32)) >= 2.0**-14
    assert ((size[normal] >= 1) & (size[normal] < 2)).all()
    assert (exponent[~normal & (FINITE != 0)] == -15).all()
    assert (exponent[FINITE == 0] == 0).all()
    back = np.ldexp(mantissa.astype(F32), exponent).astype(np.float16)
    assert np.array_equal(back.view(np.uint16), FINITE.view(np.uint16))


@pytest.mark.parametrize("bits", [1, 2, 10, 12])
def test_infinity_has_the_exponent_past_the_largest_and_stays_infinite(bits: int) -> None:
    w = np.float16([np.inf, -np.inf])
    mantissa, exponent = split_float16(w)
    assert mantissa.tolist() == w.tolist()
    assert exponent.tolist() == [16, 16]
    assert reduce_mantissa(w, bits=bits).tolist() == w.tolist()
    assert reduce_mantissa(w.astype(F32), np.ones(2, bool), bits=bits).tolist() == w.tolist()


def reduced_by_bits(u: int, keep: bool, bits: int) -> int:
    """Return the reduced float16 pattern from the pattern, in integers only."""
    sign, exponent, fraction = u & 0x8000, u >> 10 & 31, u & 0x3FF
    if exponent == 0:
        return u if keep and fraction else (sign if fraction else 0)
    if exponent - 15 < bits - 10:
        return sign | (exponent + (fraction > 0x200)) << 10
    if keep:
        return u
    drop = 10 - bits
    quotient, rest = divmod(fraction, 1 << drop)
    half = 1 << (drop - 1)
    quotient += rest > half or (rest == half and quotient & 1)
    return sign | ((exponent << 10) + (quotient << drop))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("keep", [False, True])
def test_reduction_of_every_float16_is_the_integer_rule(bits: int, keep: bool) -> None:
    mask = np.full(FINITE.shape, keep)
    with np.errstate(over="ignore"):
        found = reduce_mantissa(FINITE, mask, bits=bits).view(np.uint16)
    expected = [reduced_by_bits(int(u), keep, bits) for u in FINITE.view(np.uint16)]
    wrong = np.flatnonzero(found != np.array(expected, np.uint16))
    assert wrong.size == 0, [hex(int(FINITE.view(np.uint16)[i])) for i in wrong[:5]]


def test_reduced_weights_have_few_byte_values() -> None:
    w = np.random.default_rng(0).normal(0, 1, (64, 64)).astype(np.float16)
    low_bytes = reduce_mantissa(w).view(np.uint8)[:, ::2]
    assert not low_bytes.any()


def test_statistics_do_not_depend_on_how_samples_are_batched() -> None:
    _, x = layer(1)
    whole, parts = statistics(x), statistics(*(sample[None] for sample in x))
    assert whole.samples == parts.samples == 4
    # A float32 sum of t products errs by at most t · eps · Σ|xᵢxⱼ| <= t · eps · |xᵢ| |xⱼ|.
    size = np.sqrt(np.diag(whole.hessian).astype(float))
    bound = 2 * x[..., 0].size * np.finfo(F32).eps * np.outer(size, size)
    assert (np.abs(whole.hessian - parts.hessian) <= bound).all()
    assert np.allclose(whole.energy, parts.energy, rtol=1e-5)
    exact = (x.astype(float) ** 2).sum(axis=(0, 1)) / 4
    assert np.allclose(whole.energy, exact, rtol=1e-5)


def test_a_matrix_of_inputs_is_one_sample() -> None:
    _, x = layer(2)
    assert np.array_equal(statistics(x[0]).hessian, statistics(x[:1]).hessian)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.25, 0.4, 0.5]))
@settings(derandomize=True, deadline=None, max_examples=10)
def test_admm_prunes_the_ratio_and_beats_magnitude_pruning(seed: int, ratio: float) -> None:
    w, x = layer(seed)
    before = w.copy()
    pruned = prune_admm(w, statistics(x), ratio)
    assert np.array_equal(w, before)
    assert pruned.dtype == w.dtype
    zeros = int(ratio * w.size)
    assert zeros <= (pruned == 0).sum() <= zeros + 1
    rows = x.reshape(-1, x.shape[-1]).astype(float)
    loss = [
        np.square(rows @ (w - p).T.astype(float)).sum() for p in (pruned, prune_smallest(w, ratio))
    ]
    assert loss[0] < loss[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_stored_weight_is_thin_but_for_two_percent(dtype: Any) -> None:
    w, x = layer(3, 40, 50)
    made = w16a16s_weight(w.astype(dtype), statistics(x.astype(dtype)), 0.3)
    assert made.dtype == dtype
    half = made.astype(np.float16)
    assert np.array_equal(half.astype(F32), made.astype(F32))
    thin = half.view(np.uint16) & 0xFF == 0
    assert (~thin).sum() <= int(0.02 * w.size) + 2  # ties are kept
    assert (half == 0).mean() >= 0.3


def test_pruning_nothing_keeps_the_weight() -> None:
    w, x = layer(4)
    # 20 ridge steps from the solution itself only gather rounding errors
    assert np.allclose(prune_admm(w, statistics(x), 0.0), w, atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 5), (30,), (0, 3, 30)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[b, t, 30\]"):
        InputStatistics(30).add(np.zeros(shape, F32))


def test_weight_and_statistics_must_belong_together() -> None:
    w, x = layer(5)
    with pytest.raises(ValueError, match=r"expected \[n, 30\]"):
        prune_admm(w[:, 1:], statistics(x))
    with pytest.raises(ValueError, match="no calibration input"):
        prune_admm(w, InputStatistics(30))
    with pytest.raises(ValueError, match="ratio"):
        prune_admm(w, statistics(x), 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_values_are_refused(bad: float) -> None:
    w, x = layer(6)
    broken_w, broken_x = w.copy(), x.copy()
    broken_w[1, 2] = broken_x[0, 1, 2] = bad
    with pytest.raises(ValueError, match="weight"):
        prune_admm(broken_w, statistics(x))
    with pytest.raises(ValueError, match="inputs"):
        statistics(broken_x)
