"""The field's parameters: names, types, defaults, ranges, and what they mean together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from slimspec.checkpoint import CheckpointError
from slimspec.pipeline.calibration.samples import read_texts
from slimspec.pipeline.config import (
    QuantizationConfig,
    parameters,
    parse_config,
    read_config,
)
from slimspec.pipeline.config_rules import (
    CONFLICTS,
    check,
    choose,
    conflicts,
    flex_exponents,
    needs_texts,
)

TABLE = {  # seeds 001, table 1: name -> (type, default)
    "save_directory": ("string", ""),
    "part_file_size": ("integer", None),
    "calib_texts": ("array", None),
    "calib_file": ("string", None),
    "w_bit": ("integer", 8),
    "a_bit": ("integer", 8),
    "disable_names": ("array", None),
    "device_type": ("string", "cpu"),
    "fraction": ("number", 0.01),
    "act_method": ("integer", 1),
    "co_sparse": ("boolean", False),
    "anti_method": ("string", ""),
    "disable_level": ("string", "L0"),
    "do_smooth": ("boolean", False),
    "use_sigma": ("boolean", False),
    "use_reduce_quant": ("boolean", False),
    "tp_size": ("integer", 1),
    "sigma_factor": ("number", 3.0),
    "is_lowbit": ("boolean", False),
    "mm_tensor": ("boolean", True),
    "w_sym": ("boolean", True),
    "use_kvcache_quant": ("boolean", False),
    "use_fa_quant": ("boolean", False),
    "fa_amp": ("integer", 0),
    "open_outlier": ("boolean", True),
    "group_size": ("integer", 64),
    "is_dynamic": ("boolean", False),
    "input_ids_name": ("string", "input_ids"),
    "attention_mask_name": ("string", "attention_mask"),
    "tokenizer_args": ("object", {}),
    "disable_last_linear": ("boolean", True),
    "trust_remote_code": ("boolean", False),
}


def test_schema_has_the_tables_names_types_and_defaults() -> None:
    found = {}
    for name, schema in parameters().items():
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        found[name] = (kinds[0], schema["default"])
    assert found == TABLE


def test_record_has_the_schemas_members_and_defaults() -> None:
    own = {f.name: f.default for f in fields(QuantizationConfig) if f.name != "given"}
    assert list(own) == list(parameters())
    for name, schema in parameters().items():
        assert (own[name] or None) == (schema["default"] or None), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("w_bit", 5),
        ("w_bit", True),
        ("a_bit", 4),
        ("act_method", 4),
        ("fraction", 0.005),
        ("fraction", 0.2),
        ("sigma_factor", 2.9),
        ("sigma_factor", 4.1),
        ("group_size", 48),
        ("anti_method", "m7"),
        ("disable_level", "5"),
        ("disable_level", "L01"),
        ("device_type", "gpu"),
        ("part_file_size", 0),
        ("tp_size", 0),
        ("fa_amp", -1),
        ("disable_names", "lm_head"),
        ("tokenizer_args", "{}"),
        ("w_sym", "True"),
    ],
)
def test_value_outside_its_range_is_named_with_what_is_expected(name: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"here: {name}: found .*expected"):
        parse_config({name: value}, "here")


def test_misspelt_parameter_gets_a_suggestion() -> None:
    with pytest.raises(CheckpointError, match="no such parameter; did you mean act_method"):
        parse_config({"act_methd": 1})


BROKEN = [
    ({"device_type": "npu"}, "set device_type cpu"),
    ({"trust_remote_code": True}, "never runs code"),
    ({"use_reduce_quant": True, "tp_size": 3}, "set tp_size to one of them"),
    ({"use_reduce_quant": True, "tp_size": 2, "a_bit": 16}, "set w_bit 8, a_bit 8"),
    ({"tp_size": 4}, "set tp_size 1"),
    ({"co_sparse": True}, "w_bit 4 and a_bit 8"),
    ({"is_lowbit": True, "mm_tensor": True}, "set mm_tensor False"),
    ({"is_lowbit": True, "w_bit": 4, "a_bit": 16}, "open_outlier False"),
    ({"w_bit": 4}, "set is_lowbit True"),
    ({"w_bit": 4, "is_lowbit": True, "is_dynamic": True}, "open_outlier False and is_dynamic True"),
    ({"w_bit": 4, "co_sparse": True, "is_dynamic": True}, "set one of them False"),
    ({"is_dynamic": True, "a_bit": 16}, "needs a_bit 8"),
    ({"w_sym": False}, "set w_sym True or a_bit 16"),
    ({"act_method": 3, "is_lowbit": True, "w_bit": 4}, "act_method 1 or 2"),
    ({"do_smooth": True}, "use anti_method"),
    (
        {"do_smooth": True, "is_lowbit": True, "w_bit": 4, "anti_method": "m1"},
        "choose one",
    ),
    ({"use_kvcache_quant": True, "use_fa_quant": True}, "set one of them False"),
    ({"fa_amp": 1}, "set fa_amp 0"),
    ({"calib_texts": ["a"], "calib_file": "b"}, "give one of them"),
    ({"tokenizer_args": {"use_fast": False}}, "padding_side"),
]


@pytest.mark.parametrize(("members", "change"), BROKEN)
def test_broken_rule_says_what_to_change(members: dict, change: str) -> None:
    with pytest.raises(CheckpointError, match=change):
        check(parse_config(members))


def test_every_rule_is_broken_by_one_of_the_examples() -> None:
    said = {message for members, _ in BROKEN for message in conflicts(parse_config(members))}
    assert said == {rule.message for rule in CONFLICTS}


@pytest.mark.parametrize(
    ("members", "label", "options"),
    [
        ({}, "W8A8", {}),
        ({"mm_tensor": True}, "W8A8", {"per_tensor": True}),
        ({"mm_tensor": False}, "W8A8", {}),
        ({"is_dynamic": True}, "W8A8_DYNAMIC", {}),
        ({"a_bit": 16}, "W8A16", {"symmetric": True}),
        ({"a_bit": 16, "w_sym": False}, "W8A16", {"symmetric": False}),
        ({"w_bit": 4, "a_bit": 16}, "W4A16", {"symmetric": True}),
        (
            {"w_bit": 4, "a_bit": 16, "is_lowbit": True, "open_outlier": False},
            "W4A16",
            {"symmetric": True, "group_size": 64},
        ),
        ({"w_bit": 4, "is_lowbit": True}, "W8A8S", {}),
        ({"is_lowbit": True, "open_outlier": False}, "W8A8", {}),
        ({"is_lowbit": True, "is_dynamic": True}, "W8A8_DYNAMIC", {}),
        ({"is_lowbit": True, "a_bit": 16}, "W8A16", {"symmetric": True}),
        (
            {"is_lowbit": True, "a_bit": 16, "open_outlier": False, "group_size": 32},
            "W8A16",
            {"symmetric": True, "group_size": 32},
        ),
        ({"w_bit": 4, "co_sparse": True}, "W8A8S", {}),
        (
            {
                "w_bit": 4,
                "is_lowbit": True,
                "open_outlier": False,
                "is_dynamic": True,
                "group_size": 128,
            },
            "W4A8_DYNAMIC",
            {"group_size": 128},
        ),
    ],
)
def test_parameters_choose_the_type(members: dict, label: str, options: dict) -> None:
    config = check(parse_config(members))
    choice = choose(config)
    assert (choice.type, choice.options) == (label, options)
    assert needs_texts(config, choice) == (label in ("W8A8", "W8A8S"))


def test_mix_needs_w8a8() -> None:
    assert choose(parse_config({}), mix=True).type == "W8A8_MIX"
    with pytest.raises(CheckpointError, match="pdmix"):
        choose(parse_config({"a_bit": 16}), mix=True)


def test_yaml_and_json_files_are_read(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    members = {"w_bit": 8, "anti_method": "m1", "disable_names": ["lm_head"]}
    (tmp_path / "c.json").write_text(json.dumps(members), encoding="utf-8")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(members), encoding="utf-8")
    for name in ("c.json", "c.yaml"):
        config = read_config(tmp_path / name)
        assert config.anti_method == "m1"
        assert config.disable_names == ("lm_head",)
        assert config.given == set(members)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(9 * ['*' + chr(97 + i)])}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1", "no YAML"),
        ("- w_bit", "expected parameters by name"),
        ("!!python/object:os.system {}", "no YAML"),
        ("\x00", "no YAML"),
        ("w_bit: 2001-99-99", "no YAML"),
        ('w_bit: !!float ""', "no YAML"),
        ('w_bit: !!int ""', "no YAML"),
        ('w_bit: !!bool "x"', "no YAML"),
        ('w_bit: !!timestamp "x"', "no YAML"),
        ("w_bit: 1" + "0" * 5000, "no YAML"),
        ("w_bit: 8\nw_bit: 4", "member 'w_bit' is named twice"),
        ("w_bit: 1" + "0" * 30, "found 1000000000000000000000000000000, expected values that JSON"),
        ("w_bit: 2001-01-01", "found date, expected values that JSON has"),
        ("w_bit: .nan", "found nan, expected values that JSON has"),
        ("w_bit: -.inf", "found -inf, expected values that JSON has"),
        ("calib_texts: !!set {a, b}", "found set, expected values that JSON has"),
        ("on: 1", "member True: expected a text"),
        ("calib_texts: &a [*a]", "found more than 1000000 values, or endless ones"),
        (BOMB, "found more than 1000000 values, or endless ones"),
        ("#" * (1 << 20) + "#", "found 1048577 bytes, expected at most 1048576"),
    ],
)
def test_bad_yaml_is_one_error(tmp_path: Path, content: str, said: str) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "c.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"c\.yaml") as caught:
        read_config(tmp_path / "c.yaml")
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("read", [read_config, read_texts])
def test_file_that_is_none_is_one_error(
    tmp_path: Path, read: Callable[[str | Path], object]
) -> None:
    pytest.importorskip("yaml")
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "latin.yaml").write_bytes(b"\xff")
    (tmp_path / "directory.yaml").mkdir()
    with (tmp_path / "sparse.yaml").open("wb") as stream:
        stream.truncate(1 << 40)
    for name in ("fifo", "zero", "latin", "directory", "sparse", "absent", "nul\0"):
        with pytest.raises(CheckpointError, match=r"\.yaml: "):
            read(tmp_path / f"{name}.yaml")


def test_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.yaml"):
        read_config(tmp_path / "absent.yaml")


def test_flex_config_gives_both_exponents_of_m6() -> None:
    assert flex_exponents({}, "m1") is None
    assert flex_exponents({"alpha": 0.75, "beta": 0}, "m6") == (0.75, 0.0)


@pytest.mark.parametrize(
    ("given", "method", "said"),
    [
        ({"alpha": 0.5, "beta": 0.5}, "m4", "anti_method m6 only"),
        ({"alpha": 0.5}, "m6", "expected alpha and beta"),
        ({"alpha": 0.5, "beta": 0.5, "gamma": 1}, "m6", "expected alpha and beta"),
        ({"alpha": 0.5, "gamma": 1}, "m6", "expected alpha and beta"),
        ({"alpha": 1.5, "beta": 0.5}, "m6", "from 0 to 1"),
        ({"alpha": True, "beta": 0.5}, "m6", "from 0 to 1"),
        ({"alpha": "0.5", "beta": 0.5}, "m6", "from 0 to 1"),
    ],
)
def test_flex_config_that_is_no_pair_of_exponents_is_refused(
    given: dict, method: str, said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        flex_exponents(given, method)
