"""Without a checkpoint: the judge on the embedded golden checkpoints.

A valid one must pass; an invalid one must report exactly the findings it was made for.
"""

from pathlib import Path

from slimcheck.golden import findings, report_of
from slimspec.golden import CheckpointCase


def test_golden_checkpoint(golden_case: CheckpointCase, tmp_path: Path) -> None:
    directory = golden_case.materialize(tmp_path / golden_case.id)
    report = report_of(directory, golden_case)
    assert findings(report, golden_case.notes) == golden_case.expected
    assert report.conformant == (golden_case.verdict != "refuse")
