"""Every type that a profile writes has a valid checkpoint in each dtype and model, or a reason."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from slimcheck.golden import report_of
from slimcheck.report import ExitCode
from slimcheck.run import run
from slimspec import layout
from slimspec.checkpoint import open_checkpoint
from slimspec.golden import checkpoint_cases
from slimspec.golden.checkpoints import generated_cases
from slimspec.golden.grid import Cell, absences, cells, digest, made, recorded
from slimspec.golden.grid_make import make, orthogonal
from slimspec.golden.tiny_models import DTYPES

MADE = made()
TYPES = list(dict.fromkeys(cell.type for cell in MADE))


def sample() -> list[Cell]:
    """One cell of each type, together in every profile, dtype and model."""
    chosen = []
    for number, label in enumerate(TYPES):
        own = [cell for cell in MADE if cell.type == label]
        chosen.append(own[7 * number % len(own)])
    return chosen


def stores(directory: Path, cell: Cell) -> bool:
    """Whether a directory has tensors of the type, under its label where it is one."""
    checkpoint = open_checkpoint(directory)
    holders = [part.checkpoint for part in checkpoint.parts] or [checkpoint]
    labels = {label for h in holders if h.description for label in h.description.labels.values()}
    names = [name for holder in holders for name in holder.table.names]
    suffixes = layout.rules(cell.type, cell.profile)
    named = any(name.endswith(f".{suffix}") for name in names for suffix in suffixes)
    return named and (cell.type in labels or cell.type in ("reduce", "rotation"))


def judge_again(chosen: Iterable[Cell], folder: Path) -> None:
    """Make cells again: same bytes, conformant, recognised, and of the type that they stand for."""
    told = recorded()
    for cell in chosen:
        directory = folder / cell.id
        make(cell, directory, folder)
        assert digest(directory) == told[cell], cell.id
        report = run(directory)
        assert report.exit_code == ExitCode.CONFORMANT, cell.id
        assert (report.profile, report.model_dtype) == (cell.profile, cell.model_dtype), cell.id
        assert stores(directory, cell), cell.id


def test_every_cell_has_a_checkpoint_or_one_reason() -> None:
    told = recorded()
    for cell in cells():
        reasons = [row for row in absences() if row.covers(cell)]
        assert len(reasons) + (cell in told) == 1, cell.id
    assert set(told) == set(MADE)


def test_cells_are_what_the_layouts_allow() -> None:
    found = {(cell.type, cell.profile) for cell in cells()}
    for name in layout.types():
        if name != "norm":
            assert {p for t, p in found if t == name} >= set(layout.load(name).profiles), name
    for label, profile in found:
        assert layout.rules(label, profile)
    for wrapper in layout.derivations().values():
        assert any(wrapper.base(label) is not None for label, _ in found), wrapper.name
    assert {cell.dtype for cell in cells()} == DTYPES.keys()


def test_every_profile_has_a_checkpoint_or_a_reason() -> None:
    known = {cell.profile for cell in MADE} | {p for row in absences() for p in row.profiles}
    assert set(layout.profiles.names()) == known


def test_reasons_are_of_use_and_what_stands_instead_is_valid(tmp_path: Path) -> None:
    cases = {case.id: case for case in checkpoint_cases()}
    for number, row in enumerate(absences()):
        unwritten = set(row.profiles) - {cell.profile for cell in cells()}
        assert unwritten or any(row.covers(cell) for cell in cells()), row.reason
        if row.instead:
            directory = cases[row.instead].materialize(tmp_path / str(number))
            report = report_of(directory, cases[row.instead])
            assert report.conformant
            assert report.profile in (row.profiles or (report.profile,))
            assert not row.types or set(row.types) <= report.types.keys()


def test_ids_are_no_ids_of_others() -> None:
    ids = [case.id for case in (*checkpoint_cases(), *generated_cases())]
    assert len(ids) == len(set(ids))


def test_sample_is_made_again_and_conformant(tmp_path: Path) -> None:
    chosen = sample()
    assert {cell.profile for cell in chosen} == {cell.profile for cell in MADE}
    assert {cell.model for cell in chosen} == {cell.model for cell in MADE}
    judge_again(chosen, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("label", TYPES)
def test_every_cell_is_made_again_and_conformant(label: str, tmp_path: Path) -> None:
    judge_again((cell for cell in MADE if cell.type == label), tmp_path)


def test_case_of_the_grid_is_made_like_its_cell(tmp_path: Path) -> None:
    case = next(case for case in generated_cases() if case.id == "w8a8-dynamic-a1-bf16-llama")
    assert case.verdict == "accept"
    assert digest(case.materialize(tmp_path / "made")) == recorded()[case.cell]


def test_digest_is_that_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "a.txt").write_bytes(b"")
    lines = [
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in (("a.txt", b""), ("b/x", b"1"))
    ]
    assert digest(tmp_path) == hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("size", [4, 8, 16])
def test_added_matrices_are_orthogonal_and_exact(size: int) -> None:
    matrix = orthogonal(size)
    assert set(abs(matrix).ravel()) <= {0.0, 0.5}
    assert not np.signbit(matrix[matrix == 0]).any()
    assert (matrix @ matrix.T == [[float(i == j) for j in range(size)] for i in range(size)]).all()
