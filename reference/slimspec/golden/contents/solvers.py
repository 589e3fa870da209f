"""Vectors of weight solvers: small systems solved with fractions."""

from collections.abc import Iterator
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.golden import exact

from .model import Definition, Tolerance, f32, i8

_DIGIT = Tolerance("ulp", 1, "float32 sums may round the float16 result the other way")
F16 = np.float16
Matrix = list[list[Fraction]]


def cases() -> Iterator[Definition]:
    yield from _gptq()
    yield from _ssz()
    yield from _hqq()
    yield _lowbit()
    yield from _mantissas()


def _hessian(batches: list[NDArray], tokens: int) -> Matrix:
    """2/N Σ xᵀx, dead columns 1, then a hundredth of the mean diagonal added to the diagonal."""
    k = batches[0].shape[1]
    rows = [[Fraction(v) for v in row] for x in batches for row in x.tolist()]
    h = [
        [sum((r[i] * r[j] for r in rows), Fraction(0)) * 2 / tokens for j in range(k)]
        for i in range(k)
    ]
    for i in range(k):
        h[i][i] = h[i][i] or Fraction(1)
    damp = sum((h[i][i] for i in range(k)), Fraction(0)) / k / 100
    return [[v + damp * (i == j) for j, v in enumerate(row)] for i, row in enumerate(h)]


def _first_row_of_inverse(h: Matrix) -> list[Fraction]:
    """First row of the inverse of a symmetric matrix: h·y = e_1 by elimination."""
    k = len(h)
    a = [[*row, Fraction(i == 0)] for i, row in enumerate(h)]
    for i in range(k):
        a[i] = [v / a[i][i] for v in a[i]]
        for j in range(k):
            if j != i:
                a[j] = [v - a[j][i] * p for v, p in zip(a[j], a[i], strict=True)]
    return [row[-1] for row in a]


def _swept(w: NDArray, h: Matrix, scale: NDArray, offset: NDArray, low: int) -> NDArray[np.int8]:
    """Codes by removing one column after the other from the least-squares problem.

    The weights right of column i move by -(w_i - ŵ_i)·(F⁻¹)_1j / (F⁻¹)_11, F = H without the
    columns before i. scale and offset are [n, k].
    """
    codes = np.zeros(w.shape, np.int8)
    for r, row in enumerate(w.tolist()):
        rest = [Fraction(v) for v in row]
        for i in range(len(rest)):
            s, z = Fraction(float(scale[r, i])), int(offset[r, i])
            moved = rest[i] / s + z
            if _near_tie(moved):
                raise AssertionError(f"row {r}, column {i}: {float(moved)} is too near a tie")
            q = min(max(round(moved), low), -low - 1)
            codes[r, i] = q
            line = _first_row_of_inverse([h[j][i:] for j in range(i, len(rest))])
            error = (rest[i] - (q - z) * s) / line[0]
            rest[i:] = [v - error * u for v, u in zip(rest[i:], line, strict=True)]
    return codes


def _near_tie(value: Fraction) -> bool:
    """Nearer to a tie than float32 arithmetic may move it."""
    return abs(value % 1 - Fraction(1, 2)) < Fraction(1, 1000)


def _gptq() -> Iterator[Definition]:
    random = np.random.RandomState(71)
    one, two = (random.randint(-4, 5, (6, 4)).astype(np.float32) for _ in "ab")
    two[:, 0] = two[:, 1] + 1  # correlated columns: errors are pushed far
    one[:, 2] = two[:, 2] = 0  # an input that calibration never reaches
    w = (random.randint(-640, 641, (3, 4)) / 64).astype(np.float32)
    w[:, 2] = (0.5, -9.5, 3.25)
    dead = w * f32([1, 1, 0, 1])  # the sweep starts with zeros in a column without inputs
    peak = np.abs(w).max(axis=1, keepdims=True)
    scale = exact.div(peak, 7)
    zero = np.zeros_like(scale)
    wide = np.repeat(scale, 4, axis=1)
    source = "math.md 3.3"
    yield Definition(
        "quantize_gptq", "001", "int4, one scale per row, two batches: columns leave the"
        " least-squares problem one by one, solved with fractions; the third input is always 0, so"
        " its weights become 0; no quotient within 1/1000 of a tie", {"w": w, "x0": one, "x1": two},
        {"q": _swept(dead, _hessian([one, two], 12), wide, np.zeros((3, 4)), -8), "scale": scale,
         "offset": zero},
        {"bits": 4, "symmetric": True, "variant": "v1"}, ("ErrorPush",), (), source,
    )  # fmt: skip
    three = random.randint(-4, 5, (6, 4)).astype(np.float32)
    groups = w.reshape(3, 2, 2).astype(np.float64)
    low, high = np.minimum(groups.min(axis=2), 0), np.maximum(groups.max(axis=2), 0)
    scale = exact.sub(exact.div(high, 15), exact.div(low, 15))
    offset = exact.sub(np.array(exact.integers(exact.div(-low, scale)), np.float64), 8)
    wide, moved = (np.repeat(v, 2, axis=1) for v in (scale, offset))
    yield Definition(
        "quantize_gptq", "002", "asymmetric groups of two: their scales come from the weight as it"
        " was, before any error was pushed", {"w": w, "x0": two, "x1": three},
        {"q": _swept(w, _hessian([two, three], 12), wide, moved, -8), "scale": scale,
         "offset": offset},
        {"bits": 4, "symmetric": False, "variant": "v1", "granularity": "group", "group_size": 2},
        ("ErrorPush", "GroupIndex"), ("W4A16-006",), source,
    )  # fmt: skip
    yield _first_batch(w, dead, one, two)


