"""One-pass statistics: kernels, pieces and the plain form give the same integers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck import scan_stats
from slimcheck.scan_stats import BLOCK, float_stats, integer_stats
from slimspec.checkpoint import stored


def same(a, b) -> bool:
    return (
        all(
            np.array_equal(getattr(a, name), getattr(b, name))
            for name in ("row_sum", "row_min", "row_max", "beyond", "ends")
        )
        and np.array_equal(a.blocks.low, b.blocks.low)
        and np.array_equal(a.blocks.high, b.blocks.high)
    )


@pytest.fixture
def forms(monkeypatch):
    """Run a function with kernels for every size, and without."""

    def run(make):
        monkeypatch.setattr(scan_stats, "jit_pays", lambda size: True)
        compiled = make()
        monkeypatch.setattr(scan_stats, "jit_pays", lambda size: False)
        return compiled, make()

    return run


@pytest.mark.parametrize(
    ("n", "k", "begin"),
    [(1, 1, 0), (3, 5000, 5), (70, 100, 4096), (900, 1, 17), (2, 4096, 0), (5, 127, 4095),
     (0, 7, 0), (3, 128, 1), (1, 20000, 4000)],
)  # fmt: skip
def test_kernel_is_the_plain_form(forms, n, k, begin):
    codes = np.random.default_rng(n + k).integers(-128, 128, (n, k), np.int8)
    compiled, plain = forms(lambda: integer_stats(codes, begin))
    assert same(compiled, plain)
    assert compiled.row_sum.dtype == np.int64


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 300), st.integers(0, 5000), st.integers(0, 2**32 - 1))
def test_statistics_are_those_of_exact_integers(n, k, begin, seed):
    codes = np.random.default_rng(seed).integers(-128, 128, (n, k), np.int8)
    stats = integer_stats(codes, begin)
    assert stats.row_sum.tolist() == [sum(map(int, row)) for row in codes]
    assert stats.row_max.tolist() == [max(map(int, row)) for row in codes]
    assert stats.beyond == sum(abs(int(v)) >= 127 for v in codes.reshape(-1))


def test_long_row_of_extremes_does_not_overflow(forms):
    codes = np.full((1, 1 << 20), -128, np.int8)
    compiled, plain = forms(lambda: integer_stats(codes))
    assert compiled.row_sum.tolist() == [-128 << 20]
    assert compiled.beyond == 1 << 20
    assert same(compiled, plain)


def test_pieces_of_a_file_give_the_same(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(scan_stats, "jit_pays", lambda size: True)
    monkeypatch.setattr(stored, "_PIECE", 1000)
    codes = np.random.default_rng(3).integers(-128, 128, (37, 333), np.int8)
    file = tmp_path / "data"
    file.write_bytes(b"x" * 77 + codes.tobytes())
    assert same(integer_stats(codes, 77, file), integer_stats(codes, 77))
    words = np.random.default_rng(4).normal(size=9001).astype(np.float16)
    words[[5000, 8000]] = np.nan, np.inf
    file.write_bytes(b"x" * 78 + words.tobytes())
    whole, pieces = float_stats(words, "F16", 78), float_stats(words, "F16", 78, file)
    assert pieces.not_finite == whole.not_finite == 5000
    assert np.array_equal(pieces.blocks.low, whole.blocks.low)


def test_shorter_file_than_stated_is_an_error(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(scan_stats, "jit_pays", lambda size: True)
    file = tmp_path / "data"
    file.write_bytes(b"123")
    with pytest.raises(OSError, match="shorter than its header"):
        integer_stats(np.zeros((4, 4), np.int8), 0, file)


def test_blocks_are_those_of_the_file():
    codes = np.ones((3, 3 * BLOCK), np.int8)
    codes[1, :5000] = np.arange(5000) % 100
    stats = integer_stats(codes, 96)
    assert stats.blocks.element(0) == BLOCK - 96
    # row 1 begins 3 blocks in: the first 5000 values of it spoil two blocks of the file
    constant = set(stats.blocks.constant.tolist())
    assert {0, 1} <= constant
    assert 2 not in constant
    assert {5, 6} <= constant


@pytest.mark.parametrize("tag", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_first_number_that_is_none_is_found(forms, tag, value):
    import ml_dtypes

    dtype = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}[tag]
    values = np.linspace(-6e4, 6e4, 3000).astype(dtype)
    compiled, plain = forms(lambda: float_stats(values, tag))
    assert compiled.not_finite == plain.not_finite == -1
    values[[1234, 2999]] = value
    compiled, plain = forms(lambda: float_stats(values, tag))
    assert compiled.not_finite == plain.not_finite == 1234
