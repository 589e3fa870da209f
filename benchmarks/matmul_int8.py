"""Compare the exact int8 matmul with its peers, side by side in one process.

    OPENBLAS_NUM_THREADS=1 python benchmarks/matmul_int8.py [--repeats 7] [--shapes 16x64x32 ...]

Every cell is the time of the peer over the time of `matmul_int8` (above 1: ours is faster), medians
of CPU time over interleaved repeats, one thread. Peers:

    float64     x.astype(float64) @ w.astype(float64).T, cast included: exact, what one would write
    float64 W   the same with w already float64
    float32 W   a bare sgemm with x and w already float32: NOT exact past 2^24, a lower bound
    int32 @     x.astype(int32) @ w.astype(int32).T
    torch       torch._int_mm, if torch is installed (it wants m > 16)

The first two and int32 are checked to be equal to ours before they are timed.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from slimspec.matmul import matmul_int8

SHAPES = ("1x4096x4096", "4x4096x4096", "16x4096x4096", "128x4096x4096", "512x4096x4096")
INT32_LIMIT = 1 << 29  # multiply-adds; the integer loop of numpy takes minutes beyond
Peer = Callable[[], object]


def peers(x: np.ndarray, w: np.ndarray) -> dict[str, Peer]:
    """The calls to time, by name; x (m, k) and w (n, k) int8."""
    wide, narrow = w.astype(np.float64), w.astype(np.float32)
    x32 = x.astype(np.float32)
    calls: dict[str, Peer] = {
        "ours": lambda: matmul_int8(x, w, threads=1),
        "float64": lambda: (x.astype(np.float64) @ w.astype(np.float64).T).astype(np.int32),
        "float64 W": lambda: (x.astype(np.float64) @ wide.T).astype(np.int32),
        "float32 W": lambda: x32 @ narrow.T,
    }
    if x.shape[0] * w.size <= INT32_LIMIT:
        calls["int32 @"] = lambda: x.astype(np.int32) @ w.astype(np.int32).T
    try:
        import torch
    except ImportError:
        return calls
    torch.set_num_threads(1)
    if x.shape[0] > 16:
        a, b = torch.from_numpy(x), torch.from_numpy(w).t()
        calls["torch"] = lambda: torch._int_mm(a, b)
    return calls


def medians(calls: dict[str, Peer], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call, repeats interleaved, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def check(calls: dict[str, Peer]) -> None:
    """Refuse to time different results."""
    ours = calls["ours"]()
    for name in ("float64", "float64 W", "int32 @", "torch"):
        if name in calls and not np.array_equal(ours, np.asarray(calls[name]())):
            raise SystemExit(f"matmul_int8 and {name} differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), metavar="MxKxN")
    args = parser.parse_args()
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        raise SystemExit("set OPENBLAS_NUM_THREADS=1: every column is one thread")
    names = ("float64", "float64 W", "float32 W", "int32 @", "torch")
    print(f"{'m x k x n':>18} {'data':>8} {'ours ms':>9}", *(f"{n:>10}" for n in names))
    rng = np.random.default_rng(0)
    for shape in args.shapes:
        m, k, n = (int(s) for s in shape.split("x"))
        for data in ("uniform", "gaussian"):
            x, w = (codes(rng, data, s) for s in ((m, k), (n, k)))
            calls = peers(x, w)
            check(calls)
            took = medians(calls, args.repeats)
            ratios = [f"{took[p] / took['ours']:10.2f}" if p in took else " " * 10 for p in names]
            print(f"{shape:>18} {data:>8} {took['ours'] * 1e3:9.2f}", *ratios, flush=True)


def codes(rng: np.random.Generator, data: str, shape: tuple[int, int]) -> np.ndarray:
    """int8 codes: all values alike (worst case of the norm certificate), or absmax-scaled rows."""
    if data == "uniform":
        return rng.integers(-128, 128, shape, dtype=np.int8)
    values = rng.normal(size=shape)
    return np.rint(values / np.abs(values).max(axis=1, keepdims=True) * 127).astype(np.int8)


if __name__ == "__main__":
    main()
