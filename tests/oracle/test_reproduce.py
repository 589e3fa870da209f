"""The producer's checkpoints come out again, bit for bit, from float weights and calibration.

Every directory in the oracle is judged. What a recipe does beyond this (solvers without a routine,
transformed weights that were not kept) is skipped with the recipe in the reason.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle_replay import replay

SOLVER_SHARE = 0.995  # of the weight codes: a solver's sums may run in another order than ours


def test_every_reproducible_linear_equals_the_stored_bytes(checkpoint: Path) -> None:
    report = replay(checkpoint)
    if not report.linears:
        reasons = "; ".join(f"{n}× {why}" for why, n in report.skipped.items())
        pytest.skip(reasons or "no linear in this checkpoint")
    wrong = [m for x in report.linears if x.exact for m in x.mismatches]
    assert not wrong, f"{len(wrong)} of {report.tensors} tensors: {wrong[:5]}"


def test_solved_codes_agree_up_to_the_order_of_sums(checkpoint: Path) -> None:
    solved = [x for x in replay(checkpoint).linears if not x.exact and not x.unknown]
    if not solved:
        pytest.skip("no weight solver with a routine in this recipe")
    share = sum(x.equal_codes for x in solved) / sum(x.codes for x in solved)
    assert share >= SOLVER_SHARE, f"{share:.4%} of the weight codes are equal"


def test_measured_linears_have_the_tensor_set_dtypes_and_shapes(checkpoint: Path) -> None:
    """What the producer did not store can change values, never the form."""
    measured = [x for x in replay(checkpoint).linears if x.unknown]
    if not measured:
        pytest.skip("nothing is only measured in this recipe")
    assert all(x.codes for x in measured)
    wrong = [m for x in measured for m in x.mismatches if " differs in " not in m]
    assert not wrong, wrong[:5]


def test_a_changed_bit_is_seen(oracle: Path) -> None:
    """The comparison can fail: one flipped bit in one stored tensor is one mismatch."""
    from oracle_replay import find_cases
    from oracle_replay.case import Case, Tensors

    for path in find_cases(oracle):
        if any(x.exact and x.tensors > 1 for x in replay(path).linears):
            break
    else:
        pytest.skip("no reproducible linear in this oracle")
    name = next(x.name for x in replay(path).linears if x.exact and x.tensors > 1)
    original = Tensors.__getitem__

    def flipped(self: Tensors, key: str):  # type: ignore[no-untyped-def]
        array = original(self, key)
        if key == f"{name}.weight" and array.dtype == "int8":
            array = array.copy()
            array[0, 0] ^= 1
        return array

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensors, "__getitem__", flipped)
        report = replay.__wrapped__(path)
    assert len(Case(path).outputs) >= len(report.mismatches) >= 1
    assert all(f"{name}: weight differs in 1 of" in m for m in report.mismatches)
