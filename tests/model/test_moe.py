"""Routing: who is chosen, with which weight, under groups and corrections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec.model import Experts
from slimspec.model.moe import route
from slimspec.model.topk import largest

V3 = Experts(
    8, 3, 4, 2, "sigmoid", "top2",
    corrected=True, normalise=True, scaling=2.5, shared=1,
    sum_in_float32=True, by_token=True, dense=frozenset(),
)  # fmt: skip
QWEN = replace(V3, groups=1, chosen_groups=1, score="softmax", group_score="max", scaling=1.0)


def scores(seed: int, rows: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.01, 1, (rows, 8)).astype(np.float32)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([V3, QWEN]))
def test_choices_are_distinct_and_weights_add_up_to_the_scaling(
    seed: int, experts: Experts
) -> None:
    indices, weights = route(experts, scores(seed), None)
    assert indices.shape == weights.shape == (5, 3)
    assert weights.dtype == np.float32
    assert all(len(set(row)) == 3 for row in indices.tolist())
    assert np.allclose(weights.sum(axis=1), experts.scaling, rtol=2.0**-20)
    assert (np.diff(weights, axis=1) <= 0).all()


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 2**31))
def test_without_groups_the_largest_scores_are_chosen(seed: int) -> None:
    s = scores(seed)
    indices, _ = route(QWEN, s, None)
    for row, chosen in zip(s, indices, strict=True):
        assert set(chosen.tolist()) == set(np.argsort(row)[-3:].tolist())


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(["top2", "max"]))
def test_choices_stay_in_the_best_groups(seed: int, rank: str) -> None:
    s, best = scores(seed), 2 if rank == "top2" else 1
    indices, _ = route(replace(V3, group_score=rank), s, None)
    for row, chosen in zip(s, indices, strict=True):
        group = [sum(sorted(row[2 * g : 2 * g + 2].tolist())[-best:]) for g in range(4)]
        allowed = sorted(range(4), key=lambda g: -group[g])[:2]
        assert {int(e) // 2 for e in chosen} <= set(allowed)


def test_the_correction_steers_the_choice_and_not_the_weight() -> None:
    s = scores(3, rows=1)
    push = np.zeros(8, np.float32)
    push[[6, 7]] = 10
    indices, weights = route(replace(V3, normalise=False, scaling=1.0), s, push)
    assert set(indices[0, :2].tolist()) == {6, 7}
    assert np.array_equal(weights, np.take_along_axis(s, indices, axis=1))


def test_negative_corrected_scores_still_beat_forbidden_groups() -> None:
    push = np.full(8, -5, np.float32)
    push[:4] = -3  # groups 0 and 1 are the best
    indices, _ = route(V3, scores(4), push)
    assert (indices < 4).all()


def test_of_equal_scores_those_are_chosen_that_torch_takes() -> None:
    indices, _ = route(QWEN, np.full((1, 8), 0.5, np.float32), None)
    assert set(indices[0].tolist()) == {4, 5, 6}  # torch.topk of 8 equal ones: 6, 5, 4


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([1, 1, 1, 1], {2, 3}),
        ([0, 1, 0, 0], {1, 3}),
        ([0, 0, 1, 1, 1, 0, 1, 1], {4, 7}),
        ([0, 1, 1, 0, 1, 1, 1, 1], {5, 6}),
        ([0, 0, 1, 1, 0, 1, 2, 0], {3, 5, 6}),
        ([2, 1, 2, 1, 2, 2, 2, 0, 0, 1, 2, 2, 2, 2, 0, 2], {5, 6, 12, 13}),
        ([2, 0, 2, 2, 0, 0, 1, 0, 0, 2, 1, 2, 0, 2, 1, 2], {0, 9, 13, 15}),
    ],
)
def test_largest_of_equal_ones_as_recorded_from_torch(scores: list[int], chosen: set[int]) -> None:
    found = largest(np.float32([scores]), len(chosen))[0].tolist()
    assert set(found) == chosen
    values = [scores[i] for i in found]
    assert values == sorted(values, reverse=True)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.data())
def test_no_score_left_out_is_larger(scores: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    found = largest(np.float32([scores]), count)[0].tolist()
    assert len(set(found)) == count
    assert sorted((scores[i] for i in found), reverse=True) == sorted(scores, reverse=True)[:count]


@pytest.mark.parametrize(("score", "normalise", "scaled"), [
    ("softmax", True, False), ("softmax", False, True), ("sigmoid", True, True),
])  # fmt: skip
def test_v2_scales_only_what_is_not_normalised(score: str, normalise: bool, scaled: bool) -> None:
    experts = replace(V3, score=score, normalise=normalise, scaling=4.0)
    _, with_scaling = route(experts, scores(5), None)
    _, plain = route(replace(experts, scaling=1.0), scores(5), None)
    assert np.array_equal(with_scaling, plain * np.float32(4 if scaled else 1))
