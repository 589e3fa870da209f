"""Vectors of the tile codec: weights from a generator, streams by their sha256 or by hand."""

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from slimspec.golden.operations import operation

from .model import Definition

_SOURCE = "sparse_codec.md 8"
_MASK = 2**32 - 1


def cases() -> Iterator[Definition]:
    yield from _published()
    yield from _by_hand()
    yield from _fractals()


def _generated(seed: int, n: int, k: int, byte: Callable[[int], int]) -> NDArray[np.int8]:
    """s <- s·1664525 + 1013904223 mod 2^32, one step before each byte, row-major."""
    values = []
    for _ in range(n * k):
        seed = (seed * 1664525 + 1013904223) & _MASK
        values.append(byte(seed) & 255)
    return np.array(values, np.uint8).reshape(n, k).view(np.int8)


def _tri(s: int) -> int:
    return (s >> 28 & 15) - (s >> 24 & 15)


def _tri_sparse(s: int) -> int:
    return 0 if s >> 20 & 1 else _tri(s)


def _escapes(s: int) -> int:
    return 0 if s >> 20 & 1 else 2 * _tri(s) + (s >> 19 & 1)


# key, byte formula (None: zeros), seed, n, k, mode, length, index, sha256 of the stream
_ROWS: tuple[tuple[str, Callable[[int], int] | None, int, int, int, str, int, str, str], ...] = (
    ("001", None, 0, 128, 256, "low", 6528, "3380000000000000",
     "2cfe8f868e7d9ad1186e8d19a207e1e3ca04977db72c8950745dbbffddc34ed9"),
    ("002", None, 0, 128, 320, "low", 8320, "33800000000000000e80000033000000",
     "3a96289bf3511f36a1246f85bba9feb5e740ec8cb1fd08994eab9eaaccee14a6"),
    ("003", None, 0, 64, 128, "high", 1280, "0a80000000000000",
     "df7c035a30e4ca22e64075a2f5b47cbc397031be1310a16c37b6cca9ffdd3cbd"),
    ("004", _tri, 1, 128, 256, "low", 24192, "bd80000000000000",
     "b76889503b6b89139c41d1576c39a889e30bf9b90386b3a62e01fd102f375073"),
    ("005", _tri, 1, 128, 256, "high", 26496, "cf80000000000000",
     "679eaaab11f61fa0927cf1ad8049b6f7883167e9e3755fd99bb544c8ec3c278d"),
    ("006", lambda s: s >> 24, 3, 128, 256, "low", 32768, "0001000000000000",
     "703c787e546648f873ae91f32a3a482d460b2381c39dd6dec82e9b230ccf8be3"),
    ("007", _escapes, 6, 128, 256, "low", 20608, "a180000000000000",
     "8e293c3ecbd054c2f131cdab898c0e0df72f8747479824dc35bb325807effc2e"),
    ("008", _escapes, 6, 128, 256, "high", 20864, "a380000000000000",
     "29c6cb435381863c5385948aaddd9d3fcf56cba56930c2710636409de4dd989c"),
    ("009", _tri_sparse, 7, 128, 320, "low", 20608, "7f80000000000000228000007f000000",
     "6d1f9affb4232e1cd04e50603e7d6e52f7aad48d720e60b6bfb2bf791429841b"),
    ("010", _tri, 8, 50, 70, "low", 3456, "1b80000000000000",
     "d0891698061348a04d5e99a4030a07c2e12ccf278557310f6056d7d7e41d6e64"),
    ("011", _tri, 8, 50, 70, "high", 3584, "1c80000000000000",
     "ae11e3a4d942ac11018813911618642bd4c50323138edeb2cd0b100e6603e6c0"),
    ("012", lambda s: 0 if s >> 24 & 7 else s >> 28 & 3, 11, 128, 256, "high", 5376,
     "2a80000000000000", "1b585e74218cd334035677d9bc622e13147d03455b50f5babc7f6730d7f62a33"),
    ("013", lambda s: 0 if s >> 24 & 15 else 1, 12, 128, 256, "high", 4352, "2280000000000000",
     "a1bf2b387d0a4376cb3492f47dde5ccf3981b00b46dcbfbdff7bd0847a45ee4c"),
    ("014", lambda s: 5 if s >> 30 else s >> 24 & 7, 10, 128, 256, "low", 10112,
     "4f80000000000000", "853c9a6314f08af46e677db6b9f0d3e08362fb497da48915baeec783cec849d2"),
    ("015", lambda s: 5 if s >> 30 else s >> 24 & 7, 10, 128, 256, "high", 8832,
     "4580000000000000", "a8a75859a3308c1ffbc0044f8701c8609d8cd65ebfd530fcbaccbf3f623849fd"),
    ("016", lambda s: 5 + (s >> 30), 9, 20, 40, "low", 896, "0780000000000000",
     "d4917f253ffd3ae7471ae4bbb04ef02c7c5859c32b95bb0a8a5c03c298e61386"),
    ("017", lambda s: 0 if s >> 31 else s >> 24 & 63, 1, 16, 32, "low", 512, "0480000000000000",
     "0bab48095033931ab65acc5bb4c5731eddbbc02e10bfbf486d92e998acbd7c07"),
)  # fmt: skip
_NOTES = {
    "001": "all zeros; public vector", "002": "a k-remainder tile; public vector",
    "003": "high mode; public vector (64x64 fp16 as bytes)", "006": "incompressible: stored raw",
    "007": "escapes", "008": "escapes", "009": "k-tail under the dictionary of the whole weight",
    "010": "padding in both directions", "011": "padding; packet cap", "012": "packet cap",
    "013": "packet cap", "014": "run character 5, not 0", "015": "run character 5, not 0",
    "016": "one narrow tile", "017": "an engine as long as raw that stays compressed",
}  # fmt: skip


