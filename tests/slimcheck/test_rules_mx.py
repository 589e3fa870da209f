"""Each rule of MX trips on the defect it is about, and alone."""

import ml_dtypes
import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
FP8 = {"profile": "A1", "type_": "W8A8_MXFP8"}
FP8_MF = {"profile": "MF", "type_": "W8A8_MXFP8"}
FP4 = {"profile": "A1", "type_": "W4A4_MXFP4"}
FP4_MF = {"profile": "MF", "type_": "W4A4_MXFP4"}
MIXED = {"profile": "A1", "type_": "W4A8_MXFP"}
DUAL = {"profile": "A1", "type_": "W4A4_MXFP4_DUALSCALE"}
DYNAMIC = {"profile": "A1", "type_": "WFP8AFP8_DYNAMIC"}
SVD = {"profile": "A1", "type_": "W4A4_MXFP4", "wrapper": "SVD"}
VLLM = "MX-009"  # said of every WFP8AFP8_DYNAMIC directory


def code(draft, at, value):
    """Set one byte of an FP8 weight."""
    draft.tensors[f"{Q0}.weight"].view(np.uint8).reshape(-1)[at] = value


def narrow(draft):
    """A k of one block and a half, in every linear that reads the hidden state."""
    for name in list(draft.tensors):
        if name.endswith("_proj.weight") and draft.tensors[name].shape[1] == 64:
            draft.tensors[name] = draft.tensors[name][:, :48]


def as_float8(draft):
    name = f"{Q0}.weight_scale"
    draft.tensors[name] = draft.tensors[name].view(ml_dtypes.float8_e4m3fn)


