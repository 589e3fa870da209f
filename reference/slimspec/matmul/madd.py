"""Integer matmul on the multiply-add-pairs instruction of x86 (AVX2 `vpmaddwd`).

Two int8 codes widened to int16 share one 32-bit lane, and one instruction makes x₀·w₀ + x₁·w₁ in
int32: exact, since |x₀·w₀ + x₁·w₁| <= 2·2^14. Sums wrap modulo 2^32 like the definition. A tile of
ROWS × COLS accumulators stays in registers while k runs, as in any blocked matmul.

Numba does not emit the instruction for a blocked loop by itself, so the tile is built as LLVM code.
`available` tells whether this CPU has it and whether a trial product came out right; where it is
false nothing here is compiled, and the portable form gives the same bits.

Source: performance.md "What the measurements teach" 2; checked against `matmul_int8_plain`.
"""

from functools import lru_cache

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import config
from numba.core.errors import NumbaError
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 8  # int32 lanes of a register
ROWS, VECTORS = 6, 2  # 12 accumulators, 2 columns vectors, 1 row value, 1 product: 16 registers
COLS = LANES * VECTORS
BLOCK = 256  # columns packed together
DEPTH = 512  # pairs of k packed together: BLOCK × DEPTH × 4 bytes stay in the second-level cache

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_V32, _V16 = ir.VectorType(_I32, LANES), ir.VectorType(ir.IntType(16), 2 * LANES)


