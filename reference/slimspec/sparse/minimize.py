"""Where a function of one number is smallest between two bounds: Brent's and Powell's searches.

The producer calls scipy's Powell with bounds. In one dimension that is a Brent search over the
whole interval, repeated with finer steps until a repetition gains next to nothing. Its error is a
float32, so the function is a staircase, and which step it ends on depends on every comparison.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Function = Callable[[float], float]
Point = tuple[float, float]  # place, value
GOLDEN = 0.5 * (3.0 - math.sqrt(5.0))
ROOT_EPS = math.sqrt(2.2e-16)
TOLERANCE = 1e-4


class _Search(NamedTuple):
    """Where a line search ended, and the step there from where it began."""

    place: float
    value: float
    step: float


def minimize_bounded(
    f: Function, low: float, high: float, tolerance: float = TOLERANCE
) -> tuple[float, float]:
    """Return where f is smallest on [low, high] and its value there: Brent, without derivatives.

    Keeps the best point x, the second best w and the one before it v; steps to the minimum of their
    parabola where that lies inside and halves the step before last, else by the golden section.

    Args: f any function; low < high; tolerance of the place.
    Source: Brent, Algorithms for Minimization without Derivatives (1973), chapter 5.
    """
    x = w = v = low + GOLDEN * (high - low)
    fx = fw = fv = f(x)
    step = before = 0.0
    while True:
        middle, least = 0.5 * (low + high), ROOT_EPS * abs(x) + tolerance / 3
        if abs(x - middle) <= 2 * least - 0.5 * (high - low):
            return x, fx
        parabola = _parabola_step((x, fx), (w, fw), (v, fv)) if abs(before) > least else None
        if parabola is not None and _acceptable(parabola, before, x, low, high):
            before, step = step, parabola[0] / parabola[1]
            if min(x + step - low, high - (x + step)) < 2 * least:
                step = least if middle >= x else -least
        else:
            before = low - x if x >= middle else high - x
            step = GOLDEN * before
        u = x + (max(step, least) if step >= 0 else min(step, -least))
        fu = f(u)
        if fu <= fx:
            low, high = (x, high) if u >= x else (low, x)
            v, fv, w, fw, x, fx = w, fw, x, fx, u, fu
            continue
        low, high = (u, high) if u < x else (low, u)
        if fu <= fw or w == x:
            v, fv, w, fw = w, fw, u, fu
        elif fu <= fv or v in (x, w):
            v, fv = u, fu


def _parabola_step(best: Point, second: Point, third: Point) -> Point:
    """Return (p, q), q >= 0: p / q leads from the best point to the parabola's minimum."""
    r = (best[0] - second[0]) * (best[1] - third[1])
    q = (best[0] - third[0]) * (best[1] - second[1])
    p = (best[0] - third[0]) * q - (best[0] - second[0]) * r
    q = 2 * (q - r)
    return (-p, q) if q > 0 else (p, -q)


def _acceptable(
    step: tuple[float, float], before: float, x: float, low: float, high: float
) -> bool:
    p, q = step
    return abs(p) < abs(0.5 * q * before) and q * (low - x) < p < q * (high - x)


def minimize_powell(
    f: Function, start: float, low: float, high: float, tolerance: float = TOLERANCE
) -> float:
    """Return where f is smallest on [low, high]: Powell's method in one dimension.

    A round searches the line x + t·d by Brent, `tolerance` being that of t. If it gained less than
    tolerance·(|f before| + |f after|) / 2 it was the last. Else the point as far beyond is tried;
    if that is better than where the round began, the line is searched again with d = the step of
    the round, and the step of this search is d from then on, which is how steps get finer.

    Args: f; start in [low, high]; d is 1 at first.
    Source: Powell, The Computer Journal 7 (1964); scipy.optimize.minimize(method="Powell", bounds).
    """
    x, fx, direction = start, f(start), 1.0
    while True:
        before, f_before = x, fx
        x, fx, _ = _search_line(f, x, fx, direction, low, high, tolerance)
        if not 2 * (f_before - fx) > tolerance * (abs(f_before) + abs(fx)) + 1e-20:
            return x
        step = x - before
        beyond = x + min(_reach(x, step, low, high)[1], 1.0) * step if step else x
        if f(beyond) < f_before:
            x, fx, last = _search_line(f, x, fx, step, low, high, tolerance)
            direction = last or direction


def _search_line(
    f: Function, x: float, fx: float, direction: float, low: float, high: float, tolerance: float
) -> _Search:
    if not direction:
        return _Search(x, fx, direction)
    t, value = minimize_bounded(
        lambda t: f(x + t * direction), *_reach(x, direction, low, high), tolerance
    )
    return _Search(x + t * direction, value, t * direction)


def _reach(x: float, direction: float, low: float, high: float) -> tuple[float, float]:
    """Return the smallest and largest t for which x + t·direction lies in [low, high]."""
    ends = np.array([low - x, high - x]) / direction
    return float(ends.min()), float(ends.max())