CASES = {
    "MXFP8 weight in int8": (FP8, lambda d: d.cast("weight", np.int8), {"MX-001"}),
    "MXFP8 scale of other blocks": (
        FP8,
        lambda d: d.put("weight_scale", np.ones((64, 4), np.uint8)),
        {"MX-001"},
    ),
    "MXFP8 scale in float32": (FP8_MF, lambda d: d.cast("weight_scale", np.float32), {"MX-001"}),
    "MXFP8 with an offset": (
        FP8,
        lambda d: d.add(f"{Q0}.weight_offset", np.zeros((64, 1), np.float32), "W8A8_MXFP8"),
        {"MX-001"},
    ),
    "MXFP8 with a longer bias": (
        FP8,
        lambda d: d.put("bias", np.zeros(65, np.float32)),
        {"MX-001"},
    ),
    "blocks that are not whole": (FP8, narrow, {"MX-002"}),
    "FP8 NaN": (FP8, lambda d: code(d, 5, 0x7F), {"MX-003"}),
    "FP8 NaN with a sign": (FP8_MF, lambda d: code(d, 5, 0xFF), {"MX-003"}),
    "FP8 NaN of the dynamic type": (DYNAMIC, lambda d: code(d, 5, 0x7F), {"MX-003", VLLM}),
    "MXFP4 weight in float8": (
        FP4,
        lambda d: d.cast("weight", ml_dtypes.float8_e4m3fn),
        {"MX-004"},
    ),
    "MXFP4 weight that is not packed": (
        MIXED,
        lambda d: d.put("weight", np.ones((64, 64), np.uint8)),
        {"MX-004"},
    ),
    "MXFP4 scale in int8": (FP4_MF, lambda d: d.cast("weight_scale", np.int8), {"MX-004"}),
    "MXFP4 with an offset": (
        DUAL,
        lambda d: d.add(
            f"{Q0}.weight_offset", np.zeros((64, 1), np.float32), "W4A4_MXFP4_DUALSCALE"
        ),
        {"MX-004"},
    ),
    "E8M0 NaN": (FP8, lambda d: d.edit("weight_scale", 3, 255), {"MX-006"}),
    "E8M0 NaN over FP4": (FP4_MF, lambda d: d.edit("weight_scale", 3, 255), {"MX-006"}),
    "scale of 0 over FP8": (FP8, lambda d: d.edit("weight_scale", 3, 0), {"MX-006"}),
    "scale of 0 over FP4": (MIXED, lambda d: d.edit("weight_scale", 0, 0), {"MX-006"}),
    "another group size": (FP8, lambda d: d.description.update(group_size=64), {"MX-007"}),
    "group size 0": (FP4, lambda d: d.description.update(group_size=0), {"MX-007"}),
    "group size in the MindIE format": (
        FP8_MF,
        lambda d: d.description.update(group_size=32),
        {"MX-007"},
    ),
    "dynamic FP8 scale in float16": (
        DYNAMIC,
        lambda d: d.cast("weight_scale", np.float16),
        {"MX-008", VLLM},
    ),
    "dynamic FP8 scale NaN": (
        DYNAMIC,
        lambda d: d.edit("weight_scale", 3, np.nan),
        {"MX-008", VLLM},
    ),
    "dynamic FP8 scale 0": (DYNAMIC, lambda d: d.edit("weight_scale", 3, 0), {"MX-008", VLLM}),
    "dynamic FP8 offset": (DYNAMIC, lambda d: d.edit("weight_offset", 3, 1), {"MX-008", VLLM}),
    "dynamic FP8 weight in int8": (DYNAMIC, lambda d: d.cast("weight", np.int8), {"MX-008", VLLM}),
    "dual scale in two dimensions": (
        DUAL,
        lambda d: d.put("weight_dual_scale", np.ones((64, 2), np.float32)),
        {"MX-010"},
    ),
    "dual scale in float16": (
        DUAL,
        lambda d: d.cast("weight_dual_scale", np.float16),
        {"MX-010"},
    ),
    "dual scale 0": (DUAL, lambda d: d.edit("weight_dual_scale", 3, 0), {"MX-010"}),
    "dual scale infinite": (DUAL, lambda d: d.edit("weight_dual_scale", 3, np.inf), {"MX-010"}),
    "ranks that differ": (
        SVD,
        lambda d: d.put("svd_lowrank_l2", np.ones((64, 3), np.float32)),
        {"MX-011"},
    ),
    "branch in integers": (SVD, lambda d: d.cast("svd_lowrank_l1", np.int32), {"MX-011"}),
    "branch with the label of the weight": (
        SVD,
        lambda d: d.description.update({f"{Q0}.svd_lowrank_l1": "W4A4_MXFP4_SVD"}),
        {"MX-011"},
    ),
    "scale in float8": (FP8, as_float8, {"MX-012"}),
    "scale in float8 over FP4": (FP4, as_float8, {"MX-012"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(lowbit, judge, case):
    kwargs, change, expected = CASES[case]
    draft = lowbit.make(**kwargs)
    change(draft)
    assert judge(draft).ids == expected


@pytest.mark.parametrize("kwargs", [FP8, FP4], ids=["FP8", "FP4"])
def test_scale_of_0_over_a_block_of_zeros_is_allowed(lowbit, judge, kwargs):
    draft = lowbit.make(**kwargs)
    weight = draft.tensors[f"{Q0}.weight"].view(np.uint8)
    width = weight.shape[1] // 2
    weight[2, :width] = 0x80 if kwargs is FP8 else 0x88  # minus zero is zero
    draft.tensors[f"{Q0}.weight_scale"][2, 0] = 0
    assert judge(draft).ids == set()
    draft.tensors[f"{Q0}.weight_scale"][2, 1] = 0
    assert judge(draft).one("MX-006").found.startswith("element [2, 1]: 0")


def test_scale_of_0_over_a_row_of_zeros_is_allowed(lowbit, judge):
    draft = lowbit.make(**DYNAMIC)
    draft.tensors[f"{Q0}.weight"][3] = 0
    draft.tensors[f"{Q0}.weight_scale"][3] = 0
    assert judge(draft).ids == {VLLM}


@pytest.mark.parametrize("byte", [1, 127, 254])
def test_any_other_exponent_is_allowed(lowbit, judge, byte):
    draft = lowbit.make(**FP8)
    draft.edit("weight_scale", 3, byte)
    assert judge(draft).ids == set()


def test_nan_names_its_code(lowbit, judge):
    draft = lowbit.make(**FP8)
    code(draft, 70, 0xFF)
    assert judge(draft).one("MX-003").found == "element [1, 6]: 255; 1 of 4096 elements"


def test_engines_hear_of_their_own_limits_only(lowbit, judge):
    draft = lowbit.make(**FP8)
    narrow(draft)
    assert judge(draft, consumers=("mindie",)).must == set()  # SHOULD
    assert judge(lowbit.make(**DYNAMIC), consumers=("vllm-ascend",)).must == set()
