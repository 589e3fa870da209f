"""NZ layout, tile plan and index against their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.sparse import StreamError, TilePlan, nd_to_nz, nz_to_nd
from slimspec.sparse.container import open_container
from slimspec.sparse.index import build_index, index_defects, parse_index
from slimspec.sparse.plan import stored_width

sides = st.tuples(st.integers(1, 300), st.integers(1, 600))


@given(sides, st.integers(0, 2**32 - 1), st.booleans())
@settings(derandomize=True, deadline=None, max_examples=60)
def test_nz_is_the_transposed_fractal_view_of_the_padded_matrix(
    side: tuple[int, int], seed: int, strided: bool
) -> None:
    n, k = side
    weight = np.random.default_rng(seed).integers(-128, 128, (n, 2 * k), np.int8)
    weight = weight[:, ::2] if strided else np.ascontiguousarray(weight[:, :k])
    n1, k1 = -(-n // 16), -(-k // 32)
    padded = np.zeros((16 * n1, 32 * k1), np.int8)
    padded[:n, :k] = weight
    nz = nd_to_nz(weight)
    assert np.array_equal(nz, padded.reshape(n1, 16, k1, 32).transpose(2, 0, 1, 3))
    assert np.array_equal(nz_to_nd(nz, n, k), weight)


@pytest.mark.parametrize(
    "weight",
    [
        np.zeros((0, 4), np.int8),
        np.zeros((4, 0), np.int8),
        np.zeros(4, np.int8),
        np.zeros((2, 2), np.uint8),
    ],
)
def test_what_is_not_an_int8_matrix_has_no_nz_layout(weight: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected int8 \[n, k\]"):
        nd_to_nz(weight)


@pytest.mark.parametrize(
    ("n", "k", "dtype"), [(17, 32, np.int8), (16, 32, np.uint8), (0, 0, np.int8)]
)
def test_nz_of_another_size_is_refused(n: int, k: int, dtype: str) -> None:
    with pytest.raises(ValueError, match="expected int8"):
        nz_to_nd(np.zeros((1, 1, 16, 32), dtype), n, k)


@pytest.mark.parametrize(
    ("n", "k", "expected"),
    [(128, 256, 8), (4096, 4096, 4096), (13824, 5120, 17280), (48, 100, 8), (1, 1, 8)],
)
def test_index_length_is_eight_bytes_per_tile(n: int, k: int, expected: int) -> None:
    assert TilePlan(n, k).index_bytes == expected


@given(sides)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_tiles_cover_every_fractal_once(side: tuple[int, int]) -> None:
    plan = TilePlan(*side)
    n1, k1 = -(-plan.n // 16), -(-plan.k // 32)
    covered = np.zeros((n1, k1), np.int64)
    for number, tile in enumerate(plan.tiles()):
        assert tile.number == number
        covered[tile.n0 : tile.n0 + tile.valid, tile.k0 : tile.k0 + tile.kf] += 1
        for width in tile.widths:
            assert 0 <= tile.first(width) <= tile.n0
            assert tile.width_of(tile.size(width)) == width
        assert tile.width_of(tile.size(9)) is None
    assert (covered == 1).all()
    assert number + 1 == plan.k_index * plan.n_index
    widest = sum(tile.size(tile.widths[0]) for tile in plan.tiles())
    assert widest == plan.largest_weight


def test_only_a_partial_last_tile_of_more_than_128_rows_has_two_forms() -> None:
    assert [tile.widths for tile in TilePlan(100, 32).tiles()] == [(7,)]
    assert [tile.widths for tile in TilePlan(256, 32).tiles()] == [(8,), (8,)]
    last = list(TilePlan(144, 32).tiles())[-1]
    assert last.widths == (8, 1)
    assert stored_width(last, "overlap") == 8
    assert stored_width(last, "narrow") == 1
    assert last.first(8) == 1
    with pytest.raises(ValueError, match="expected overlap or narrow"):
        stored_width(last, "wide")


def test_index_entry_is_length_flag_and_offset() -> None:
    index = build_index([(16128, True), (32768, False), (256, True)])
    assert index.tobytes().hex() == "7e80000000000000000100007e000000028000007e010000"
    entries = parse_index(index)
    assert [entry.start for entry in entries] == [0, 16128, 48896]
    assert [entry.size for entry in entries] == [16128, 32768, 256]
    assert [entry.compressed for entry in entries] == [True, False, True]


def test_weight_longer_than_the_offsets_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="32-bit offset"):
        build_index([(128 << 32, False), (128, False)])


def entry(length: int, offset: int = 0, zero: int = 0) -> bytes:
    return length.to_bytes(2, "little") + zero.to_bytes(2, "little") + offset.to_bytes(4, "little")


# One tile of 16 x 64 bytes (1024 B raw) and what may be wrong with its entry.
@pytest.mark.parametrize(
    ("raw", "size", "code", "bit"),
    [
        (entry(0x8004 | 1 << 9), 512, "reserved", 9),
        (entry(0x8004 | 1 << 13), 512, "reserved", 13),
        (entry(0x8004 | 1 << 14), 512, "reserved", 14),
        (entry(0x8004, zero=1), 512, "reserved", 16),
        (entry(0x8000), 512, "data-length", 0),
        (entry(0), 512, "data-length", 0),
        (entry(0x8009), 1152, "data-length", 0),
        (entry(0x8001), 128, "compressed-length", 0),
        (entry(0x0007), 896, "raw-length", 0),
        (entry(0x8004, offset=1), 640, "offset", 32),
        (entry(0x8004, offset=2**32 - 1), 512, "offset", 32),
        (entry(0x8004), 640, "weight-end", None),
        (entry(0x8004), 384, "weight-end", None),
    ],
)
def test_index_defect_is_named(raw: bytes, size: int, code: str, bit: int | None) -> None:
    index = np.frombuffer(raw, np.int8)
    defects = list(index_defects(index, TilePlan(16, 64), size))
    first = defects[0]
    assert (first.code, first.tile, first.bit, first.level) == (code, 0, bit, 1)
    info = np.array([8, 8, 64, 16, 1], np.int64)
    with pytest.raises(StreamError):
        open_container(np.zeros(size, np.int8), index, info)
