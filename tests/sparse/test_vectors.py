"""The published streams: length, index, hash and lossless decode, by kernels and by definition.

`vectors.json` holds the rows of facts/sparse_codec.md 8; each part of a weight is a byte formula
over the states of a linear congruential generator that restarts from the part's seed.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from slimspec.sparse import compress, decompress
from slimspec.sparse.codebook import HIGH, LOW
from slimspec.sparse.packets import PacketDecoder, encode_packets
from slimspec.sparse.tile import deal, encode_tile

ROWS = json.loads((Path(__file__).parent / "vectors.json").read_text())


def tri(s: int) -> int:
    return (s >> 28 & 15) - (s >> 24 & 15)


FORMULAS: dict[str, Callable[[int], int]] = {
    "zeros": lambda s: 0,
    "tri": tri,
    "tri sparse": lambda s: 0 if s >> 20 & 1 else tri(s),
    "uniform": lambda s: s >> 24,
    "wide": lambda s: 0 if s >> 20 & 1 else 2 * tri(s) + (s >> 19 & 1),
    "small": lambda s: 0 if s >> 24 & 7 else s >> 28 & 3,
    "rare ones": lambda s: 0 if s >> 24 & 15 else 1,
    "fives": lambda s: 5 if s >> 30 else s >> 24 & 7,
    "five to eight": lambda s: 5 + (s >> 30),
    "half zero": lambda s: 0 if s >> 31 else s >> 24 & 63,
}


def part(formula: str, seed: int, count: int) -> bytes:
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(FORMULAS[formula](state) & 255)
    return bytes(out)


def weight_of(row: dict) -> NDArray[np.int8]:
    count = row["n"] * row["k"] // len(row["parts"])
    data = b"".join(part(formula, seed, count) for formula, seed in row["parts"])
    return np.frombuffer(data, np.int8).reshape(row["n"], row["k"])


ROUTES = [pytest.param(row, "kernels", id=row["name"]) for row in ROWS] + [
    pytest.param(row, "definition", id=f"{row['name']} by definition")
    for row in ROWS
    if row["n"] * row["k"] <= 1 << 15  # one tile: the definition takes seconds on more
]


@pytest.mark.parametrize(("row", "by"), ROUTES)
def test_published_stream_is_reproduced_and_decodes(row: dict, by: str) -> None:
    weight = weight_of(row)
    stream = compress(weight, row["mode"], by=by)
    assert stream.weight.size == row["length"]
    assert stream.index.tobytes().hex() == row["index"]
    assert hashlib.sha256(stream.weight.tobytes()).hexdigest() == row["sha256"]
    assert stream.info.tolist() == [8, 8, row["k"], row["n"], 1]
    decoded = decompress(stream.weight, stream.index, stream.info, by=by)
    assert decoded.dtype == np.int8
    assert np.array_equal(decoded, weight)


def test_float16_zeros_are_the_published_stream() -> None:
    row = next(row for row in ROWS if row["name"] == "zeros float16 64x64 high")
    stream = compress(np.zeros((64, 64), np.float16), "high")
    assert hashlib.sha256(stream.weight.tobytes()).hexdigest() == row["sha256"]
    assert stream.info.tolist() == [8, 8, 128, 64, 1]


ZERO_DICTIONARY = bytes.fromhex(
    "00afa1aeadacabaaa9a8a7a6a5a4a3a2bfb0b1b2b3b4b5b6b7b8b9babbbcbdbec0908182"
)


def test_worked_low_stream_of_zeros() -> None:
    stored, compressed = encode_tile(bytes(512), ZERO_DICTIONARY, LOW)
    assert compressed
    assert len(stored) == 384
    head = f"a801 00af 0000 {ZERO_DICTIONARY[2:].hex()}"
    packets = "24499224499224c9" * 3 + "bc0f"
    assert deal(stored, 32)[0] == bytes.fromhex(head + packets).ljust(96, b"\0")


def test_worked_high_stream_of_zeros() -> None:
    # 7 runs of nine and one single zero are 64 bytes in 45 bits; the cap leaves the rest zero.
    stored, _ = encode_tile(bytes(512), ZERO_DICTIONARY[:34], HIGH)
    assert len(stored) == 256
    head = f"8801 0000 0000 {ZERO_DICTIONARY[:34].hex()}"
    packets = "4551144551000000" + "4551144551e03e"
    assert deal(stored, 32)[0] == bytes.fromhex(head + packets).ljust(64, b"\0")


def test_worked_stream_with_run_index_and_parity() -> None:
    data = bytes(10) + bytes([5, 0, 0, 0, 0xFA, 7, 7]) + bytes(495)
    weight = np.frombuffer(data, np.int8).reshape(16, 32)
    stream = compress(weight, "low")
    engine = deal(stream.weight.tobytes(), 32)[0]
    assert engine[4:6] == bytes([0x07, 0xF8])
    assert engine[2:4] + engine[6:9] == bytes([0x00, 0x07, 0x05, 0xFA, 0xA6])
    assert engine[40:48] == bytes.fromhex("24491391489224c9")
    assert int.from_bytes(engine[40:48], "little") == 0xC924924891134924


def test_cap_stream_ends_packets_at_64_bytes_with_bit_63_still_free() -> None:
    once = (bytes(8) + b"\1") * 6 + bytes(9) + b"\1"
    dictionary = bytes(range(0x22))
    packets = bytes.fromhex("76ecd8b163c74e11 76ecd8b163c74e91 f701")
    assert encode_packets(once * 2, dictionary, HIGH) == packets
    decoded = PacketDecoder(128, dictionary, HIGH).decode(packets.ljust(24, b"\0"))
    assert decoded == (once * 2, len(packets))
