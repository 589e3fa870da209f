"""Each rule of KV trips on the defect it is about, and alone."""

import numpy as np
import pytest

ATTENTION = "model.layers.0.self_attn"
K0 = f"{ATTENTION}.k_proj"
V0 = f"{ATTENTION}.v_proj"
SCALE, OFFSET = "kv_cache_scale", "kv_cache_offset"


def drop_layer(draft):
    draft.drop(*(f"{host}.{suffix}" for host in (K0, V0) for suffix in (SCALE, OFFSET)))


CASES = {
    "keys without an offset": (lambda d: d.drop(f"{K0}.{OFFSET}"), {"KV-001"}),
    "values without a scale": (lambda d: d.drop(f"{V0}.{SCALE}"), {"KV-001"}),
    "a scalar scale": (lambda d: d.put(SCALE, np.float16(1), K0), {"KV-002"}),
    "one scale per tensor": (lambda d: d.put(SCALE, np.ones(1, np.float16), K0), {"KV-002"}),
    "offset of another length": (
        lambda d: d.put(OFFSET, np.zeros(31, np.float16), V0),
        {"KV-002"},
    ),
    "scale in two dimensions": (
        lambda d: d.put(SCALE, np.ones((32, 1), np.float16), K0),
        {"KV-002"},
    ),
    "scale 0": (lambda d: d.edit(SCALE, 3, 0, K0), {"KV-002"}),
    "scale NaN": (lambda d: d.edit(SCALE, 3, np.nan, V0), {"KV-002"}),
    "scale negative": (lambda d: d.edit(SCALE, 3, -1, V0), {"KV-002"}),
    "offset not zero": (lambda d: d.edit(OFFSET, 3, 5, K0), {"KV-003"}),
    "integer offset": (lambda d: d.cast(OFFSET, np.int8, K0), {"KV-004"}),
    "double scale": (lambda d: d.cast(SCALE, np.float64, K0), {"KV-004"}),
    "scale and offset in two dtypes": (lambda d: d.cast(OFFSET, np.float32, K0), {"KV-004"}),
    "a layer without scales": (drop_layer, {"KV-005"}),
    "label of the linear": (
        lambda d: d.description.update({f"{K0}.{SCALE}": "W8A8_DYNAMIC"}),
        {"KV-006"},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("profile", ["L0", "A1"])
def test_defect_trips_its_rule_alone(lowbit, judge, case, profile):
    change, expected = CASES[case]
    draft = lowbit.make(profile, "W8A8_DYNAMIC", "F16", kv=True)
    change(draft)
    assert judge(draft).ids == expected


def test_newer_tool_may_write_float32(lowbit, judge):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", "F16", kv=True)
    for host in (K0, V0):
        draft.cast(SCALE, np.float32, host)
        draft.cast(OFFSET, np.float32, host)
    assert judge(draft).ids == set()
    draft.profile = "A0"
    assert "KV-004" in judge(draft).ids


def test_described_tensor_that_is_absent_is_told_once(lowbit, judge):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", kv=True)
    del draft.tensors[f"{K0}.{OFFSET}"]
    assert judge(draft).ids == {"DESC-021"}


def test_float_model_with_a_quantized_cache_is_judged(lowbit, judge):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", "F16", kv=True)
    for name in list(draft.tensors):
        if name.endswith(("_proj.weight_scale", "_proj.weight_offset")):
            draft.drop(name)
        elif name.endswith("_proj.weight"):
            draft.tensors[name] = draft.tensors[name].astype(np.float16)
            draft.description[name] = "FLOAT"
    draft.description["model_quant_type"] = "FLOAT"
    assert judge(draft).ids == set()
    draft.put(SCALE, np.ones(31, np.float16), K0)
    assert judge(draft).one("KV-002").expected == "shape [kv_dim] = [32]"


def test_packed_projection_tells_its_rows(lowbit, judge):
    draft = lowbit.make("A0", "W4A8_DYNAMIC", "F16", group=32, kv=True)
    assert judge(draft).ids == {"W4A8-014"}
    draft.put(SCALE, np.ones(16, np.float16), K0)
    assert judge(draft).ids == {"W4A8-014", "KV-002"}


def test_all_absent_scales_of_a_kind_are_one_finding(lowbit, judge):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", kv=True)
    draft.drop(f"{K0}.{OFFSET}", f"{K0.replace('0', '1')}.{OFFSET}")
    group = judge(draft).one("KV-001")
    assert group.pattern == "model.layers.{0-1}.self_attn.k_proj.kv_cache_offset"


def test_offset_is_a_matter_of_mindie(lowbit, judge):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", kv=True)
    draft.edit(OFFSET, 3, 5, K0)
    assert judge(draft, consumers=("mindie",)).must == set()
    assert judge(draft, consumers=("mindie",), strict=True).must == {"KV-003"}
