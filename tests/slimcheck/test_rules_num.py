"""Each rule of NUM trips on the defect it is about, and alone."""

import ml_dtypes
import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
NORM = "model.layers.0.input_layernorm"
INT4 = "W4A4_DYNAMIC"


def as_int4(draft):
    """Turn a W8A16 draft of the newer tool into one of bytes that hold int4."""
    for name, label in draft.description.items():
        if label == "W8A16":
            draft.description[name] = INT4
            if name.endswith(".weight"):
                draft.tensors[name] = np.clip(draft.tensors[name], -8, 7)
    draft.description["model_quant_type"] = INT4


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_tensor_with_an_exceptional_value(builders, judge, dtype, value):
    draft = builders.make("A1", "W8A8_DYNAMIC", dtype)
    draft.edit("weight", [3, 9], value, "lm_head")
    verdict = judge(draft)
    assert verdict.ids == {"NUM-001"}
    group = verdict.one("NUM-001")
    assert group.found == f"element [0, 3]: {value:.9g}; 2 of 256 elements"
    assert group.tensors == ["lm_head.weight"]


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_extreme_float_values_are_numbers(builders, judge, dtype):
    draft = builders.make("A1", "W8A8_DYNAMIC", dtype)
    info = ml_dtypes.finfo(draft.tensors["lm_head.weight"].dtype)
    values = [info.max, info.min, info.smallest_subnormal, 0, -0.0]
    for at, value in enumerate(values):
        draft.edit("weight", at, value, "lm_head")
    assert judge(draft).ids == set()


def test_bias_of_a_static_linear_is_not_blamed_twice(builders, judge):
    draft = builders.make("A0", "W8A8")
    draft.edit("bias", 4, np.nan)
    assert judge(draft).ids == {"NUM-001"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01])
def test_weight_scale_of_a_static_linear(builders, judge, value):
    draft = builders.make("A0", "W8A8")
    draft.edit("weight_scale", 4, value)
    assert judge(draft).ids == {"NUM-001"}


@pytest.mark.parametrize("value", [np.nan, 0, -1])
def test_scale_of_a_kv_cache(builders, judge, value):
    draft = builders.make("A1", "W8A8")
    for module in ("k_proj", "v_proj"):
        for layer in range(2):
            prefix = f"model.layers.{layer}.self_attn.{module}."
            draft.add(prefix + "kv_cache_scale", np.ones(16, np.float16), "C8")
            draft.add(prefix + "kv_cache_offset", np.zeros(16, np.float16), "C8")
    draft.description |= {"kv_cache_type": "C8", "kv_quant_type": "C8"}
    draft.edit("kv_cache_scale", 2, value, "model.layers.0.self_attn.k_proj")
    assert judge(draft).ids == {"KV-002"}


def test_scale_of_a_type_without_a_chapter_of_its_own(builders, judge):
    draft = builders.make("A1", "W8A16")
    as_int4(draft)
    assert judge(draft).ids == set()
    draft.edit("weight_scale", 2, 0)
    assert judge(draft).ids == {"NUM-001"}


def test_byte_beyond_int4(builders, judge):
    draft = builders.make("A1", "W8A16")
    as_int4(draft)
    draft.edit("weight", [5, 6, 7], 8)
    verdict = judge(draft)
    assert verdict.ids == {"NUM-002"}
    group = verdict.one("NUM-002")
    assert group.found == "element [0, 5]: 8; 3 of 1024 elements"
    assert group.expected == "-8 … 7"


def test_bias_in_another_float_dtype(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.cast("bias", np.float16)
    verdict = judge(draft)
    assert verdict.ids == {"NUM-003"}
    assert (verdict.one("NUM-003").found, verdict.one("NUM-003").expected) == ("dtype F16", "F32")


def test_integers_under_a_float_label(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.relabel(Q0, "FLOAT")
    verdict = judge(draft)
    assert verdict.ids == {"NUM-005", "PACK-002"}  # one of q, k and v
    assert verdict.one("NUM-005").found == "label FLOAT, dtype I8"


def test_label_of_another_type(builders, judge):
    draft = builders.make("A1", "W8A8")
    draft.relabel(Q0, "W8A8_DYNAMIC")
    verdict = judge(draft)
    assert verdict.ids == {"DESC-023", "DYN-004", "NUM-005", "PACK-001"}
    assert verdict.one("NUM-005").expected == "label W8A8"


@pytest.mark.parametrize(
    ("module", "requirement"),
    [
        ("lm_head", "NUM-006"),
        ("model.layers.1.mlp.gate", "NUM-007"),
        ("model.embed_tokens", "NUM-008"),
    ],
)
def test_module_that_engines_load_as_float(builders, judge, module, requirement):
    draft = builders.make("A1", "W8A8_DYNAMIC", experts=2)
    n = draft.tensors[f"{module}.weight"].shape[0]
    draft.drop(f"{module}.weight")
    draft.add(f"{module}.weight", np.full((n, 32), 127, np.int8), "W8A8_DYNAMIC")
    draft.add(f"{module}.weight_scale", np.ones((n, 1), np.float32), "W8A8_DYNAMIC")
    draft.add(f"{module}.weight_offset", np.zeros((n, 1), np.float32), "W8A8_DYNAMIC")
    verdict = judge(draft)
    assert verdict.ids == {requirement}
    assert verdict.must == set()
    assert verdict.one(requirement).tensors == [f"{module}.weight"]
