"""Speed of the value level beside `cat` of the same files: `python -m benchmarks.value_scan`.

Makes a directory of int8 weights (profile A1) once, then runs in turns, warm and cold:

    cat       cat FILES > /dev/null
    values    slimcheck DIR --level values -q, as a command, and the scan alone in this process
Cold drops the files from the page cache first (posix_fadvise DONTNEED after fsync; where the system
keeps them all the same, cold equals warm and the table shows it). The ratio is of medians of the
same turns: other load on the machine hits both, and CPU seconds, which the scan spreads over the
processors, tell what waiting hides. Peak memory is that of the command.
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
    parser.add_argument("--layers", type=int, default=18, help="of 107 MiB each (default 18)")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="use this checkpoint instead")
    parser.add_argument("--type", default="W8A8_DYNAMIC", help="label of the weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary) / "checkpoint"
        if options.directory is None:
            make(directory, options.layers, options.type)
        files = sorted(directory.glob("*.safetensors"))
        size = sum(path.stat().st_size for path in files)
        print(f"{size / 1e9:.2f} GB in {len(files)} files, medians of {options.turns} turns")
        print(f"{'':<6}{'run':<10}{'GB/s':>8}{'of cat':>8}{'cpu s':>8}{'of cat':>8}")
        scan(directory)  # loads the kernels
        for state in ("warm", "cold"):
            times: dict[str, list[tuple[float, float]]] = {"cat": [], "scan": [], "command": []}
            runs = {"cat": lambda: cat(files), "scan": lambda: scan(directory),
                    "command": lambda: command(directory)}  # fmt: skip
            for _ in range(options.turns):
                for name, run in runs.items():
                    if state == "cold":
                        drop(files)
                    times[name].append(seconds(run))
            print_rows(state, size, times)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory: command {peak:.0f} MiB, this process {own:.0f} MiB, mapped pages too")
    return 0


def print_rows(state: str, size: int, times: dict[str, list[tuple[float, float]]]) -> None:
    """Print speed and CPU time of each run, and both as shares of cat's."""
    medians = {
        name: tuple(statistics.median(column) for column in zip(*found, strict=True))
        for name, found in times.items()
    }
    for name, (wall, cpu) in medians.items():
        cat_wall, cat_cpu = medians["cat"]
        print(
            f"{state:<6}{name:<10}{size / wall / 1e9:>8.2f}{cat_wall / wall:>8.0%}"
            f"{cpu:>8.2f}{cpu / max(cat_cpu, 0.01):>8.0%}"
        )


if __name__ == "__main__":
    sys.exit(main())
