"""Each rule of W4A4 trips on the defect it is about, and alone."""

import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
PLAIN = {"profile": "A1", "type_": "W4A4_DYNAMIC"}
OLDER = {"profile": "A0", "type_": "W4A4_FLATQUANT_DYNAMIC", "wrapper": "FLATQUANT"}


def narrow(draft):
    """A k that fills no int32, in every linear that reads the hidden state."""
    for name in list(draft.tensors):
        if name.endswith("_proj.weight") and draft.tensors[name].shape[1] == 64:
            draft.tensors[name] = draft.tensors[name][:, :60]


CASES = {
    "float weight": (PLAIN, lambda d: d.cast("weight", np.float16), {"W4A4-001"}),
    "weight of other rows": (
        PLAIN,
        lambda d: d.put("weight", np.ones((32, 64), np.int8)),
        {"W4A4-001"},
    ),
    "float weight of the older tool": (OLDER, lambda d: d.cast("weight", np.float16), {"W4A4-001"}),
    "code out of range": (PLAIN, lambda d: d.edit("weight", 5, -9), {"NUM-002"}),
    "scale in float16": (PLAIN, lambda d: d.cast("weight_scale", np.float16), {"W4A4-002"}),
    "offset in one dimension": (
        PLAIN,
        lambda d: d.put("weight_offset", np.zeros(64, np.float32)),
        {"W4A4-002"},
    ),
    "fractional offset": (PLAIN, lambda d: d.edit("weight_offset", 3, 0.5), {"W4A4-002"}),
    "offset infinite": (PLAIN, lambda d: d.edit("weight_offset", 3, np.inf), {"W4A4-002"}),
    "bias of another length": (
        PLAIN,
        lambda d: d.put("bias", np.zeros(63, np.float32)),
        {"W4A4-002"},
    ),
    "integer scale of the older tool": (
        OLDER,
        lambda d: d.cast("weight_scale", np.int32),
        {"W4A4-002"},
    ),
    "columns that fill no int32": (PLAIN, narrow, {"W4A4-003"}),
    "offset of the older tool": (OLDER, lambda d: d.edit("weight_offset", 3, 1), {"W4A4-004"}),
    "scale 0 over codes": (PLAIN, lambda d: d.edit("weight_scale", 3, 0), {"NUM-001"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(lowbit, judge, case):
    kwargs, change, expected = CASES[case]
    draft = lowbit.make(**kwargs)
    change(draft)
    assert judge(draft).ids == expected


def test_whole_offset_of_the_newer_tool_is_allowed(lowbit, judge):
    draft = lowbit.make(**PLAIN)
    draft.edit("weight_offset", 3, -4)
    assert judge(draft).ids == set()


def test_packed_codes_leave_the_range(lowbit, judge):
    draft = lowbit.make(**PLAIN)
    codes = draft.tensors[f"{Q0}.weight"]
    draft.put("weight", ((codes[:, 0::2] & 15) | (codes[:, 1::2] << 4)).astype(np.int8))
    assert judge(draft).ids == {"NUM-002", "PACK-005"}  # half the k of k_proj


def test_odd_columns_count_for_vllm_only(lowbit, judge):
    draft = lowbit.make(**PLAIN)
    narrow(draft)
    assert judge(draft).must == set()
    assert judge(draft, consumers=("vllm-ascend",)).must == {"W4A4-003"}