def _first_batch(w: NDArray, dead: NDArray, one: NDArray, two: NDArray) -> Definition:
    scale = exact.div(np.abs(w).max(axis=1, keepdims=True), 127)
    wide = np.repeat(scale, 4, axis=1)
    codes = _swept(dead, _hessian([one], 1), wide, np.zeros((3, 4)), -128)
    moved = exact.mul(codes, scale)
    again = exact.div(np.abs(moved).max(axis=1, keepdims=True), 127)
    ratio = exact.div(moved, again)
    return Definition(
        "quantize_gptq", "003", "the older producer: only the first batch counts, as one sample of"
        " six tokens, and scales are taken again from the compensated weight",
        {"w": w, "x0": one, "x1": two},
        {"q": exact.clipped(exact.integers(ratio), -128, 127), "scale": again,
         "offset": np.zeros_like(again)},
        {"bits": 8, "symmetric": True, "variant": "v0"}, ("ErrorPush",), (),
        "math.md 3.3, 15 D-7",
    )  # fmt: skip


def _ssz() -> Iterator[Definition]:
    w = np.zeros((5, 8), np.float32)
    w[0] = f32([127, -3, 0, 1, 64, -128 + 1, 2, 5]) / 8  # exact already
    w[1] = -f32([127, 1.375, 1.375, 1.375, 1.375, 1.375, 1.375, 1.375])  # absmax negative
    w[2] = f32([127, 0.5, 1.5, -0.5, -1.5, 2.5, 3.5, 63.5])  # ties
    w[4] = f32([1.0, 0.25, 0.375, -0.125, 0.5, 0.75, -1.0, 0.625]) * 2.0**-20  # scale at its least
    first = np.maximum(exact.div(np.abs(w).max(axis=1, keepdims=True), 127), np.float32(2.0**-23))
    q = exact.clipped(exact.integers(exact.div(w, first)), -128, 127)
    second = _least_squares(w, q)
    codes = exact.clipped(exact.integers(exact.div(w, second)), -128, 127)
    before, after = _squared(w, q, first), _squared(w, codes, second)
    better = np.array([[a < b] for a, b in zip(after, before, strict=True)])
    scale = np.where(better, second, first)
    final = exact.clipped(exact.integers(exact.div(w, scale)), -128, 127)
    kept = better[:, 0].tolist()
    yield Definition(
        "quantize_ssz", "001", "one round: s = Σ w·q / Σ q² of the min-max codes, sums exact in"
        " float32, kept where the squared error falls. Rows: exact already; absmax negative; ties;"
        f" zeros (least scale); tiny. Kept: {', '.join('yes' if k else 'no' for k in kept)}",
        {"w": w}, {"q": final, "scale": scale, "offset": np.zeros_like(scale)},
        {"bits": 8, "steps": 1}, ("ScaleSearch", "ZeroRange", "AbsmaxNegative", "TieRounding"),
        ("W8A8-015",), "math.md 3.2",
    )  # fmt: skip


