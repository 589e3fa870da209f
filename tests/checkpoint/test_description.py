from collections.abc import Callable
from pathlib import Path

import pytest

from slimspec.checkpoint import Description, metadata_keys, read_description

Put = Callable[[str, str], Path]


def read(put: Put, text: str) -> Description:
    return read_description(put("quant_model_description.json", text))


def test_members_are_split_by_kind_in_file_order(put: Put) -> None:
    found = read(
        put,
        '{"model_quant_type": "W8A8", "b.weight": "W8A8", "a.weight": "FLOAT", "group_size": 0,'
        ' "a.weight.outdim": 64, "x.quant_type": "FP8_DYNAMIC", "optional": {}, "c": null}',
    )
    assert found.metadata == {"model_quant_type": "W8A8", "group_size": 0, "optional": {}}
    assert list(found.labels) == ["b.weight", "a.weight", "x.quant_type"]
    assert found.other == {"a.weight.outdim": 64, "c": None}
    assert (found.defects, found.duplicates) == ((), ())
    assert found.readable


def test_omni_prefix_is_seen_through(put: Put) -> None:
    found = read(put, '{"thinker.model_quant_type": "W8A8", "thinker.a.weight": "FLOAT"}')
    assert found.metadata == {"thinker.model_quant_type": "W8A8"}
    assert found.get("model_quant_type") == "W8A8"
    assert found.get("version", "0.0.0") == "0.0.0"
    assert list(found.labels) == ["thinker.a.weight"]


def test_null_metadata_is_not_taken_for_absent(put: Put) -> None:
    assert read(put, '{"fa_quant_type": null}').get("fa_quant_type", "absent") is None


def test_duplicate_entry_is_kept_with_both_labels(put: Put) -> None:
    found = read(put, '{"a.weight": "FLOAT", "a.weight": "W8A8"}')
    assert found.duplicates[0].values == ("FLOAT", "W8A8")
    assert [defect.code for defect in found.defects] == ["json-duplicate-key"]
    assert found.readable


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', '{"a": "FLOAT",}', ""])
def test_file_that_is_no_object_is_empty_with_one_defect(put: Put, text: str) -> None:
    found = read(put, text)
    assert (found.metadata, found.labels, found.other) == ({}, {}, {})
    assert len(found.defects) == 1
    assert not found.readable


def test_vocabulary_has_the_keys_that_decide_the_profile() -> None:
    assert {"model_quant_type", "version", "group_size", "metadata", "optional"} <= metadata_keys()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("null", "null"),
        ("[1]", "a list"),
        ('"x"', "a string"),
        ("1", "a number"),
        ("1.5", "a number"),
        ("true", "a boolean"),
    ],
)
def test_other_json_is_named_as_json_names_it(put: Put, text: str, found: str) -> None:
    (defect,) = read_description(put("quant_model_description.json", text)).defects
    assert (defect.code, defect.found, defect.expected) == ("json-type", found, "an object")
