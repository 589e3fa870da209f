"""Low-rank branches: exact where the weight is of that rank, near the best elsewhere."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from slimspec.numeric import as_float32
from slimspec.numeric.torch_random import TorchStream
from slimspec.quantize.svd_lowrank import SEED, residual, svd_lowrank

RNG = np.random.default_rng(5)


def of_rank(n: int, k: int, rank: int) -> np.ndarray:
    return (RNG.standard_normal((n, rank)) @ RNG.standard_normal((rank, k))).astype(np.float32)


@pytest.mark.parametrize(("n", "k"), [(48, 32), (32, 48), (40, 40)])
def test_weight_of_that_rank_leaves_nothing(n: int, k: int) -> None:
    w = of_rank(n, k, 4)
    made = svd_lowrank(w, 4, TorchStream(SEED))
    assert (made.l1.shape, made.l2.shape) == ((4, k), (n, 4))
    # float32 products of at most 48 terms, relative to the largest entry
    assert np.abs(residual(w, made)).max() <= 2**-18 * np.abs(w).max()


def test_rest_is_near_the_smallest_possible() -> None:
    u, _, vt = np.linalg.svd(RNG.standard_normal((64, 48)), full_matrices=False)
    s = 0.7 ** np.arange(48)
    w = ((u * s) @ vt).astype(np.float32)
    made = svd_lowrank(w, 8, TorchStream(SEED))
    rest = np.linalg.norm(residual(w, made).astype(np.float64))
    assert rest <= 1.1 * np.linalg.norm(s[8:])
    assert np.allclose(made.l1 @ made.l1.T, np.eye(8), atol=1e-5)


def test_residual_is_in_the_dtype_of_the_weight() -> None:
    w = of_rank(32, 32, 6).astype(ml_dtypes.bfloat16)
    made = svd_lowrank(w, 4, TorchStream(SEED))
    rest = residual(w, made)
    assert rest.dtype == w.dtype
    product = (made.l2 @ made.l1).astype(w.dtype)
    assert np.array_equal(rest, (as_float32(w) - as_float32(product)).astype(w.dtype))


@pytest.mark.parametrize("rank", [0, 33])
def test_rank_that_a_weight_does_not_have_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"up_proj.weight: rank {rank}, expected 1 to 32"):
        svd_lowrank(of_rank(48, 32, 4), rank, TorchStream(SEED), "up_proj.weight")


def test_not_a_number_is_refused() -> None:
    w = of_rank(32, 32, 4)
    w[3, 4] = np.nan
    with pytest.raises(ValueError, match="nan at index"):
        svd_lowrank(w, 4, TorchStream(SEED))
