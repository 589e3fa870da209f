"""Each rule of RED and TP-008 trips on the defect it is about, and alone; NF4-001 too."""

import numpy as np
import pytest

DOWN0 = "model.layers.0.mlp.down_proj"
RANKS = 4


def reduced(draft):
    """down_proj of layer 0 as simulate_tp leaves it, here of the type W8A8_DYNAMIC."""
    weight = draft.tensors[f"{DOWN0}.weight"]
    weight[:, :: 64 // RANKS] = 127
    own = {s: draft.tensors[f"{DOWN0}.{s}"] for s in ("weight_scale", "weight_offset")}
    draft.drop(*(f"{DOWN0}.{suffix}" for suffix in own))
    for i, shard in enumerate(np.split(weight, RANKS, axis=1)):
        for suffix, array in {"weight": shard, **own}.items():
            draft.add(f"{DOWN0}.tp_list.{i}.{suffix}", array, "W8A8_DYNAMIC")
        draft.add(f"{DOWN0}.reduce_scale.{i}", np.ones(32, np.float16), "W8A8_DYNAMIC")
    draft.add(f"{DOWN0}.gather_scale", np.ones(32, np.float16), "W8A8_DYNAMIC")
    draft.description["reduce_quant_type"] = "per_channel"


def edited_shard(draft):
    draft.tensors[f"{DOWN0}.tp_list.2.weight"] = np.full((32, 16), 3, np.int8)
    draft.tensors[f"{DOWN0}.tp_list.2.weight"][:, 0] = 127


def drop_shard(draft, i):
    draft.drop(*(n for n in list(draft.tensors) if n.startswith(f"{DOWN0}.tp_list.{i}.")))


CASES = {
    "no gather_scale": (
        lambda d: d.drop(f"{DOWN0}.gather_scale"),
        {"RED-001"},
    ),
    "a rank without reduce_scale": (lambda d: d.drop(f"{DOWN0}.reduce_scale.1"), {"RED-001"}),
    "reduce_scale in integers": (
        lambda d: d.put("reduce_scale.1", np.ones(32, np.int8), DOWN0),
        {"RED-001"},
    ),
    "another shard": (edited_shard, {"RED-002"}),
    "a shard less": (
        lambda d: drop_shard(d, 1) or d.drop(f"{DOWN0}.reduce_scale.3"),
        {"RED-003"},
    ),
    "a shard of another size": (
        lambda d: d.put("tp_list.1.weight", d.tensors[f"{DOWN0}.tp_list.1.weight"][:, :8], DOWN0),
        {"RED-003"},
    ),
    "no shards": (lambda d: [drop_shard(d, i) for i in range(RANKS)], {"RED-003"}),
    "gather_scale too short": (
        lambda d: d.put("gather_scale", np.ones(31, np.float16), DOWN0),
        {"TP-008"},
    ),
    "reduce_scale of one element": (
        lambda d: d.put("reduce_scale.1", np.ones(1, np.float16), DOWN0),
        {"TP-008"},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    change, expected = CASES[case]
    draft = builders.make("A0", "W8A8_DYNAMIC")
    reduced(draft)
    change(draft)
    assert judge(draft).ids == expected


def test_communication_quantization_is_valid(builders, judge):
    draft = builders.make("A0", "W8A8_DYNAMIC")
    reduced(draft)
    assert judge(draft).ids == set()


def test_one_reduce_scale_for_all_ranks_is_valid(builders, judge):
    draft = builders.make("A0", "W8A8_DYNAMIC")
    reduced(draft)
    draft.drop(*(f"{DOWN0}.reduce_scale.{i}" for i in range(RANKS)))
    draft.add(f"{DOWN0}.reduce_scale", np.ones(32, np.float16), "W8A8_DYNAMIC")
    assert judge(draft).ids == set()


def plain_shards(draft):
    """As simulate_tp leaves it without communication quantization."""
    reduced(draft)
    draft.drop(f"{DOWN0}.gather_scale", *(f"{DOWN0}.reduce_scale.{i}" for i in range(RANKS)))
    del draft.description["reduce_quant_type"]


@pytest.mark.parametrize("profile", ["A0", "L0"])
def test_shards_without_scales_of_sums_are_valid(builders, judge, profile):
    draft = builders.make(profile, "W8A8_DYNAMIC")
    plain_shards(draft)
    assert judge(draft).ids == set()


@pytest.mark.parametrize("label", ["W8A8_DYNAMIC", "FLOAT"])
def test_first_shard_may_have_the_bias(builders, judge, label):
    draft = builders.make("A0", "W8A8_DYNAMIC")
    reduced(draft)
    draft.add(f"{DOWN0}.tp_list.0.bias", np.ones(32, np.float16), label)
    assert judge(draft).ids == set()


def test_bias_of_a_whole_linear_stays_float(builders, judge):
    draft = builders.make("A0", "W8A8_DYNAMIC")
    reduced(draft)
    draft.add("model.layers.1.mlp.down_proj.bias", np.ones(32, np.float16), "W8A8_DYNAMIC")
    assert judge(draft).ids == {"DESC-022"}


def test_shards_without_scales_of_sums_are_judged(builders, judge):
    for change, expected in ((edited_shard, "RED-002"), (lambda d: drop_shard(d, 1), "RED-003")):
        draft = builders.make("A0", "W8A8_DYNAMIC")
        plain_shards(draft)
        change(draft)
        assert judge(draft).ids == {expected}


@pytest.mark.parametrize("where", ["description", "config"])
def test_engine_must_be_told(builders, judge, where):
    draft = builders.make("L0", "W8A8_DYNAMIC")
    reduced(draft)
    stated = draft.description.pop("reduce_quant_type")
    assert judge(draft).ids == {"RED-004"}
    if where == "config":
        draft.config["quantization_config"] = {"reduce_quant_type": stated}
    else:
        draft.description["reduce_quant_type"] = stated
    assert judge(draft).ids == set()


def test_nf4_cannot_be_read_back(builders, judge):
    draft = builders.make("A0", "W8A8_DYNAMIC")
    for leaf in ("gate_proj", "up_proj"):
        module = f"model.layers.0.mlp.{leaf}"
        draft.drop(f"{module}.weight_scale", f"{module}.weight_offset")
        draft.put("weight", np.zeros(1024, np.uint8), module)
        draft.description[f"{module}.weight"] = "NF4"
    verdict = judge(draft)
    assert verdict.ids == verdict.must == {"NF4-001"}
    assert verdict.one("NF4-001").pattern == "model.layers.0.mlp.{gate,up}_proj.weight"
