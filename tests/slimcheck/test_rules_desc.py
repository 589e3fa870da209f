"""Each rule of DESC trips on the defect it is about, and alone."""

import json

import numpy as np
import pytest

Q0 = "model.layers.0.self_attn.q_proj"
K0 = "model.layers.0.self_attn.k_proj"
NORM = "model.layers.0.input_layernorm"
A1 = {"profile": "A1"}
A0 = {"profile": "A0"}
L0 = {"profile": "L0"}
MIX = {"profile": "A0", "type_": "W8A8_MIX"}
GROUPS = {"profile": "A1", "group": 16}
SC = {"profile": "SC", "type_": "W8A8SC"}
EXPERTS = {"profile": "A1", "experts": 3}
EXPERT = "model.layers.1.mlp.experts"


def says(**members):
    return lambda d: d.description.update(members)


def lacks(*keys):
    def change(draft):
        for key in keys:
            del draft.description[key]

    return change


def raw(change):
    """Change the text of the description."""

    def apply(draft):
        draft.text = change(json.dumps(draft.description))

    return apply


def kv_scales(*, described=("kv_cache_type", "kv_quant_type")):
    def change(draft):
        for layer in range(2):
            for leaf in ("k_proj", "v_proj"):
                prefix = f"model.layers.{layer}.self_attn.{leaf}."
                draft.add(prefix + "kv_cache_scale", np.ones(16, np.float16), "C8")
                draft.add(prefix + "kv_cache_offset", np.zeros(16, np.float16), "C8")
        draft.description.update(dict.fromkeys(described, "C8"))

    return change


def fa_scales(letters="qkv", **members):
    def change(draft):
        for letter in letters:
            prefix = f"model.layers.0.self_attn.fa_{letter}."
            draft.add(prefix + "scale", np.ones((4, 1), np.float32), "FAQuant")
            draft.add(prefix + "offset", np.zeros((4, 1), np.int8), "FAQuant")
        draft.description.update(members)

    return change


def reduce_scales(draft):
    for suffix in ("gather_scale", "reduce_scale"):
        draft.add(f"{Q0}.{suffix}", np.ones(32, np.float16), "W8A8_DYNAMIC")


def without_expert(draft):
    for name in list(draft.tensors):
        if name.startswith(f"{EXPERT}.1."):
            draft.drop(name)


def typed(text):
    return says(**{"model.layers.0.self_attn.quant_type": text})


