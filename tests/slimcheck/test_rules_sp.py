"""Each rule of SP trips on the defect it is about, and alone."""

import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
W8A8S = {"profile": "A0", "type_": "W8A8S"}
W16A16S = {"profile": "A1", "type_": "W16A16S"}
FACTORS = np.ones((32, 1), np.float16)


def with_deq_scale_as_floats(draft):
    words = draft.tensors[f"{Q0}.deq_scale"]
    draft.put("deq_scale", words.astype(np.int32).view(np.float32))


def without_zeros(draft):
    draft.tensors[f"{Q0}.weight"][draft.tensors[f"{Q0}.weight"] == 0] = 1


CASES = {
    "weight_scale": (
        W8A8S,
        lambda d: d.add(f"{Q0}.weight_scale", FACTORS, "W8A8S"),
        {"SP-001", "NUM-005"},  # they are the tensors of W8A8
    ),
    "float weight": (W8A8S, lambda d: d.cast("weight", np.float16), {"SP-002"}),
    "weight of one dimension": (
        W8A8S,
        lambda d: d.put("weight", np.zeros(1024, np.int8)),
        {"SP-002"},
    ),
    "deq_scale too short": (
        W8A8S,
        lambda d: d.put("deq_scale", np.full(31, 0x3A000000)),
        {"SP-002"},
    ),
    "bias too short": (W8A8S, lambda d: d.put("bias", np.zeros(31, np.float16)), {"SP-002"}),
    "bias in integers": (W8A8S, lambda d: d.put("bias", np.zeros(32, np.int32)), {"SP-002"}),
    "plain int8 weight": (
        W8A8S,
        lambda d: d.put("weight", np.full((32, 32), 100, np.int8)),
        {"SP-003", "W8A8-012"},  # the sums of its rows are others
    ),
    "deq_scale in floats": (W8A8S, with_deq_scale_as_floats, {"SP-004", "DEQ-002"}),
    "integer weight": (W16A16S, lambda d: d.cast("weight", np.int8), {"SP-005"}),
    "weight in another dtype": (W16A16S, lambda d: d.cast("weight", np.float64), {"SP-005"}),
    "bias labelled FLOAT": (
        W16A16S,
        lambda d: d.description.update({f"{Q0}.bias": "FLOAT"}),
        {"SP-005"},
    ),
    "bias of another size": (W16A16S, lambda d: d.put("bias", np.zeros(31, "f2")), {"SP-005"}),
    "a scale of nobody": (
        W16A16S,
        lambda d: d.add(f"{Q0}.weight_scale", FACTORS, "W16A16S"),
        {"SP-005"},
    ),
    "bias in another float dtype": (W16A16S, lambda d: d.cast("bias", np.float32), {"NUM-003"}),
    "nothing pruned": (W16A16S, without_zeros, {"SP-006"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make(**kwargs)
    change(draft)
    assert judge(draft).ids == expected


def test_share_of_small_integers_is_named(builders, judge):
    draft = builders.make(**W8A8S)
    draft.tensors[f"{Q0}.weight"][:8] = 100  # 8 of 32 rows
    assert judge(draft).one("SP-003").found == "75.0% within -7 … 7"


def test_outliers_belong_to_the_method(builders, judge):
    draft = builders.make(**W8A8S)
    draft.tensors[f"{Q0}.weight"][:3] = 100  # 9 %
    assert judge(draft).ids == {"W8A8-012"}


def test_bfloat16_export_is_for_no_engine_but_valid(builders, judge):
    verdict = judge(builders.make("A0", "W8A8S", "BF16"))
    assert verdict.ids == {"SP-004"}
    assert verdict.must == set()
    assert judge(builders.make("A0", "W8A8S", "BF16"), consumers=("mindie",)).must == {"SP-004"}


def test_layout_level_reads_no_element(builders, judge):
    draft = builders.make(**W16A16S)
    without_zeros(draft)
    assert judge(draft, level="layout").ids == set()
