"""One-pass statistics: kernels, pieces and the plain form give the same integers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck.values import integers
from slimcheck.values.blocks import BLOCK, constant_blocks
from slimcheck.values.forms import Form
from slimcheck.values.integers import Matrix, lot_stats, lowest_codes
from slimspec.numeric.jit import jit_enabled
from slimspec.pack import pack_int4, unpack_int4

compiled_only = pytest.mark.skipif(not jit_enabled(), reason="kernels read files when compiled")


def integer_stats(codes, begin=0, groups=1):
    """Of int8 [n, k], one in each byte."""
    matrix = Matrix(begin, Form(codes.shape, None, groups, groups))
    return integers.integer_stats(codes.reshape(-1).view(np.uint8), matrix)


def nibble_stats(stored, axis, begin=0, groups=1):
    """Of int4 codes, two in a byte along an axis."""
    n, k = stored.shape
    form = Form((2 * n, k) if axis == 0 else (n, 2 * k), axis, groups, groups)
    return integers.integer_stats(stored.reshape(-1).view(np.uint8), Matrix(begin, form))


def same(a, b) -> bool:
    names = ("sums", "least", "most", "beyond", "ends", "sample")
    return all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in names
    ) and np.array_equal(a.blocks.constant, b.blocks.constant)


@pytest.fixture
def forms(monkeypatch):
    """Run a function with kernels for every size, and without."""

    def run(make):
        monkeypatch.setattr(integers, "jit_pays", lambda size: True)
        compiled = make()
        monkeypatch.setattr(integers, "jit_pays", lambda size: False)
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
    assert compiled.sums.dtype in (np.int32, np.int64)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(1, 300), st.integers(0, 5000), st.integers(0, 2**32 - 1))
def test_statistics_are_those_of_exact_integers(n, k, begin, seed):
    codes = np.random.default_rng(seed).integers(-128, 128, (n, k), np.int8)
    stats = integer_stats(codes, begin)
    assert stats.sums.tolist() == [[sum(map(int, row))] for row in codes]
    assert stats.most.tolist() == [[max(map(int, row))] for row in codes]
    assert stats.beyond == sum(abs(int(v)) >= 127 for v in codes.reshape(-1))


@pytest.mark.parametrize(
    ("n", "groups", "size", "begin"),
    [(1, 1, 1, 0), (3, 2, 700, 5), (70, 3, 100, 4096), (40, 5, 64, 4095), (6, 40, 130, 17),
     (0, 2, 8, 0), (3, 4, 0, 1)],
)  # fmt: skip
def test_groups_of_kernels_are_those_of_the_plain_form(forms, n, groups, size, begin):
    rng = np.random.default_rng(n + size)
    codes = rng.integers(-128, 128, (n, groups * size), np.int8)
    compiled, plain = forms(lambda: integer_stats(codes, begin, groups=groups))
    assert same(compiled, plain)
    for at in range(groups if size and n else 0):
        group = codes[:, at * size : (at + 1) * size].astype(int)
        assert compiled.sums[:, at].tolist() == group.sum(axis=1).tolist()
        assert compiled.least[:, at].tolist() == group.min(axis=1).tolist()
        assert compiled.most[:, at].tolist() == group.max(axis=1).tolist()


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.integers(0, 5), st.integers(1, 5), st.integers(0, 90), st.sampled_from([0, 1]),
    st.integers(0, 5000), st.sampled_from([-8, -7, 0]), st.booleans(), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_nibbles_are_the_codes_taken_apart(n, groups, size, axis, begin, low, jit, seed):
    rows, k = (2 * n, groups * size) if axis == 0 else (n, 2 * groups * size)
    codes = np.random.default_rng(seed).integers(low, 8, (rows, k)).astype(np.int8)
    stored = pack_int4(codes, axis)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integers, "jit_pays", lambda size: jit)
        found, lowest = nibble_stats(stored, axis, begin, groups), lowest_codes(stored, True)
        blocks = constant_blocks(stored.reshape(-1).view(np.uint8), begin)
    wanted = integer_stats(codes, groups=groups)
    for name in ("sums", "least", "most") if k else ():
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    assert lowest == lowest_codes(codes, False) == int((codes == -8).sum())
    assert np.array_equal(found.blocks.constant, blocks.constant)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("groups", "size"), [(1, 1024), (2, 2100), (1, 5000), (3, 1500), (3, 8), (2, 504)]
)
@pytest.mark.parametrize("value", [None, -8, 7])
def test_long_and_short_groups_of_nibbles(forms, axis, groups, size, value):
    rows, k = (4, groups * size) if axis == 0 else (2, 2 * groups * size)
    codes = np.random.default_rng(size).integers(-8, 8, (rows, k)).astype(np.int8)
    if value is not None:  # the largest sums there are
        codes[:] = value
    compiled, plain = forms(lambda: nibble_stats(pack_int4(codes, axis), axis, 9, groups))
    assert same(compiled, plain)
    cut = codes.reshape(rows, groups, -1).astype(int)
    assert compiled.sums.tolist() == cut.sum(axis=2).tolist()
    assert compiled.most.tolist() == cut.max(axis=2).tolist()


@compiled_only
@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("k", [5, 16, 520])
def test_sums_of_nibbles_are_the_same_at_every_place(at, k):
    from slimcheck.values.kernels import _apart_sums

    x = np.random.default_rng(k).integers(0, 256, 4 * k + 17).astype(np.uint8)
    sums = np.empty(8, np.int32)
    _apart_sums(x, at, k, 2, sums)
    codes = unpack_int4(x[at : at + 4 * k].view(np.int8).reshape(2, 2 * k), 0)
    assert sums.tolist() == codes.reshape(8, k).sum(axis=1, dtype=int).tolist()


def test_wider_groups_are_made_of_the_narrow_ones():
    codes = np.random.default_rng(5).integers(-128, 128, (4, 60), np.int8)
    fine = integer_stats(codes, groups=12)
    for columns in (1, 2, 3, 4, 6, 12):
        other = integer_stats(codes, groups=columns)
        for one, two in zip(fine.over(columns), (other.least, other.most), strict=True):
            assert np.array_equal(one, two)
    assert [fine.over(columns) for columns in (0, 5, 24)] == [None] * 3
    assert [part.shape for part in integer_stats(codes[:0], groups=12).over(3)] == [(0, 3)] * 2


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_peak_and_span_are_those_of_exact_integers(seed, ends):
    codes = np.random.default_rng(seed).integers(-128, 128, (3, 12), np.int8)
    if ends:
        codes[0, 0], codes[1, :4], codes[2, 5] = -128, -3, 127
    groups = integer_stats(codes, groups=3).over(3)
    cut = codes.astype(int).reshape(3, 3, 4)
    assert groups.peak.tolist() == np.abs(cut).max(axis=2).tolist()
    assert groups.span.tolist() == (cut.max(axis=2) - cut.min(axis=2)).tolist()
    assert groups.idle.tolist() == (~cut.any(axis=2)).tolist()


@compiled_only
@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_matrices_of_a_file_are_counted_as_each_in_memory(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    raw, matrices, begin = rng.integers(0, 256, 60000).astype(np.uint8), [], 0
    for _ in range(rng.integers(1, 5)):
        axis, groups = rng.choice([None, 0, 1]), int(rng.integers(1, 4))
        n, k = 2 * int(rng.integers(1, 9)), 2 * groups * int(rng.integers(1, 120))
        begin += int(rng.integers(0, 5000))
        chunks = int(rng.choice([0, 1, groups, 2 * groups if axis is None else groups]))
        form = Form((n, k), axis, groups, chunks)
        matrices.append(Matrix(begin, form))
        begin += form.nbytes
    constant = sorted(rng.integers(0, raw.size, 2))
    raw[slice(*constant)] = rng.integers(0, 256)
    file = tmp_path_factory.mktemp("lot") / "data"
    file.write_bytes(raw.tobytes())
    with file.open("rb") as stream, pytest.MonkeyPatch.context() as patch:
        together = lot_stats(stream.fileno(), matrices)
        patch.setattr(integers, "jit_pays", lambda size: False)
        for found, m in zip(together, matrices, strict=True):
            alone = integers.integer_stats(raw[m.begin : m.begin + m.form.nbytes], m)
            assert same(found, alone)
            assert (found.sums is None) == (not m.form.chunks)


@compiled_only
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("k", [12, 1020, 300_006])
def test_pieces_of_a_large_matrix_give_the_same(forms, tmp_path, axis, k):
    """A hole lies across the end of a piece; rows may be longer than a piece."""
    stored = (
        np.random.default_rng(k).integers(0, 256, (1_200_024 // k // 2 * 2, k)).astype(np.uint8)
    )
    flat = stored.reshape(-1)
    for at in (0, 1 << 18, 600_000):
        flat[max(at - 9000, 0) : at + 9000] = 7
    n = stored.shape[0]
    shape = (n, k) if axis is None else (2 * n, k) if axis == 0 else (n, 2 * k)
    matrix = Matrix(777, Form(shape, axis, 3, 6))
    file = tmp_path / "data"
    file.write_bytes(bytes(777) + stored.tobytes())
    with file.open("rb") as stream:
        (found,) = lot_stats(stream.fileno(), [matrix])
    compiled, plain = forms(lambda: integers.integer_stats(flat, matrix))
    assert same(found, plain)
    assert same(compiled, plain)
    assert found.blocks.constant.size > 4


@compiled_only
def test_shorter_file_than_stated_has_no_statistics(tmp_path: Path):
    file = tmp_path / "data"
    file.write_bytes(bytes(100))
    with file.open("rb") as stream:
        assert lot_stats(stream.fileno(), [Matrix(90, Form((1, 11)))]) is None
        assert lot_stats(stream.fileno(), [Matrix(90, Form((1, 10)))]) is not None


def test_long_row_of_extremes_does_not_overflow(forms):
    codes = np.full((1, 1 << 20), -128, np.int8)
    compiled, plain = forms(lambda: integer_stats(codes))
    assert compiled.sums.tolist() == [[-128 << 20]]
    assert compiled.beyond == 1 << 20
    assert same(compiled, plain)


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
