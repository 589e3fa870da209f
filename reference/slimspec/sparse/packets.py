"""Packets of one engine: 64-bit little-endian words of code words, at most 64 input bytes each.

This is the readable definition; `kernels` must agree with it bit for bit.

Source: facts/sparse_codec.md 5.
"""

from collections.abc import Mapping

from slimspec.sparse.codebook import (
    CODE_LIMIT,
    END,
    ESCAPE,
    ESCAPE_BITS,
    PACKET_INPUT,
    Mode,
    Symbol,
)
from slimspec.sparse.errors import StreamError, fail

PACKET_BITS = 64
PACKET_BYTES = 8

ByteCodes = Mapping[int, tuple[int, int]]


def encode_packets(data: bytes, dictionary: bytes, mode: Mode) -> bytes:
    """Return the packets and END of an engine's bytes, cut after the last used byte.

    Args:
        data: the engine's share of a tile.
        dictionary: entry 0 is the run character.
        mode: the code book.

    Source: facts/sparse_codec.md 5.
    """
    codes = byte_codes(dictionary, mode)
    out = bytearray()
    word = position = consumed = 0
    while consumed < len(data):
        window = data[consumed : consumed + PACKET_INPUT]
        word, position, used = _encode_packet(window, dictionary[0], codes, mode)
        consumed += used
        if consumed < len(data):
            # The cap decides first: after 64 input bytes the rest is zero, not fill.
            fill = 0 if used == PACKET_INPUT else _ones(position)
            out += (word | fill).to_bytes(PACKET_BYTES, "little")
    code, bits = END
    if position + bits <= CODE_LIMIT:
        last = word | code << position
        return bytes(out + last.to_bytes((position + bits + 7) // 8, "little"))
    out += (word | _ones(position)).to_bytes(PACKET_BYTES, "little")
    return bytes(out + code.to_bytes(2, "little"))


def byte_codes(dictionary: bytes, mode: Mode) -> dict[int, tuple[int, int]]:
    """Return (code, bits) of every byte value but the run character."""
    prefix, bits = ESCAPE
    codes = {value: (prefix | reverse_bits(value) << bits, ESCAPE_BITS) for value in range(256)}
    codes.update(zip(dictionary[1:], mode.index_codes, strict=True))
    return codes


def reverse_bits(byte: int) -> int:
    """Return the byte with its bits in the opposite order."""
    return int(f"{byte:08b}"[::-1], 2)


def _ones(position: int) -> int:
    return (1 << PACKET_BITS) - (1 << position)


def _encode_packet(
    window: bytes, run_character: int, codes: ByteCodes, mode: Mode
) -> tuple[int, int, int]:
    """Return (word, bits used, bytes consumed) of the packet that starts with `window`."""
    word = position = consumed = 0
    while consumed < len(window):
        room = CODE_LIMIT - position
        rest = window[consumed:]
        run = len(rest) - len(rest.lstrip(bytes([run_character])))
        if run:
            fitting = (r for r in mode.runs if r[0] <= run and r[2] <= room)
            count, code, bits = next(fitting, (0, 0, 0))
        else:
            code, bits = codes[rest[0]]
            count = 1 if bits <= room else 0
        if count == 0:
            break
        word |= code << position
        position += bits
        consumed += count
    return word, position, consumed


class PacketDecoder:
    """Decodes the packets of one engine strictly: whatever the encoder cannot write is an error."""

    def __init__(self, size: int, dictionary: bytes, mode: Mode) -> None:
        self._size = size
        self._dictionary = dictionary
        self._symbols = {(s.length, s.code): s for s in mode.symbols()}
        self._out = bytearray()
        self._unused = 0  # bits that the last packet filled although codes may use them
        self._packet = 0

    def decode(self, stream: bytes) -> tuple[bytes, int]:
        """Return the engine's bytes and how many stream bytes they took, END included.

        Args:
            stream: packets, END and zeros; a multiple of 8 bytes.

        Raises:
            StreamError: any level 3 defect of the packets, with packet and bit.

        Source: facts/sparse_codec.md 5, 10 level 3.
        """
        for at in range(0, len(stream), PACKET_BYTES):
            self._packet = at // PACKET_BYTES
            word = int.from_bytes(stream[at : at + PACKET_BYTES], "little")
            end = self._decode_packet(word)
            if end is not None:
                self._check_tail(word, end, stream[at + PACKET_BYTES :])
                return bytes(self._out), at + (end + 7) // 8
        found = f"{len(self._out)} of {self._size} bytes"
        raise fail("no-end", found, "END", packet=self._packet, bit=PACKET_BITS - 1)

    def _decode_packet(self, word: int) -> int | None:
        """Append the bytes of one packet; return the bit after END, None without END."""
        start, position = len(self._out), 0
        while True:
            produced = len(self._out) - start
            if produced == PACKET_INPUT and len(self._out) < self._size:
                self._check_cap(word >> position, position)
                return None
            if self._is_fill(word >> position, position):
                self._unused = CODE_LIMIT - position
                return None
            symbol = self._read(word >> position, position)
            if position == 0:
                self._check_last_fill(symbol)
            if symbol.kind == "end":
                self._check_end(position)
                return position + symbol.length
            data = self._expand(symbol, word >> position)
            self._check_count(produced + len(data), len(self._out) + len(data), position)
            self._out += data
            position += ESCAPE_BITS if symbol.kind == "escape" else symbol.length

    def _is_fill(self, bits: int, position: int) -> bool:
        """Report whether the rest of the packet is fill: an escape that cannot hold its byte."""
        left = PACKET_BITS - position
        if left >= ESCAPE_BITS or (left > 1 and bits & 0xF != ESCAPE[0]):
            return False
        if bits != (1 << left) - 1:
            raise self._fail("fill", f"{bits:0{left}b}", "1" * left, position)
        return True

    def _read(self, bits: int, position: int) -> Symbol:
        for length in (3, 4, 6, 9):
            symbol = self._symbols.get((length, bits & ((1 << length) - 1)))
            if symbol is None:
                continue
            if position + length > CODE_LIMIT:
                room = f"at most {CODE_LIMIT - position} bits"
                raise self._fail("code-crosses-packet", f"{length} bits", room, position)
            return symbol
        raise self._fail("unassigned-code", bits & 0x1FF, "an assigned code word", position)

    def _expand(self, symbol: Symbol, bits: int) -> bytes:
        if symbol.kind == "run":
            return self._dictionary[:1] * symbol.value
        if symbol.kind == "index":
            return self._dictionary[symbol.value : symbol.value + 1]
        return bytes([reverse_bits(bits >> ESCAPE[1] & 0xFF)])

    def _check_count(self, in_packet: int, in_all: int, position: int) -> None:
        if in_all > self._size:
            raise self._fail("too-many-bytes", in_all, self._size, position)
        if in_packet > PACKET_INPUT:
            raise self._fail("packet-overflow", in_packet, f"at most {PACKET_INPUT}", position)

    def _check_cap(self, bits: int, position: int) -> None:
        if bits:
            raise self._fail("cap-tail", f"{bits:#x}", "0", position)
        self._unused = 0

    def _check_last_fill(self, symbol: Symbol) -> None:
        """Refuse a fill where this first code of the next packet, or a shorter run, would fit."""
        length = ESCAPE_BITS if symbol.kind == "escape" else symbol.length
        shortest = 3 if symbol.kind == "run" else length
        if self._unused >= shortest:
            code = f"the {shortest}-bit code that follows in packet {self._packet}"
            place = {"packet": self._packet - 1, "bit": CODE_LIMIT - self._unused}
            raise fail("early-fill", f"{self._unused} unused bits", code, **place)

    def _check_end(self, position: int) -> None:
        if len(self._out) != self._size:
            found = f"END after {len(self._out)} bytes"
            raise self._fail("early-end", found, f"after {self._size}", position)

    def _check_tail(self, word: int, end: int, rest: bytes) -> None:
        if word >> end:
            raise self._fail("tail", f"{word >> end:#x}", "0", end)
        for at, byte in enumerate(rest):
            if byte:
                packet, byte_at = divmod(at, PACKET_BYTES)
                place = {"packet": self._packet + 1 + packet, "bit": 8 * byte_at}
                raise fail("tail", f"byte {byte:#04x}", "0", **place)

    def _fail(self, code: str, found: object, expected: object, position: int) -> StreamError:
        return fail(code, found, expected, packet=self._packet, bit=position)
