"""Each rule of W8A8 trips on the defect it is about, and alone."""

import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
K0 = "model.layers.0.self_attn.k_proj"
V0 = "model.layers.0.self_attn.v_proj"
DOWN0 = "model.layers.0.mlp.down_proj"


A1 = {"profile": "A1"}
A0 = {"profile": "A0"}
MIX = {"profile": "A1", "type_": "W8A8_MIX"}
TIMESTEP = {"profile": "A0", "type_": "W8A8_TIMESTEP"}
ONES = np.ones((32, 1), np.float32)


def with_pair(draft):
    draft.add(f"{Q0}.weight_scale", ONES, "W8A8")
    draft.add(f"{Q0}.weight_offset", 0 * ONES, "W8A8")


CASES = {
    "float weight": (A1, lambda d: d.cast("weight", np.float16), {"W8A8-001"}),
    "weight of one dimension": (
        A1,
        lambda d: d.put("weight", np.zeros(1024, np.int8)),
        {"W8A8-001"},
    ),
    "minus 128 in the older tool": (
        A0,
        lambda d: d.edit("weight", 5, -128),
        {"W8A8-002", "W8A8-012"},
    ),
    "minus 128 in the newer tool": (A1, lambda d: d.edit("weight", 5, -128), {"W8A8-026"}),
    "two input scales": (A1, lambda d: d.put("input_scale", np.ones(2, np.float32)), {"W8A8-003"}),
    "input scale without dimensions": (
        A1,
        lambda d: d.put("input_scale", np.float32(1)),
        {"W8A8-003"},
    ),
    "input scale 0": (A1, lambda d: d.edit("input_scale", 0, 0), {"W8A8-004"}),
    "input scale NaN": (A1, lambda d: d.edit("input_scale", 0, np.nan), {"W8A8-004"}),
    "input scale negative": (A1, lambda d: d.edit("input_scale", 0, -0.05), {"W8A8-004"}),
    "input scale infinite": (A0, lambda d: d.edit("input_scale", 0, np.inf), {"W8A8-004"}),
    "integer input scale": (A1, lambda d: d.put("input_scale", np.ones(1, np.int32)), {"W8A8-005"}),
    "double input scale": (
        A1,
        lambda d: d.put("input_scale", np.ones(1, np.float64)),
        {"W8A8-005"},
    ),
    "two input offsets": (
        A1,
        lambda d: d.put("input_offset", np.ones(2, np.float32)),
        {"W8A8-006"},
    ),
    "fractional input offset": (A1, lambda d: d.edit("input_offset", 0, 2.5), {"W8A8-006"}),
    "input offset beyond int8": (A1, lambda d: d.edit("input_offset", 0, 130), {"W8A8-006"}),
    "input offset NaN": (A1, lambda d: d.edit("input_offset", 0, np.nan), {"W8A8-006"}),
    "input offset in int64": (
        A1,
        lambda d: d.put("input_offset", np.ones(1, np.int64)),
        {"W8A8-006"},
    ),
    "quant_bias in int64": (A1, lambda d: d.cast("quant_bias", np.int64), {"W8A8-008"}),
    "quant_bias too short": (
        A1,
        lambda d: d.put("quant_bias", np.zeros(31, np.int32)),
        {"W8A8-008"},
    ),
    "deq_scale too short": (
        A1,
        lambda d: d.put("deq_scale", np.full(31, 0x3A000000)),
        {"W8A8-017"},
    ),
    "deq_scale of two columns beside a bias": (
        A0,
        lambda d: (
            d.put("bias", np.zeros(32, np.float32)),
            d.put("deq_scale", np.full((32, 2), 0x3A000000)),
        ),
        {"NUM-003", "W8A8-012", "W8A8-017"},
    ),
    "one deq_scale for all rows": (
        A0,
        lambda d: d.put("deq_scale", np.array([0x39800000], np.int64)),
        {"W8A8-009"},
    ),
    "deq_scale in float16": (
        A1,
        lambda d: d.put("deq_scale", np.ones(32, np.float16)),
        {"W8A8-010"},
    ),
    "deq_scale 0": (A1, lambda d: d.edit("deq_scale", 3, 0), {"W8A8-010"}),
    "deq_scale NaN": (A1, lambda d: d.edit("deq_scale", 3, 0x7FC00000), {"W8A8-010"}),
    "deq_scale negative": (A1, lambda d: d.encode(3, -0.001), {"W8A8-010"}),
    "deq_scale of another row": (A0, lambda d: d.encode(3, 0.0009), {"W8A8-011"}),
    "quant_bias off by one": (A0, lambda d: d.edit("quant_bias", 7, 12345), {"W8A8-012"}),
    "another input offset": (A0, lambda d: d.edit("input_offset", 0, 9, DOWN0), {"W8A8-012"}),
    "weight_scale alone": (A1, lambda d: d.add(f"{Q0}.weight_scale", ONES, "W8A8"), {"W8A8-013"}),
    "weight_offset not zero": (A0, lambda d: d.edit("weight_offset", 4, 2), {"W8A8-014"}),
    "weight_scale in one row": (
        A0,
        lambda d: d.put("weight_scale", np.ones((1, 32), np.float16)),
        {"W8A8-015"},
    ),
    "weight_scale in another dtype": (
        A0,
        lambda d: d.put("weight_scale", np.ones((32, 1), np.float64)),
        {"W8A8-015"},
    ),
    "bias of another length": (A1, lambda d: d.put("bias", np.zeros(31, np.float32)), {"W8A8-016"}),
    "bias in integers": (A1, lambda d: d.put("bias", np.zeros(32, np.int32)), {"W8A8-016"}),
    "bias with the label of the weight": (
        A1,
        lambda d: d.description.update({f"{Q0}.bias": "W8A8"}),
        {"W8A8-016"},
    ),
    "weight_scale and offset in the newer tool": (
        A1,
        with_pair,
        {"W8A8-017", "NUM-005"},  # they are the tensors of W8A8_MIX
    ),
    "a stray tensor": (A1, lambda d: d.add(f"{Q0}.act_scale", ONES, "W8A8"), {"W8A8-017"}),
    "weight_scale 0": (A0, lambda d: d.edit("weight_scale", 2, 0), {"W8A8-011", "W8A8-020"}),
    "weight_offset of MIX in another shape": (
        MIX,
        lambda d: d.put("weight_offset", np.zeros(32, np.float32)),
        {"W8A8-022"},
    ),
    "weight_scale of MIX in integers": (
        MIX,
        lambda d: d.put("weight_scale", np.ones((32, 1), np.int32)),
        {"W8A8-022"},
    ),
    "weight_offset of MIX not zero": (MIX, lambda d: d.edit("weight_offset", 0, 1), {"W8A8-023"}),
    "fewer timesteps of one tensor": (
        TIMESTEP,
        lambda d: d.put("quant_bias", np.zeros((2, 32), np.int32)),
        {"W8A8-024"},
    ),
    "deq_scale subnormal": (A1, lambda d: d.encode(3, 1e-39, K0), {"W8A8-025"}),
    "quant_bias of the newer tool": (A1, lambda d: d.edit("quant_bias", 7, 12345), {"W8A8-026"}),
    "deq_scale subnormal in float16": (A1, lambda d: d.encode(3, 3e-5, K0), {"W8A8-027"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make(**{"type_": "W8A8", **kwargs})
    change(draft)
    verdict = judge(draft)
    assert verdict.ids == expected


def without_static_equation(draft):
    """No bias and no offset: quant_bias is 0 whatever the weight is."""
    for module in (Q0, K0, V0):
        for suffix in ("input_offset", "quant_bias"):
            name = f"{module}.{suffix}"
            draft.tensors[name] = np.zeros_like(draft.tensors[name])
    draft.drop(f"{Q0}.bias")


def test_row_that_stays_low_is_noted(builders, judge):
    draft = builders.make("A1", "W8A8")
    without_static_equation(draft)
    draft.tensors[f"{Q0}.weight"][5] = 54
    verdict = judge(draft)
    assert verdict.ids == {"W8A8-019"}
    assert verdict.one("W8A8-019").found == "row [5]: peak 54; 1 of 32 rows"


def test_row_of_zeros_may_have_any_scale(builders, judge):
    draft = builders.make("A0", "W8A8")
    without_static_equation(draft)
    draft.tensors[f"{Q0}.weight"][5] = 0
    draft.tensors[f"{Q0}.weight_scale"][5] = 0
    draft.tensors[f"{Q0}.deq_scale"][5] = 0
    assert judge(draft).ids == set()


def test_bfloat16_is_not_for_310p(builders, judge):
    verdict = judge(builders.make("A1", "W8A8", "BF16"))
    assert verdict.ids == {"W8A8-021"}
    assert verdict.must == set()


def test_bfloat16_counts_when_310p_is_named(builders, judge):
    verdict = judge(builders.make("A1", "W8A8", "BF16"), consumers=("vllm-ascend-310p",))
    assert verdict.must == {"W8A8-021"}


def test_finding_names_the_first_wrong_element_and_the_number_of_them(builders, judge):
    draft = builders.make("A0", "W8A8")
    right = draft.tensors[f"{Q0}.quant_bias"].copy()
    draft.tensors[f"{Q0}.quant_bias"][[7, 20]] += 913
    group = judge(draft).one("W8A8-012")
    assert group.found == f"element [7]: {right[7] + 913} instead of {right[7]}; 2 of 32 elements"
    assert group.tensors == [f"{Q0}.quant_bias"]
    assert group.pattern == f"{Q0}.quant_bias"
    assert group.files == {"quant_model_weight_w8a8.safetensors"}


def test_bias_left_out_of_quant_bias_is_recognised(builders, judge):
    draft = builders.make("A0", "W8A8")
    sums = draft.tensors[f"{Q0}.weight"].sum(axis=1, dtype=np.int64)
    offset = int(draft.tensors[f"{Q0}.input_offset"][0])
    draft.tensors[f"{Q0}.quant_bias"] = (-sums * offset).astype(np.int32)
    assert judge(draft).one("W8A8-012").found.endswith("the bias is left out")


def test_offset_with_the_other_sign_is_recognised(builders, judge):
    draft = builders.make("A0", "W8A8")
    name = f"{K0}.quant_bias"  # no bias
    draft.tensors[name] = -draft.tensors[name]
    assert judge(draft).one("W8A8-012").found.endswith("the offset has the other sign")


@pytest.mark.parametrize("written", [-(2**31), 0])
def test_row_of_zeros_without_scale_has_what_zero_over_zero_converts_to(builders, judge, written):
    """A float16 model: the smallest weight scale times the input scale is 0. Seen in real files."""
    draft = builders.make("A0", "W8A8")
    for name, value in (("weight", 0), ("deq_scale", 0), ("quant_bias", written)):
        draft.tensors[f"{K0}.{name}"][3] = value
    assert "W8A8-012" not in judge(draft).must
    draft.tensors[f"{K0}.quant_bias"][4] = -(2**31)
    assert judge(draft).one("W8A8-012").found.startswith("element [4]: -2147483648 instead of")


def test_product_in_float32_is_recognised(builders, judge):
    draft = builders.make("A0", "W8A8")
    wide = [draft.tensors[f"{K0}.{s}"].astype(np.float32) for s in ("input_scale", "weight_scale")]
    product = (wide[0] * wide[1].reshape(-1)).astype(np.float32)
    draft.tensors[f"{K0}.deq_scale"] = product.view(np.int32).astype(np.int64)
    assert judge(draft).one("W8A8-011").found.endswith("they are the product in float32")


@pytest.mark.parametrize("profile", ["A0", "A1"])
def test_quant_bias_that_overflows_is_what_the_tool_writes(builders, judge, profile):
    draft = builders.make(profile, "W8A8", "F32")
    draft.tensors[f"{Q0}.bias"][3] = 1e9  # bias / deq_scale is beyond int32
    draft.tensors[f"{Q0}.quant_bias"][3] = -(2**31)
    assert judge(draft).ids == set()


def test_weight_scale_alone_is_noted_where_the_pair_is_optional(builders, judge):
    draft = builders.make("A0", "W8A8")
    draft.drop(f"{Q0}.weight_offset")
    assert judge(draft).ids == {"W8A8-013"}


def test_rows_of_a_per_tensor_scale_may_stay_low(builders, judge):
    draft = builders.make("A0", "W8A8", per_tensor=True)
    without_static_equation(draft)
    draft.tensors[f"{Q0}.weight"][5] = 54
    assert judge(draft).ids == {"W8A8-009"}


def test_layout_level_reads_no_element(builders, judge):
    draft = builders.make("A1", "W8A8")
    draft.tensors[f"{Q0}.input_scale"][0] = 0
    assert judge(draft, level="layout").ids == set()
