"""Each rule of W8A16 trips on the defect it is about, and alone."""

import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
A1 = {"profile": "A1"}
A0 = {"profile": "A0"}
ASYMMETRIC = {"profile": "A1", "asymmetric": True}
GROUPS = {"profile": "A1", "group": 16}
ONES = np.ones((32, 1), np.float32)

CASES = {
    "weight in int32": (A1, lambda d: d.cast("weight", np.int32), {"W8A16-001"}),
    "scale of another length": (A1, lambda d: d.put("weight_scale", ONES[:31]), {"W8A16-001"}),
    "offset of another shape": (
        A1,
        lambda d: d.put("weight_offset", np.zeros((32, 2), np.float32)),
        {"W8A16-001"},
    ),
    "bias of another length": (A1, lambda d: d.put("bias", ONES[:5, 0]), {"W8A16-001"}),
    "fractional offset": (ASYMMETRIC, lambda d: d.edit("weight_offset", 3, 0.5), {"W8A16-002"}),
    "offset beyond 128": (ASYMMETRIC, lambda d: d.edit("weight_offset", 3, -129), {"W8A16-002"}),
    "offset NaN": (ASYMMETRIC, lambda d: d.edit("weight_offset", 3, np.nan), {"W8A16-002"}),
    "scale negative": (A1, lambda d: d.edit("weight_scale", 3, -0.01), {"W8A16-003"}),
    "scale NaN": (A1, lambda d: d.edit("weight_scale", 3, np.nan), {"W8A16-003"}),
    "scale infinite": (A1, lambda d: d.edit("weight_scale", 3, -np.inf), {"W8A16-003"}),
    "scale in float64": (A1, lambda d: d.cast("weight_scale", np.float64), {"W8A16-005"}),
    "scale in float16 in the newer tool": (
        A1,
        lambda d: d.cast("weight_scale", np.float16),
        {"W8A16-005"},
    ),
    "a static tensor": (
        A1,
        lambda d: d.add(f"{Q0}.deq_scale", ONES[:, 0], "W8A16"),
        {"W8A16-006"},
    ),
    "bias in integers": (A1, lambda d: d.cast("bias", np.int32), {"W8A16-007"}),
    "group size of another value": (
        GROUPS,
        lambda d: d.description.update(group_size=32),
        {"W8A16-008"},
    ),
    "no group size beside groups": (
        {"profile": "A0", "group": 16},
        lambda d: d.description.pop("group_size"),
        {"W8A16-008"},
    ),
    "scale 0 of integers": (A0, lambda d: d.edit("weight_scale", 3, 0), {"W8A16-010"}),
    "group scale 0": (GROUPS, lambda d: d.edit("weight_scale", 3, 0), {"W8A16-010"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make(**{"type_": "W8A16", **kwargs})
    change(draft)
    assert judge(draft).ids == expected


@pytest.mark.parametrize("value", [-128, 128])
def test_offset_of_128_is_the_limit(builders, judge, value):
    draft = builders.make("A1", "W8A16", asymmetric=True)
    draft.edit("weight_offset", 3, value)
    assert judge(draft).ids == set()


def test_offsets_beside_rows_that_use_one_end_are_noted(builders, judge):
    draft = builders.make("A1", "W8A16", asymmetric=True)
    weight = draft.tensors[f"{Q0}.weight"]
    weight[weight == -128] = -127
    verdict = judge(draft)
    assert verdict.ids == {"W8A16-009"}
    assert verdict.one("W8A16-009").found == "offsets, but rows within -127 … 127"


def test_rows_without_offset_need_not_use_both_ends(builders, judge):
    draft = builders.make("A1", "W8A16")
    draft.tensors[f"{Q0}.weight"][:] = 3
    assert judge(draft).ids == set()


def test_two_group_sizes_leave_the_key_unjudged(builders, judge):
    draft = builders.make("A1", "W8A16", group=16)
    for suffix in ("weight_scale", "weight_offset"):
        draft.put(suffix, draft.tensors[f"{Q0}.{suffix}"][:, :1].repeat(4, axis=1))
    draft.description["group_size"] = 64
    assert "W8A16-008" not in judge(draft).ids


def test_group_of_zeros_may_have_scale_0(builders, judge):
    draft = builders.make("A0", "W8A16", group=16)
    draft.tensors[f"{Q0}.weight"][5, :16] = 0
    draft.tensors[f"{Q0}.weight_scale"][5, 0] = 0
    assert judge(draft).ids == set()


def test_offsets_of_no_rows_are_no_bug(builders, judge):
    draft = builders.make(**{"type_": "W8A16", **ASYMMETRIC})
    draft.put("weight", np.zeros((0, 32), np.int8))
    draft.put("weight_offset", ONES)
    assert "W8A16-001" in judge(draft).ids
