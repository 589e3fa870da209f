"""Each rule of DEQ trips on the defect it is about."""

import numpy as np
import pytest

from slimspec import requirements

Q0 = "model.layers.0.self_attn.q_proj"
K0 = "model.layers.0.self_attn.k_proj"
DEQ = f"{K0}.deq_scale"  # a linear without bias: no other equation hangs on it


def as_floats(draft, module=K0):
    name = f"{module}.deq_scale"
    draft.tensors[name] = draft.tensors[name].astype(np.uint32).view(np.float32)


def as_words(draft, module=K0):
    name = f"{module}.deq_scale"
    draft.tensors[name] = draft.tensors[name].view(np.int32).astype(np.int64)


def linears(draft):
    return [name.removesuffix(".deq_scale") for name in draft.tensors if name.endswith("deq_scale")]


def test_upper_half_set_is_one_finding(builders, judge):
    draft = builders.make("A1", "W8A8")
    draft.tensors[DEQ] |= np.int64(1) << 46
    verdict = judge(draft)
    assert verdict.ids == {"DEQ-001"}
    assert "npu_trans_quant_param" in verdict.one("DEQ-001").found
    assert "16 of 16 elements" in verdict.one("DEQ-001").found


@pytest.mark.parametrize("bit", [32, 33, 62, 63])
def test_any_upper_bit_is_seen(builders, judge, bit):
    draft = builders.make("A0", "W8A8")
    words = draft.tensors[DEQ].view(np.uint64)
    words[3] |= np.uint64(1) << np.uint64(bit)
    assert judge(draft).ids == {"DEQ-001"}


def test_float_words_in_a_float16_model(builders, judge):
    draft = builders.make("A1", "W8A8")
    as_floats(draft)
    verdict = judge(draft, consumers=("vllm-ascend",))
    assert verdict.ids == {"DEQ-002", "W8A8-021"}
    assert verdict.must == {"DEQ-002"}
    group = verdict.one("DEQ-002")
    assert (group.found, group.expected) == ("dtype F32", "I64, because the model is F16")
    assert "bits of each float32" in requirements.load()["DEQ-002"].advice(group.kind).fix
    assert group.tensors == [DEQ]


def test_integer_words_in_a_bfloat16_model(builders, judge):
    draft = builders.make("A1", "W8A8", "BF16")
    as_words(draft)
    verdict = judge(draft)
    assert verdict.ids == {"DEQ-002", "W8A8-021"}
    assert verdict.one("DEQ-002").expected == "F32, because the model is BF16"


def test_model_dtype_that_contradicts_the_weights_is_not_the_encoding(builders, judge):
    draft = builders.make("A1", "W8A8", "BF16")
    draft.config["torch_dtype"] = "float16"  # CFG-008
    assert judge(draft).ids == {"W8A8-021"}


def test_exporter_that_took_the_model_for_float16(builders, judge):
    draft = builders.make("A1", "W8A8", "BF16")
    for module in linears(draft):
        as_words(draft, module)
    verdict = judge(draft)
    assert verdict.ids == {"DEQ-002", "DEQ-004"}
    assert sum(group.count for group in verdict.results["DEQ-004"].groups) == 12


def test_compressed_weights_want_words(builders, judge):
    draft = builders.make("SC", "W8A8SC")
    as_floats(draft)
    assert "DEQ-003" in judge(draft).ids


def test_floats_of_the_mindie_format_are_not_for_vllm(builders, judge):
    verdict = judge(builders.make("MF", "W8A8", "F16"))
    assert verdict.ids == {"DEQ-005", "W8A8-021"}
    assert verdict.must == set()


def test_words_cast_by_value_are_all_zero(builders, judge):
    draft = builders.make("A1", "W8A8")
    draft.tensors[DEQ] = np.zeros_like(draft.tensors[DEQ])
    verdict = judge(draft)
    assert verdict.ids == {"DEQ-006"}
    assert "cast by value" in verdict.one("DEQ-006").found


def test_floats_cast_by_value_are_about_1e9(builders, judge):
    draft = builders.make("A1", "W8A8", "BF16")
    bits = draft.tensors[DEQ].view(np.int32)
    draft.tensors[DEQ] = bits.astype(np.float32)
    verdict = judge(draft)
    assert verdict.ids == {"DEQ-006", "W8A8-021"}
    assert "taken as a number" in verdict.one("DEQ-006").found


def test_scale_of_1_is_implausible(builders, judge):
    draft = builders.make("A1", "W8A8")
    draft.encode(3, 1.0, K0)
    assert judge(draft).ids == {"DEQ-006"}


@pytest.mark.parametrize("value", [2.0**-14, 0.5, 1 - 2.0**-24])
def test_any_positive_scale_below_1_is_plausible(builders, judge, value):
    draft = builders.make("A1", "W8A8")
    draft.encode(3, value, K0)
    assert judge(draft).ids == set()
