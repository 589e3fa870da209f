"""Each rule of W4A16 trips on the defect it is about, and alone."""

import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
VLLM = "W4A16-011"  # said of every W4A16 directory

ROWS = {"profile": "A0"}
GROUPS = {"profile": "A0", "group": 32}
LEGACY = {"profile": "L0"}


def cut(draft, suffix, rows, columns):
    name = f"{Q0}.{suffix}"
    draft.tensors[name] = draft.tensors[name][:rows, :columns]


def unpack(draft, axis):
    """Every weight again with one code per byte."""
    for name in [name for name in draft.tensors if _is_packed(name)]:
        packed = draft.tensors[name]
        codes = [((packed & 15) ^ 8) - 8, packed >> 4]
        draft.tensors[name] = np.stack(codes, axis + 1).reshape(
            (-1, packed.shape[1]) if axis == 0 else (len(packed), -1)
        )


def _is_packed(name):
    return name.endswith("_proj.weight")


def three_groups(draft):
    for suffix in ("weight_scale", "weight_offset"):
        draft.put(suffix, np.ones((64, 3), np.float32))


def odd_rows(draft):
    for suffix in ("weight_scale", "weight_offset"):
        cut(draft, suffix, 63, 2)
    cut(draft, "weight", 31, 64)
    draft.tensors[f"{Q0}.bias"] = draft.tensors[f"{Q0}.bias"][:63]


CASES = {
    "packed weight in the older form": (
        LEGACY,
        lambda d: d.put("weight", np.full((32, 64), 1, np.int8)),
        {"W4A16-001"},
    ),
    "float weight in the older form": (
        LEGACY,
        lambda d: d.cast("weight", np.float16),
        {"W4A16-001"},
    ),
    "code out of range in the older form": (LEGACY, lambda d: d.edit("weight", 5, 8), {"NUM-002"}),
    "columns packed as bytes of another dtype": (
        ROWS,
        lambda d: d.cast("weight", np.uint8),
        {"W4A16-002"},
    ),
    "rows paired under one scale per row": (
        ROWS,
        lambda d: d.put("weight", np.full((32, 64), 35, np.int8)),
        {"W4A16-002"},
    ),
    "columns paired under scales in groups": (
        GROUPS,
        lambda d: d.put("weight", np.full((64, 32), 35, np.int8)),
        {"W4A16-003"},
    ),
    "grouped weight of other rows": (
        GROUPS,
        lambda d: d.put("weight", np.full((16, 64), 35, np.int8)),
        {"W4A16-003"},
    ),
    "odd number of packed rows": (GROUPS, odd_rows, {"W4A16-004"}),
    "offset of another shape": (
        ROWS,
        lambda d: d.put("weight_offset", np.zeros((1, 64), np.float32)),
        {"W4A16-006"},
    ),
    "scales of another number of rows": (
        GROUPS,
        lambda d: d.put("weight_scale", np.ones((62, 2), np.float32)),
        {"W4A16-006"},
    ),
    "groups that do not divide the row": (GROUPS, three_groups, {"W4A16-003"}),
    "integer scales": (ROWS, lambda d: d.cast("weight_scale", np.int32), {"W4A16-006"}),
    "fractional offset": (GROUPS, lambda d: d.edit("weight_offset", 3, 0.5), {"W4A16-006"}),
    "offset NaN": (GROUPS, lambda d: d.edit("weight_offset", 3, np.nan), {"W4A16-006"}),
    "bias of another length": (
        ROWS,
        lambda d: d.put("bias", np.zeros(63, np.float16)),
        {"W4A16-006"},
    ),
    "scale 0 over codes": (GROUPS, lambda d: d.edit("weight_scale", 3, 0), {"NUM-001"}),
    "scale negative": (ROWS, lambda d: d.edit("weight_scale", 3, -0.01), {"NUM-001"}),
    "unpacked columns under a version": (ROWS, lambda d: unpack(d, 1), {"W4A16-007"}),
    "another group size in the description": (
        GROUPS,
        lambda d: d.description.update(group_size=64),
        {"W4A16-008"},
    ),
    "no group size in the description": (
        GROUPS,
        lambda d: d.description.pop("group_size"),
        {"W4A16-008"},
    ),
    "groups of 16": ({"profile": "A0", "group": 16}, lambda d: None, {"W4A16-009"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(lowbit, judge, case):
    kwargs, change, expected = CASES[case]
    draft = lowbit.make(type_="W4A16", dtype="F16", **kwargs)
    change(draft)
    assert judge(draft).ids == expected | {VLLM}


def test_packed_weight_without_a_version_is_wrong_for_mindie(lowbit, judge):
    draft = lowbit.make("L0", "W4A16")
    rng = np.random.default_rng(1)
    for name in [n for n in draft.tensors if n.endswith("_proj.weight")]:
        draft.tensors[name] = rng.integers(-128, 128, draft.tensors[name].shape).astype(np.int8)
    verdict = judge(draft, consumers=("mindie",))
    assert verdict.ids == {"W4A16-007", "NUM-002", VLLM}
    assert verdict.must == {"W4A16-007", "NUM-002"}


def test_row_of_one_group_is_noted(lowbit, judge):
    draft = lowbit.make("A0", "W4A16", "F16")
    draft.description["group_size"] = 64
    verdict = judge(draft)
    assert verdict.ids == {"W4A16-010", "DESC-012", VLLM}  # no scale is in groups
    assert len(verdict.one("W4A16-010").tensors) == 12  # k = 64; down_proj has k = 128


def test_newer_tool_has_no_w4a16(lowbit, judge):
    draft = lowbit.make("A1", "W4A16", "F16")
    verdict = judge(draft)
    assert verdict.ids == {"W4A16-012", VLLM}
    assert verdict.must == {"W4A16-012"}


def test_vllm_cannot_load_it(lowbit, judge):
    verdict = judge(lowbit.make("A0", "W4A16"), consumers=("vllm-ascend",))
    assert verdict.must == {VLLM}


def test_zero_scale_of_packed_zeros_is_tolerated(lowbit, judge):
    draft = lowbit.make("A0", "W4A16", "F16", group=32)
    draft.tensors[f"{Q0}.weight"][:1] &= 15  # row 1 is the upper nibble
    draft.tensors[f"{Q0}.weight_scale"][1] = 0
    assert judge(draft).ids == {VLLM}


def test_zero_scale_names_the_row_of_the_scale(lowbit, judge):
    draft = lowbit.make("A0", "W4A16", "F16", group=32)
    draft.edit("weight_scale", 7, 0)
    assert judge(draft).one("NUM-001").found.startswith("element [3, 1]: 0")


def test_weight_of_zeros_may_be_packed_or_not(lowbit, judge):
    draft = lowbit.make("A0", "W4A16", "F16")
    draft.tensors[f"{Q0}.weight"][:] = 0
    assert judge(draft).ids == {VLLM}
