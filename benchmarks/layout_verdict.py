"""Time and memory of a layout verdict: `python -m benchmarks.layout_verdict [--tensors N]`.

Makes a DeepSeek-R1-like directory of sparse files (headers real, data holes), judges it as a
command, and prints wall time, CPU time and peak memory of that process, with the same parse done
by the json module alone as a yardstick in the same run.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tensors", type=int, default=130_000)
    parser.add_argument("--shards", type=int, default=160)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "huge"
        size = ("--tensors", str(args.tensors), "--shards", str(args.shards))
        run(ROOT / "benchmarks" / "make_huge_checkpoint.py", directory, *size)
        yardstick = parse_json(directory)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        run("-m", "slimcheck.cli", directory, "--level", "layout", "-q")
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"layout verdict of {args.tensors} tensors in {args.shards} shards:")
    print(f"  wall {wall:.1f} s, cpu {cpu:.1f} s, peak memory {after.ru_maxrss / 1024:.0f} MiB")
    print(f"  the json module alone on the same bytes: {yardstick:.1f} s")


def run(*command: str | Path) -> None:
    subprocess.run([sys.executable, *map(str, command)], check=True)


def parse_json(directory: Path) -> float:
    """Seconds that json.loads takes for all headers, the description and the index."""
    started = time.perf_counter()
    for file in sorted(directory.iterdir()):
        if file.suffix == ".json":
            json.loads(file.read_bytes())
        elif file.suffix == ".safetensors":
            with file.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                json.loads(stream.read(length))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
