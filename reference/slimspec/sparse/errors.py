"""What can be wrong with a compressed weight, as data and as one exception.

A defect says where (tile, engine, packet, bit), what was found and what was expected. `bit` counts
inside the smallest unit that is named: the packet, else the engine header, else the index entry.

Source: facts/sparse_codec.md 10 (levels and checks).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

# code -> (level, does it only warn, meaning)
CODES: Mapping[str, tuple[int, bool, str]] = MappingProxyType(
    {
        "info": (0, False, "info is int64 [8, 8, k, n, 1] with positive k and n"),
        "index-shape": (0, False, "index is int8 of 8 bytes per tile of the plan of (n, k)"),
        "weight-shape": (0, False, "weight is int8, 1-D, a positive multiple of 128 bytes"),
        "weight-bound": (0, False, "no encoder can make the weight longer than all tiles raw"),
        "weight-not-smaller": (0, True, "the compressed weight saves nothing"),
        "reserved": (1, False, "reserved index bits are zero; their meaning is unknown"),
        "data-length": (1, False, "a tile is stored in at least one and at most its raw units"),
        "raw-length": (1, False, "a raw tile is stored at its full size"),
        "compressed-length": (1, False, "a compressed tile holds four headers and is not larger"),
        "offset": (1, False, "tiles lie back to back from the start of the weight"),
        "weight-end": (1, False, "the last tile ends where the weight ends"),
        "marker": (2, False, "header byte 0 names the mode"),
        "mode": (2, False, "all tiles are written in the expected mode"),
        "tile-size": (2, False, "header byte 1 is the raw size of the tile in fractals"),
        "header-reserved": (2, False, "header bytes without a meaning are zero"),
        "header-differs": (2, False, "the four engines carry the same size and dictionary"),
        "dictionary": (2, False, "dictionary values are distinct"),
        "unassigned-code": (3, False, "the code word is not in the code book of the mode"),
        "code-crosses-packet": (3, False, "a code word ends before bit 63 of its packet"),
        "fill": (3, False, "bits that no code uses are ones where a code did not fit"),
        "early-fill": (3, False, "a packet is filled only where the next code does not fit"),
        "cap-tail": (3, False, "after 64 input bytes the rest of the packet is zero"),
        "packet-overflow": (3, False, "a packet encodes at most 64 bytes"),
        "too-many-bytes": (3, False, "END follows the last byte of the engine"),
        "early-end": (3, False, "END comes only after the last byte of the engine"),
        "no-end": (3, False, "the stream holds END"),
        "tail": (3, False, "everything after END is zero"),
        "xor": (3, False, "header bytes 4 and 5 are the XOR of the odd and even bytes"),
        "stream-padding": (3, False, "the longest engine stream is padded to the next 32 bytes"),
        "not-raw": (3, False, "a tile is raw as soon as one engine does not shrink"),
        "padding": (3, False, "rows past n and columns past k are zero"),
        "differs": (4, False, "the weight equals its uncompressed reference"),
        "reference-shape": (4, False, "the reference has the shape [n, k]"),
        "not-canonical": (4, True, "encoding the tile again gives the same bytes"),
        "run-character": (4, True, "dictionary entry 0 is a most frequent byte of the weight"),
        "overlap-differs": (4, True, "skipped fractals of the last tile repeat its neighbour"),
    }
)


@dataclass(frozen=True)
class StreamDefect:
    """One violated rule of the stream; `found` and `expected` are short texts."""

    code: str
    found: str
    expected: str
    tile: int | None = None
    engine: int | None = None
    packet: int | None = None
    bit: int | None = None

    @property
    def level(self) -> int:
        """Level of the check, 0 (shapes) to 4 (content)."""
        return CODES[self.code][0]

    @property
    def warning(self) -> bool:
        """True for what a conforming decoder still decodes to the right weight."""
        return CODES[self.code][1]

    @property
    def place(self) -> str:
        """ "tile 3, engine 0, packet 12, bit 40", as far as it is known."""
        names = ("tile", "engine", "packet", "bit")
        return ", ".join(f"{n} {value}" for n in names if (value := getattr(self, n)) is not None)

    @property
    def rule(self) -> str:
        """The rule that is violated, as a sentence."""
        return CODES[self.code][2]

    @property
    def message(self) -> str:
        """One line: place, code, rule, found, expected."""
        said = f"{self.code}: {self.rule}; found {self.found}, expected {self.expected}"
        return f"{self.place}: {said}" if self.place else said


class StreamError(ValueError):
    """A compressed weight breaks a rule; `defect` carries the particulars."""

    def __init__(self, defect: StreamDefect) -> None:
        super().__init__(defect.message)
        self.defect = defect

    def at(self, *, tile: int | None = None, engine: int | None = None) -> "StreamError":
        """Return the same error with the place filled in that the raising layer did not know."""
        defect = self.defect
        tile = defect.tile if tile is None else tile
        engine = defect.engine if engine is None else engine
        return StreamError(replace(defect, tile=tile, engine=engine))


def fail(code: str, found: object, expected: object, **place: int | None) -> StreamError:
    """Build the error of `code`; `place` is any of tile, engine, packet, bit."""
    return StreamError(StreamDefect(code, str(found), str(expected), **place))
