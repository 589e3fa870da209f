"""Levels 0 to 4: each defect is named at its level and place, and decompress refuses it too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from slimspec.sparse import (
    CODES,
    Compressed,
    StreamDefect,
    StreamError,
    compress,
    decompress,
    validate,
)
from slimspec.sparse.codebook import LOW
from slimspec.sparse.index import build_index
from slimspec.sparse.packets import encode_packets
from slimspec.sparse.tile import deal, encode_tile, header, undeal

Int8 = NDArray[np.int8]


def gaussian(n: int, k: int, sigma: float = 2, seed: int = 0) -> Int8:
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(rng.normal(0, sigma, (n, k))), -128, 127).astype(np.int8)


WEIGHT = gaussian(150, 300)  # 2 × 2 tiles; both remainders and padding rows and columns
STREAMS = {mode: compress(WEIGHT, mode) for mode in ("low", "high")}
SMALL = gaussian(140, 20)
SMALL_STREAMS = {mode: compress(SMALL, mode) for mode in ("low", "high")}


def engine_byte(tile: int, engine: int, at: int, mode: str = "low") -> int:
    """Return where byte `at` of an engine's stored stream lies in the weight."""
    start = int(STREAMS[mode].index.view(np.uint32)[2 * tile + 1]) * 128
    return start + at // 32 * 128 + 32 * engine + at % 32


def damaged(change: Callable[[Int8], None], mode: str = "low") -> Compressed:
    stream = STREAMS[mode]
    weight = stream.weight.copy()
    change(weight)
    return Compressed(weight, stream.index, stream.info)


def flip(at: int, mask: int = 1) -> Callable[[Int8], None]:
    def change(weight: Int8) -> None:
        weight.view(np.uint8)[at] ^= mask

    return change


def only_error(stream: Compressed, level: int = 3, **options: Any) -> StreamDefect:
    defects = validate(stream.weight, stream.index, stream.info, level, **options)
    errors = [defect for defect in defects if not defect.warning]
    assert len(errors) == 1, [defect.message for defect in defects]
    return errors[0]


@pytest.mark.parametrize(
    "info",
    [
        np.array([8, 8, 300, 150, 1], np.int32),
        np.array([8, 8, 300, 150], np.int64),
        np.array([[8, 8, 300, 150, 1]], np.int64),
        np.array([16, 8, 300, 150, 1], np.int64),
        np.array([8, 4, 300, 150, 1], np.int64),
        np.array([8, 8, 0, 150, 1], np.int64),
        np.array([8, 8, 300, -1, 1], np.int64),
        np.array([8, 8, 300, 150, 0], np.int64),
    ],
)
def test_wrong_info_is_a_level_0_defect(info: NDArray[Any]) -> None:
    stream = STREAMS["low"]
    defect = only_error(Compressed(stream.weight, stream.index, info), 0)
    assert (defect.code, defect.level) == ("info", 0)
    with pytest.raises(StreamError, match="info"):
        decompress(stream.weight, stream.index, info)


def test_sizes_claimed_by_info_must_fit_the_index_before_anything_is_allocated() -> None:
    stream = STREAMS["low"]
    huge = np.array([8, 8, 1 << 40, 1 << 40, 1], np.int64)
    assert only_error(Compressed(stream.weight, stream.index, huge), 0).code == "index-shape"
    with pytest.raises(StreamError, match="index-shape"):
        decompress(stream.weight, stream.index, huge)


@pytest.mark.parametrize("name", ["weight", "index"])
@pytest.mark.parametrize("change", ["dtype", "dimension", "shorter", "empty"])
def test_wrong_tensor_shape_is_a_level_0_defect(name: str, change: str) -> None:
    tensor = getattr(STREAMS["low"], name)
    wrong = {
        "dtype": tensor.view(np.uint8),
        "dimension": tensor[None],
        "shorter": tensor[:-1],
        "empty": tensor[:0],
    }[change]
    stream = Compressed(**{**vars(STREAMS["low"]), name: wrong})
    assert only_error(stream, 0).code == f"{name}-shape"
    with pytest.raises(StreamError, match=f"{name}-shape"):
        decompress(stream.weight, stream.index, stream.info)