def _published() -> Iterator[Definition]:
    for key, byte, seed, n, k, mode, length, index, digest in _ROWS:
        weight = np.zeros((n, k), np.int8) if byte is None else _generated(seed, n, k, byte)
        made = operation("tile_encode").run({"weight": weight}, {"mode": mode})
        stream = made["stream"]
        # the published digest, not the encoder, says what the stream is
        if (stream.size, made["index"].tobytes().hex()) != (length, index):
            raise AssertionError(
                f"tile_encode-{key}: length or index differ from the published row"
            )
        if hashlib.sha256(stream.tobytes()).hexdigest() != digest:
            raise AssertionError(f"tile_encode-{key}: sha256 differs from the published row")
        tensors = {name: made[name] for name in ("stream", "index", "info")}
        note = _NOTES.get(key, "triangular bytes")
        flags = ("TileStream",) if key != "010" else ("TileStream", "TilePadding")
        comment = f"{note}; bytes identified by the published sha256 {digest[:12]}"
        ids = ("DEQ-003",)
        if key in ("001", "003", "010", "014", "016", "017"):  # the encoder's own choices
            yield Definition("tile_encode", key, comment, {"weight": weight}, tensors,
                             {"mode": mode}, flags, ids, _SOURCE)  # fmt: skip
        yield Definition("tile_decode", key, comment, tensors, {"weight": weight}, {"mode": mode},
                         flags, ids, _SOURCE)  # fmt: skip


# the public order of equal counts, all but the most frequent value at count 0
_DICTIONARY = bytes.fromhex(
    "00afa1aeadacabaaa9a8a7a6a5a4a3a2bfb0b1b2b3b4b5b6b7b8b9babbbcbdbec0908182"
)


def _tile(engine: bytes, units: int) -> dict[str, NDArray]:
    """A tile of 512 bytes whose four engines have one stream: pad, 32 bytes of each in turn."""
    padded = engine.ljust(32 * units, b"\0")
    chunks = [padded[at : at + 32] * 4 for at in range(0, len(padded), 32)]
    return {
        "stream": np.frombuffer(b"".join(chunks), np.int8),
        "index": np.frombuffer(bytes([units, 0x80, 0, 0, 0, 0, 0, 0]), np.int8),
        "info": np.array([8, 8, 32, 16, 1], np.int64),
    }


def _by_hand() -> Iterator[Definition]:
    low = b"\xa8\x01" + _DICTIONARY[:2] + b"\0\0" + _DICTIONARY[2:]
    low += bytes.fromhex("24499224499224c9") * 3 + bytes.fromhex("bc0f")
    high = b"\x88\x01\0\0\0\0" + _DICTIONARY[:34]
    # seven runs of nine, 5 in six bits each, and a single run, 0 in three bits: 64 bytes
    high += bytes.fromhex("4551144551000000 4551144551e03e")
    zeros = np.zeros((16, 32), np.int8)
    block = (bytes(8) + b"\x01") * 6 + bytes(9) + b"\x01"  # 64 bytes; every engine has it twice
    both = block * 2
    odd, even = (bytes([sum(both[start::2]) % 2]) for start in (1, 0))  # XOR of ones
    cap = b"\x88\x01\0\0" + odd + even + bytes(range(34))
    cap += bytes.fromhex("76ecd8b163c74e11 76ecd8b163c74e91 f701")
    capped = np.frombuffer(block * 8, np.int8).reshape(16, 32)
    for key, comment, engine, units, weight, mode in (
        ("018", "512 zeros by hand: packets of 21 double runs with a fill bit, END", low, 3, zeros,
         "low"),
        ("019", "512 zeros by hand: runs of nine capped at 64 bytes, END", high, 2, zeros, "high"),
        ("020", "by hand: packets that reach 64 bytes and 63 bits; the first leaves bit 63 zero,"
         " the last one is filled and END follows alone", cap, 2, capped, "high"),
    ):  # fmt: skip
        yield Definition(
            "tile_decode", key, comment, _tile(engine, units), {"weight": weight}, {"mode": mode},
            ("TileStream",), ("DEQ-003",), "sparse_codec.md 5, 7, 8",
        )  # fmt: skip


def _fractals() -> Iterator[Definition]:
    weight = np.arange(-128, 128, dtype=np.int8).repeat(4)[: 17 * 33].reshape(17, 33)
    nz = np.zeros((2, 2, 16, 32), np.int8)
    for i in range(17):
        for j in range(33):
            nz[j // 32, i // 16, i % 16, j % 32] = weight[i, j]
    yield Definition(
        "nd_to_nz", "001", "17 rows, 33 columns: element (i, j) goes to [j/32, i/16, i%16, j%32],"
        " the rest is zero", {"weight": weight}, {"nz": nz}, {}, ("TilePadding",), (),
        "sparse_codec.md 1",
    )  # fmt: skip
