"""Large directories: half a million tensors, files above 10 GB, bounded memory, sparse files."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 30
LIMIT = 2 * GIB
CHILD = """
import resource, sys
from slimcheck.cli import main
code = main(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

pytestmark = pytest.mark.slow


def judge(*arguments: str | Path) -> tuple[str, int, int]:
    """(what was printed, exit code, peak memory in bytes) of a run of its own."""
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    *text, last = done.stdout.splitlines()
    code, memory = last.split()
    return "\n".join(text), int(code), int(memory) * 1024


def test_half_a_million_tensors_in_600_files_stay_below_2_gib(tmp_path: Path) -> None:
    directory = tmp_path / "huge"
    script = ROOT / "benchmarks" / "make_huge_checkpoint.py"
    size = ["--tensors", "500000", "--shards", "600"]
    subprocess.run([sys.executable, str(script), str(directory), *size], check=True)
    text, code, memory = judge(directory, "--level", "layout", "-q")
    assert code == 0, text
    assert memory < LIMIT
    # one small tensor of each layer read at level values; the rest are holes nobody wants to read
    text, code, memory = judge(directory, "--tensor", "*.layers.60.self_attn.q_a_proj.*", "-q")
    assert code in (0, 1), text
    assert memory < LIMIT


def sparse(directory: Path, k: int, experts: int) -> int:
    """Write one A1 W8A8_DYNAMIC file with `experts` linears of holes; the last has two faults."""
    n = 1 << 16
    labels, header, position = {}, {}, 0
    for i in range(experts):
        name = f"model.layers.0.mlp.experts.{i}.up_proj"
        for suffix, dtype, shape in (
            ("weight", "I8", [n, k]), ("weight_scale", "F32", [n, 1]),
            ("weight_offset", "F32", [n, 1]),
        ):  # fmt: skip
            size = int(np.prod(shape)) * {"I8": 1, "F32": 4}[dtype]
            offsets = [position, position + size]
            header[f"{name}.{suffix}"] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            labels[f"{name}.{suffix}"] = "W8A8_DYNAMIC"
            position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with (directory / "quant_model_weights.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(start + position)
        scales, offset = (
            header[f"model.layers.0.mlp.experts.{experts - 1}.up_proj.{suffix}"]["data_offsets"]
            for suffix in ("weight_scale", "weight_offset")
        )
        for at, value in ((scales[0] + 4 * 7, -1.0), (offset[1] - 4, 3.0)):
            stream.seek(start + at)
            stream.write(struct.pack("<f", value))
    keys = {"model_quant_type": "W8A8_DYNAMIC", "version": "1.0.0", "group_size": 0}
    keys |= {"metadata": {}, "optional": {}}
    (directory / "quant_model_description.json").write_text(json.dumps(keys | labels))
    return position


def test_fault_at_the_end_of_a_file_above_10_gb_is_found_in_bounded_memory(tmp_path: Path) -> None:
    nbytes = sparse(tmp_path, k=4096, experts=42)
    assert nbytes > 10_000_000_000
    file = tmp_path / "quant_model_weights.safetensors"
    assert os.stat(file).st_blocks * 512 < 1_000_000  # holes
    report = tmp_path.parent / "report.jsonl"
    text, code, memory = judge(
        tmp_path, "--tensor", "*.experts.41.*", "-q", "--report", f"jsonl={report}"
    )
    assert code == 1, text
    assert memory < LIMIT
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    named = {name for row in rows[1:-1] for name in row["tensors"] if row["verdict"] == "violated"}
    assert named >= {
        f"model.layers.0.mlp.experts.41.up_proj.{s}" for s in ("weight_scale", "weight_offset")
    }
