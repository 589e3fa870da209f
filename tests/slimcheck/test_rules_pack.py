"""Each rule of PACK trips on the defect it is about, and alone."""

import numpy as np
import pytest

from slimcheck.context import Context
from slimcheck.packed import packing
from slimspec.checkpoint import open_checkpoint

ATTENTION = "model.layers.0.self_attn"
Q0, K0, V0 = (f"{ATTENTION}.{leaf}_proj" for leaf in "qkv")
GATE0, UP0 = "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"
EXPERT = "model.layers.1.mlp.experts"
PAIR = ("weight_scale", "weight_offset")
VLLM = ("vllm-ascend",)


def make_float(draft, *modules):
    for module in modules:
        n, k = draft.tensors[f"{module}.weight"].shape
        draft.drop(*(n for n in list(draft.tensors) if n.startswith(f"{module}.")))
        draft.add(f"{module}.weight", np.ones((n, k), np.float16), "FLOAT")


def as_weight_only(draft, module):
    """A valid linear of the type W8A16."""
    draft.relabel(module, "W8A16")
    draft.add(f"{module}.weight", draft.tensors[f"{module}.weight"], "W8A16")


def narrow(draft, module, columns):
    draft.put("weight", draft.tensors[f"{module}.weight"][:, :columns], module)


def shorter(draft, module, rows):
    for suffix in ("weight", *PAIR):
        draft.put(suffix, draft.tensors[f"{module}.{suffix}"][:rows], module)


def regrouped(draft):
    """gate_proj in groups of 8, up_proj in groups of 16."""
    for suffix in PAIR:
        name = f"{GATE0}.{suffix}"
        draft.tensors[name] = np.repeat(draft.tensors[name], 2, axis=1)


def latent(draft, labels):
    for leaf, label in zip(("q_a_proj", "kv_a_proj_with_mqa"), labels, strict=True):
        module = f"{ATTENTION}.{leaf}"
        for suffix in ("weight", *PAIR):
            turned = draft.tensors[f"{Q0}.{suffix}"][:: 1 if leaf == "q_a_proj" else -1] + 0
            draft.add(f"{module}.{suffix}", np.roll(turned, 1, axis=0), label)  # no duplicate
        if label == "FLOAT":
            make_float(draft, module)


def as_numbered(draft, roles):
    """Experts of layer 1 under the names w1, w2, w3."""
    draft.config["model_type"] = "minimax_m2"
    for name in [n for n in draft.tensors if f"{EXPERT}." in n]:
        for leaf, number in roles.items():
            if f".{leaf}." in name:
                array, label = draft.tensors[name], draft.description[name]
                draft.drop(name)
                draft.add(name.replace(leaf, number), array, label)


