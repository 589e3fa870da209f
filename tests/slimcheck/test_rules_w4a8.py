"""Each rule of W4A8 trips on the defect it is about, and alone."""

import ml_dtypes
import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
O0 = "model.layers.0.self_attn.o_proj"
DOWN0 = "model.layers.0.mlp.down_proj"

A1 = {"profile": "A1"}
A0 = {"profile": "A0", "group": 32}
L0 = {"profile": "L0", "group": 32}
ALWAYS = {"A1": {"W4A8-018"}, "A0": {"W4A8-014"}, "L0": set()}  # of engines, in any directory


def overflow(draft):
    """Code 7 at the start of each row under 19: 133 is no int8."""
    draft.edit("weight_scale_second", 0, 19)


def six_groups(draft):
    for suffix in ("weight_scale_second", "weight_offset_second"):
        draft.tensors[f"{Q0}.{suffix}"] = np.ones((64, 3), draft.tensors[f"{Q0}.{suffix}"].dtype)


def summed_16_times(draft):
    sums = draft.tensors[f"{Q0}.scale_bias"]
    draft.put("scale_bias", np.repeat(sums / 16, 16, axis=1).astype(np.float32))


def unsigned(draft):
    """Codes stored with 8 for zero."""
    packed = draft.tensors[f"{Q0}.weight"].view(np.uint8)
    packed[:] = 0x88
    draft.tensors[f"{Q0}.scale_bias"][:] = -8 * 8 * 64 * draft.tensors[f"{Q0}.weight_scale"]


