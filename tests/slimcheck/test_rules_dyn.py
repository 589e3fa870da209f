"""Each rule of DYN trips on the defect it is about, and alone."""

import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
A1 = {"profile": "A1"}
A0 = {"profile": "A0"}
GROUPS = {"profile": "A1", "group": 16}
EXPERTS = {"profile": "A1", "experts": 3}
ONES = np.ones((32, 1), np.float32)


def other_inner(draft):
    """One expert is narrower than its siblings, consistently within itself."""
    name = "model.layers.1.mlp.experts.1.down_proj"
    draft.tensors[f"{name}.weight"] = draft.tensors[f"{name}.weight"][:, ::2]


def group_size(size):
    return lambda d: d.description.update(group_size=size)


CASES = {
    "weight in uint8": (A1, lambda d: d.cast("weight", np.uint8), {"DYN-001"}),
    "float weight": (A1, lambda d: d.cast("weight", np.float16), {"DYN-001"}),
    "scale of another length": (A1, lambda d: d.put("weight_scale", ONES[:31]), {"DYN-001"}),
    "scale of one dimension": (A1, lambda d: d.put("weight_scale", ONES[:, 0]), {"DYN-001"}),
    "groups that do not divide k": (
        GROUPS,
        lambda d: d.put("weight_scale", np.ones((32, 3), np.float32)),
        {"DYN-001"},
    ),
    "scale 0": (A1, lambda d: d.edit("weight_scale", 2, 0), {"DYN-002"}),
    "scale NaN": (A1, lambda d: d.edit("weight_scale", 2, np.nan), {"DYN-002"}),
    "scale negative": (A1, lambda d: d.edit("weight_scale", 2, -0.01), {"DYN-002"}),
    "scale infinite": (A0, lambda d: d.edit("weight_scale", 2, np.inf), {"DYN-002"}),
    "group scale 0": (GROUPS, lambda d: d.edit("weight_scale", 2, 0), {"DYN-002"}),
    "offset of another shape": (A1, lambda d: d.put("weight_offset", 0 * ONES.T), {"DYN-003"}),
    "offset in groups beside a scale per row": (
        A1,
        lambda d: d.put("weight_offset", np.zeros((32, 2), np.float32)),
        {"DYN-003"},
    ),
    "offset 1": (A1, lambda d: d.edit("weight_offset", 9, 1), {"DYN-003"}),
    "offset NaN": (A1, lambda d: d.edit("weight_offset", 9, np.nan), {"DYN-003"}),
    "a static tensor": (
        A1,
        lambda d: d.add(f"{Q0}.input_scale", ONES[0], "W8A8_DYNAMIC"),
        {"DYN-004"},
    ),
    "scale in float64": (A1, lambda d: d.cast("weight_scale", np.float64), {"DYN-005"}),
    "offset in integers": (A1, lambda d: d.cast("weight_offset", np.int8), {"DYN-005"}),
    "a narrower expert": (EXPERTS, other_inner, {"DYN-006"}),
    "group size of another value": (GROUPS, group_size(32), {"DYN-008"}),
    "group size 0 beside groups": (GROUPS, group_size(0), {"DYN-008"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make(**{"type_": "W8A8_DYNAMIC", **kwargs})
    change(draft)
    assert judge(draft).ids == expected


def test_scale_and_offset_of_two_float_dtypes(builders, judge):
    draft = builders.make("A0", "W8A8_DYNAMIC", "F16")
    draft.cast("weight_offset", np.float32)  # the profile knows both
    verdict = judge(draft)
    assert verdict.ids == {"DYN-005"}
    assert verdict.one("DYN-005").expected == "F16, as weight_scale"


def test_another_float_dtype_than_the_profile_writes_is_a_note(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC", "F16")
    for suffix in ("weight_scale", "weight_offset"):
        draft.cast(suffix, np.float16)
    verdict = judge(draft)
    assert verdict.ids == {"NUM-005"}
    assert verdict.must == set()


def test_row_that_stays_low_is_noted(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.tensors[f"{Q0}.weight"][[5, 6]] = -54
    verdict = judge(draft)
    assert verdict.ids == {"DYN-007"}
    assert verdict.one("DYN-007").found == "row [5]: peak 54; 2 of 32 rows"


def test_rows_of_groups_may_stay_low(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC", group=16)
    draft.tensors[f"{Q0}.weight"][5] = 54
    assert judge(draft).ids == set()


def test_row_of_zeros_may_have_scale_0(builders, judge):
    draft = builders.make("A0", "W8A8_DYNAMIC")
    draft.tensors[f"{Q0}.weight"][5] = 0
    draft.tensors[f"{Q0}.weight_scale"][5] = 0
    assert judge(draft).ids == set()


def test_group_of_zeros_may_have_scale_0(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC", group=16)
    draft.tensors[f"{Q0}.weight"][5, 16:] = 0
    draft.tensors[f"{Q0}.weight_scale"][5, 1] = 0
    assert judge(draft).ids == set()


def test_expert_defects_are_one_group_with_a_pattern(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC", experts=3)
    for e in range(3):
        draft.put("weight_offset", 0 * ONES.T, f"model.layers.1.mlp.experts.{e}.down_proj")
    group = judge(draft).one("DYN-003")
    assert group.pattern == "model.layers.1.mlp.experts.{0-2}.down_proj.weight_offset"
    assert group.count == 3


def test_attention_layer_off_the_recipe_is_noted(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC", experts=2)
    draft.config |= {"mla_quantize": "w8a8", "moe_quantize": "w8a8_dynamic"}
    static = builders.make("A1", "W8A8")
    for name, array in static.tensors.items():
        module = name.rpartition(".")[0]
        if ".self_attn." in name and module != Q0:
            draft.add(name, array, static.description[name])
            for suffix in ("weight_scale", "weight_offset"):
                draft.tensors.pop(f"{module}.{suffix}", None)
                draft.description.pop(f"{module}.{suffix}", None)
    verdict = judge(draft)
    assert verdict.ids == {"DYN-010", "PACK-001"}  # k_proj and v_proj have another type
    assert verdict.one("DYN-010").tensors == [f"{Q0}.weight"]


@pytest.mark.parametrize("stated", [["w8a8"], {"a": 1}, 7, None])
def test_recipe_of_a_strange_type_is_not_ours(builders, judge, stated):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.config["mla_quantize"] = stated
    assert judge(draft).ids == set()
