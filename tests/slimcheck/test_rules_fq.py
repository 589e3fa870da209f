"""Each rule of FQ trips on the defect it is about, and alone."""

import numpy as np
import pytest

from slimcheck.rules.fq import balanced_factors, engine_factors

Q0 = "model.layers.0.self_attn.q_proj"
K0 = "model.layers.0.self_attn.k_proj"
DOWN0 = "model.layers.0.mlp.down_proj"
INT4 = {"profile": "A1", "type_": "W4A4_DYNAMIC"}
OLDER = {"profile": "A0", "type_": "W4A4_FLATQUANT_DYNAMIC"}
INT8 = {"profile": "A1", "type_": "W8A8_DYNAMIC"}
FP4 = {"profile": "A1", "type_": "W4A4_MXFP4"}


def eye(size):
    return np.eye(size, dtype=np.float32)


def factors(draft, left, right, module=Q0):
    draft.put("left_trans", eye(left), module)
    draft.put("right_trans", eye(right), module)


def pack(draft):
    codes = draft.tensors[f"{Q0}.weight"]
    draft.put("weight", ((codes[:, 0::2] & 15) | (codes[:, 1::2] << 4)).astype(np.int8) % 8)


def singular(draft):
    matrix = eye(8)
    matrix[3] = matrix[4]
    draft.put("right_trans", matrix)


def relabel(draft, suffix, label):
    draft.description[f"{Q0}.{suffix}"] = label


CASES = {
    "left transform that is no square": (
        INT4,
        lambda d: d.put("left_trans", np.ones((8, 4), np.float32)),
        {"FQ-001"},
    ),
    "transforms for another k": (INT4, lambda d: factors(d, 8, 12), {"FQ-001"}),
    "transforms of twice k over FP4": (FP4, lambda d: factors(d, 8, 16), {"FQ-001"}),
    "integer transform": (INT8, lambda d: d.cast("left_trans", np.int32), {"FQ-001"}),
    "factors far apart": (INT4, lambda d: factors(d, 4, 16), {"FQ-002"}),
    "factors the other way round": (INT8, lambda d: factors(d, 16, 8, DOWN0), {"FQ-002"}),
    "clip ratio before the sigmoid": (INT4, lambda d: d.edit("clip_ratio", 0, 4.0), {"FQ-003"}),
    "clip ratio 0": (OLDER, lambda d: d.edit("clip_ratio", 0, 0), {"FQ-003"}),
    "clip ratio NaN": (INT8, lambda d: d.edit("clip_ratio", 0, np.nan), {"FQ-003"}),
    "clip ratio of two elements": (
        INT4,
        lambda d: d.put("clip_ratio", np.ones(2, np.float32)),
        {"FQ-003"},
    ),
    "transform NaN": (INT4, lambda d: d.edit("left_trans", 3, np.nan), {"FQ-004"}),
    "transform infinite": (OLDER, lambda d: d.edit("right_trans", 3, np.inf), {"FQ-004"}),
    "transform of zeros": (INT8, lambda d: d.put("left_trans", 0 * eye(8)), {"FQ-004"}),
    "singular transform": (INT4, singular, {"FQ-004"}),
    "label of another type": (INT4, lambda d: relabel(d, "left_trans", "W8A8"), {"FQ-005"}),
    "float label": (INT4, lambda d: relabel(d, "clip_ratio", "FLOAT"), {"FQ-005"}),
    "packed weight": (INT4, pack, {"FQ-006", "PACK-005"}),  # half the k of k_proj
    "packed weight of the older tool": (OLDER, pack, {"FQ-006", "PACK-005"}),
    "factors that the engine does not compute": (
        FP4,
        lambda d: factors(d, 4, 16),
        {"FQ-002", "FQ-007"},
    ),
    "factor beyond the kernel": (
        INT8,
        lambda d: d.put("weight", np.full((64, 512), 127, np.int8)) or factors(d, 1, 512),
        {"FQ-002", "FQ-008", "PACK-005"},  # no k of that size has a nearest pair beyond the kernel
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(lowbit, judge, case):
    kwargs, change, expected = CASES[case]
    draft = lowbit.make(wrapper="FLATQUANT", **kwargs)
    draft.description["max_supported_tp"] = 1
    change(draft)
    assert judge(draft).ids == expected


def test_layer_without_right_transform_is_whole(lowbit, judge):
    draft = lowbit.make(wrapper="FLATQUANT", **INT4)
    draft.drop("model.layers.0.self_attn.o_proj.right_trans")
    assert judge(draft).ids == set()


def test_label_of_a_linear_with_bias_is_that_of_the_tool(lowbit, judge):
    draft = lowbit.make(wrapper="FLATQUANT", **INT4)
    for suffix in ("left_trans", "right_trans", "clip_ratio"):
        relabel(draft, suffix, "FLOAT_FLATQUANT")
    assert judge(draft).ids == {"DESC-028"}


def test_row_parallel_factors_depend_on_the_ranks(lowbit, judge):
    draft = lowbit.make(wrapper="FLATQUANT", **FP4)
    verdict = judge(draft, consumers=("vllm-ascend",))
    assert verdict.ids == verdict.must == {"FQ-007"}
    for group in verdict.results["FQ-007"].groups:
        assert {name.split(".")[-2] for name in group.tensors} <= {"o_proj", "down_proj"}
        assert group.expected.endswith("for max_supported_tp 4")


@pytest.mark.parametrize(
    ("k", "pair"),
    [(1, (1, 1)), (64, (8, 8)), (128, (8, 16)), (512, (16, 32)), (15, (3, 5)), (17, (1, 17)),
     (6, None), (2, None), (8, (2, 4)), (12, (2, 6))],
)  # fmt: skip
def test_balanced_factors(k, pair):
    assert balanced_factors(k) == pair


@pytest.mark.parametrize(
    ("k", "tp", "pair"),
    [(512, 1, (16, 32)), (512, 4, (32, 16)), (256, 4, (32, 8)), (6, 1, None), (3, 4, None),
     (257, 1, None), (2**40, 1, None), (128 * 128 * 4, 4, (256, 256))],
)  # fmt: skip
def test_engine_factors(k, tp, pair):
    assert engine_factors(k, tp) == pair
