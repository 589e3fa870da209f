"""Hadamard matrices of the sizes that are no powers of two, built from their sequences.

The tool reads them from N. J. A. Sloane's library of Hadamard matrices (files had.N.will, .twill,
.pal, .tpal). All of those are constructions, so sequences replace the files:

Williamson  [ A  B  C  D; -B  A -D  C; -C  D  A -B; -D -C  B  A ] of four symmetric circulants
Paley       a border of ones around the circulant of 1, -χ(1), -χ(2), ... for a prime p = 3 mod 4
doubled     [ H H; H -H ]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Signs = NDArray[np.int8]

# First half of each first row, up to its middle: r_0 ... r_(m-1)/2, with r_(m-i) = r_i.
WILLIAMSON = {
    20: ("+--", "+--", "++-", "+-+"),
    28: ("+---", "++--", "+-+-", "+--+"),
    36: ("++---", "+-+--", "+--+-", "+---+"),
    52: ("+-+--++", "+---+++", "++-+--+", "+----+-"),
    60: ("++-++-+-", "++-++++-", "++-++---", "+-+---++"),
    68: ("+-++-+++-", "+--+-++++", "++-+---+-", "+---+++--"),
    76: ("++--+-++++", "+-+---++++", "++-++--+-+", "++--+++-+-"),
    108: ("+---+++++-+-++", "+---+++++-+-++", "+--+--+-+++--+", "+++-++-+---++-"),
    156: (
        "+++--+-+-----+--++--",
        "++++---+--++----+-+-",
        "+++--++-+---+-+--+--",
        "+---++-+-+-----+++-+",
    ),
    172: (
        "+---++--++++-+-+++-++-",
        "++-++++++----+-+--++-+",
        "+++-+-++--+-+-++++-+--",
        "++---++++-+--+--++----",
    ),
}
PALEY = {12: 11, 80: 79, 140: 139, 200: 199}
DOUBLED = {40: 20, 136: 68, 160: 80}

# What the producer looks for, largest first (68 and 80 are only parts).
SIZES = (200, 172, 160, 156, 140, 136, 108, 76, 60, 52, 40, 36, 28, 20, 12)


def circulant(row: Signs) -> Signs:
    """Return the matrix whose row i is `row` moved i places to the right."""
    return np.stack([np.roll(row, i) for i in range(row.size)])


def _signs(half: str) -> Signs:
    row = half + half[:0:-1]
    return np.array([1 if sign == "+" else -1 for sign in row], np.int8)


def williamson(n: int) -> Signs:
    """Return the Williamson matrix of order n, see the module's formula."""
    a, b, c, d = (circulant(_signs(half)) for half in WILLIAMSON[n])
    return np.block([[a, b, c, d], [-b, a, -d, c], [-c, d, a, -b], [-d, -c, b, a]])


def paley(n: int) -> Signs:
    """Return the Paley matrix of order n = p + 1: row 0 is (1, -1, ..., -1), column 0 all ones."""
    p = PALEY[n]
    row = np.ones(p, np.int8)
    squares = {x * x % p for x in range(1, p)}
    row[1:] = [-1 if j in squares else 1 for j in range(1, p)]
    h = np.ones((n, n), np.int8)
    h[0, 1:] = -1
    h[1:, 1:] = circulant(row)
    return h


@cache
def hadamard_table(n: int) -> Signs:
    """Return the Hadamard matrix of order n, one of `SIZES`, as ±1 int8 (read only).

    Raises: ValueError for another order. Source: math.md 11.1; Sloane, Library of Hadamard
    Matrices; msmodelslim processor/quarot/common/hadamard.py:33-49.
    """
    h = _build(n)
    h.flags.writeable = False
    return h


def _build(n: int) -> Signs:
    if n in DOUBLED:
        half = _build(DOUBLED[n])
        return np.block([[half, half], [half, -half]])
    makers: tuple[tuple[dict, Callable[[int], Signs]], ...] = (
        (WILLIAMSON, williamson),
        (PALEY, paley),
    )
    for table, make in makers:
        if n in table:
            return make(n)
    raise ValueError(f"no Hadamard matrix of order {n}: expected one of {SIZES}")
