"""Dimensions of one linear from all its tensors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimspec import layout

dim = st.integers(1, 64)


def shapes_of(rules, env, choice=0):
    """Concrete shapes of every non-forbidden tensor of `rules` for known symbols."""
    found = {}
    for suffix, rule in rules.items():
        if rule.shapes:
            formula = rule.shapes[min(choice, len(rule.shapes) - 1)]
            found[suffix] = tuple(
                int(layout.symbols.evaluate(layout.symbols.parse(d), env)) for d in formula
            )
    return found


@settings(derandomize=True, deadline=None, max_examples=40)
@given(n=dim, groups=dim, g=dim)
def test_every_linear_layout_solves_its_own_shapes(n, groups, g):
    env = {"n": 2 * n, "k": 2 * groups * g, "g": g, "b": g, "T": 3, "x": 9, "y": 8,
           "numel": 4 * n * g, "L": groups, "R": 2 * g}  # fmt: skip
    for name in layout.types():
        kind = layout.load(name)
        for profile in kind.profiles if kind.kind == "linear" else ():
            rules = layout.rules(name, profile)
            shapes = shapes_of(rules, env)
            binding = layout.bind(rules, shapes)
            assert binding.ok, (name, profile, binding)
            for symbol, value in binding.env.items():
                assert env[symbol] == value, (name, profile, symbol)


def test_grouped_scales_decide_the_packing():
    rules = layout.rules("W4A16", "A0")
    grouped = layout.bind(
        rules, {"weight": (64, 128), "weight_scale": (128, 2), "weight_offset": (128, 2)}
    )
    assert dict(grouped.env) == {"n": 128, "k": 128, "g": 64}
    assert rules["weight"].packing[grouped.chosen["weight"]] == "int4-row-pairs"
    plain = layout.bind(rules, {"weight": (128, 64), "weight_scale": (128, 1)})
    assert dict(plain.env) == {"n": 128, "k": 128}
    assert rules["weight"].packing[plain.chosen["weight"]] == "int4-column-pairs"


@pytest.mark.parametrize(
    ("suffix", "shape", "expected"),
    [
        ("quant_bias", (64,), "[n] = [128]"),
        ("deq_scale", (128, 1), "[n] = [128]"),
        ("input_scale", (), "[1]"),
        ("weight", (64, 32), "[n, k] = [128, k]"),
    ],
)
def test_the_tensor_that_contradicts_is_named(suffix, shape, expected):
    shapes = {
        "weight": (128, 32),
        "input_scale": (1,),
        "input_offset": (1,),
        "quant_bias": (128,),
        "deq_scale": (128,),
    }
    binding = layout.bind(layout.rules("W8A8", "A1"), {**shapes, suffix: shape})
    (problem,) = binding.problems
    assert (problem.suffix, problem.found, problem.expected) == (suffix, shape, expected)


def test_with_two_tensors_the_weight_is_believed():
    rules = layout.rules("W8A8_DYNAMIC", "MF")
    (problem,) = layout.bind(rules, {"weight": (8, 4), "weight_scale": (9, 1)}).problems
    assert problem.suffix == "weight_scale"
    assert problem.expected == "[n, 1] = [8, 1]"


def test_block_count_is_checked_after_k_is_known():
    rules = layout.rules("W8A8_MXFP8", "A1")
    assert layout.bind(rules, {"weight": (4, 33), "weight_scale": (4, 2)}).ok
    (problem,) = layout.bind(rules, {"weight": (4, 33), "weight_scale": (4, 1)}).problems
    assert problem.suffix == "weight_scale"
    assert problem.expected == "[n, ceil(k/32)] = [4, 2]"


def test_order_of_the_tensors_does_not_matter():
    rules = layout.rules("W8A8_MXFP8", "A1")
    backwards = dict(reversed(rules.items()))
    shapes = {"weight": (4, 33), "weight_scale": (4, 2)}
    assert layout.bind(rules, shapes).env == layout.bind(backwards, shapes).env


def test_nothing_to_bind_is_no_problem():
    rules = layout.rules("W8A8", "A1")
    assert layout.bind(rules, {}).ok
    assert layout.bind(rules, {"unknown": (1, 2, 3)}).ok


def test_zero_sized_and_wrong_rank_weights_do_not_crash():
    rules = layout.rules("W8A16", "A1")
    assert layout.bind(rules, {"weight": (0, 4), "weight_scale": (0, 1)}).env["n"] == 0
    assert not layout.bind(rules, {"weight": (4,), "weight_scale": (4, 1)}).ok
