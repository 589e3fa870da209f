"""The loss of m2: recorded numbers of the producer, a second formula, and what does not fit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slimspec.model import Numerics
from slimspec.numeric import to_dtype
from slimspec.smooth.fold import Affine
from slimspec.smooth.outlier_suppression import Statistics, collect, threshold_scale
from slimspec.smooth.scales import weight_scale
from slimspec.smooth.suppression_loss import OutputLoss, attend_blocks, clipped

DTYPES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
POINTS = (0, 33, 66, 99)
# mse_loss at these grid points of the producer's os_ln_fcs (msModelSlim 26.1.0, torch 2.13 on a
# CPU), called with the tensors of `_made`. One row per dtype, rows of the weights, and bias.
RECORDED = [
    ("float16", (12,), False, (1.148223876953125e-3, 3.0536651611328125e-3,
                               3.1490325927734375e-3, 6.88934326171875e-3)),
    ("float16", (12, 8), True, (1.148223876953125e-3, 3.0574798583984375e-3,
                                3.1452178955078125e-3, 6.8817138671875e-3)),
    ("float16", (8, 4, 4), False, (0.0008326694369316101, 0.0019542977679520845,
                                   0.0019387423526495695, 0.007516567595303059)),
    ("float16", (8, 4, 4), True, (0.0008336524479091167, 0.001966099487617612,
                                  0.001938199857249856, 0.007516567595303059)),
    ("bfloat16", (12,), True, (0.0019683837890625, 0.005859375, 0.005859375, 0.0069580078125)),
    ("bfloat16", (12, 8), False, (0.001983642578125, 0.005889892578125,
                                  0.005889892578125, 0.006988525390625)),
    ("bfloat16", (8, 4, 4), False, (0.0015101432800292969, 0.003352642059326172,
                                    0.003352642059326172, 0.009042644873261452)),
    ("bfloat16", (8, 4, 4), True, (0.001530808163806796, 0.0032637815456837416,
                                   0.0032637815456837416, 0.009228801354765892)),
]  # fmt: skip


def _pattern(rows: int, columns: int, a: int, b: int, modulus: int) -> NDArray[np.float32]:
    i, j = np.arange(rows)[:, None], np.arange(columns)
    return (((i * a + j * b + i * j) % modulus - modulus // 2) / 8).astype(np.float32)


def _made(
    dtype: np.dtype, rows: tuple[int, ...], bias: bool
) -> tuple[Statistics, list[Affine], Numerics]:
    x = _pattern(5, 16, 7, 11, 23)
    x[:, 3] *= 16
    x[:, 6] *= -5
    linears = []
    for i, n in enumerate(rows):
        b = to_dtype(_pattern(1, n, 1, 5 + i, 7)[0], dtype) if bias else None
        linears.append(Affine(to_dtype(_pattern(n, 16, 5 + i, 3, 17), dtype), b))
    return collect([to_dtype(x, dtype)[None]]), linears, Numerics(dtype)


@pytest.mark.parametrize(("name", "rows", "bias", "recorded"), RECORDED)
def test_losses_are_those_of_the_producer(
    name: str, rows: tuple[int, ...], bias: bool, recorded: tuple[float, ...]
) -> None:
    seen, linears, products = _made(DTYPES[name], rows, bias)
    loss = OutputLoss(seen, linears, products)
    w = weight_scale([linear.weight for linear in linears])
    found = [np.float32(loss(threshold_scale(seen, w, point))) for point in POINTS]
    assert found == [np.float32(value) for value in recorded]


def test_second_of_two_linears_does_not_count_and_all_of_three_do() -> None:
    scale = np.linspace(0.5, 3, 16, dtype=np.float32)
    for rows, counted in (((12, 8), 1), ((8, 4, 4), 3)):
        seen, linears, products = _made(np.dtype(np.float32), rows, False)
        before = OutputLoss(seen, linears, products)(scale)
        for i, linear in enumerate(linears):
            changed = [*linears]
            changed[i] = Affine(linear.weight * np.float32(0.7), None)
            after = OutputLoss(seen, changed, products)(scale)
            assert (after != before) == (i < counted)


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 9), st.integers(1, 12))
def test_attention_is_that_of_blocks_as_wide_as_the_keys(
    seed: int, blocks: int, rows: int, width: int
) -> None:
    """Against float64. u = 2^-24, s a score, V = max|v|, S = max Σ|q||k|/√d:

    |Δs| <= (d + 3)·u·S; a weight changes by a factor e^±2|Δs| and a few units of its exponential
    and its sum, (t + 4)·u; the last sum adds t·u. Together (2·(d + 3)·S + 2·t + 4)·u·V, doubled.
    """
    rng = np.random.default_rng(seed)
    q, k, v = (
        rng.standard_normal((rows, n)).astype(np.float32) for n in (blocks * width, width, width)
    )
    found = attend_blocks(q, k, v, Numerics(np.float32))
    assert found.shape == q.shape
    assert found.dtype == np.float32
    wide = q.astype(np.float64).reshape(rows, blocks, width)
    scores = np.einsum("tgd,sd->gts", wide, k) / np.sqrt(width)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    expected = np.einsum("gts,sd->tgd", p, v.astype(np.float64)).reshape(rows, -1)
    reach = np.einsum("tgd,sd->gts", np.abs(wide), np.abs(k)).max() / np.sqrt(width)
    bound = 2 * (2 * (width + 3) * reach + 2 * rows + 4) * 2.0**-24 * np.abs(v).max()
    assert np.abs(found - expected).max() <= bound


def test_each_text_of_a_batch_attends_to_itself_alone() -> None:
    seen, linears, products = _made(np.dtype(np.float32), (8, 4, 4), True)
    scale = np.linspace(0.5, 3, 16, dtype=np.float32)
    doubled = seen._replace(first=np.concatenate([seen.first, seen.first]))
    one, two = (OutputLoss(s, linears, products)(scale) for s in (seen, doubled))
    assert abs(one - two) <= one * 2 * 80 * 2.0**-24  # means of 40 and of 80 squares


@pytest.mark.parametrize("dtype", [np.float32, *DTYPES.values()])
def test_stand_in_for_quantized_weights_is_not_rounded_to_integers(dtype: np.dtype) -> None:
    """D-14: only a quotient and a product are rounded, each by half a unit of p bits."""
    w = to_dtype(np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32), dtype)
    bits = {"float32": 24, "float16": 11, "bfloat16": 8}[np.dtype(dtype).name]
    wide, found = w.astype(np.float64), clipped(w).astype(np.float64)
    assert (np.abs(found - wide) <= np.abs(wide) * 3 * 2.0**-bits).all()
    assert (clipped(np.zeros((2, 3), np.float32)) == 0).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "one to 3 linears behind a norm, 0 found"),
        ((8, 4, 4, 4), "one to 3 linears behind a norm, 4 found"),
        ((6, 4, 4), "6, 4, 4 rows"),
        ((8, 4, 8), "8, 4, 8 rows"),
    ],
)
def test_what_the_producer_cannot_compare_is_refused(rows: tuple[int, ...], message: str) -> None:
    seen, linears, products = _made(np.dtype(np.float32), rows, False)
    with pytest.raises(ValueError, match=message):
        OutputLoss(seen, linears, products)
