"""Every rule of the packets is enforced, at its packet and bit; the kernels refuse the same."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.sparse import StreamError, decode_kernels, decode_tables
from slimspec.sparse.codebook import HIGH, LOW, MODES, Mode, symbol_table
from slimspec.sparse.packets import PacketDecoder, encode_packets

END = (503, 9)
ESCAPE_5 = (15 | 0b10100000 << 4, 12)  # the byte 5, most significant bit first
NINE_BITS = (23, 9)  # dictionary entry 22 (low), 19 (high)
SIX_BITS = (37, 6)
ZERO, TWO_ZEROS, NINE_ZEROS = (0, 3), (4, 3), (5, 6)
SIZE = 128


def word(codes: Iterable[tuple[int, int]], fill: bool = True) -> bytes:
    value = position = 0
    for code, bits in codes:
        value |= code << position
        position += bits
    assert position <= 64
    if fill:
        value |= 2**64 - 2**position
    return value.to_bytes(8, "little")


# 21 · 2 + 21 · 2 + 21 · 2 + 2 = 128 zeros in low mode
FULL = word([TWO_ZEROS] * 21)
GOOD_LOW = FULL * 3 + word([TWO_ZEROS, END], fill=False)
CAPPED = word([NINE_ZEROS] * 7 + [ZERO], fill=False)
GOOD_HIGH = CAPPED + word([NINE_ZEROS] * 7 + [ZERO, END], fill=False)


def decode(stream: bytes, mode: Mode) -> bytes:
    return PacketDecoder(SIZE, bytes(range(mode.dictionary_size)), mode).decode(stream)[0]


DEFECTS = {
    "unassigned word 247 in low mode": (LOW, word([(247, 9)]), "unassigned-code", 0, 0),
    "six-bit code at bit 60": (
        LOW,
        word([TWO_ZEROS] * 20 + [(5, 4)], fill=False),
        "code-crosses-packet",
        0,
        60,
    ),
    "nine-bit code at bit 57": (
        LOW,
        word([TWO_ZEROS] * 19 + [(23, 7)], fill=False),
        "code-crosses-packet",
        0,
        57,
    ),
    "last bit of a full packet is zero": (
        LOW,
        word([TWO_ZEROS] * 21, fill=False),
        "fill",
        0,
        63,
    ),
    "escape with seven bits left that are not all ones": (
        LOW,
        word([TWO_ZEROS] * 19 + [(0b0101111, 7)], fill=False),
        "fill",
        0,
        57,
    ),
    "escape with ten bits left that are not all ones": (
        LOW,
        word([TWO_ZEROS] * 18 + [(0b0111111111, 10)], fill=False),
        "fill",
        0,
        54,
    ),
    "fill where a run fits": (
        LOW,
        word([TWO_ZEROS] * 20) + GOOD_LOW,
        "early-fill",
        0,
        60,
    ),
    "fill of ten before a nine-bit code": (
        LOW,
        word([TWO_ZEROS] * 18) + word([NINE_BITS] * 7),
        "early-fill",
        0,
        54,
    ),
    "fill of seven before a six-bit code": (
        LOW,
        word([TWO_ZEROS] * 19) + word([SIX_BITS] * 10),
        "early-fill",
        0,
        57,
    ),
    "fill of four before a run of nine": (
        HIGH,
        word([(1, 3)] * 20) + word([NINE_ZEROS] * 7 + [ZERO], fill=False),
        "early-fill",
        0,
        60,
    ),
    "fill of ten before END": (
        LOW,
        FULL * 2 + word([TWO_ZEROS] * 5 + [ZERO] * 16) + word([ZERO] * 18) + word([END], False),
        "early-fill",
        3,
        54,
    ),
    "bits after 64 input bytes": (
        HIGH,
        word([NINE_ZEROS] * 7 + [ZERO]) + GOOD_HIGH[8:],
        "cap-tail",
        0,
        45,
    ),
    "65 input bytes in a packet": (
        HIGH,
        word([NINE_ZEROS] * 7 + [TWO_ZEROS], fill=False) + GOOD_HIGH[8:],
        "packet-overflow",
        0,
        42,
    ),
    "one byte too many": (
        LOW,
        FULL * 3 + word([TWO_ZEROS, ZERO, END], fill=False),
        "too-many-bytes",
        3,
        3,
    ),
    "END one byte early": (LOW, FULL * 3 + word([ZERO, END], fill=False), "early-end", 3, 3),
    "END in the first packet": (LOW, word([END], fill=False), "early-end", 0, 0),
    "no END": (LOW, FULL * 3, "no-end", 2, 63),
    "bits after END in the packet": (LOW, FULL * 3 + word([TWO_ZEROS, END]), "tail", 3, 12),
    "byte after END in a later packet": (
        LOW,
        GOOD_LOW + bytes(11) + b"\1" + bytes(4),
        "tail",
        5,
        24,
    ),
}


def kernel_accepts(stream: bytes, mode: Mode, size: int) -> bool:
    book = decode_tables.Book(mode)
    single = np.zeros(512, np.uint64)
    multi = np.zeros(2 << decode_tables.MULTI_BITS, np.uint64)
    dictionary = np.arange(mode.dictionary_size, dtype=np.uint8)
    decode_tables.build_single(book.kinds, book.lengths, book.values, dictionary, single)
    decode_tables.build_multi(single, multi)
    stored = np.frombuffer(bytes(40) + stream, np.uint64).copy()
    out = np.zeros(size // 8, np.uint64)
    return decode_kernels.decode_packets(stored, stored.size, size, single, multi, out) > 0


@pytest.mark.parametrize(("stream", "mode"), [(GOOD_LOW, LOW), (GOOD_HIGH, HIGH)])
def test_hand_made_streams_decode(stream: bytes, mode: Mode) -> None:
    assert decode(stream, mode) == bytes(SIZE)
    assert kernel_accepts(stream, mode, SIZE)


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_named_at_its_packet_and_bit(name: str) -> None:
    mode, stream, code, packet, bit = DEFECTS[name]
    with pytest.raises(StreamError) as error:
        decode(stream, mode)
    found = error.value.defect
    assert (found.code, found.packet, found.bit) == (code, packet, bit)
    assert not kernel_accepts(stream, mode, SIZE)


def test_escape_takes_its_byte_most_significant_bit_first() -> None:
    rest = [TWO_ZEROS] * 17
    stream = word([ESCAPE_5, *rest]) + FULL * 2 + word([TWO_ZEROS] * 4 + [ZERO, END], fill=False)
    assert decode(stream, LOW) == b"\5" + bytes(127)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_code_book_is_prefix_free_and_nearly_complete(mode: Mode) -> None:
    symbols = list(mode.symbols())
    for one in symbols:
        clashes = [s for s in symbols if s.code & ((1 << one.length) - 1) == one.code]
        assert [s for s in clashes if s.length >= one.length] == [one]
    kraft = sum(2 ** (9 - symbol.length) for symbol in symbols)
    assert kraft == (511 if mode is LOW else 512)
    assert [i for i, s in enumerate(symbol_table(mode)) if s is None] == (
        [247] if mode is LOW else []
    )


@pytest.mark.parametrize(("mode", "entries"), [(LOW, 36), (HIGH, 34)])
def test_every_dictionary_entry_but_the_run_character_has_a_code(mode: Mode, entries: int) -> None:
    assert mode.dictionary_size == entries
    assert len(mode.index_codes) == entries - 1
    assert {bits for _, bits in mode.index_codes} == {3, 6, 9}


@given(
    st.binary(min_size=8, max_size=64).map(lambda b: b[: len(b) // 8 * 8]),
    st.sampled_from([LOW, HIGH]),
    st.sampled_from([1, 2, 7]).map(lambda f: 128 * f),
)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_kernel_and_definition_refuse_the_same_random_packets(
    stream: bytes, mode: Mode, size: int
) -> None:
    dictionary = bytes(range(mode.dictionary_size))
    try:
        PacketDecoder(size, dictionary, mode).decode(stream)
        accepted = True
    except StreamError:
        accepted = False
    assert kernel_accepts(stream, mode, size) == accepted


@given(st.integers(0, 2**32 - 1), st.sampled_from([LOW, HIGH]), st.sampled_from([128, 256]))
@settings(derandomize=True, deadline=None, max_examples=400)
def test_kernel_and_definition_refuse_the_same_damaged_packets(
    seed: int, mode: Mode, size: int
) -> None:
    rng = np.random.default_rng(seed)
    dictionary = bytes(range(mode.dictionary_size))
    raw = rng.integers(0, 48, size) * (rng.random(size) < rng.random())
    stream = encode_packets(raw.astype(np.uint8).tobytes(), dictionary, mode)
    padded = bytearray(stream.ljust(len(stream) // 32 * 32 + 32, b"\0"))
    assert kernel_accepts(bytes(padded), mode, size)
    bit = int(rng.integers(8 * len(padded)))
    padded[bit // 8] ^= 1 << bit % 8
    try:
        PacketDecoder(size, dictionary, mode).decode(bytes(padded))
        accepted = True
    except StreamError:
        accepted = False
    assert kernel_accepts(bytes(padded), mode, size) == accepted
