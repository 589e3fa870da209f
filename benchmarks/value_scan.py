"""Speed of the value level beside `cat` of the same files: `python -m benchmarks.value_scan`.

Makes directories of int8 weights (profile A1), a small and a larger one, then runs in turns, warm
and cold:

    cat       cat FILES > /dev/null
    scan      the judge in this process, where the kernels are loaded
    command   slimcheck DIR --level values -q: what starting takes is the same for every size

Cold drops the files from the page cache first (posix_fadvise DONTNEED after fsync; where the system
keeps them all the same, cold equals warm and the table shows it). The speed is the median over the
turns of the ratio to cat in the same turn: other load on the machine hits both. CPU seconds, which
the scan spreads over the processors, tell what waiting hides. Peak memory is that of the command.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slimcheck.engine import Options, judge
from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.writer import CheckpointWriter

HIDDEN, INNER = 4096, 11008


def make(directory: Path, layers: int, label: str) -> None:
    """Write a valid directory whose weights fill the range of their rows."""
    rng = np.random.default_rng(1)
    companions = directory.with_name(directory.name + "-companions")
    companions.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "model_type": "llama",
              "num_hidden_layers": layers, "torch_dtype": "bfloat16"}  # fmt: skip
    (companions / "config.json").write_text(json.dumps(config), "utf-8")
    (companions / "tokenizer_config.json").write_text("{}", "utf-8")
    shapes = {"self_attn.q_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (INNER, HIDDEN),
              "mlp.down_proj": (HIDDEN, INNER)}  # fmt: skip
    with CheckpointWriter(
        directory, profile="A1", model_quant_type=label, part_file_size=1 << 30
    ) as writer:
        writer.copy_companions(companions)
        for layer in range(layers):
            for name, (n, k) in shapes.items():
                module = f"model.layers.{layer}.{name}"
                codes = rng.integers(-60, 61, (n, k), np.int8)
                codes[np.arange(n), rng.integers(0, k, n)] = 127
                scale = np.full((n, 1), 2.0**-9, np.float32)
                writer.write(f"{module}.weight", codes, label)
                writer.write(f"{module}.weight_scale", scale, label)
                writer.write(f"{module}.weight_offset", np.zeros_like(scale), label)
    companions_left = list(companions.iterdir())
    for path in companions_left:
        path.unlink()
    companions.rmdir()


def drop(files: list[Path]) -> None:
    """Ask the system to forget the files."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time of one call, its child processes included."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    run()
    return time.perf_counter() - wall, sum(os.times()[:4]) - cpu


def cat(files: list[Path]) -> None:
    """Read every byte as `cat` does."""
    with open(os.devnull, "wb") as sink:
        subprocess.run(["cat", *map(str, files)], stdout=sink, check=True)


def command(directory: Path) -> None:
    """Judge as a command."""
    subprocess.run(
        [sys.executable, "-m", "slimcheck.cli", str(directory), "--level", "values", "-q"],
        stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def scan(directory: Path) -> None:
    """Judge in this process, where the kernels are loaded already."""
    judge(open_checkpoint(directory), Options())


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--layers", type=int, nargs="+", default=[18, 60], help="of 107 MiB each (default 18 60)"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="use this checkpoint instead")
    parser.add_argument("--type", default="W8A8_DYNAMIC", help="label of the weights")
    options = parser.parse_args()
    if options.directory:
        measure(options.directory, options.turns)
        return 0
    for layers in options.layers:
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary) / "checkpoint"
            make(directory, layers, options.type)
            measure(directory, options.turns)
    return 0


def measure(directory: Path, turns: int) -> None:
    """Run everything in turns and print the table of a directory."""
    files = sorted(directory.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    print(f"{size / 1e9:.2f} GB in {len(files)} files, medians of {turns} turns")
    print(f"{'':<6}{'run':<10}{'GB/s':>8}{'of cat':>8}{'cpu s':>8}{'of cat':>8}")
    scan(directory)  # loads the kernels
    runs = {"cat": lambda: cat(files), "scan": lambda: scan(directory),
            "command": lambda: command(directory)}  # fmt: skip
    for state in ("warm", "cold"):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(turns):
            for name, run in runs.items():
                if state == "cold":
                    drop(files)
                times[name].append(seconds(run))
        print_rows(state, size, times)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory of the command: {peak:.0f} MiB, mapped pages too")


def print_rows(state: str, size: int, times: dict[str, list[tuple[float, float]]]) -> None:
    """Print speed and CPU time of each run, and both beside cat's; then what starting takes."""
    walls = {}
    for name, found in times.items():
        walls[name] = statistics.median(wall for wall, _ in found)
        cpu = statistics.median(cpu for _, cpu in found)
        pairs = list(zip(times["cat"], found, strict=True))
        speed = statistics.median(cat[0] / own[0] for cat, own in pairs)
        work = statistics.median(own[1] / max(cat[1], 0.01) for cat, own in pairs)
        print(
            f"{state:<6}{name:<10}{size / walls[name] / 1e9:>8.2f}{speed:>8.0%}"
            f"{cpu:>8.2f}{work:>8.0%}"
        )
    start = walls["command"] - walls["scan"]
    print(f"{state:<6}start-up and report of the command: {start:.2f} s, whatever the size")


if __name__ == "__main__":
    sys.exit(main())