CASES = {
    "two quantized types": ({}, lambda d: as_weight_only(d, K0), {"PACK-001"}),
    "one member float": ({}, lambda d: make_float(d, K0), {"PACK-002"}),
    "both": ({}, lambda d: as_weight_only(d, V0) or make_float(d, K0), {"PACK-001", "PACK-002"}),
    "other columns": ({}, lambda d: narrow(d, K0, 16), {"PACK-005"}),
    "other groups": ({"group": 16}, regrouped, {"PACK-005"}),
    "up shorter than gate": ({}, lambda d: shorter(d, UP0, 32), {"PACK-006"}),
    "latent projections of two types": (
        {},
        lambda d: latent(d, ("W8A8_DYNAMIC", "W8A16")),
        {"PACK-008"},
    ),
    "one latent projection float": (
        {},
        lambda d: latent(d, ("W8A8_DYNAMIC", "FLOAT")),
        {"PACK-008"},
    ),
    "an expert of another type": (
        {"experts": 3},
        lambda d: [as_weight_only(d, f"{EXPERT}.2.{leaf}_proj") for leaf in ("gate", "up", "down")],
        {"PACK-009"},
    ),
    "a projection of the first expert of another type": (
        {"experts": 3},
        lambda d: as_weight_only(d, f"{EXPERT}.0.down_proj"),
        {"PACK-001", "PACK-009"},  # the first stands for the fused experts
    ),
    "an expert of another size": (
        {"experts": 3, "type_": "W8A16"},
        lambda d: shorter(d, f"{EXPERT}.2.up_proj", 32),
        {"PACK-009"},
    ),
    "gate under the name of down": (
        {"experts": 3, "type_": "W8A16"},
        lambda d: as_numbered(d, {"gate_proj": "w1", "up_proj": "w2", "down_proj": "w3"}),
        {"PACK-007", "PACK-005"},  # w3 reads other columns than w1
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make("A1", **{"type_": "W8A8_DYNAMIC", **kwargs})
    change(draft)
    assert judge(draft).ids == expected


def test_mixture_is_named_and_only_stops_the_engines_that_fuse(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    make_float(draft, K0)
    verdict = judge(draft)
    assert verdict.must == set()
    group = verdict.one("PACK-002")
    assert group.found == "q_proj W8A8_DYNAMIC, k_proj FLOAT, v_proj W8A8_DYNAMIC"
    assert group.tensors == [f"{module}.weight" for module in (Q0, K0, V0)]
    assert judge(draft, consumers=VLLM).must == {"PACK-002"}


def test_whole_group_may_stay_float(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    make_float(draft, Q0, K0, V0)
    assert judge(draft).ids == set()


def test_inputs_of_a_fused_group_are_equal(builders, judge):
    draft = builders.make("A1", "W8A8")
    draft.tensors[f"{K0}.input_scale"] = draft.tensors[f"{K0}.input_scale"] * np.float32(1.01)
    verdict = judge(draft, consumers=("mindie",))
    assert verdict.ids == verdict.must == {"PACK-003"}
    assert verdict.one("PACK-003").found.startswith("q_proj 0.0")
    assert judge(draft, level="layout").ids == set()


def test_last_bit_of_an_input_scale_may_differ(builders, judge):
    draft = builders.make("A1", "W8A8")
    scale = draft.tensors[f"{K0}.input_scale"]
    draft.tensors[f"{K0}.input_scale"] = np.nextafter(scale, np.float32(1))
    assert judge(draft).ids == set()


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_scale_that_is_none_is_not_compared(builders, judge, value):
    draft = builders.make("A1", "W8A8")
    draft.edit("input_scale", 0, value, K0)
    assert judge(draft).ids == {"W8A8-004"}


HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, set()),
        ({"num_attention_heads": 8}, {"PACK-004"}),
        ({"num_key_value_heads": 4}, {"PACK-004"}),
        ({"head_dim": 16}, {"PACK-004"}),
        ({"head_dim": None, "hidden_size": 32}, set()),
        ({"head_dim": None, "hidden_size": 64}, {"PACK-004"}),
        ({"head_dim": None}, set()),  # config.json does not say
        ({"num_attention_heads": "4"}, set()),
        ({"model_type": "gemma4", "head_dim": 16}, set()),  # its heads differ by layer
        ({"model_type": "qwen3_next"}, {"PACK-004"}),  # q_proj also makes a gate
        ({"model_type": "qwen3_next", "num_attention_heads": 2}, set()),
    ],
)
def test_rows_are_those_of_the_heads(builders, judge, change, expected):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.config |= HEADS | change
    assert judge(draft).ids == expected


def test_rows_of_one_projection_are_named(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.config |= HEADS
    shorter(draft, K0, 8)
    group = judge(draft).one("PACK-004")
    assert (group.found, group.expected) == ("8 rows", "16, as config.json has it")
    assert group.pattern == f"{K0}.weight"


def test_names_w1_w2_w3_in_their_roles_are_valid(builders, judge):
    draft = builders.make("A1", "W8A16", experts=2)
    as_numbered(draft, {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"})
    assert judge(draft).ids == set()


def test_latent_projections_are_fused_where_the_model_fuses_them(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    latent(draft, ("W8A8_DYNAMIC", "W8A16"))
    draft.config["model_type"] = "qwen3_moe"
    assert judge(draft).ids == set()
    draft.config["model_type"] = "deepseek_v3"
    assert judge(draft).ids == {"PACK-008"}


@pytest.mark.parametrize(
    ("model_type", "fused"),
    [
        ("deepseek_v3", {"gate_up_proj", "experts", "fused_qkv_a_proj"}),
        ("qwen3_moe", {"qkv_proj", "gate_up_proj", "experts"}),
        ("minimax_m2", {"qkv_proj", "experts"}),
        ("llama", {"qkv_proj", "gate_up_proj", "experts", "fused_qkv_a_proj"}),
        (None, {"qkv_proj", "gate_up_proj", "experts", "fused_qkv_a_proj"}),
    ],
)
def test_packing_is_that_of_the_model(builders, tmp_path, model_type, fused):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.config["model_type"] = model_type
    checkpoint = open_checkpoint(draft.write(tmp_path / "x"))
    context = Context(checkpoint, checkpoint, "whole", "A1")
    assert {group.fused for group in packing(context).groups} == fused