def _least_squares(w: NDArray, q: NDArray) -> NDArray[np.float32]:
    """Σ w·q / max(Σ q², 1e-30) per row; the sums here are exact in float32."""
    found = []
    for row, codes in zip(w.tolist(), q.tolist(), strict=True):
        top = sum((Fraction(v) * c for v, c in zip(row, codes, strict=True)), Fraction(0))
        norm = sum(c * c for c in codes) or float(np.float32(1e-30))
        if Fraction(float(np.float32(float(top)))) != top:
            raise AssertionError("a sum is not exact in float32")
        found.append(exact.div(float(top), norm))
    return np.stack(found).reshape(-1, 1)


def _squared(w: NDArray, q: NDArray, scale: NDArray) -> list[Fraction]:
    """Σ (w - ŵ)² per row, ŵ = fl32(q·s)."""
    back = exact.mul(q, scale)
    pairs = zip(w.tolist(), back.tolist(), strict=True)
    return [
        sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(*rows, strict=True)), Fraction(0))
        for rows in pairs
    ]


def _hqq() -> Iterator[Definition]:
    codes = i8([[-8, 7, 3, 0, -1, 5, 2, -4], [7, -7, 1, 1, -1, 0, 6, 4], [0] * 8])
    scale, offset = f32([[0.25], [2.0], [2.0**-23]]), f32([[-3], [0], [0]])
    w = (codes - offset) * scale
    yield Definition(
        "optimize_hqq", "001", "weights that the start hits exactly: the error is 0, no round is"
        " better, scale and offset stay and become float16; a row of zeros has the least scale",
        {"w": w, "scale": scale, "offset": offset},
        {"scale_out": scale.astype(F16), "offset_out": offset.astype(F16)},
        {"bits": 4, "solve_scale": True, "solve_offset": False, "per_tensor": False},
        ("ScaleSearch",), (), "math.md 3.4",
    )  # fmt: skip
    w = (np.random.RandomState(81).randint(-112, 113, (2, 12)) / 8).astype(np.float32)
    scale = exact.div(np.abs(w).max(axis=1, keepdims=True), 7)
    found, rounds = _proximal(w.tolist(), scale[:, 0].tolist())
    yield Definition(
        "optimize_hqq", "002", f"symmetric int4: {rounds} rounds, in decimals of 40 digits, make"
        " the mean error smaller; no quotient within 1/1000 of a tie",
        {"w": w, "scale": scale, "offset": np.zeros_like(scale)},
        {"scale_out": np.array(found, np.float64).reshape(2, 1).astype(F16),
         "offset_out": np.zeros((2, 1), F16)},
        {"bits": 4, "solve_scale": True, "solve_offset": False, "per_tensor": False},
        ("ScaleSearch",), (), "math.md 3.4", tolerance={"scale_out": _DIGIT},
    )  # fmt: skip


def _proximal(w: list[list[float]], scale: list[float]) -> tuple[list[float], int]:
    """HQQ with offset 0: the scales of the last round whose mean error fell, and their number.

    T = w - sign(e)·max(|e| - |e|^(-3/10)/beta, 0),  s = Σ q·T / Σ q²,  beta = 10, 10.1, 10.201, ...
    """
    with localcontext(prec=40):
        rows, best = [[Decimal(v) for v in row] for row in w], [Decimal(s) for s in scale]
        codes, smallest = _rounded_rows(rows, best)
        current, beta = best, Decimal(10)
        for done in range(20):
            current = [
                _fitted(row, q, s, beta) for row, q, s in zip(rows, codes, current, strict=True)
            ]
            codes, error = _rounded_rows(rows, current)
            if abs(smallest - error) < Decimal("1e-5"):
                raise AssertionError("float32 arithmetic may see another error fall")
            if error > smallest:
                return [float(s) for s in best], done
            best, smallest, beta = current, error, beta * Decimal("1.01")
        return [float(s) for s in best], 20


def _fitted(row: list[Decimal], q: list[int], s: Decimal, beta: Decimal) -> Decimal:
    total = Decimal(0)
    for v, c in zip(row, q, strict=True):
        e = v - c * s
        size = abs(e)
        shrunk = max(size - size ** Decimal("-0.3") / beta, Decimal(0)) if size else size
        total += c * (v - shrunk.copy_sign(e))
    return total / sum(c * c for c in q)


def _rounded_rows(
    rows: list[list[Decimal]], scale: list[Decimal]
) -> tuple[list[list[int]], Decimal]:
    """Int4 codes and the mean error."""
    codes: list[list[int]] = []
    error = Decimal(0)
    for row, s in zip(rows, scale, strict=True):
        ratios = [v / s for v in row]
        if any(_near_tie(Fraction(r)) for r in ratios):
            raise AssertionError("a quotient is too near a tie")
        codes.append([min(max(round(r), -8), 7) for r in ratios])
        error += sum((abs(v - c * s) for v, c in zip(row, codes[-1], strict=True)), Decimal(0))
    return codes, error / sum(map(len, rows))


