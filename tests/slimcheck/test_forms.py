"""How a weight holds integers, told by the shapes of what lies beside it."""

import pytest

from slimcheck.context import Spec
from slimcheck.values.forms import Form, form_of


def _form(packing, weight, *told):
    """Told by weight_scale, weight_scale_second, scale_bias and quant_bias."""
    specs = [Spec("F32", shape, None) if shape else None for shape in told]
    return form_of(packing, Spec("I8", weight, None), *specs, *[None] * (4 - len(told)))


@pytest.mark.parametrize(
    ("weight", "scales", "groups"),
    [
        ((64, 128), [(64, 1)], 1),
        ((64, 128), [(64, 4)], 4),
        ((64, 96), [(64, 1), (64, 3)], 3),
        ((64, 96), [(64, 4), (64, 6)], 12),
        ((64, 128), [(64, 3)], 1),  # the columns do not make so many groups
        ((64, 128), [(64, 128)], 1),  # an element for each integer is no group
        ((64, 128), [(63, 4)], 1),  # of other rows
        ((64, 128), [(64,)], 1),
        ((64, 128), [(64, 0)], 1),
        ((64, 0), [(64, 4)], 1),
        ((0, 128), [(0, 4)], 4),
    ],
)
def test_groups_lie_below_one_element_of_every_scale(weight, scales, groups):
    assert _form((), weight, *scales) == Form(weight, None, groups, 0)


@pytest.mark.parametrize(
    ("told", "groups", "chunks"),
    [
        ([(64, 1), None, (64, 16)], 1, 16),
        ([(64, 4), None, (64, 16)], 4, 16),
        ([(64, 1), (64, 3), (64, 16)], 3, 48),
        ([(64, 1), (64, 3), (64, 1)], 3, 3),
        ([(64, 1), None, (64, 96)], 1, 1),  # not summed
        ([None, None, None, (64,)], 1, 1),
    ],
)
def test_sums_are_those_that_something_is_made_of(told, groups, chunks):
    assert _form((), (64, 96), *told) == Form((64, 96), None, groups, chunks)


def test_groups_and_chunks_of_a_large_down_projection_are_counted():
    """Qwen2.5-72B: 29568 columns make 231 groups of 128 and 16 chunks, together groups of 8."""
    n, k = 8192, 29568
    found = _form((), (n, k), (n, 1), (n, 231), (n, 16))
    assert found == Form((n, k), None, 231, 3696)


def test_chunks_of_one_integer_are_counted_in_small_weights_only():
    for n, chunks in ((2, 272), (1 << 17, 1)):
        found = _form((), (n, 272), None, (n, 16), (n, 17))
        assert found == Form((n, 272), None, 16, chunks)


@pytest.mark.parametrize("weight", [("F32", (4, 4)), ("I8", (16,)), ("I8", (4, 4, 4))])
def test_other_weights_hold_no_integers(weight):
    assert form_of((), Spec(*weight, None), None, None, None, None) is None
    assert form_of((), None, None, None, None, None) is None
