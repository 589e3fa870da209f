"""Names that writers give their files."""

import pytest

from slimspec.layout import LayoutError, profiles


@pytest.mark.parametrize(
    ("name", "single", "second_of_three", "description", "index"),
    [
        ("L0", "quant_model_weight_w8a8_dynamic.safetensors",
         "quant_model_weight_w8a8_dynamic-00002-of-00003.safetensors",
         "quant_model_description_w8a8_dynamic.json",
         "quant_model_weight_w8a8_dynamic.safetensors.index.json"),
        ("A0", "quant_model_weight_w8a8_dynamic.safetensors",
         "quant_model_weight_w8a8_dynamic-00002-of-00003.safetensors",
         "quant_model_description.json",
         "quant_model_weight_w8a8_dynamic.safetensors.index.json"),
        ("A1", "quant_model_weights.safetensors",
         "quant_model_weights-00002-of-00003.safetensors",
         "quant_model_description.json", "quant_model_weights.safetensors.index.json"),
        ("MF", "quant_model_weight_w8a8_dynamic.safetensors",
         "quant_model_weight-00002-of-00003.safetensors",
         "quant_model_description_w8a8_dynamic.json",
         "quant_model_weight.safetensors.index.json"),
    ],
)  # fmt: skip
def test_writer_names_its_files(name, single, second_of_three, description, index):
    row = profiles.profile(name)
    assert row.weights_file("W8A8_DYNAMIC") == single
    assert row.weights_file("W8A8_DYNAMIC", 2, 3) == second_of_three
    assert row.description_file("W8A8_DYNAMIC") == description
    assert row.index_file("W8A8_DYNAMIC") == index
    assert row.owns(single)
    assert row.owns(second_of_three)
    assert profiles.is_description(description)


def test_more_than_five_digits_of_shards_are_not_cut():
    name = profiles.profile("A1").weights_file("W8A8", 100_000, 123_456)
    assert name == "quant_model_weights-100000-of-123456.safetensors"
    assert profiles.shard(name) == (100_000, 123_456)
    assert profiles.profile("A1").owns(name)


@pytest.mark.parametrize(
    "name",
    ["model-00001-of-00002.safetensors", "quant_model_weights-1-of-2.safetensors",
     "quant_model_weights.safetensors\n", "../quant_model_weights.safetensors",
     "quant_model_weights.safetensors.index.json", ""],
)  # fmt: skip
def test_foreign_names_are_not_owned(name):
    assert not profiles.profile("A1").owns(name)


def test_single_file_is_no_shard():
    assert profiles.shard("quant_model_weights.safetensors") is None
    assert profiles.shard("quant_model_weights-00001-of-00000.safetensors") == (1, 0)


def test_appended_files_are_tolerated():
    assert profiles.profile("A1").tolerates("mtp_float-0.safetensors")
    assert profiles.profile("A1").tolerates("rot.safetensors")
    assert not profiles.profile("A1").tolerates("model.safetensors")


def test_what_a_writer_does_not_write_is_refused():
    with pytest.raises(LayoutError, match="no producer profile 'Z9'"):
        profiles.profile("Z9")
    with pytest.raises(LayoutError, match="CTS has no description"):
        profiles.profile("CTS").description_file("W8A8")
    with pytest.raises(LayoutError, match="needs more than a type"):
        profiles.profile("SH310").weights_file("W8A8SC")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("quant_model_description.json", True), ("quant_model_description_w8a8_mix.json", True),
     ("ori_quant_model_description.json", False), ("quant_model_description.json.bak", False)],
)  # fmt: skip
def test_names_of_descriptions(name, expected):
    assert profiles.is_description(name) is expected
