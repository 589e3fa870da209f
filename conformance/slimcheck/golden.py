"""The judge on a golden checkpoint: what was found, in the form that the golden case states."""

from pathlib import Path

from slimcheck.run import run
from slimspec.golden import CheckpointCase, Expected


def judged(directory: Path, case: CheckpointCase) -> set[Expected]:
    """Return every finding of a values-level run as (requirement, pattern, count)."""
    report = run(directory, producer=case.producer)
    return {
        Expected(group.requirement, group.pattern or group.file, group.count)
        for result in report.failed
        for group in result.groups
        if result.counts or case.notes
    }
