"""Vectors of 4-bit packing and of the 64-bit words."""

from collections.abc import Iterator

import numpy as np

from .model import Definition, bits32, f32, i8

_INT4 = ("W4A8-001", "W4A16-002", "W4A16-003")


def cases() -> Iterator[Definition]:
    yield from _nibbles()
    yield from _words()
    yield from _deq_words()


def _nibbles() -> Iterator[Definition]:
    pairs = np.array([[lo, hi] for hi in range(-8, 8) for lo in range(-8, 8)], np.int8)
    byte = np.array([(int(hi) & 15) << 4 | int(lo) & 15 for lo, hi in pairs], np.uint8)
    for key, axis, q, packed in (
        ("001", -1, pairs, byte.reshape(-1, 1)), ("002", 0, pairs.T.copy(), byte.reshape(1, -1)),
    ):  # fmt: skip
        packed = packed.view(np.int8)
        for op, inputs, outputs in (
            ("pack_int4", {"q": q}, {"packed": packed}),
            ("unpack_int4", {"packed": packed}, {"q": q}),
        ):
            yield Definition(
                op, key, f"all 256 pairs of int4 codes along axis {axis}: the even element is"
                f" the low"
                " nibble", inputs, outputs, {"axis": axis},
                ("ExhaustiveCodes", "NibbleOrder", "NibbleAsymmetry", "SignExtension"), _INT4,
                "math.md 6.3",
            )  # fmt: skip
    rows = i8([[-8, 7, -1, 3], [1, -2, 5, -4]])
    packed = np.array([[0x18, 0xE7, 0x5F, 0xC3]], np.uint8).view(np.int8)
    yield Definition(
        "pack_int4", "003", "worked: two rows into one, 24 -25 95 -61", {"q": rows},
        {"packed": packed}, {"axis": 0}, ("NibbleOrder", "PackAxis"), _INT4, "math.md 6.3",
    )  # fmt: skip
    row = i8([[-8, -7, -1, 0, 1, 2, 3, 7]])
    packed = np.array([[0x98, 0x0F, 0x21, 0x73]], np.uint8).view(np.int8)
    yield Definition(
        "pack_int4", "004", "worked: eight codes of a row, the bytes of the int32 0x73210f98",
        {"q": row}, {"packed": packed}, {"axis": -1}, ("NibbleOrder",), _INT4,
        "integer_semantics.md B.7",
    )  # fmt: skip
    yield Definition(
        "unpack_int4", "003", "worked: two rows out of one", {"packed": packed},
        {"q": i8([[-8, -1, 1, 3], [-7, 0, 2, 7]])}, {"axis": 0}, ("NibbleOrder", "PackAxis"), _INT4,
        "math.md 6.3",
    )  # fmt: skip


def _words() -> Iterator[Definition]:
    codes = np.array([[15, 0, 8, 7, 3, 12, 1, 9]], np.uint8)
    ramp = np.arange(8, dtype=np.uint8)[None]
    signed = (ramp.astype(np.int8) - np.int8(8)).astype(np.int8)
    rows = (
        ("001", "awq", codes, -1670376561), ("002", "awq", ramp, 1966171168),
        ("003", "ascend", codes, 0x194BF087), ("004", "ascend", ramp, -19088744),
        ("005", "compressed", signed, 0x76543210),
    )  # fmt: skip
    for key, order, given, word in rows:
        words = np.array([[word]], np.int32)
        comment = {
            "awq": "worked: nibble i of a word holds column [0,2,4,6,1,3,5,7][i]",
            "ascend": "worked: columns in sequence, each top bit flipped, so nibbles are signed",
            "compressed": "columns in sequence, nibble = code + 8",
        }[order]
        for op, inputs, outputs in (
            ("pack_words", {"codes": given}, {"words": words}),
            ("unpack_words", {"words": words}, {"codes": given}),
        ):
            yield Definition(
                op, key, comment, inputs, outputs, {"order": order},
                ("NibbleOrder", "NibbleAsymmetry"), (), "math.md 6.5, 6.6, 6.7",
            )  # fmt: skip
    pairs = np.array([[lo, hi] for hi in range(16) for lo in range(16)], np.uint8)
    yield Definition(
        "pack_fp4", "001", "all 256 pairs of FP4 codes: even element in the low nibble",
        {"codes": pairs}, {"packed": np.arange(256, dtype=np.uint8).reshape(-1, 1)}, {},
        ("ExhaustiveCodes", "NibbleOrder"), ("MX-004",), "math.md 12",
    )  # fmt: skip


def _deq_words() -> Iterator[Definition]:
    scale = bits32(0x39818388, 0x391B6AA3, 0x3F800000, 0x00800000, 0x7F7FFFFF, 0x3C4985F0)
    word = scale.view(np.int32).astype(np.int64)
    yield Definition(
        "encode_deq_scale", "001", "worked: the bits of a float32 as an int64, nothing converted",
        {"scale": scale}, {"word": np.array([964789128, 958098083, *word[2:]], np.int64)}, {},
        ("DeqScaleWord",), ("DEQ-001", "W8A8-010", "W8A8-021"), "math.md 4.2",
    )  # fmt: skip
    high = word | np.array([0, 1, 1 << 14, 0, 0, 1 << 30], np.int64) << 32
    yield Definition(
        "decode_deq_scale", "001", "only the low 32 bits count; bit 46 and an offset above are"
        " ignored", {"word": high}, {"scale": scale}, {}, ("DeqScaleWord",),
        ("DEQ-001", "W8A8-025", "DEQ-006"), "integer_semantics.md B.1",
    )  # fmt: skip
    full = bits32(*[0x3C4985F0] * 4, 0x3F800000)
    offset = f32(3.5, 2.5, -300, 300, -1)
    words = np.array(
        [0x40803C498000, 0x40403C498000, 0x60003C498000, 0x5FE03C498000, 0x7FE03F800000], np.uint64
    )
    yield Definition(
        "trans_quant_param", "001", "worked: offsets 3.5 and 2.5 round to even, ±300 saturate"
        " at the"
        " ends of 9 bits, -1 is 0x1FF", {"scale": full, "offset": offset}, {"words": words}, {},
        ("DeqScaleWord", "Fp19Truncation", "TieRounding", "NineBit"), ("DEQ-001",),
        "integer_semantics.md B.1",
    )  # fmt: skip
    both = bits32(0x3C4985F0, 0xBC4985F0, 0x3F801FFF, 0x3F803000)
    yield Definition(
        "trans_quant_param", "002", "worked: without an offset, bits & 0xFFFFE000 | 1 << 46",
        {"scale": both},
        {"words": np.array([0x40003C498000, 0x4000BC498000, 0x40003F800000, 0x40003F802000],
                           np.uint64)}, {},
        ("DeqScaleWord", "Fp19Truncation"), ("DEQ-001",), "integer_semantics.md B.1",
    )  # fmt: skip
    yield Definition(
        "trans_quant_param", "003", "round_mode 1 rounds to nearest even at bit 13",
        {"scale": bits32(0x3F801000, 0x3F803000, 0x00001FFF)},
        {"words": np.array([0x40003F800000, 0x40003F804000, 0x400000000000], np.uint64)},
        {"round_mode": 1}, ("Fp19Truncation", "TieRounding"), ("DEQ-001",),
        "integer_semantics.md B.1",
    )  # fmt: skip
