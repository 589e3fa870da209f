import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slimspec.checkpoint import Config, read_config

Put = Callable[[str, str], Path]


def read(put: Put, value: Any) -> Config:
    return read_config(put("config.json", json.dumps(value)))


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ({"torch_dtype": "bfloat16"}, "BF16"),
        ({"dtype": "float16"}, "F16"),
        ({"torch_dtype": "torch.float32"}, "F32"),
        ({"torch_dtype": None, "dtype": "half"}, "F16"),
        ({"text_config": {"torch_dtype": "bfloat16"}}, "BF16"),
        ({"thinker_config": {"text_config": {"dtype": "float16"}}}, "F16"),
        ({"torch_dtype": "float16", "text_config": {"dtype": "bfloat16"}}, "F16"),
        ({}, None),
        ({"text_config": 3}, None),
    ],
)
def test_dtype_is_normalised_wherever_it_stands(put: Put, value: Any, tag: str | None) -> None:
    config = read(put, value)
    assert config.model_dtype == tag
    assert config.defects == ()


@pytest.mark.parametrize("stated", ["int8", "auto", 16, ["float16"], {"a": 1}])
def test_dtype_that_is_none_is_a_defect(put: Put, stated: Any) -> None:
    config = read(put, {"torch_dtype": stated})
    assert config.model_dtype is None
    assert [defect.code for defect in config.defects] == ["config-dtype"]


def test_stale_quantization_configs_are_found_at_both_levels(put: Put) -> None:
    fp8 = {"quant_method": "fp8"}
    config = read(put, {"quantization_config": fp8, "text_config": {"quantization_config": fp8}})
    places = ["quantization_config", "text_config.quantization_config"]
    assert list(config.quantization_configs) == places
    assert config.quant_method == "fp8"


def test_members_of_the_format_are_read_as_written(put: Put) -> None:
    config = read(
        put,
        {"model_type": "qwen2", "architectures": ["A", 3], "quantize": "w8a8", "x": 1,
         "quantization_config": {"group_size": 64}},
    )  # fmt: skip
    assert (config.model_type, config.architectures) == ("qwen2", ("A",))
    assert (config.quantize, config.quantization_config) == ("w8a8", {"group_size": 64})
    assert config.quant_method is None
    assert (config.get("x"), config.get("y", 2)) == (1, 2)


def test_get_looks_into_the_language_model(put: Put) -> None:
    assert read(put, {"text_config": {"hidden_size": 8}}).get("hidden_size") == 8


@pytest.mark.parametrize("text", ["[]", "{", "null", "\ufeff{}"])
def test_file_that_is_no_object_is_empty_with_one_defect(put: Put, text: str) -> None:
    config = read_config(put("config.json", text))
    assert config.value == {}
    assert len(config.defects) == 1
