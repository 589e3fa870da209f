"""Flip bits and bytes in every field of compressed weights and print where each is detected.

    python benchmarks/sparse_mutations.py            every 31st place of a field
    python benchmarks/sparse_mutations.py --step 1   every place (minutes)

Columns: the level that names the defect (0 shapes, 1 index, 2 headers, 3 decode, 4 only a
reference); `noted` = decodes to the same weight, a level 4 warning says that no encoder writes it
so; `same` = decodes to the same weight, no warning; `silent` = another weight, nobody noticed.
The command fails if anything is silent.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from slimspec.sparse import Compressed, compress, decompress, validate
from slimspec.sparse.codebook import END, ESCAPE_BITS, HEADER_BYTES, Mode, symbol_table
from slimspec.sparse.container import open_container
from slimspec.sparse.tile import CHUNK, ENGINES, deal

Place = tuple[str, str, int]  # field, tensor, bit of the tensor

INDEX_FIELDS = (("index length", 0, 9), ("index reserved", 9, 15), ("index flag", 15, 16))
CODE_FIELDS = {
    "run": "run code",
    "index": "dictionary code",
    "escape": "escape code",
    "end": "END",
}
COLUMNS = ("0", "1", "2", "3", "4", "same", "noted", "silent")


def subjects() -> dict[str, tuple[NDArray[np.int8], Compressed]]:
    """Return small weights that exercise every field: both modes, both remainders, raw, cap."""
    rng = np.random.default_rng(1)
    low = np.rint(rng.normal(0, 3, (20, 70)))
    low[rng.random(low.shape) < 0.02] = 90
    high = rng.normal(0, 1, (20, 35)).astype(np.float16)
    high[rng.random(high.shape) < 0.85] = 0
    weights = {
        "low": (low.astype(np.int8), "low"),
        "high": (high.view(np.int8), "high"),
        "overlap": (np.rint(rng.normal(0, 2, (130, 20))).astype(np.int8), "low"),
        "raw": (rng.integers(-128, 128, (130, 20), np.int8), "low"),
    }
    return {name: (weight, compress(weight, mode)) for name, (weight, mode) in weights.items()}


def index_places(stream: Compressed) -> Iterator[Place]:
    """Yield every bit of the index under the name of its field."""
    fields = (*INDEX_FIELDS, ("index zero word", 16, 32), ("index offset", 32, 64))
    for entry in range(0, 8 * stream.index.size, 64):
        for name, first, last in fields:
            for bit in range(first, last):
                yield name, "index", entry + bit


def weight_places(stream: Compressed) -> Iterator[Place]:
    """Yield every bit of the weight under the name of its field."""
    container = open_container(stream.weight, stream.index, stream.info)
    mode = container.mode()
    for tile in container.plan.tiles():
        entry, stored = container.entries[tile.number], container.resolve(tile)
        streams = deal(container.stored(tile), CHUNK)
        for engine, data in enumerate(streams):
            size = stored.size // ENGINES
            roles = (
                raw_roles(data)
                if mode is None or not entry.compressed
                else ([*header_roles(mode), *packet_roles(data[HEADER_BYTES:], size, mode)])
            )
            for bit, role in enumerate(roles):
                chunk, byte = divmod(bit // 8, CHUNK)
                at = entry.start + chunk * CHUNK * ENGINES + engine * CHUNK + byte
                yield role, "weight", 8 * at + bit % 8


def raw_roles(data: bytes) -> list[str]:
    """Return the field of each bit of an engine of a raw tile."""
    return ["raw tile"] * (8 * len(data))


def header_roles(mode: Mode) -> list[str]:
    """Return the field of each bit of a header."""
    names = {0: "header mode", 1: "header size", 4: "header parity", 5: "header parity"}
    names |= dict.fromkeys(mode.dictionary_bytes, "header dictionary")
    return [names.get(bit // 8, "header reserved") for bit in range(8 * HEADER_BYTES)]


def packet_roles(packets: bytes, size: int, mode: Mode) -> list[str]:
    """Return the field of each bit of the packets of a sound engine."""
    table, roles, produced = symbol_table(mode), [], 0
    for at in range(0, len(packets), 8):
        word, start, left = int.from_bytes(packets[at : at + 8], "little"), produced, 64
        while left >= 3:
            symbol = table[word & 511]
            if produced - start == 64 or symbol is None:
                break
            length = ESCAPE_BITS if symbol.kind == "escape" else symbol.length
            if length > left - 1:
                break
            roles += [CODE_FIELDS[symbol.kind]] * length
            produced += symbol.value if symbol.kind == "run" else symbol.kind != "end"
            word, left = word >> length, left - length
            if symbol.kind == "end":
                return roles + ["zero tail"] * (8 * len(packets) - len(roles))
        capped = produced - start == 64 and produced < size
        roles += ["cap zeros" if capped else "fill"] * left
    raise ValueError(f"no {END} in the packets")


def outcome(original: NDArray[np.int8], stream: Compressed) -> str:
    """Return the column of a damaged stream."""
    tensors = (stream.weight, stream.index, stream.info)
    errors = [d.level for d in validate(*tensors, level=3) if not d.warning]
    if errors:
        return str(min(errors))
    found = {defect.code for defect in validate(*tensors, level=4, reference=original)}
    if np.array_equal(decompress(*tensors), original):
        return "noted" if found & {"not-canonical", "overlap-differs"} else "same"
    return "4" if "differs" in found else "silent"


def damage(stream: Compressed, tensor: str, byte: int, mask: int) -> Compressed:
    """Return the stream with the bits of `mask` flipped in one byte of a tensor."""
    parts = {name: getattr(stream, name).copy() for name in ("weight", "index", "info")}
    parts[tensor].view(np.uint8)[byte] ^= mask
    return Compressed(**parts)


def main() -> int:
    """Print the table; return 1 if a mutation stays unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=int, default=31, help="take every STEP-th place of a field")
    step = parser.parse_args().step
    rng = np.random.default_rng(0)
    table: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for weight, stream in subjects().values():
        places = defaultdict(list)
        for field, tensor, bit in (*index_places(stream), *weight_places(stream)):
            places[field].append((tensor, bit))
        for field, bits in places.items():
            for tensor, bit in bits[:: step if field.split()[0] != "index" else 1]:
                flipped = damage(stream, tensor, bit // 8, 1 << bit % 8)
                table[field, "bit"][outcome(weight, flipped)] += 1
                changed = damage(stream, tensor, bit // 8, int(rng.integers(1, 256)))
                table[field, "byte"][outcome(weight, changed)] += 1
    print(f"{'field':18s} {'flip':5s} {'count':>6s} " + " ".join(f"{c:>7s}" for c in COLUMNS))
    for (field, kind), counts in table.items():
        cells = " ".join(f"{counts[column] or '-':>7}" for column in COLUMNS)
        print(f"{field:18s} {kind:5s} {counts.total():6d} {cells}")
    total = sum(table.values(), Counter())
    print(f"{'all':18s} {'':5s} {total.total():6d} " + " ".join(f"{total[c]:7d}" for c in COLUMNS))
    return int(total["silent"] > 0)


if __name__ == "__main__":
    sys.exit(main())