def test_weight_longer_than_all_tiles_raw_is_a_level_0_defect() -> None:
    stream = STREAMS["low"]
    weight = np.zeros(512 * 10 * 16 + 128, np.int8)
    assert only_error(Compressed(weight, stream.index, stream.info), 0).code == "weight-bound"


def test_weight_that_saves_nothing_is_a_warning() -> None:
    weight = np.random.default_rng(0).integers(-128, 128, (16, 32)).astype(np.int8)
    stream = compress(weight)
    (defect,) = validate(stream.weight, stream.index, stream.info, 4, weight)
    assert (defect.code, defect.warning) == ("weight-not-smaller", True)


# name -> (mode, byte of the stored engine, mask, code, bit), all in engine 2 of tile 1
HEADER_DEFECTS = {
    "unknown mode": ("low", 0, 0x01, "marker", 0),
    "the other mode": ("low", 0, 0x20, "mode", 0),
    "tile size": ("low", 1, 0x01, "tile-size", 8),
    "reserved byte": ("high", 2, 0x80, "header-reserved", 16),
    "last reserved byte": ("high", 3, 0x01, "header-reserved", 24),
    "dictionary in bytes 2 and 3": ("low", 3, 0x02, "header-differs", 24),
    "dictionary": ("low", 20, 0x40, "header-differs", 160),
    "dictionary in the second chunk": ("high", 39, 0x40, "header-differs", 312),
    "odd parity": ("low", 4, 0x10, "xor", 32),
    "even parity": ("high", 5, 0x01, "xor", 40),
}


@pytest.mark.parametrize("name", HEADER_DEFECTS)
def test_header_defect_is_named_at_its_engine_and_bit(name: str) -> None:
    mode, at, mask, code, bit = HEADER_DEFECTS[name]
    stream = damaged(flip(engine_byte(1, 2, at, mode), mask), mode)
    defect = only_error(stream)
    assert (defect.code, defect.tile, defect.engine, defect.bit) == (code, 1, 2, bit)
    assert defect.packet is None
    assert defect.level == (3 if code == "xor" else 2)
    if code != "xor":
        assert only_error(stream, 2) == defect
    with pytest.raises(StreamError) as error:
        decompress(stream.weight, stream.index, stream.info)
    assert error.value.defect == defect


def test_unknown_mode_of_the_first_tile_is_refused() -> None:
    stream = damaged(flip(engine_byte(0, 0, 0), 0x01))
    defect = only_error(stream)
    assert (defect.code, defect.tile, defect.engine) == ("marker", 0, 0)
    with pytest.raises(StreamError, match="marker"):
        decompress(stream.weight, stream.index, stream.info)


def test_tile_size_that_no_form_has_is_refused_before_decoding() -> None:
    defect = only_error(damaged(flip(engine_byte(0, 0, 1), 0xFF)))
    assert (defect.code, defect.tile, defect.engine, defect.bit) == ("tile-size", 0, 0, 8)


def test_repeated_dictionary_value_in_all_engines_is_refused() -> None:
    def repeat(weight: Int8) -> None:
        for engine in range(4):
            weight[engine_byte(3, engine, 7)] = weight[engine_byte(3, engine, 6)]

    defect = only_error(damaged(repeat))
    assert (defect.code, defect.tile, defect.engine, defect.bit) == ("dictionary", 3, 0, 56)


def test_packet_defect_is_named_with_tile_engine_packet_and_bit() -> None:
    at = engine_byte(2, 1, 40 + 8 * 5)
    stream = damaged(lambda weight: weight.view(np.uint8)[at : at + 8].fill(0xFF))
    defect = only_error(stream)
    place = (defect.level, defect.tile, defect.engine, defect.packet)
    assert place == (3, 2, 1, 5)
    assert defect.bit is not None
    assert "tile 2, engine 1, packet 5, bit" in defect.message


