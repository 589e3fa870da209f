"""Which linears stay float, and the metrics that say so."""

from __future__ import annotations

import numpy as np
import pytest

from slimspec.checkpoint import CheckpointError
from slimspec.pipeline.fallback import (
    Sensitivity,
    format_table,
    last_linear,
    level,
    match_names,
    measure,
    most_sensitive,
)

NAMES = [f"model.layers.{i}.{part}" for i in range(2) for part in ("q_proj", "down_proj")]
ALL = [*NAMES, "lm_head"]


def test_exact_names_and_globs_choose_in_the_order_of_the_model() -> None:
    assert match_names(["lm_head", "*.down_proj"], ALL) == [NAMES[1], NAMES[3], "lm_head"]
    assert match_names([], ALL) == []


def test_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'\*\.dwn_proj' matches no linear"):
        match_names(["*.dwn_proj"], ALL)


@pytest.mark.parametrize(("text", "count"), [("L0", 0), ("L1", 1), ("L10", 10), ("L12", 12)])
def test_level_is_a_number_of_linears(text: str, count: int) -> None:
    assert level(text) == count


@pytest.mark.parametrize("text", ["", "L", "l1", "L01", "L-1", "1", "L1.5", "L1 "])
def test_other_levels_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="disable_level"):
        level(text)


def test_most_sensitive_leaves_out_what_stays_float_anyway() -> None:
    table = [Sensitivity(name, r, 0, 0, 0, 0) for name, r in zip(ALL, (1, 5, 3, 5, 9), strict=True)]
    assert most_sensitive(table, 2, without=["lm_head"]) == [NAMES[1], NAMES[3]]
    assert most_sensitive(table, 1) == ["lm_head"]
    assert most_sensitive(table, 0) == []


def test_last_linear_is_the_head_else_the_last() -> None:
    assert last_linear(ALL) == "lm_head"
    assert last_linear(NAMES) == NAMES[-1]
    assert last_linear([]) is None


def test_metrics_equal_their_formulas_on_small_inputs() -> None:
    x = np.float32([[1, -2, 3], [0, 4, -1]])
    found = measure("a", [x])
    moved = x - (x.max(0) + x.min(0)) / 2
    assert found.std == pytest.approx(4 / moved.std(ddof=1), rel=1e-6)
    unhalved = x - (x.max(0) + x.min(0))
    assert found.range_parm == pytest.approx(4 / unhalved.std(ddof=1), rel=1e-6)
    ordered = np.sort(x.reshape(-1)).astype(np.float64)  # fewer than 100: all of them
    assert found.quantile == pytest.approx(8 / 254 / (ordered[3] - ordered[1]))
    centred = (ordered - ordered.mean()) / ordered.std()
    assert found.kurtosis == pytest.approx((centred**4).mean() - 3)
    step = 6 / 255  # from -2 to 4
    assert 0 < found.mse <= (step / 2) ** 2


def test_constant_input_has_the_peak_as_std_score() -> None:
    assert measure("a", [np.full((3, 2), 2, np.float32)]).std == 2


def test_outlier_raises_every_metric() -> None:
    rng = np.random.default_rng(0)
    calm = rng.standard_normal((64, 64)).astype(np.float32)
    wild = calm.copy()
    wild[0, 0] = 80
    wild[:, 3] *= 20
    a, b = measure("a", [calm]), measure("b", [wild])
    for metric in ("range_parm", "std", "quantile", "kurtosis", "mse"):
        assert getattr(b, metric) > getattr(a, metric), metric


def test_table_is_sorted_and_marks_what_stays_float() -> None:
    rows = [Sensitivity("low", 1, 0, 0, 0, 0), Sensitivity("high", 2, 0, 0, 0, 0)]
    lines = format_table(rows, ["low"]).splitlines()
    assert lines[1].startswith("  high")
    assert lines[2].startswith("* low")
    assert "range_parm" in lines[0]
