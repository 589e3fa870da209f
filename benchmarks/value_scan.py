"""Speed of the value level beside `cat` of the same files: `python -m benchmarks.value_scan`.

Makes directories of one type each (`--case`), then runs in turns, warm and cold:

    cat       cat FILES > /dev/null
    scan      the judge in this process, where the kernels are loaded; garbage is collected as
              seldom as in the command
    command   slimcheck DIR --level values -q: what starting takes is the same for every size

Cold drops the files from the page cache first (posix_fadvise DONTNEED after fsync; where the system
keeps them all the same, cold equals warm and the table shows it). The speed is the median over the
turns of the ratio to cat in the same turn: other load on the machine hits both. CPU seconds, which
the scan spreads over the processors, tell what waiting hides. Peak memory is that of the command.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from slimcheck.cli import collect_seldom
from slimcheck.engine import Options, judge
from slimspec import layout, schemes
from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.schemes import Linear

BIG = {"self_attn.q_proj": (4096, 4096), "mlp.gate_proj": (11008, 4096),
       "mlp.down_proj": (4096, 11008)}  # fmt: skip
SMALL = {"gate_proj": (768, 2048), "up_proj": (768, 2048), "down_proj": (2048, 768)}
EXPERTS = 128


class Case(NamedTuple):
    """A directory to make: so many layers of `label`."""

    label: str
    layers: int
    profile: str = "A1"
    group_size: int = 0
    experts: bool = False
    described: int = 0  # the group size of a type that has one of its own


CASES = {
    "int8": Case("W8A8_DYNAMIC", 18),
    "int8-large": Case("W8A8_DYNAMIC", 60),
    "int8-huge": Case("W8A8_DYNAMIC", 110),
    "int8-vast": Case("W8A8_DYNAMIC", 160),
    "int8-experts": Case("W8A8_DYNAMIC", 3, experts=True),
    "int8-groups": Case("W8A16", 12, group_size=128),
    "int4": Case("W4A8_DYNAMIC", 24),
    "int4-groups": Case("W4A16", 24, "A0", 128),
    "int4-experts": Case("W4A8_DYNAMIC", 5, experts=True),
    "fp8": Case("WFP8AFP8_DYNAMIC", 12),
    "mxfp8": Case("W8A8_MXFP8", 12, described=32),
    "fp8-experts": Case("WFP8AFP8_DYNAMIC", 3, experts=True),
    "mxfp8-experts": Case("W8A8_MXFP8", 3, experts=True, described=32),
}


def make(directory: Path, case: Case) -> None:
    """Write a valid directory of the case."""
    companions = directory.with_name(directory.name + "-companions")
    companions.mkdir()
    model = "qwen3_moe" if case.experts else "llama"
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "model_type": model,
              "num_hidden_layers": case.layers, "torch_dtype": "bfloat16"}  # fmt: skip
    (companions / "config.json").write_text(json.dumps(config), "utf-8")
    (companions / "tokenizer_config.json").write_text("{}", "utf-8")
    with CheckpointWriter(
        directory, profile=case.profile, model_quant_type=case.label,
        group_size=case.described or case.group_size, part_file_size=1 << 30,
    ) as writer:  # fmt: skip
        writer.copy_companions(companions)
        for layer in range(case.layers):
            for name, tensors in linears(case, layer):
                known = layout.rules(case.label, case.profile)
                for suffix, array in tensors.items():
                    labels = known[suffix].labels
                    label = case.label if layout.SELF in labels else labels[0]
                    writer.write(f"model.layers.{layer}.{name}.{suffix}", array, label)
    for path in companions.iterdir():
        path.unlink()
    companions.rmdir()


def linears(case: Case, layer: int) -> Iterator[tuple[str, dict[str, NDArray]]]:
    """Yield name and tensors of the linears of a layer: no two weights are the same."""
    if not case.experts:
        for name, shape in BIG.items():
            yield name, turned(quantized(case, name, shape), shape[0], layer)
        return
    for name, shape in SMALL.items():
        base = quantized(case, f"{layer}.{name}", shape)
        for expert in range(EXPERTS):
            yield f"mlp.experts.{expert}.{name}", turned(base, shape[0], expert)


_made: dict[str, dict[str, NDArray]] = {}


def quantized(case: Case, name: str, shape: tuple[int, int]) -> dict[str, NDArray]:
    """The tensors of a random linear; made once for each name."""
    key = f"{case.label} {case.group_size} {name}"
    if key not in _made:
        rng = np.random.default_rng(len(_made))
        weight = (rng.standard_normal(shape, np.float32) / 50).astype(ml_dtypes.bfloat16)
        scheme = schemes.get(case.label)
        record = scheme.quantize(
            Linear(weight, None, name),
            variant="v1" if case.profile == "A1" else "v0",
            group_size=case.group_size,
        )
        _made[key] = scheme.tensors(record, case.profile, "BF16")
    return _made[key]


def turned(tensors: dict[str, NDArray], n: int, times: int) -> dict[str, NDArray]:
    """The same linear with its output rows turned round: packed rows are pairs of rows."""
    turns = {n: 2 * times, n // 2: times}
    return {suffix: np.roll(x, turns.get(x.shape[0], 0), axis=0) for suffix, x in tensors.items()}


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


def command(directory: Path) -> int:
    """Judge as a command; return the most memory that it had, in KiB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "slimcheck.cli", str(directory), "--level", "values", "-q"],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss


def scan(directory: Path) -> None:
    """Judge in this process, where the kernels are loaded already."""
    judge(open_checkpoint(directory), Options())


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--case", choices=CASES, nargs="+", default=["int8", "int8-large"], metavar="CASE",
        help=f"of {', '.join(CASES)} (default: int8 int8-large)",
    )  # fmt: skip
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", type=Path, help="use this checkpoint instead")
    options = parser.parse_args()
    collect_seldom()
    if options.directory:
        if not list(options.directory.glob("*.safetensors")):
            parser.error(f"{options.directory}: found no *.safetensors to measure")
        measure(options.directory, options.turns)
        return 0
    for name in options.case:
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary) / "checkpoint"
            # in a process of its own: a child counts what its parent holds as its own
            making = multiprocessing.get_context("spawn").Process(
                target=make, args=(directory, CASES[name])
            )
            making.start()
            making.join()
            print(f"{name}: ", end="")
            measure(directory, options.turns)
    return 0


def measure(directory: Path, turns: int) -> None:
    """Run everything in turns and print the table of a directory."""
    files = sorted(directory.glob("*.safetensors"))
    size = sum(path.stat().st_size for path in files)
    print(f"{size / 1e9:.2f} GB in {len(files)} files, medians of {turns} turns")
    print(f"{'':<6}{'run':<10}{'GB/s':>8}{'of cat':>8}{'cpu s':>8}{'of cat':>8}")
    peak = command(directory) / 1024
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
