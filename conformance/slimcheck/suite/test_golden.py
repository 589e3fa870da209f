"""Without a checkpoint: the judge on the embedded golden checkpoints.

A valid one must pass; an invalid one must report exactly the findings it was made for.
"""

from pathlib import Path

from slimcheck.golden import judged
from slimspec.golden import CheckpointCase


def test_golden_checkpoint(golden_case: CheckpointCase, tmp_path: Path) -> None:
    directory = golden_case.materialize(tmp_path / golden_case.id)
    assert judged(directory, golden_case) == golden_case.expected
