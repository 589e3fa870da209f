"""Compiled forms of the layout: the same bytes as the formulas in `nz` and `tile`.

Matrices come as *panels*: uint64 [16·n1, 4·k1], the int8 matrix zero padded to whole fractals, so
that a fractal row is four aligned words and no kernel needs an edge case. Kernels are not
bounds-checked; every caller passes shapes that belong together.

Source: facts/sparse_codec.md 1, 3; facts/performance.md (ND -> NZ).
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from slimspec.sparse.fractal import COLUMNS, ROWS, fractals

jit = njit(nogil=True, cache=True)

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]


def panel(weight: Int8) -> Words:
    """Return int8 [n, k] as uint64 [16·n1, 4·k1], zero padded; a view where nothing is padded."""
    n, k = weight.shape
    n1, k1 = fractals(n, k)
    if (n, k) != (ROWS * n1, COLUMNS * k1):
        weight = np.pad(weight, ((0, ROWS * n1 - n), (0, COLUMNS * k1 - k)))
    return frozen(np.require(weight, requirements="C").view(np.uint64))


def frozen(array: Words) -> Words:
    """Return an aligned read-only view: inputs of kernels then have one type to compile for."""
    view = np.require(array, requirements="A").view()
    view.flags.writeable = False
    return view


@jit
def fill_nz(words: Words, nz: Words) -> None:
    """Copy a panel into NZ words [k1, n1, 16, 4]."""
    for fn in range(nz.shape[1]):
        for fk in range(nz.shape[0]):
            for row in range(16):
                nz[fk, fn, row, 0] = words[16 * fn + row, 4 * fk]
                nz[fk, fn, row, 1] = words[16 * fn + row, 4 * fk + 1]
                nz[fk, fn, row, 2] = words[16 * fn + row, 4 * fk + 2]
                nz[fk, fn, row, 3] = words[16 * fn + row, 4 * fk + 3]


@jit
def fill_panel(nz: Words, words: Words) -> None:
    """Copy NZ words [k1, n1, 16, 4] into a panel."""
    for fn in range(nz.shape[1]):
        for fk in range(nz.shape[0]):
            for row in range(16):
                words[16 * fn + row, 4 * fk] = nz[fk, fn, row, 0]
                words[16 * fn + row, 4 * fk + 1] = nz[fk, fn, row, 1]
                words[16 * fn + row, 4 * fk + 2] = nz[fk, fn, row, 2]
                words[16 * fn + row, 4 * fk + 3] = nz[fk, fn, row, 3]


@jit
def gather_tile(words: Words, k0: int, kf: int, first: int, width: int, streams: Words) -> None:
    """Deal a tile of the panel to the engines: `streams` [4, >= N / 8], 64 bytes at a time."""
    block = 0
    for fk in range(k0, k0 + kf):
        for fn in range(first, first + width):
            for row in range(16 * fn, 16 * fn + 16, 2):
                engine, at = block & 3, (block >> 2) * 8
                for j in range(4):
                    streams[engine, at + j] = words[row, 4 * fk + j]
                    streams[engine, at + 4 + j] = words[row + 1, 4 * fk + j]
                block += 1


@jit
def scatter_tile(
    streams: Words, k0: int, kf: int, n0: int, valid: int, width: int, words: Words
) -> None:
    """Put the last `valid` of `width` n-fractals of the engine streams into the panel."""
    for fk in range(kf):
        for fn in range(valid):
            block = (fk * width + width - valid + fn) * 8
            for pair in range(8):
                engine, at = block & 3, (block >> 2) * 8
                row, column = 16 * (n0 + fn) + 2 * pair, 4 * (k0 + fk)
                for j in range(4):
                    words[row, column + j] = streams[engine, at + j]
                    words[row + 1, column + j] = streams[engine, at + 4 + j]
                block += 1


@jit
def interleave(streams: Words, count: int, out: Words) -> None:
    """Store `count` words (a multiple of 4) of each engine, four words in turn."""
    for chunk in range(count >> 2):
        for engine in range(4):
            for j in range(4):
                out[16 * chunk + 4 * engine + j] = streams[engine, 4 * chunk + j]


@jit
def deinterleave(stored: Words, base: int, count: int, streams: Words) -> None:
    """Undo `interleave` for what is stored from word `base` on."""
    for chunk in range(count >> 2):
        for engine in range(4):
            for j in range(4):
                streams[engine, 4 * chunk + j] = stored[base + 16 * chunk + 4 * engine + j]


@jit
def count_tile(words: Words, k0: int, kf: int, first: int, width: int, lanes: Int64) -> None:
    """Add the bytes of a tile to int64 [4, 256]; four lanes so that equal bytes do not wait."""
    for row in range(16 * first, 16 * (first + width)):
        for column in range(4 * k0, 4 * (k0 + kf)):
            word = words[row, column]
            for j in range(0, 8, 4):
                for lane in range(4):
                    lanes[lane, (word >> np.uint64(8 * (j + lane))) & np.uint64(255)] += 1