CASES = {
    "weight in another dtype": (A1, lambda d: d.cast("weight", np.uint8), {"W4A8-001"}),
    "weight with one code per byte": (
        A1,
        lambda d: d.put("weight", np.ones((64, 64), np.int8)),
        {"W4A8-001"},
    ),
    "packed weight in the older form": (
        L0,
        lambda d: d.put("weight", np.ones((32, 64), np.int8)),
        {"W4A8-002"},
    ),
    "code out of range in the older form": (L0, lambda d: d.edit("weight", 5, 8), {"NUM-002"}),
    "scale in float16": (A1, lambda d: d.cast("weight_scale", np.float16), {"W4A8-003"}),
    "scale in one dimension": (
        A1,
        lambda d: d.put("weight_scale", np.ones(64, np.float32)),
        {"W4A8-003"},
    ),
    "scale NaN": (A1, lambda d: d.edit("weight_scale", 3, np.nan), {"W4A8-003"}),
    "scale negative": (A0, lambda d: d.edit("weight_scale", 3, -0.01), {"W4A8-003"}),
    "bias of another length": (
        A1,
        lambda d: d.put("bias", np.zeros(63, np.float32)),
        {"W4A8-003"},
    ),
    "second scale in float16": (
        A0,
        lambda d: d.cast("weight_scale_second", np.float16),
        {"W4A8-004"},
    ),
    "fractional second scale": (L0, lambda d: d.edit("weight_scale_second", 3, 8.5), {"W4A8-004"}),
    "second scale 0": (A0, lambda d: d.edit("weight_scale_second", 3, 0), {"W4A8-004"}),
    "second scale 20": (A0, lambda d: d.edit("weight_scale_second", 3, 20), {"W4A8-004"}),
    "second scale NaN": (A0, lambda d: d.edit("weight_scale_second", 3, np.nan), {"W4A8-004"}),
    "second offset in int32": (
        A0,
        lambda d: d.cast("weight_offset_second", np.int32),
        {"W4A8-005"},
    ),
    "second offset not zero": (L0, lambda d: d.edit("weight_offset_second", 3, 1), {"W4A8-005"}),
    "offset in float16": (A1, lambda d: d.cast("weight_offset", np.float16), {"W4A8-006"}),
    "offset not zero": (A1, lambda d: d.edit("weight_offset", 3, 1), {"W4A8-006"}),
    "product beyond int8": (A0, overflow, {"W4A8-007"}),
    "product beyond int8 in the older form": (L0, overflow, {"W4A8-007"}),
    "unsigned codes": (A1, unsigned, {"W4A8-008"}),
    "sum of a column-parallel linear in 16 parts": (A1, summed_16_times, {"W4A8-009"}),
    "scale_bias in bfloat16": (
        A1,
        lambda d: d.cast("scale_bias", ml_dtypes.bfloat16),
        {"W4A8-009"},
    ),
    "scale_bias of another shape": (
        A0,
        lambda d: d.put("scale_bias", np.zeros((64, 8), np.float32)),
        {"W4A8-009"},
    ),
    "one code changed": (A1, lambda d: d.edit("weight", 9, 0), {"W4A8-010"}),
    "one code changed on two levels": (A0, lambda d: d.edit("weight", 9, 0), {"W4A8-010"}),
    "another scale": (A1, lambda d: d.edit("weight_scale", 3, 0.5), {"W4A8-010"}),
    "scale_bias NaN": (A1, lambda d: d.edit("scale_bias", 3, np.nan), {"W4A8-010"}),
    "scale_bias in the older form": (
        L0,
        lambda d: d.add(f"{Q0}.scale_bias", np.ones((64, 1), np.float32), "W4A8_DYNAMIC"),
        {"W4A8-012"},
    ),
    "second scale in the newer tool": (
        A1,
        lambda d: d.add(f"{Q0}.weight_scale_second", np.ones((64, 2), np.float32), "W4A8_DYNAMIC"),
        {"W4A8-013"},
    ),
    "group size of the newer tool": (
        A1,
        lambda d: d.description.update(group_size=64),
        {"W4A8-013", "W4A8-014", "DESC-012"},  # a number that no tensor has
    ),
    "groups of 16": (
        {"profile": "A0", "group": 16},
        lambda d: None,
        {"W4A8-015"},
    ),
    "groups that do not divide the row": (A0, six_groups, {"W4A8-004", "W4A8-005"}),
    "another group size in the description": (
        A0,
        lambda d: d.description.update(group_size=64),
        {"W4A8-016"},
    ),
    "no group size in the description": (
        A0,
        lambda d: d.description.pop("group_size"),
        {"W4A8-016"},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(lowbit, judge, case):
    kwargs, change, expected = CASES[case]
    draft = lowbit.make(type_="W4A8_DYNAMIC", **kwargs)
    change(draft)
    always = ALWAYS[kwargs["profile"]]
    if "group_size" not in draft.description:
        always = always - {"W4A8-014"}
    assert judge(draft).ids - always == expected - always


def test_sizes_that_fill_no_int32(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    for layer in range(2):  # rows of v_proj
        v = f"model.layers.{layer}.self_attn.v_proj"
        for suffix in ("weight_scale", "weight_offset", "scale_bias"):
            draft.tensors[f"{v}.{suffix}"] = draft.tensors[f"{v}.{suffix}"][:28]
        draft.tensors[f"{v}.weight"] = draft.tensors[f"{v}.weight"][:14]
    verdict = judge(draft)
    assert verdict.ids == {"W4A8-017", "W4A8-018"}
    assert verdict.one("W4A8-017").found == "n = 28"


def test_columns_that_make_no_16_blocks(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    draft.tensors[f"{O0}.weight"] = draft.tensors[f"{O0}.weight"][:, :60]
    verdict = judge(draft)
    assert verdict.ids == {"W4A8-017", "W4A8-018"}
    assert verdict.one("W4A8-017").found == "k = 60"


@pytest.mark.parametrize("profile", ["A0", "A1"])
def test_name_that_is_not_summed(lowbit, judge, profile):
    group = {"A0": 32, "A1": 0}[profile]
    draft = lowbit.make(profile, "W4A8_DYNAMIC", rename="kv_b_proj", group=group)
    assert judge(draft).ids == {"W4A8-011", *ALWAYS[profile]}
    draft.tensors["model.layers.0.self_attn.kv_b_proj.scale_bias"] *= np.float32(8)
    assert judge(draft).ids == {"W4A8-011", "W4A8-019", *ALWAYS[profile]}


def test_groups_are_refused_by_vllm(lowbit, judge):
    verdict = judge(lowbit.make("A0", "W4A8_DYNAMIC", group=32), consumers=("vllm-ascend",))
    assert verdict.must == {"W4A8-014"}


def test_dense_layers_are_noted_for_mindie_and_experts_are_not(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC", experts=2)
    verdict = judge(draft, consumers=("mindie",))
    assert verdict.must == set()
    names = verdict.results["W4A8-018"].groups
    assert not any(".experts." in name for group in names for name in group.tensors)


def test_last_bits_of_the_sum_are_free(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    sums = draft.tensors[f"{Q0}.scale_bias"]
    draft.put("scale_bias", np.nextafter(np.nextafter(sums, np.float32(9)), np.float32(9)))
    assert judge(draft).ids == ALWAYS["A1"]


@pytest.mark.parametrize("profile", ["A0", "A1"])
@pytest.mark.parametrize("module", [Q0, O0, DOWN0])
def test_any_nibble_is_seen_and_its_row_named(lowbit, judge, profile, module):
    draft = lowbit.make(profile, "W4A8_DYNAMIC", group={"A0": 32, "A1": 0}[profile])
    packed = draft.tensors[f"{module}.weight"]
    packed[5, 17] ^= 0x10  # the upper nibble: row 11
    verdict = judge(draft)
    assert verdict.ids == {"W4A8-010", *ALWAYS[profile]}
    part = {Q0: 0, O0: 17 // 4, DOWN0: 17 // 8}[module]
    assert verdict.one("W4A8-010").found.startswith(f"element [11, {part}]: ")


def test_swapped_nibbles_are_seen(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    packed = draft.tensors[f"{Q0}.weight"].view(np.uint8)
    draft.put("weight", ((packed >> 4) | (packed << 4)).view(np.int8))
    assert judge(draft).ids == {"W4A8-010", "W4A8-018"}


@pytest.mark.parametrize(
    ("profile", "factor", "cause"),
    [
        ("A1", 1 / 8, "the factor 8 is left out"),
        ("A0", 1 / 8, "the factor 8 is left out"),
        ("A1", -1, "the sign is turned"),
    ],
)
def test_cause_is_recognised(lowbit, judge, profile, factor, cause):
    draft = lowbit.make(profile, "W4A8_DYNAMIC", group={"A0": 32, "A1": 0}[profile])
    draft.tensors[f"{O0}.scale_bias"] *= np.float32(factor)
    assert judge(draft).one("W4A8-010").found.endswith(cause)


def test_scale_that_was_not_rounded_is_recognised(lowbit, judge):
    draft = lowbit.make("A0", "W4A8_DYNAMIC", group=32)
    scale = draft.tensors[f"{DOWN0}.weight_scale"]
    rounded = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    draft.tensors[f"{DOWN0}.scale_bias"] *= scale / rounded
    found = judge(draft).one("W4A8-010").found
    assert found.endswith("weight_scale is not in bfloat16")


def test_row_of_zeros_may_have_scale_zero(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    draft.tensors[f"{Q0}.weight"][0] &= 15  # row 1
    draft.tensors[f"{Q0}.weight_scale"][1] = 0
    draft.tensors[f"{Q0}.scale_bias"][1] = 0
    assert judge(draft).ids == ALWAYS["A1"]


def test_scale_zero_over_codes_is_an_error(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    draft.tensors[f"{Q0}.weight_scale"][1] = 0
    draft.tensors[f"{Q0}.scale_bias"][1] = 0
    assert judge(draft).ids == {"W4A8-003", "W4A8-018"}


@pytest.mark.parametrize("value", [3e38, -np.inf, np.inf, np.nan, 1e-45])
def test_extreme_scales_raise_nothing(lowbit, judge, value):
    draft = lowbit.make("A0", "W4A8_DYNAMIC", group=32)
    draft.tensors[f"{Q0}.weight_scale"][:] = value
    draft.tensors[f"{Q0}.scale_bias"][1] = value
    assert judge(draft).ids


def test_layout_level_reads_no_element(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    draft.tensors[f"{Q0}.weight_scale"][0] = np.nan
    assert judge(draft, level="layout").ids == ALWAYS["A1"]
