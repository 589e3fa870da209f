import os
import subprocess
import sys
from pathlib import Path

import pytest

from slimspec.checkpoint import open_checkpoint

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "make_huge_checkpoint.py"


def make(out: Path, *options: str) -> str:
    command = [sys.executable, str(SCRIPT), str(out), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_small_huge_checkpoint_is_legal_and_sparse(tmp_path: Path) -> None:
    said = make(tmp_path / "r1", "--tensors", "3300", "--shards", "7")
    checkpoint = open_checkpoint(tmp_path / "r1")
    assert checkpoint.defects == []
    assert (checkpoint.profile.name, checkpoint.profile.conflicts) == ("A1", ())
    assert len(checkpoint.shards) == 7
    assert abs(len(checkpoint.table) - 3300) <= 9 * 58
    assert f"{len(checkpoint.table)} tensors" in said
    assert checkpoint.description is not None
    assert set(checkpoint.description.labels) == set(checkpoint.table.names)
    (index,) = checkpoint.indexes
    assert index.weight_map == {t.name: t.file for t in checkpoint.table}
    assert index.total_size == checkpoint.table.nbytes
    used = sum(os.stat(h.path).st_blocks * 512 for h in checkpoint.shards)
    assert used < 16 << 20 < checkpoint.table.nbytes


def test_existing_directory_is_left_alone(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], check=False, capture_output=True
    )
    assert result.returncode == 4
    assert list(tmp_path.iterdir()) == []


MEASURE = """
import json, resource, sys, time
from pathlib import Path

def plain():
    for path in Path(sys.argv[1]).glob("*.safetensors"):
        with path.open("rb") as stream:
            json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    for path in Path(sys.argv[1]).glob("*.json"):
        json.loads(path.read_bytes())

from slimspec.checkpoint import open_checkpoint
start = time.process_time()
checkpoint = open_checkpoint(sys.argv[1])
ours = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
plain()
print(len(checkpoint.table), ours, time.process_time() - start, peak / 1024)
"""


@pytest.mark.slow
def test_130_thousand_tensors_take_a_few_times_plain_json_and_250_mib(tmp_path: Path) -> None:
    make(tmp_path / "r1")
    runs = []
    for _ in range(3):
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "r1")]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        runs.append([float(word) for word in output.split()])
    assert runs[0][0] > 129_000
    # measured 2.5 to 3.5; seconds say nothing on a busy machine
    assert min(ours / plain for _, ours, plain, _ in runs) < 5
    assert max(peak for *_, peak in runs) < 250