def one_tile(weight: bytes, compressed: bool, n: int = 16, k: int = 32) -> Compressed:
    index = build_index([(len(weight), compressed)])
    return Compressed(np.frombuffer(weight, np.int8), index, np.array([8, 8, k, n, 1], np.int64))


def test_longer_padding_than_the_longest_stream_needs_is_refused() -> None:
    stream = compress(np.zeros((16, 64), np.int8))
    defect = only_error(one_tile(stream.weight.tobytes() + bytes(128), True, k=64))
    assert (defect.code, defect.tile) == ("stream-padding", 0)
    assert (defect.found, defect.expected) == ("128 B", "96 B")  # per engine


def test_nonzero_padding_is_refused_with_its_place() -> None:
    rows, columns = WEIGHT.copy(), WEIGHT.copy()
    for wrong, n, k, tile in ((rows, 149, 300, 2), (columns, 150, 299, 1)):
        wrong[149, 0] = wrong[0, 299] = 77
        stream = compress(wrong)
        info = np.array([8, 8, k, n, 1], np.int64)
        defect = only_error(Compressed(stream.weight, stream.index, info))
        assert (defect.code, defect.tile) == ("padding", tile)


def test_decoded_weight_is_compared_with_its_reference() -> None:
    stream, other = STREAMS["low"], WEIGHT.copy()
    other[140, 290] ^= 1
    defect = only_error(stream, 4, reference=other)
    assert (defect.code, defect.tile) == ("differs", 3)
    assert "row 140, byte 290" in defect.found
    assert only_error(stream, 4, reference=other[:-1]).code == "reference-shape"
    assert validate(stream.weight, stream.index, stream.info, 4, WEIGHT) == []


def test_float16_reference_is_compared_by_bytes() -> None:
    weight = np.random.default_rng(9).choice([0, 1, -0.5], (40, 40)).astype(np.float16)
    stream = compress(weight, "high")
    assert validate(stream.weight, stream.index, stream.info, 4, weight) == []
    assert only_error(stream, 4, reference=-weight).code == "differs"


def test_rare_run_character_is_a_warning() -> None:
    data = bytes(500) + bytes([5] * 12)
    dictionary = bytes([5, 0, *range(100, 134)])
    stream = one_tile(*encode_tile(data, dictionary, LOW))
    (defect,) = validate(stream.weight, stream.index, stream.info, 4)
    assert (defect.code, defect.tile, defect.warning) == ("run-character", 0, True)
    assert decompress(stream.weight, stream.index, stream.info).tobytes() == data


