"""The field's commands of two steps: a sparse directory, then its parts (seeds 000 and 001)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slimcheck.run import run as judge
from slimspec.checkpoint import open_checkpoint
from slimspec.cli import main

Build = Callable[..., Path]
LOWBIT = (
    "--disable_names *.down_proj --act_method 2 --do_smooth True --use_sigma True "
    "--is_lowbit True --co_sparse True --w_bit 4"
)


@pytest.mark.parametrize("kind", ["W8A8S", "W16A16S"])
def test_sparse_directory_and_its_parts_are_conformant(
    build: Build, calib_file: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "W8A8S":
        options = ["--calib_file", str(calib_file), *LOWBIT.split(" ")]
    else:
        config = tmp_path / "prune.json"
        steps = [{"step": "prune", "ratio": 0.3}]
        config.write_text(json.dumps({"calib_file": str(calib_file), "steps": steps}))
        options = ["--config", str(config)]
    sparse, parts = tmp_path / "sparse", tmp_path / "parts"
    assert main(["quantize", str(build("llama", "float16")), str(sparse), *options]) == 0
    assert main(["compress", str(sparse), str(parts), "--tp", "2"]) == 0
    for directory in (sparse, parts):
        report = judge(directory)
        assert [r.requirement.id for r in report.failed if r.counts] == []
    made = open_checkpoint(parts)
    assert len(made.parts) == 2
    described = made.parts[0].checkpoint.description
    assert described is not None
    assert described.labels["model.layers.0.self_attn.q_proj.weight"] == f"{kind}C"
