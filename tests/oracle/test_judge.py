"""The judge on what the producer wrote: recognised, and no requirement of its own violated."""

from pathlib import Path

import pytest

from slimcheck.engine import Status
from slimcheck.run import run
from slimspec.checkpoint import open_checkpoint


def recorded_directories(case: Path) -> list[Path]:
    """The directories of a case that hold a description (V0 writes two forms)."""
    found = (case / "quant").rglob("quant_model_description*.json")
    return sorted({path.parent for path in found})


def is_stub(directory: Path) -> bool:
    """Whether the compressed weights are placeholders: an index of zeros places no tile."""
    checkpoint = open_checkpoint(directory)
    labels = checkpoint.description.labels if checkpoint.description else {}
    indexes = [n for n in labels if n.endswith(".index") and labels[n] in ("W8A8SC", "W16A16SC")]
    return any(not checkpoint.tensor(name).any() for name in indexes)


def test_stub_of_a_compressed_directory_is_named_at_value_level(checkpoint: Path) -> None:
    stubs = [d for d in recorded_directories(checkpoint) if is_stub(d)]
    if not stubs:
        pytest.skip("no placeholder for a compressed weight in this case")
    for directory in stubs:
        failed = {result.requirement.id for result in run(directory).failed if result.counts}
        assert failed == {"SC-009"}


def test_real_directory_violates_no_must_of_its_producer(checkpoint: Path) -> None:
    directories = recorded_directories(checkpoint)
    if not directories:
        pytest.skip("the case recorded a state without an export")
    for directory in directories:
        report = run(directory, level="layout" if is_stub(directory) else "values")
        assert report.profile != "none"
        assert report.conformant, [
            (result.requirement.id, group.pattern, group.found, group.expected)
            for result in report.failed
            if result.counts
            for group in result.groups
        ]
        assert any(result.status is Status.PASSED for result in report.results)
