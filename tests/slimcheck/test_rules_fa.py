"""Each rule of FA trips on the defect it is about, and alone."""

import numpy as np
import pytest

from slimcheck.context import Context
from slimcheck.rules.fa import heads_are_shared_evenly
from slimspec.checkpoint import open_checkpoint

ATTENTION = "model.layers.0.self_attn"
Q0, K0, V0 = (f"{ATTENTION}.fa_{letter}" for letter in "qkv")


def without(draft, *modules):
    draft.drop(*(f"{module}.{suffix}" for module in modules for suffix in ("scale", "offset")))


def unstated(draft):
    draft.description.pop("fa_quant_type")
    draft.description.pop(f"{ATTENTION}.quant_type", None)


CASES = {
    "queries without an offset": ("A1", lambda d: d.drop(f"{Q0}.offset"), {"FA-001"}),
    "keys without a scale in the older tool": (
        "A0",
        lambda d: d.drop(f"{K0}.scale"),
        {"FA-001"},
    ),
    "no values in the older tool": ("L0", lambda d: without(d, V0), {"FA-001"}),
    "no queries in the older tool": ("A0", lambda d: without(d, Q0), {"FA-001"}),
    "no queries where they are static": ("A1", lambda d: without(d, Q0), {"FA-001"}),
    "scale per channel": (
        "A1",
        lambda d: d.put("scale", np.ones((4, 16), np.float32), Q0),
        {"FA-002"},
    ),
    "keys with the heads of queries": (
        "A0",
        lambda d: d.put("scale", np.ones((4, 1), np.float32), K0),
        {"FA-002"},
    ),
    "offset in one dimension": (
        "A1",
        lambda d: d.put("offset", np.zeros(2, np.int8), V0),
        {"FA-002"},
    ),
    "integer scale": ("A1", lambda d: d.cast("scale", np.int8, K0), {"FA-003"}),
    "offset in int32": ("A1", lambda d: d.cast("offset", np.int32, K0), {"FA-003"}),
    "float offset in the older tool": (
        "A0",
        lambda d: d.cast("offset", np.float32, K0),
        {"FA-003"},
    ),
    "scale 0": ("A1", lambda d: d.edit("scale", 1, 0, Q0), {"FA-003"}),
    "scale NaN": ("L0", lambda d: d.edit("scale", 1, np.nan, Q0), {"FA-003"}),
    "offset not zero": ("A1", lambda d: d.edit("offset", 1, 3, K0), {"FA-003"}),
    "float offset not zero": (
        "A1",
        lambda d: d.put("offset", np.array([[0], [-1]], np.float32), K0),
        {"FA-003"},
    ),
    "label of a linear": (
        "A1",
        lambda d: d.description.update({f"{K0}.scale": "W8A8"}),
        {"FA-004"},
    ),
    "no fa_quant_type in the older form": ("L0", unstated, {"FA-004"}),
    "no fa_quant_type in the newer tool": ("A1", unstated, {"DESC-018"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(lowbit, judge, case):
    profile, change, expected = CASES[case]
    draft = lowbit.make(profile, "W8A8_DYNAMIC", "F16", fa=True)
    change(draft)
    assert judge(draft).ids - {"DESC-017"} == expected  # FAQuant is not for vllm-ascend


def test_role_quantized_at_run_time_has_no_tensors(lowbit, judge):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", fa=True)
    for layer in range(2):
        without(draft, f"model.layers.{layer}.self_attn.fa_q")
        draft.description[f"model.layers.{layer}.self_attn.quant_type"] = "Q_FP8_DYNAMIC_KV_INT8"
    assert judge(draft).ids == set()


@pytest.fixture
def latent(lowbit):
    """The older tool's attention with the projections of MLA: one head for keys, no values."""
    draft = lowbit.make("A0", "W8A8_DYNAMIC", "F16", fa=True)
    for layer in range(2):
        attention = f"model.layers.{layer}.self_attn"
        without(draft, f"{attention}.fa_v")
        draft.add(f"{attention}.kv_b_proj.weight", np.ones((8, 8), np.float16), "FLOAT")
        draft.put("scale", np.ones((1, 1), np.float32), f"{attention}.fa_k")
        draft.put("offset", np.zeros((1, 1), np.int8), f"{attention}.fa_k")
    return draft


def test_latent_attention_has_no_values_and_one_head(latent, judge):
    assert judge(latent).ids == {"DESC-017"}


def test_latent_keys_have_one_head(latent, judge):
    latent.put("scale", np.ones((2, 1), np.float32), K0)
    assert judge(latent).ids == {"DESC-017", "FA-002"}


def test_heads_are_not_compared_with_a_config_that_has_none(lowbit, judge):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", fa=True)
    del draft.config["num_attention_heads"], draft.config["num_key_value_heads"]
    draft.put("scale", np.ones((5, 1), np.float32), Q0)
    assert judge(draft).ids == set()


@pytest.mark.parametrize(("tp", "said"), [(None, 0), (2, 0), (4, 0), (3, 1), (8, 1)])
def test_heads_are_a_multiple_of_the_ranks(lowbit, tmp_path, tp, said):
    draft = lowbit.make("A1", "W8A8_DYNAMIC", fa=True)
    checkpoint = open_checkpoint(draft.write(tmp_path / "x"))
    context = Context(checkpoint, checkpoint, "whole", "A1", tp=tp)
    findings = list(heads_are_shared_evenly(context))
    assert [finding.requirement for finding in findings] == ["FA-005"] * said