def store(streams: list[bytes], dictionary: bytes) -> bytes:
    """Store a tile as compressed whatever its size, as no encoder does."""
    stored = [header(s, dictionary, LOW) + encode_packets(s, dictionary, LOW) for s in streams]
    size = -(-max(map(len, stored)) // 32) * 32
    return undeal([s.ljust(size, b"\0") for s in stored], 32)


def test_tile_that_does_not_shrink_must_be_raw() -> None:
    dictionary = bytes(range(36))
    candidates = (bytes([200] * count).ljust(128, b"\0") for count in range(128))
    full = next(c for c in candidates if len(encode_packets(c, dictionary, LOW)) == 128 - 40)
    streams = [bytes(128), bytes(128), full, bytes(128)]
    defect = only_error(one_tile(store(streams, dictionary), True))
    assert (defect.code, defect.tile, defect.engine, defect.found) == ("not-raw", 0, 2, "128 B")
    assert encode_tile(undeal(streams, 64), dictionary, LOW) == (undeal(streams, 32), False)


def test_code_words_no_encoder_chooses_are_a_warning() -> None:
    # Two equal zero runs as one byte each: decodes, but the encoder writes the longer run.
    dictionary = bytes(range(36))
    stored = deal(store([bytes(128)] * 4, dictionary), 32)
    greedy = int.from_bytes(stored[3][64:72], "little")  # 2 zeros, END
    assert greedy == 4 | 503 << 3
    stored[3] = stored[3][:64] + (503 << 6).to_bytes(8, "little") + stored[3][72:]
    stream = one_tile(undeal(stored, 32), True)
    (defect,) = validate(stream.weight, stream.index, stream.info, 4)
    assert (defect.code, defect.tile, defect.warning) == ("not-canonical", 0, True)
    assert not decompress(stream.weight, stream.index, stream.info).any()


def test_other_bytes_in_skipped_fractals_are_a_warning() -> None:
    weight = gaussian(144, 64)
    stream = compress(weight)
    other = gaussian(144, 64)
    other[16:128] = gaussian(112, 64, seed=4)
    tail = compress(other)
    first = int(stream.index.view(np.uint16)[0] & 511) * 128
    start = int(tail.index.view(np.uint32)[3]) * 128
    spliced = np.concatenate([stream.weight[:first], tail.weight[start:]])
    index = build_index([(first, True), (tail.weight.size - start, True)])
    assert np.array_equal(decompress(spliced, index, stream.info), weight)
    (defect,) = validate(spliced, index, stream.info, 4, weight)
    assert (defect.code, defect.tile, defect.warning) == ("overlap-differs", 1, True)


def test_number_of_defects_is_limited() -> None:
    stream = STREAMS["low"]
    broken = Compressed(stream.weight, np.full_like(stream.index, -1), stream.info)
    assert len(validate(broken.weight, broken.index, broken.info, limit=3)) == 3


def test_unknown_level_is_refused() -> None:
    stream = STREAMS["low"]
    with pytest.raises(ValueError, match="expected 0 to 4"):
        validate(stream.weight, stream.index, stream.info, 5)


def test_every_code_has_a_level_and_a_rule() -> None:
    assert {level for level, _, _ in CODES.values()} == {0, 1, 2, 3, 4}
    assert all(meaning for _, _, meaning in CODES.values())


def error_of(weight: Int8, index: Int8, info: NDArray[np.int64]) -> StreamDefect | None:
    try:
        decompress(weight, index, info)
    except StreamError as error:
        return error.defect
    return None


@given(st.binary(min_size=128, max_size=1024), st.binary(min_size=8, max_size=8), st.integers(0, 3))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_hostile_bytes_are_refused_not_crashed_on(data: bytes, entry: bytes, fix: int) -> None:
    weight = np.frombuffer(data[: len(data) // 128 * 128], np.int8)
    index = np.frombuffer(entry, np.int8)
    if fix:  # let more of them reach the deeper levels
        index = build_index([(weight.size, fix > 1)])
    if fix == 3:
        weight = weight.copy()
        weight[:2] = (0xA8 - 256, 2)
    info = np.array([8, 8, 64, 16, 1], np.int64)
    defects = validate(weight, index, info, 3)
    error = error_of(weight, index, info)
    assert error is None or error in defects
    assert (error is None) == all(defect.warning for defect in defects)


@given(st.integers(0, 2**32 - 1))
@settings(derandomize=True, deadline=None, max_examples=120)
def test_no_flipped_bit_decodes_to_another_weight_unnoticed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stream = SMALL_STREAMS[("low", "high")[seed % 2]]
    weight, index = stream.weight.copy(), stream.index.copy()
    flat = (index if rng.random() < 0.2 else weight).view(np.uint8)
    flat[rng.integers(flat.size)] ^= 1 << int(rng.integers(8))
    error = error_of(weight, index, stream.info)
    if error is None:
        assert np.array_equal(decompress(weight, index, stream.info), SMALL)
    else:
        assert error in validate(weight, index, stream.info)
