"""The fast integer matmul equals the sum over Python integers for every shape and thread count."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.matmul import integer, madd, matmul_int8, matmul_int8_plain

FULL = st.sampled_from([-128, -127, -1, 0, 1, 127])


def python_sum(x, w):
    """Σ in Python integers, narrowed modulo 2^32 by hand."""
    rows = [[sum(int(a) * int(b) for a, b in zip(r, c, strict=True)) for c in w] for r in x]
    wrapped = [[(v + 2**31) % 2**32 - 2**31 for v in row] for row in rows]
    return np.array(wrapped, np.int64).reshape(x.shape[0], w.shape[0]).astype(np.int32)


def random_int8(seed, *shape):
    return np.random.default_rng(seed).integers(-128, 128, shape, dtype=np.int8)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 9), st.integers(0, 40), st.integers(0, 9), st.integers(1, 3))
def test_equals_python_integers(data, m, k, n, threads):
    x = data.draw(hnp.arrays(np.int8, (m, k), elements=st.integers(-128, 127) | FULL))
    w = data.draw(hnp.arrays(np.int8, (n, k), elements=st.integers(-128, 127) | FULL))
    got = matmul_int8(x, w, threads=threads)
    assert got.dtype == np.int32
    assert np.array_equal(got, python_sum(x, w))


@pytest.mark.parametrize("m", [1, 3, 4, 5, 27, 28, 29, 61])
@pytest.mark.parametrize("k", [1, 31, 1023, 1024, 1025, 2049, 5000])
def test_every_path_equals_the_plain_form(m, k):
    x, w = random_int8(m, m, k), random_int8(k, 37, k)
    assert np.array_equal(matmul_int8(x, w), matmul_int8_plain(x, w))


@pytest.mark.parametrize("value", [-128, 127])
@pytest.mark.parametrize(("m", "k"), [(2, 131072), (50, 131072), (3, 131073), (50, 3000)])
def test_extreme_values_are_exact_and_wrap_past_2_to_the_31(value, m, k):
    x, w = np.full((m, k), value, np.int8), np.full((3, k), -128, np.int8)
    expected = (k * value * -128 + 2**31) % 2**32 - 2**31
    assert np.all(matmul_int8(x, w) == expected)


def test_sums_past_2_to_the_24_keep_their_last_bit():
    x, w = np.full((50, 1100), 127, np.int8), np.full((3, 1100), 127, np.int8)
    x[:, 0], w[:, 0] = 1, 1
    assert np.all(matmul_int8(x, w) == 1099 * 127**2 + 1)  # 17725772 > 2^24


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_thread_count_does_not_change_a_bit(threads):
    x, w = random_int8(1, 5, 4096), random_int8(2, 1031, 4096)
    assert np.array_equal(matmul_int8(x, w, threads=threads), matmul_int8_plain(x, w))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (6, 2, 16), (7, 33, 17), (13, 1027, 300), (6, 4096, 1)]
)
def test_tiles_of_multiply_add_pairs_equal_the_plain_form(shape):
    if not madd.available():
        pytest.skip("this CPU has no AVX2, or the JIT is off")
    m, k, n = shape
    x, w = random_int8(3, m, k), random_int8(4, n, k)
    x[0], w[0] = -128, -128
    out = np.empty((m, n), np.int32)
    for span in (slice(0, n // 2), slice(n // 2, n)):
        madd.columns(madd.row_words(x), w, out, span)
    assert np.array_equal(out, matmul_int8_plain(x, w))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_portable_form_gives_the_same_bits(monkeypatch, threads):
    x, w = random_int8(5, 40, 3000), random_int8(6, 530, 3000)
    here = matmul_int8(x, w, threads=threads)
    monkeypatch.setattr(madd, "available", lambda: False)
    assert np.array_equal(matmul_int8(x, w, threads=threads), here)
    assert np.array_equal(here, matmul_int8_plain(x, w))


def test_any_strides_are_accepted():
    x, w = random_int8(1, 40, 60)[::2, ::-3], random_int8(2, 20, 9).T
    assert np.array_equal(matmul_int8(x, w), matmul_int8_plain(x, w))
    assert np.array_equal(matmul_int8(x.T, x.T), matmul_int8_plain(x.T, x.T))


def test_blocks_cover_k_and_hold_their_certificate():
    for seed, spread in ((0, 20), (1, 128)):
        rng = np.random.default_rng(seed)
        x, w = (rng.integers(-spread, spread, s, dtype=np.int8) for s in ((9, 9000), (8, 9000)))
        blocks = integer.exact_blocks(x, w)
        assert [b.start for b in blocks] == [0, *[b.stop for b in blocks[:-1]]]
        assert blocks[-1].stop == 9000
        for b in blocks:
            norms = [int((a[:, b].astype(np.int64) ** 2).sum(1).max()) for a in (x, w)]
            assert b.stop - b.start <= 1024 or norms[0] * norms[1] <= 2**48
    assert len(integer.exact_blocks(*(np.ones((1, 9000), np.int8),) * 2)) == 1


@pytest.mark.parametrize(
    ("x", "w", "error"),
    [
        (np.zeros((2, 3), np.int16), np.zeros((2, 3), np.int8), TypeError),
        (np.zeros(3, np.int8), np.zeros((2, 3), np.int8), ValueError),
        (np.zeros((2, 3), np.int8), np.zeros((2, 4), np.int8), ValueError),
    ],
)
def test_wrong_arguments_get_one_clear_error(x, w, error):
    with pytest.raises(error, match=r"expected|differ"):
        matmul_int8(x, w)
