"""How a weight holds integers, told by the shapes of what lies beside it."""

import pytest

from slimcheck.context import Spec
from slimcheck.forms import Form, form_of


def _form(packing, weight, *scales):
    cuts = [Spec("F32", shape, None) if shape else None for shape in scales]
    return form_of(packing, False, Spec("I8", weight, None), *cuts)


@pytest.mark.parametrize(
    ("weight", "scales", "groups"),
    [
        ((64, 128), [(64, 1)], 1),
        ((64, 128), [(64, 4)], 4),
        ((64, 128), [(64, 4), None, (64, 16)], 16),
        ((64, 96), [(64, 1), (64, 3), (64, 16)], 48),
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
    assert _form((), weight, *scales) == Form(weight, None, groups, False)


def test_groups_and_chunks_of_a_large_down_projection_are_counted():
    """Qwen2.5-72B: 29568 columns make 231 groups of 128 and 16 chunks, together groups of 8."""
    n, k = 8192, 29568
    found = _form((), (n, k), (n, 1), (n, 231), (n, 16))
    assert found == Form((n, k), None, 3696, False)


def test_groups_of_one_integer_are_counted_in_small_weights_only():
    for n, groups in ((2, 272), (1 << 17, 1)):
        assert _form((), (n, 272), (n, 16), (n, 17)) == Form((n, 272), None, groups, False)


@pytest.mark.parametrize("weight", [("F32", (4, 4)), ("I8", (16,)), ("I8", (4, 4, 4))])
def test_other_weights_hold_no_integers(weight):
    assert form_of((), False, Spec(*weight, None)) is None
    assert form_of((), False, None) is None
