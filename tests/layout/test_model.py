"""Layouts as records."""

import pytest

from slimspec import layout
from slimspec.layout import LayoutError, TensorRule
from slimspec.layout.model import tensors

# Every label that some writer puts on a weight, and the attachments.
KNOWN = (
    *("FLOAT", "W8A8", "W8A8_MIX", "W8A8_DYNAMIC", "W8A8_TIMESTEP", "W8A16", "W4A16"),
    *("W4A8_DYNAMIC", "W8A8S", "W8A8SC", "W16A16S", "W16A16SC", "W4A4_DYNAMIC"),
    *("W4A4_FLATQUANT_DYNAMIC", "WFP8AFP8_DYNAMIC", "W8A8_MXFP8", "W4A8_MXFP", "W4A4_MXFP4"),
    *("W4A4_MXFP4_DUALSCALE", "NF4", "C8", "FAQuant", "reduce", "norm", "rotation"),
)


def test_every_known_type_has_a_layout():
    assert set(layout.types()) == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_every_profile_of_a_type_has_rules(name):
    kind = layout.load(name)
    assert kind.type == name
    for profile in kind.profiles:
        assert kind.rules(profile)
    for constraint in kind.constraints:
        assert layout.holds(constraint.expr, {}) is None  # in the grammar


@pytest.mark.parametrize("name", KNOWN)
def test_packing_runs_parallel_to_the_shapes(name):
    for profile in layout.load(name).profiles:
        for rule in layout.load(name).rules(profile).values():
            assert len(rule.packing) in (0, len(rule.shapes or ()))


def test_unknown_type_and_foreign_profile_are_refused():
    with pytest.raises(LayoutError, match=r"no layout for type .*/W8A8"):
        layout.load("../W8A8")
    with pytest.raises(LayoutError, match="W4A16 is not written by A1, only by L0, A0"):
        layout.rules("W4A16", "A1")
    with pytest.raises(LayoutError, match="no layout for label 'W9A9'"):
        layout.rules("W9A9", "A1")


@pytest.mark.parametrize(
    ("model", "deq"),
    [("F16", {"I64"}), ("F32", {"I64"}), ("BF16", {"F32"}), (None, {"I64", "F32"})],
)
def test_symbols_of_dtypes_follow_the_model(model, deq):
    rules = layout.rules("W8A8", "A0")
    assert rules["deq_scale"].resolve_dtypes(model) == deq
    floats = {"F16", "BF16", "F32"} if model is None else {model, "F32"}
    assert rules["input_scale"].resolve_dtypes(model) == floats
    if model:
        assert layout.write_dtype(rules["input_scale"], model) == model
        assert {layout.write_dtype(rules["deq_scale"], model)} == deq


def test_a_forbidden_tensor_has_no_dtype_to_write():
    with pytest.raises(LayoutError, match="weight_scale"):
        layout.write_dtype(layout.rules("W8A8", "A1")["weight_scale"], "F16")


def test_labels_of_a_tensor():
    bias = layout.rules("W8A8", "A1")["bias"]
    assert bias.accepts_label("FLOAT", "W8A8")
    assert not bias.accepts_label("W8A8", "W8A8")
    weight = layout.rules("W8A8", "A1")["weight"]
    assert weight.accepts_label("W8A8_FLATQUANT", "W8A8_FLATQUANT")
    assert not weight.accepts_label(None, "W8A8")
    rotation = layout.rules("rotation", "A1")["heads_rotation"]
    assert rotation.accepts_label(None, "W8A8")
    assert not rotation.accepts_label("FLOAT", "W8A8")
    norm = layout.rules("norm", "L0")["module.weight"]
    assert norm.accepts_label("W8A8S", "FLOAT", model="W8A8S")
    assert not norm.accepts_label("FLOAT", "FLOAT", model="W8A8S")


def test_matching_one_tensor_extends_what_is_known():
    rule = TensorRule("weight_scale", "required", ("F32",), (("n", 1), ("n", "k/g")))
    assert rule.match((8, 1), {}) == {"n": 8}
    assert rule.match((8, 4), {"k": 16}) == {"n": 8, "k": 16, "g": 4}
    assert rule.match((8, 3), {"k": 16}) is None
    assert rule.match((8,), {}) is None
    assert TensorRule("weight", "optional").match((1, 2, 3), {"n": 1}) == {"n": 1}


def test_name_of_the_host_decides_one_of_the_shapes():
    found = 0
    for name in layout.types():
        described = layout.load(name)
        for rules in (described.rules(profile) for profile in described.profiles):
            for rule in rules.values():
                for parts, shape in rule.named:
                    assert shape in rule.shapes
                    assert all(rule.shape_of(f"model.{part}") == shape for part in parts)
                    found += 1
                assert rule.shape_of("no.such.name") is None
    assert found == 4


def test_data_with_two_entries_for_one_profile_is_refused():
    entry = {"profiles": ["A1"], "presence": "forbidden"}
    with pytest.raises(LayoutError, match="two entries for profile A1"):
        tensors("X", ("A1",), {"weight": [entry, entry]})
    with pytest.raises(LayoutError, match="profile L0 is not in `profiles`"):
        tensors("X", ("A1",), {"weight": [{**entry, "profiles": ["L0"]}]})


def test_layouts_cannot_be_changed_by_a_user():
    with pytest.raises(TypeError):
        layout.rules("W8A8", "A1")["weight"] = None