def _at(b: ir.IRBuilder, base: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    """Pointer to the 32-bit word `index` after the address `base`."""
    return b.inttoptr(b.add(base, b.shl(index, _I64(2))), ir.PointerType(kind))


def _row_value(b: ir.IRBuilder, x: ir.Value, index: ir.Value) -> ir.Value:
    """One pair of x, repeated in every lane."""
    word = b.load(_at(b, x, index, _I32), align=4)
    one = b.insert_element(ir.Constant(_V32, ir.Undefined), word, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return b.bitcast(b.shuffle_vector(one, one, zeros), _V16)


def _step(
    b: ir.IRBuilder, x: ir.Value, stride: ir.Value, w: ir.Value, p: ir.Value, sums: list[ir.Value]
) -> list[ir.Value]:
    """The accumulators after the pair p of k."""
    madd = b.module.declare_intrinsic(
        "llvm.x86.avx2.pmadd.wd", (), ir.FunctionType(_V32, [_V16, _V16])
    )
    first = b.mul(p, _I64(COLS))
    columns = [
        b.load(_at(b, w, b.add(first, _I64(LANES * v)), _V16), align=4) for v in range(VECTORS)
    ]
    after = []
    for r in range(ROWS):
        value = _row_value(b, x, b.add(b.mul(stride, _I64(r)), p))
        for v in range(VECTORS):
            after.append(b.add(sums[r * VECTORS + v], b.call(madd, [value, columns[v]])))
    return after


@intrinsic
def madd_tile(typingctx, x, stride, w, pairs, c, ldc):  # type: ignore[no-untyped-def]
    """c[r, j] += Σ_p madd(x[r, p], w[p, j]) for one tile; all arguments addresses or counts.

    x rows `stride` words apart, w (pairs, COLS) words, c rows `ldc` words apart, int32.
    """

    def codegen(context, b, signature, args):  # type: ignore[no-untyped-def]
        x, stride, w, pairs, c, ldc = args
        places = [
            _at(b, c, b.add(b.mul(ldc, _I64(r)), _I64(LANES * v)), _V32)
            for r in range(ROWS)
            for v in range(VECTORS)
        ]
        start = [b.load(place, align=4) for place in places]
        entry = b.basic_block
        head, body, done = (b.append_basic_block(n) for n in ("head", "body", "done"))
        b.branch(head)
        b.position_at_end(head)
        p, sums = b.phi(_I64), [b.phi(_V32) for _ in places]
        b.cbranch(b.icmp_signed("<", p, pairs), body, done)
        b.position_at_end(body)
        after = [b.add(p, _I64(1)), *_step(b, x, stride, w, p, sums)]
        b.branch(head)
        for phi, before, then in zip([p, *sums], [_I64(0), *start], after, strict=True):
            phi.add_incoming(before, entry)
            phi.add_incoming(then, body)
        b.position_at_end(done)
        for place, value in zip(places, sums, strict=True):
            b.store(value, place, align=4)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), codegen


@njit(nogil=True, cache=True)
def _pack(w, first, lo, pairs, panel):  # type: ignore[no-untyped-def]
    """panel[p, c] = the codes 2(lo + p) and 2(lo + p) + 1 of row first + c of w, 0 outside w."""
    n, k = w.shape
    for c in range(COLS):
        whole = min(pairs, k // 2 - lo) if first + c < n else 0
        for p in range(whole):
            even = np.int32(w[first + c, 2 * (lo + p)]) & np.int32(0xFFFF)
            panel[p, c] = even | (np.int32(w[first + c, 2 * (lo + p) + 1]) << np.int32(16))
        for p in range(whole, pairs):
            panel[p, c] = np.int32(0)
        if first + c < n and k % 2 and lo + pairs == (k + 1) // 2:
            panel[pairs - 1, c] = np.int32(w[first + c, k - 1]) & np.int32(0xFFFF)


@njit(nogil=True, cache=True)
def _columns(x, w, out, start, stop):  # type: ignore[no-untyped-def]
    """out[:, start:stop] = x·wᵀ; x (m', pairs) int32 words, m' a multiple of ROWS."""
    pairs = x.shape[1]
    panels = np.empty((BLOCK // COLS, min(DEPTH, pairs), COLS), np.int32)
    for first in range(start, stop, BLOCK):
        count = (min(BLOCK, stop - first) + COLS - 1) // COLS
        c = np.zeros((x.shape[0], BLOCK), np.int32)
        for lo in range(0, pairs, DEPTH):
            depth = min(DEPTH, pairs - lo)
            for j in range(count):
                _pack(w, first + j * COLS, lo, depth, panels[j])
            for i in range(0, x.shape[0], ROWS):
                for j in range(count):
                    madd_tile(
                        x[i, lo:].ctypes.data, pairs, panels[j].ctypes.data, depth,
                        c[i, j * COLS :].ctypes.data, BLOCK,
                    )  # fmt: skip
        width = min(BLOCK, stop - first)
        out[:, first : first + width] = c[: out.shape[0], :width]


def row_words(x: NDArray[np.int8]) -> NDArray[np.int32]:
    """Pairs of codes along k as int32 words, rows padded to a multiple of ROWS.

    Args:
        x: (m, k) int8.

    Returns:
        (m', ceil(k/2)) int32, zeros in the padding.
    """
    m, k = x.shape
    wide = np.zeros((-(-m // ROWS) * ROWS, k + k % 2), "<i2")
    wide[:m, :k] = x
    return wide.view("<i4")


def columns(x: NDArray, w: NDArray, out: NDArray, span: slice) -> None:
    """Fill out[:, span] of (m, n) int32; x from `row_words`, w (n, k) int8 contiguous."""
    _columns(x, w, out, span.start, span.stop)


@lru_cache(maxsize=1)
def available() -> bool:
    """True if the CPU has AVX2, the JIT compiles for this very CPU, and a trial is exact."""
    foreign = config.CPU_NAME or config.CPU_FEATURES  # type: ignore[attr-defined]
    if config.DISABLE_JIT or foreign:  # type: ignore[attr-defined]
        return False
    if not llvm.get_host_cpu_features().get("avx2", False):
        return False
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-128, 128, s, dtype=np.int8) for s in ((ROWS + 1, 77), (COLS + 3, 77)))
    x[0], w[0] = -128, -128
    out = np.empty((x.shape[0], w.shape[0]), np.int32)
    try:
        columns(row_words(x), w, out, slice(0, w.shape[0]))
    except NumbaError:  # an LLVM that builds the tile differently
        return False
    return np.array_equal(out, x.astype(np.int32) @ w.astype(np.int32).T)
