"""Compare the quantizers with plain NumPy, torchao and memcpy, side by side in one process.

    python -m benchmarks.quantizers [--shape 4096x11008] [--repeats 5]

Per work: milliseconds of ours, its time over the one of copying the input (memcpy: the least that
reading it costs), and the times of the peers over ours (above 1: ours is faster). Medians of CPU
time over interleaved repeats, one thread. Peers:

    numpy    the formula in NumPy and ml_dtypes operators; 16-bit floats step by step, as ours
    torch    the formula in torch operators, if torch is installed
    torchao  its affine quantization primitives, if torchao is installed

The codes of numpy, and of torch in float32, are checked to be equal to ours before they are timed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimspec.matmul import quantize_dynamic
from slimspec.pack import pack_int4
from slimspec.quantize.minmax import quantize_minmax

F32, BF16 = np.float32, np.dtype(ml_dtypes.bfloat16)
GROUP = 128
Call = Callable[[], NDArray]


class Work(NamedTuple):
    """One row: the input and what each contestant does with it, all returning the codes."""

    name: str
    given: NDArray
    calls: dict[str, Call]


def channel(w: NDArray) -> NDArray:
    """scale = max|w| / 127 per row and rint(w / scale), each step rounded to the dtype of w."""
    dtype = w.dtype
    scale = np.maximum((np.abs(w).max(axis=1, keepdims=True) / dtype.type(127)), dtype.type(2**-23))
    return np.clip(np.rint((w / scale).astype(F32)), -128, 127).astype(np.int8)


def group_int4(w: NDArray) -> NDArray:
    """scale = max|w| / 7 per group of 128, rint(w / scale), two rows in a byte."""
    groups = w.reshape(w.shape[0], -1, GROUP)
    scale = np.maximum(np.abs(groups).max(axis=2, keepdims=True) / F32(7), F32(2**-23))
    return nibbles(np.clip(np.rint(groups / scale), -8, 7).astype(np.int8).reshape(w.shape))


def nibbles(q: NDArray) -> NDArray:
    """byte = q[odd row] << 4 | q[even row] & 15."""
    return (q[1::2] << np.int8(4)) | (q[::2] & np.int8(15))


def token(x: NDArray) -> NDArray:
    """rint(x / scale), scale = max|x|·fp32(1/127) per row, in float32."""
    wide = x.astype(F32)
    scale = np.abs(wide).max(axis=1, keepdims=True) * F32(1 / 127)
    return np.clip(np.rint(wide / scale), -128, 127).astype(np.int8)


def works(n: int, k: int) -> Iterator[Work]:
    """Every row of the table."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((n, k), F32)
    for dtype in (np.dtype(F32), np.dtype(np.float16), BF16):
        x = w.astype(dtype)
        calls: dict[str, Call] = {
            "ours": lambda x=x: quantize_minmax(x, bits=8, variant="v1", symmetric=True).q,
            "numpy": lambda x=x: channel(x),
        }
        yield Work(f"channel int8 {dtype}", x, calls | torch_channel(x))
    calls = {
        "ours": lambda: pack_int4(
            quantize_minmax(
                w, bits=4, variant="v1", symmetric=True, granularity="group", group_size=GROUP
            ).q,
            axis=0,
        ),
        "numpy": lambda: group_int4(w),
    }
    yield Work("group int4 + pack float32", w, calls)
    x = w[: n // 4].astype(np.float16)
    calls = {"ours": lambda: quantize_dynamic(x).q, "numpy": lambda: token(x)}
    yield Work("token int8 float16", x, calls)
    q = rng.integers(-8, 8, (n, k), dtype=np.int8)
    calls = {"ours": lambda: pack_int4(q, axis=0), "numpy": lambda: nibbles(q)}
    yield Work("nibble pack", q, calls)


def torch_channel(x: NDArray) -> dict[str, Call]:
    """Per-channel int8 of float32 by torch and torchao, where they are installed."""
    if x.dtype != F32:
        return {}
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    t = torch.from_numpy(x)

    def plain() -> NDArray:
        scale = (t.abs().amax(1, keepdim=True) / 127).clamp(min=2.0**-23)
        return (t / scale).round().clamp(-128, 127).to(torch.int8).numpy()

    try:
        from torchao.quantization import quant_primitives as ao
    except ImportError:
        return {"torch": plain}

    def affine() -> NDArray:
        block = (1, t.shape[1])
        scale, zero = ao.choose_qparams_affine(
            t, ao.MappingType.SYMMETRIC, block, torch.int8, eps=2.0**-23
        )
        return ao.quantize_affine(t, block, scale, zero, torch.int8).numpy()

    return {"torch": plain, "torchao": affine}


def medians(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call, repeats interleaved, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--shape", default="4096x11008", metavar="NxK")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    n, k = (int(s) for s in options.shape.split("x"))
    names = ("numpy", "torch", "torchao")
    print(
        f"{'work, ' + options.shape:>28} {'ours ms':>9} {'/memcpy':>9}", *(f"{p:>9}" for p in names)
    )
    for work in works(n, k):
        ours = work.calls["ours"]()
        for name in ("numpy", "torch"):
            if name in work.calls and not np.array_equal(ours, work.calls[name]()):
                raise SystemExit(f"{work.name}: the codes of {name} differ")
        target = np.empty_like(work.given)
        calls = work.calls | {"memcpy": lambda w=work, t=target: np.copyto(t, w.given) or t}
        took = medians(calls, options.repeats)
        cells = [took["ours"] / took["memcpy"], *(took.get(p, 0) / took["ours"] for p in names)]
        shown = (f"{cell:9.2f}" if cell else " " * 9 for cell in cells)
        print(f"{work.name:>28} {took['ours'] * 1e3:9.1f}", *shown, flush=True)


if __name__ == "__main__":
    main()