CASES = {
    "byte order mark": (A1, raw(lambda t: "\ufeff" + t), {"DESC-001"}),
    "a list": (A1, raw(lambda t: f"[{t}]"), {"DESC-001"}),
    "a key twice": (A1, raw(lambda t: t[:-1] + f', "{Q0}.weight": "W8A8_DYNAMIC"}}'), {"DESC-001"}),
    "an empty key": (A1, says(**{"": "FLOAT"}), {"DESC-001"}),
    "no model type": (A1, lacks("model_quant_type"), {"DESC-002"}),
    "model type a number": (A1, says(model_quant_type=8), {"DESC-002"}),
    "model type a list": (A1, says(model_quant_type=["W8A8"]), {"DESC-002"}),
    "model type null": (A1, says(model_quant_type=None), {"DESC-002"}),
    "model type UNKNOWN": (A1, says(model_quant_type="UNKNOWN"), {"DESC-002"}),
    "model type in lower case": (A1, says(model_quant_type="w8a8"), {"DESC-002"}),
    "model type of a tensor": (A1, says(model_quant_type="C8"), {"DESC-002"}),
    "model type Unknown": (A1, says(model_quant_type="Unknown"), {"DESC-003"}),
    "version v1": (A1, says(version="v1"), {"DESC-004"}),
    "version a number": (A1, says(version=1.0), {"DESC-004"}),
    "version with major 0": (A1, says(version="0.1.0"), {"DESC-004"}),
    "version 2": (A0, says(version="2.0.0"), {"DESC-005"}),
    "version of the legacy tool": (L0, says(version="1.0.0"), {"DESC-006"}),
    "label with a typing error": (
        A1,
        says(**{f"{NORM}.weight": "FLOAAT"}),
        {"DESC-007"},
    ),
    "label a number": (A1, says(**{f"{NORM}.weight": 16}), {"DESC-007"}),
    "label null": (A1, says(**{f"{NORM}.weight": None}), {"DESC-007"}),
    "metadata a string": (A1, says(metadata="{}"), {"DESC-007"}),
    "optional a list": (A1, says(optional=[]), {"DESC-007"}),
    "group size a string": (A1, says(group_size="256"), {"DESC-008"}),
    "group size negative": (A1, says(group_size=-1), {"DESC-008"}),
    "group size true": (A1, says(group_size=True), {"DESC-008"}),
    "group size null": (A1, says(group_size=None), {"DESC-008"}),
    "no optional": (A1, lacks("optional"), {"DESC-009"}),
    "no group size": (A1, lacks("group_size"), {"DESC-009"}),
    "group size 0 of the older tool": (A0, says(group_size=0), {"DESC-010"}),
    "group size of the legacy tool": (L0, says(group_size=0), {"DESC-011"}),
    "group size without groups": (A1, says(group_size=64), {"DESC-012"}),
    "kv scales without types": (A1, kv_scales(described=()), {"DESC-013"}),
    "kv scales with one type": (A1, kv_scales(described=["kv_quant_type"]), {"DESC-013"}),
    "kv types without scales": (
        A1,
        says(kv_cache_type="C8", kv_quant_type="C8"),
        {"DESC-013"},
    ),
    "kv type as documented": (A1, says(kv_cache_type="KV8"), {"DESC-014"}),
    "kv type a list": (A1, says(kv_cache_type=["C8"]), {"DESC-014"}),
    "kv and attention types": (
        A0,
        lambda d: (kv_scales()(d), fa_scales(fa_quant_type="FAKQuant")(d)),
        {"DESC-015"},
    ),
    "a null": (A1, says(kv_quant_type=None, fa_quant_type=None), {"DESC-016"}),
    "attention type of the older tool": (
        A1,
        fa_scales(fa_quant_type="FAQuant"),
        {"DESC-017"},
    ),
    "attention scales without a type": (A1, fa_scales(), {"DESC-018"}),
    "attention type without scales": (A1, says(fa_quant_type="FAKQuant"), {"DESC-018"}),
    "reduce scales without a type": (A0, reduce_scales, {"DESC-019"}),
    "tensor without an entry": (A1, lacks(f"{NORM}.weight"), {"DESC-020", "DESC-025"}),
    "weight without an entry": (A1, lacks(f"{Q0}.weight"), {"DESC-020", "DESC-035"}),
    "scale without an entry": (A1, lacks(f"{Q0}.weight_scale"), {"DESC-020"}),
    "entry without a tensor": (A1, says(**{"visual.proj.weight": "FLOAT"}), {"DESC-021"}),
    "companion described, not stored": (
        A1,
        lambda d: d.tensors.pop(f"{Q0}.weight_scale"),
        {"DESC-021"},
    ),
    "weight described, not stored": (A1, lambda d: d.tensors.pop(f"{Q0}.weight"), {"DESC-021"}),
    "two labels in one linear": (
        A1,
        says(**{f"{Q0}.weight_scale": "W8A16"}),
        {"DESC-022"},
    ),
    "float label in one linear": (
        A1,
        says(**{f"{Q0}.weight_scale": "FLOAT"}),
        {"DESC-022"},
    ),
    "quantized label on a bias": (A1, says(**{f"{Q0}.bias": "W8A8_DYNAMIC"}), {"DESC-022"}),
    "float weight beside scales": (
        A1,
        says(**{f"{Q0}.weight": "FLOAT"}),
        {"DESC-022", "NUM-005", "PACK-002"},  # one of q, k and v
    ),
    "no weight_scale": (A1, lambda d: d.drop(f"{Q0}.weight_scale"), {"DESC-023"}),
    "no weight": (A1, lambda d: d.drop(f"{Q0}.weight"), {"DESC-023", "DESC-035"}),
    "no deq_scale": (MIX, lambda d: d.drop(f"{Q0}.deq_scale"), {"DESC-023"}),
    "two numbers in a layer key": (
        A1,
        says(
            indexer_quant_type="INT8_DYNAMIC",
            **{"model.layers.0.blocks.1.indexer.quant_type": "INT8_DYNAMIC"},
        ),
        {"DESC-024"},
    ),
    "norm bias described, not stored": (
        A1,
        says(**{f"{NORM}.bias": "FLOAT"}),
        {"DESC-021", "NORM-004"},
    ),
    "prefix of a metadata key": (
        A1,
        lambda d: d.description.update({"thinker.version": d.description.pop("version")}),
        {"DESC-026"},
    ),
    "layer type without form": (A1, typed("INT4"), {"DESC-027"}),
    "layer type with a stray letter": (A1, typed("Q_INT8_"), {"DESC-027"}),
    "static layer type without scales": (A1, typed("KV_INT8"), {"DESC-027"}),
    "dynamic layer type with scales": (
        A1,
        lambda d: (fa_scales(fa_quant_type="FAKQuant")(d), typed("FP8_DYNAMIC")(d)),
        {"DESC-027"},
    ),
    "float label of a wrapper": (A1, says(**{f"{NORM}.weight": "FLOAT_FLATQUANT"}), {"DESC-028"}),
    "parts of another model type": (SC, says(model_quant_type="W8A8S"), {"DESC-029"}),
    "stream without info": (SC, lambda d: d.drop(f"{Q0}.info"), {"DESC-029"}),
    "stream without weight": (SC, lambda d: d.drop(f"{Q0}.weight"), {"DESC-029", "DESC-035"}),
    "index with another label": (SC, says(**{f"{Q0}.index": "FLOAT"}), {"SC-012"}),
    "stream without deq_scale": (SC, lambda d: d.drop(f"{Q0}.deq_scale"), {"DESC-030"}),
    "deq_scale of a stream labelled FLOAT": (
        SC,
        says(**{f"{Q0}.deq_scale": "FLOAT"}),
        {"SC-012"},
    ),
    "trailing comma": (A1, raw(lambda t: t[:-1] + ",}"), {"DESC-032"}),
    "a comment": (A1, raw(lambda t: "// made by hand\n" + t), {"DESC-032"}),
    "two objects": (A1, raw(lambda t: t + t), {"DESC-032"}),
    "an expert left out": (EXPERTS, without_expert, {"DESC-034"}),
    "fewer experts than config.json says": (
        EXPERTS,
        lambda d: d.config.update(num_experts=10**15),
        {"DESC-034"},
    ),
    "a fused group without a member": (
        A1,
        lambda d: [d.drop(n) for n in list(d.tensors) if n.startswith(K0)],
        {"DESC-035"},
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make(**{"type_": "W8A8_DYNAMIC", **kwargs})
    change(draft)
    assert judge(draft).ids == expected


RIGHT = {
    "kv scales with both types": (A1, kv_scales()),
    "nulls of no consumer": (A1, says(kv_quant_type="")),
    "attention scales with a type": (A1, fa_scales(fa_quant_type="FAKQuant")),
    "static layer type with scales": (
        A1,
        lambda d: (fa_scales("kv", fa_quant_type="FAKQuant")(d), typed("Q_FP8_DYNAMIC_KV_INT8")(d)),
    ),
    "dynamic layer type": (A1, typed("FP8_DYNAMIC")),
    "indexer type": (A1, says(**{"model.layers.0.indexer.quant_type": "INT8_DYNAMIC"})),
    "label of an engine": (A1, says(model_quant_type="W8A8FP8_DYNAMIC")),
    "version 0.0.0": (SC, says(version="0.0.0")),
    "rotation without an entry": (
        A1,
        lambda d: d.tensors.update({f"{Q0}.heads_rotation": np.eye(4, dtype=np.float32)}),
    ),
    "value projection shared with the keys": (
        A1,
        lambda d: [d.drop(n) for n in list(d.tensors) if ".v_proj." in n],
    ),
    "up projection without a gate": (
        A1,
        lambda d: [d.drop(n) for n in list(d.tensors) if ".gate_proj." in n],
    ),
    "norm copies of the legacy tool": (
        L0,
        lambda d: d.add(f"{NORM}.module.weight", d.tensors[f"{NORM}.weight"], "W8A8_DYNAMIC"),
    ),
    "tied head described": (
        A1,
        lambda d: (d.tensors.pop("lm_head.weight"), d.config.update(tie_word_embeddings=True)),
    ),
}


def test_legacy_tool_writes_reduce_scales_without_a_type(builders, judge):
    draft = builders.make("L0", "W8A8_DYNAMIC")
    reduce_scales(draft)
    verdict = judge(draft)
    assert verdict.ids == {"RED-004"}  # of an engine
    assert verdict.must == set()


@pytest.mark.parametrize("case", RIGHT, ids=str)
def test_legal_irregularity_is_not_reported(builders, judge, case):
    kwargs, change = RIGHT[case]
    draft = builders.make(**{"type_": "W8A8_DYNAMIC", **kwargs})
    change(draft)
    assert judge(draft).ids == set()


def test_missing_companions_of_many_experts_are_one_pattern(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC", experts=3)
    for e in range(3):
        draft.drop(f"{EXPERT}.{e}.down_proj.weight_offset")
    group = judge(draft).one("DESC-023")
    assert group.pattern == f"{EXPERT}.{{0-2}}.down_proj.weight_offset"
    assert group.count == 3
    assert group.found == "only weight, weight_scale"
    assert group.expected == "weight_offset of W8A8_DYNAMIC"


def test_undescribed_layer_beyond_the_model_is_called_by_its_name(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.tensors["model.layers.2.eh_proj.weight"] = np.ones((8, 8), np.float16)
    found = judge(draft).one("DESC-020").found
    assert found == "F16 tensor without an entry (layer 2 of 2 is a multi-token-prediction layer)"


@pytest.mark.parametrize(
    ("old", "new"), [("model.", "language_model.model."), ("lm_head", "thinker.lm_head")]
)
def test_prefix_that_only_the_tensors_have_is_shown(builders, judge, old, new):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.tensors = {
        new + name.removeprefix(old) if name.startswith(old) else name: array
        for name, array in draft.tensors.items()
    }
    verdict = judge(draft)
    assert {"DESC-020", "DESC-021"} <= verdict.ids <= {"DESC-020", "DESC-021", "DESC-025"}
    found = verdict.results["DESC-021"].groups[0].found
    assert f"; {new}" in found


@pytest.mark.parametrize("label", ["norm", "reduce", "rotation", "UNKNOWN", "Unknown", "FAKQuant"])
def test_word_that_is_no_label_of_a_tensor(builders, judge, label):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.description[f"{NORM}.weight"] = label
    assert judge(draft).ids == {"DESC-007"}


def test_unknown_label_has_a_suggestion(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.description[f"{NORM}.weight"] = "W8A8_DYNAMC"
    assert judge(draft).one("DESC-007").expected == "a known label, perhaps W8A8_DYNAMIC"


def test_outdim_is_asked_for_compressed_float_weights(builders, judge):
    draft = builders.make("SC", "W16A16SC")
    assert judge(draft).ids == set()
    del draft.description[f"{Q0}.weight.outdim"]
    verdict = judge(draft, consumers=("mindie",))
    assert verdict.must == {"DESC-031"}
    draft.description[f"{Q0}.weight.outdim"] = 0
    assert "DESC-031" in judge(draft).ids


def test_indexes_of_sharded_state_have_no_entries(builders, judge):
    draft = builders.make("SC", "W8A8SC")
    draft.profile = "SH310"
    for name in list(draft.description):
        if name.endswith((".index", ".info")) and not name.startswith(Q0):
            del draft.description[name]
    verdict = judge(draft)
    assert verdict.ids == {"DESC-033"}
    assert sum(group.count for group in verdict.results["DESC-033"].groups) == 2
