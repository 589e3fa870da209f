"""Labels, wrappers and the vocabulary of a description."""

import pytest

from slimspec import layout
from slimspec.layout import vocabulary


@pytest.mark.parametrize(
    ("label", "base", "wrapper"),
    [
        ("W8A8", "W8A8", None),
        ("W8A8_FLATQUANT", "W8A8", "FLATQUANT"),
        ("W8A8_FLATQUANT_DYNAMIC", "W8A8_DYNAMIC", "FLATQUANT"),
        ("W4A4_FLATQUANT_DYNAMIC", "W4A4_FLATQUANT_DYNAMIC", "FLATQUANT"),
        ("W4A4_MXFP4_FLATQUANT", "W4A4_MXFP4", "FLATQUANT"),
        ("FLOAT_FLATQUANT", "FLOAT", "FLATQUANT"),
        ("W4A4_MXFP4_SVD", "W4A4_MXFP4", "SVD"),
        ("W8A8_SVD_DYNAMIC", "W8A8_DYNAMIC", "SVD"),
    ],
)
def test_label_leads_to_its_layout(label, base, wrapper):
    assert layout.base_label(label) == base
    found = layout.resolve(label)
    assert (found[1].name if found[1] else None) == wrapper


@pytest.mark.parametrize("label", ["", "_FLATQUANT", "W8A8_FLATQUANT_SVD", "w8a8", "Unknown"])
def test_unknown_label_leads_nowhere(label):
    assert layout.base_label(label) is None
    assert not vocabulary.is_label(label)


def test_wrapped_label_is_undone_by_its_base():
    for wrapper in layout.derivations().values():
        for name in layout.types():
            if layout.load(name).kind == "linear":
                assert wrapper.base(wrapper.derive(name)) == name


def test_a_wrapper_adds_its_tensors():
    plain = layout.rules("W8A8", "A1")
    wrapped = layout.rules("W8A8_FLATQUANT", "A1")
    assert set(wrapped) - set(plain) == {"left_trans", "right_trans", "clip_ratio"}


def test_the_older_flatquant_type_is_the_newer_wrapped_one():
    """One label, two ways to it: L0/A0 have a layout of their own, A1 wraps W4A4_DYNAMIC."""
    assert set(layout.rules("W4A4_FLATQUANT_DYNAMIC", "A0")) == set(
        layout.rules("W4A4_FLATQUANT_DYNAMIC", "A1")
    )


def test_a_label_may_mean_another_layout_for_another_writer():
    assert layout.base_label("W4A4_FLATQUANT_DYNAMIC", "A0") == "W4A4_FLATQUANT_DYNAMIC"
    assert layout.base_label("W4A4_FLATQUANT_DYNAMIC", "A1") == "W4A4_DYNAMIC"
    assert layout.base_label("W4A4_FLATQUANT_DYNAMIC", "MF") == "W4A4_FLATQUANT_DYNAMIC"


def test_attachments_hang_on_any_linear():
    found = layout.attachments("A0")
    assert {"gather_scale", "tp_list.{i}.weight", "left_trans"} <= set(found)
    assert "heads_rotation" not in found
    assert "heads_rotation" in layout.attachments("A1")


@pytest.mark.parametrize(
    ("label", "expected"),
    [("FLOAT", True), ("C8", True), ("W8A8_FLATQUANT", True), ("W4A16_MXFP4", True),
     ("FAKQuant", False), ("INT8_DYNAMIC", False), ("UNKNOWN", False), ("W8A8 ", False)],
)  # fmt: skip
def test_only_labels_of_tensors_are_labels(label, expected):
    assert vocabulary.is_label(label) is expected


def test_types_and_labels_are_the_same_words():
    words = {
        word for word, row in vocabulary.labels().items() if row.role in ("type", "attachment")
    }
    assert words == {
        name for name in layout.types() if layout.load(name).kind in ("linear", "attention")
    }
    for word in words:
        writers = set(vocabulary.labels()[word].writers)
        if word != "W4A4_FLATQUANT_DYNAMIC":
            assert writers == set(layout.load(word).profiles), word


def test_ranks_are_a_total_order():
    ranks = [row.rank for row in vocabulary.labels().values() if row.rank is not None]
    assert sorted(ranks) == list(range(len(ranks)))


def test_keys_that_name_no_tensor():
    value = vocabulary.layer_key("model.layers.0.self_attn.quant_type")
    assert value["types"] == ["string"]
    assert vocabulary.layer_key("a.b.weight.outdim")["types"] == ["integer"]
    assert vocabulary.layer_key("a.b.weight") is None


def test_undescribed_tensors_depend_on_the_writer():
    name = "model.layers.0.self_attn.o_proj.heads_rotation"
    assert vocabulary.may_be_undescribed(name, "A1")
    assert not vocabulary.may_be_undescribed(name, "A0")
    assert not vocabulary.may_be_undescribed("model.norm.weight", "A1")
