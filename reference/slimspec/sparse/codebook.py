"""The code words of both modes, as data.

A code word is written with its least significant bit first; all lengths are multiples of three
bits except the escape prefix, which is followed by the byte itself.

Source: facts/sparse_codec.md 4 (header), 6 (code book).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

ModeName = Literal["low", "high"]

ESCAPE = (15, 4)  # then the byte, most significant bit first: 12 bits in all
ESCAPE_BITS = 12
END = (503, 9)
CODE_LIMIT = 63  # bit 63 of a packet is never part of a code
PACKET_INPUT = 64  # input bytes that one packet may encode
HEADER_BYTES = 40

# 6- and 9-bit words that index the dictionary, in the order both modes take them from
_SIX = (5, 37, 21, 53, 13, 45, 29, 61, 3, 35, 19, 51, 11, 43, 27, 59, 7, 39)
_NINE = (23, 279, 151, 407, 87, 343, 215, 471, 55, 311, 183, 439, 119, 375, 247)


@dataclass(frozen=True)
class Symbol:
    """What a code word stands for: `run` of `value` run characters, dictionary `index`, …"""

    kind: Literal["run", "index", "escape", "end"]
    value: int
    code: int
    length: int


@dataclass(frozen=True)
class Mode:
    """One of the two code books with its header layout.

    `runs` are (count, code, length), longest first; `index_codes[i]` is the (code, length) of
    dictionary entry i + 1 (entry 0 is the run character and has no index code);
    `dictionary_bytes` are the header positions of the dictionary.
    """

    name: ModeName
    marker: int
    runs: tuple[tuple[int, int, int], ...]
    index_codes: tuple[tuple[int, int], ...]
    dictionary_bytes: tuple[int, ...]

    @property
    def dictionary_size(self) -> int:
        """Number of dictionary entries, the run character included."""
        return len(self.dictionary_bytes)

    def symbols(self) -> Iterator[Symbol]:
        """Yield every symbol of the code book once."""
        for count, code, length in self.runs:
            yield Symbol("run", count, code, length)
        for index, (code, length) in enumerate(self.index_codes, start=1):
            yield Symbol("index", index, code, length)
        yield Symbol("escape", 0, *ESCAPE)
        yield Symbol("end", 0, *END)


LOW = Mode(
    name="low",
    marker=0xA8,
    runs=((2, 4, 3), (1, 0, 3)),
    index_codes=(
        *((code, 3) for code in (2, 6, 1)),
        *((code, 6) for code in _SIX),
        *((code, 9) for code in _NINE[:14]),
    ),
    dictionary_bytes=(2, 3, *range(6, HEADER_BYTES)),
)
HIGH = Mode(
    name="high",
    marker=0x88,
    runs=((9, 5, 6), (4, 6, 3), (3, 2, 3), (2, 4, 3), (1, 0, 3)),
    index_codes=(
        (1, 3),
        *((code, 6) for code in _SIX[1:]),
        *((code, 9) for code in _NINE),
    ),
    dictionary_bytes=tuple(range(6, HEADER_BYTES)),
)
MODES: Mapping[str, Mode] = MappingProxyType({mode.name: mode for mode in (LOW, HIGH)})
MARKERS: Mapping[int, Mode] = MappingProxyType({mode.marker: mode for mode in (LOW, HIGH)})


def mode_named(name: str) -> Mode:
    """Return the mode of that name.

    Raises:
        ValueError: the name is neither "low" nor "high".
    """
    if name not in MODES:
        raise ValueError(f"mode is {name!r}, expected one of {', '.join(MODES)}")
    return MODES[name]


def symbol_table(mode: Mode) -> list[Symbol | None]:
    """Return the symbol of every value of the next nine bits, None where none is assigned."""
    table: list[Symbol | None] = [None] * (1 << END[1])
    for symbol in mode.symbols():
        for high in range(1 << (END[1] - symbol.length)):
            table[symbol.code | high << symbol.length] = symbol
    return table
