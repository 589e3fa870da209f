"""Size and speed of the sparse codec beside zstd, lz4 and the entropy bound, in one run.

    python benchmarks/sparse_codec.py [--rows 4096] [--columns 11008] [--repeats 5]

The weight is drawn as W8A8S stores one: a Gaussian with some large columns, scale = largest normal
value / 7 per row, outliers above 3 sigma of |w|. Every codec runs once per round; times are medians
of CPU time over the rounds (wall time for several threads), speeds count uncompressed bytes.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import lz4.frame
import numpy as np
import zstandard
from numpy.typing import NDArray

from slimspec.sparse import compress, decompress

Clock = Callable[[], float]


@dataclass
class Peer:
    """One codec: how to encode, how to decode, what it needs, and its times in seconds."""

    name: str
    encode: Callable[[], object]
    decode: Callable[[object], object]
    size: Callable[[object], int]
    clock: Clock = time.process_time
    encoded: list[float] = field(default_factory=list)
    decoded: list[float] = field(default_factory=list)
    bytes: int = 0

    def round(self) -> None:
        """Encode and decode once."""
        start = self.clock()
        packed = self.encode()
        middle = self.clock()
        self.decode(packed)
        self.encoded.append(middle - start)
        self.decoded.append(self.clock() - middle)
        self.bytes = self.size(packed)


def w8a8s_like(n: int, k: int) -> NDArray[np.int8]:
    """Return an int8 weight with the histogram of a low-bit sparse checkpoint."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((n, k), np.float32)
    weight[:, rng.choice(k, k // 300)] *= 8
    size = np.abs(weight)
    outlier = size > np.float32(3) * size.std(axis=1, ddof=1, keepdims=True)
    scale = np.where(outlier, np.float32(0), size).max(axis=1, keepdims=True) / np.float32(7)
    return np.clip(np.rint(weight / scale), -128, 127).astype(np.int8)


def entropy_bytes(weight: NDArray[np.int8]) -> float:
    """Return the order-0 entropy bound: no code of single bytes is shorter on average."""
    counts = np.bincount(weight.view(np.uint8).reshape(-1), minlength=256)
    share = counts[counts > 0] / weight.size
    return float(-(share * np.log2(share)).sum() * weight.size / 8)


def peers(weight: NDArray[np.int8]) -> list[Peer]:
    """Return the codecs to compare; ours in both modes and with one and two threads."""
    raw = weight.tobytes()
    found = []
    for mode in ("low", "high"):
        for threads, clock in ((1, time.process_time), (2, time.perf_counter)):
            found.append(
                Peer(
                    f"tiles {mode}, {threads} thread{'s' * (threads > 1)}",
                    lambda mode=mode, threads=threads: compress(weight, mode, threads=threads),
                    lambda c, threads=threads: decompress(
                        c.weight, c.index, c.info, threads=threads
                    ),
                    lambda c: c.weight.size + c.index.size + c.info.nbytes,
                    clock,
                )
            )
    for level in (1, 3):
        packer, unpacker = zstandard.ZstdCompressor(level), zstandard.ZstdDecompressor()
        found.append(
            Peer(f"zstd -{level}", lambda p=packer: p.compress(raw), unpacker.decompress, len)
        )
    found.append(Peer("lz4", lambda: lz4.frame.compress(raw), lz4.frame.decompress, len))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=11008)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    weight = w8a8s_like(options.rows, options.columns)
    stream = compress(weight)  # compiles
    if not np.array_equal(decompress(stream.weight, stream.index, stream.info), weight):
        raise SystemExit("the codec is not lossless")
    rivals = peers(weight)
    for _ in range(options.repeats):
        for peer in rivals:
            peer.round()
    megabytes = weight.size / 1e6
    base = {peer.name: peer for peer in rivals}["zstd -1"]
    small = np.abs(weight.astype(np.int16)) <= 7
    print(f"{weight.shape[0]} x {weight.shape[1]} int8, {megabytes:.1f} MB,")
    print(f"{(weight == 0).mean():.3f} zeros, {small.mean():.3f} within ±7")
    print(
        f"{'':20s} {'size/raw':>9s} {'enc MB/s':>9s} {'dec MB/s':>9s} {'enc/zstd-1':>11s}", end=""
    )
    print(f" {'dec/zstd-1':>11s}")
    for peer in rivals:
        encode, decode = (statistics.median(t) for t in (peer.encoded, peer.decoded))
        # median of the ratios within one round, so that other load cancels
        faster = [
            statistics.median(b / t for b, t in zip(theirs, ours, strict=True))
            for theirs, ours in ((base.encoded, peer.encoded), (base.decoded, peer.decoded))
        ]
        print(
            f"{peer.name:20s} {peer.bytes / weight.size:10.4f} {megabytes / encode:10.0f}"
            f" {megabytes / decode:10.0f} {faster[0]:10.2f} {faster[1]:10.2f}"
        )
    print(f"{'entropy bound':20s} {entropy_bytes(weight) / weight.size:10.4f}")


if __name__ == "__main__":
    main()
