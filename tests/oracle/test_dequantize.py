"""Every recorded directory becomes a float model again; two forms of one run become the same."""

from pathlib import Path

import pytest
from test_judge import is_stub, recorded_directories

from slimspec.checkpoint import Checkpoint, open_checkpoint
from slimspec.pipeline.dequantize import dequantize_directory


def test_float_model_comes_back(checkpoint: Path, tmp_path: Path) -> None:
    directories = [d for d in recorded_directories(checkpoint) if not is_stub(d)]
    if not directories:
        pytest.skip("no weights with a description")
    made: list[Checkpoint] = []
    for directory in directories:
        out = tmp_path / directory.name
        dequantize_directory(directory, out)
        made.append(open_checkpoint(out))
        assert made[-1].defects == []
    for other in made[1:]:
        assert sorted(other.table.names) == sorted(made[0].table.names)
        for name in other.table.names:
            assert other.tensor(name).tobytes() == made[0].tensor(name).tobytes(), name