def _lowbit() -> Definition:
    w = np.zeros((5, 20), np.float32)
    w[0, :9] = (7, 2.5, -3.5, 0.5, -0.5, -6.5, 100.5, 1.5, -7)  # one outlier of scale 1
    w[1, :5] = (-1000, 7, -0.25, 6.5, 5.5)  # an outlier past -127 scales
    w[2, :4] = (14, 14, -2, 5)  # the two largest are equal: no outlier
    w[4, :4] = (0.7, -0.3, 0.2, 3.0)  # a scale that is not exact
    size = np.sort(np.abs(w), axis=1)
    outlier = np.abs(w) > size[:, -2:-1]  # int(20/10) = 2: above the second largest
    amax = np.where(outlier, 0, np.abs(w)).max(axis=1, keepdims=True)
    near = exact.div(amax, 7)
    far = exact.div(exact.div(exact.mul(amax, 127), 7), 127)
    one = np.float32(1)
    bulk = exact.integers(exact.div(w, np.where(near == 0, one, near)))
    beyond = exact.integers(exact.div(w, np.where(far == 0, one, far)))
    q = np.where(outlier, exact.clipped(beyond, -127, 127), exact.clipped(bulk, -7, 7))
    return Definition(
        "quantize_lowbit", "001", "rows: ties of the bulk and of one outlier; an outlier past -127;"
        " two equal largest weights, none above; zeros (scale 0, codes 0); an inexact scale. The"
        " outlier is divided by ((127·amax)/7)/127", {"w": w},
        {"q": q.astype(np.int8), "scale": near},
        {"use_sigma": False, "fraction": 0.1, "per_channel": True},
        ("ScaleSearch", "TieRounding", "ZeroRange", "SaturateThenNarrow"), ("SP-003",),
        "math.md 7.1",
    )  # fmt: skip


def _mantissas() -> Iterator[Definition]:
    odd = [1 + Fraction(n, 16) for n in range(16)]  # with 1.125, 1.375, ...: ties of two bits
    values = [m * Fraction(2) ** e for e in (-14, -9, -8, 0, 15) for m in odd]
    small = [Fraction(n, 1 << 24) for n in (1, 512, 1023)]  # subnormal numbers of float16
    flat = [v for v in [*values, *small, Fraction(0)] for v in (v, -v)]
    w = np.array([float(v) for v in flat], F16)
    w[-1] = -0.0
    w = w.reshape(8, -1)
    keep = (np.arange(w.size) % 7 == 0).reshape(w.shape)
    y = [_reduced(float(v), k, 2) for v, k in zip(w.ravel(), keep.ravel(), strict=True)]
    yield Definition(
        "reduce_mantissa", "001", "float16 sixteenths over five exponents, two bits: ties to even;"
        " every seventh is kept; exponents below -8 become powers of two, kept or not; subnormal"
        " numbers 0 unless kept; 61440 and more infinite", {"w": w, "keep": keep.astype(np.uint8)},
        {"y": np.array(y, F16).reshape(w.shape)}, {"bits": 2, "nearest": True},
        ("MantissaBits", "TieRounding", "Subnormal", "Fp16Overflow", "SignedZero"), ("SP-006",),
        "math.md 7.3",
    )  # fmt: skip


def _reduced(value: float, keep: bool, bits: int) -> float:
    """One float16 by the definition, sign·m·2^e with 1 <= m < 2 (subnormal: m = |w|·2^15)."""
    size = abs(Fraction(value))
    if size == 0:
        return 0.0  # also of -0
    exponent = -15
    if size >= Fraction(1, 1 << 14):
        exponent = max(e for e in range(-14, 16) if Fraction(2) ** e <= size)
    m: Any = size / Fraction(2) ** exponent
    reduced = Fraction(round(m * 2**bits), 2**bits)
    if -14 <= exponent < bits - 10:
        reduced = Fraction(2 if m > Fraction(3, 2) else 1)
    elif keep:
        reduced = m
    elif exponent == -15:
        reduced = Fraction(0)
    found = float(reduced * Fraction(2) ** exponent)
    return float(np.copysign(np.inf if found > 65504 else found, value))
