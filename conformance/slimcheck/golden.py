"""The judge on a golden checkpoint: what was found, in the form that the golden case states."""

import tempfile
from pathlib import Path

from slimcheck.report import Report
from slimcheck.run import run
from slimspec.golden import CheckpointCase, Expected


def report_of(directory: Path, case: CheckpointCase) -> Report:
    """Judge a directory at level values, or at level numeric if the case has a float model."""
    with tempfile.TemporaryDirectory() as temporary:
        float_model = case.materialize_float(Path(temporary) / "float")
        return run(
            directory,
            level="values" if float_model is None else "numeric",
            producer=case.producer,
            tp=case.tp,
            float_model=float_model,
        )


def findings(report: Report, notes: bool) -> set[Expected]:
    """Return what was found; `notes` adds what does not count against the directory."""
    return {
        Expected(group.requirement, group.pattern or group.file, group.count)
        for result in report.failed
        for group in result.groups
        if result.counts or notes
    }
