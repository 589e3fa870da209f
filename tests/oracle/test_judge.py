"""The judge on what the producer wrote: recognised, and no requirement of its own violated."""

from pathlib import Path

import pytest

from slimcheck.engine import Status
from slimcheck.run import run


def recorded_directories(case: Path) -> list[Path]:
    """The directories of a case that hold a description (V0 writes two forms)."""
    found = (case / "quant").rglob("quant_model_description*.json")
    return sorted({path.parent for path in found})


def test_real_directory_violates_no_must_of_its_producer(checkpoint: Path) -> None:
    directories = recorded_directories(checkpoint)
    if not directories:
        pytest.skip("the case recorded a state without an export")
    for directory in directories:
        report = run(directory)
        assert report.profile != "none"
        assert report.conformant, [
            (result.requirement.id, group.pattern, group.found, group.expected)
            for result in report.failed
            if result.counts
            for group in result.groups
        ]
        assert any(result.status is Status.PASSED for result in report.results)
