"""Names of whole models: known layouts are silent, a lost or misplaced part is named."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck.rules.desc_model import _holders

MINE = {"DESC-036", "DESC-037", "DESC-038", "DESC-039"}
MODEL, HEAD, EMBEDDING, NORM = (
    "model.",
    "lm_head.",
    "model.embed_tokens.weight",
    "model.norm.weight",
)
UNTIED = {"tie_word_embeddings": False}


def renamed(draft, *pairs):
    """Give every name that begins with the first of a pair the second instead."""

    def new(name):
        for old, other in pairs:
            if name.startswith(old):
                return other + name.removeprefix(old)
        return name

    draft.tensors = {new(name): array for name, array in draft.tensors.items()}
    draft.description = {new(name): label for name, label in draft.description.items()}
    return draft


def floats(draft, *names):
    for name in names:
        draft.add(name, np.ones(32, np.float16), "FLOAT")
    return draft


@pytest.fixture
def draft(builders):
    made = builders.make("A1", "W8A8_DYNAMIC")
    made.config |= UNTIED
    return made


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        [(MODEL, "model.language_model.")],
        [(MODEL, "language_model.model."), (HEAD, "language_model.lm_head.")],
        [(MODEL, "thinker.model."), (HEAD, "thinker.lm_head.")],
        [(MODEL, "model.decoder.")],
        [(MODEL, "")],
        [(HEAD, "score.")],
        [(NORM, "model.final_layernorm.weight")],
        [(EMBEDDING, "model.word_embeddings.weight")],
    ],
    ids=lambda pairs: " ".join(new for _, new in pairs) or "as it is",
)
def test_known_layout_is_silent(draft, judge, pairs):
    assert not judge(renamed(draft, *pairs)).ids & MINE


@pytest.mark.parametrize(
    "names",
    [
        ["model.visual.blocks.0.norm1.weight", "model.visual.pos_embed.weight"],
        ["audio_tower.layers.0.self_attn_layer_norm.weight", "audio_tower.embed_positions.weight"],
        ["mtp.fc.weight", "mtp.layers.0.input_layernorm.weight", "mtp.embed_tokens.weight"],
        ["model.layers.2.embed_tokens.weight", "model.layers.2.shared_head.head.weight"],
        ["talker.lm_head.weight", "talker.model.layers.0.input_layernorm.weight"],
    ],
)
def test_another_model_beside_it_is_silent(draft, judge, names):
    assert not judge(floats(draft, *names)).ids & MINE


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (HEAD, "language_model.lm_head.", "a list of layers below what holds it"),
        (EMBEDDING, "embed_tokens.weight", "a list of layers beside it"),
        (EMBEDDING, "model.layers.embed_tokens.weight", "a list of layers beside it"),
    ],
)
def test_prefix_of_its_own(draft, judge, old, new, expected):
    verdict = judge(renamed(draft, (old, new)))
    assert verdict.ids & MINE == {"DESC-036"}
    assert verdict.one("DESC-036").expected == expected
    assert verdict.one("DESC-036").found == "no layers there, they are in model.layers"
    assert not verdict.must


def test_names_of_parts_are_those_of_the_engine(builders, judge):
    draft = renamed(builders.make("SC", "W8A8SC"), ("model.layers.", "transformer.h."))
    assert not judge(draft).ids & MINE


@pytest.mark.parametrize(
    ("config", "stored", "expected"),
    [
        ({"num_nextn_predict_layers": 1}, (), {"DESC-037"}),
        ({"text_config": {"mtp_num_hidden_layers": 1}}, (), {"DESC-037"}),
        ({"num_nextn_predict_layers": 0}, (), set()),
        ({"num_nextn_predict_layers": True}, (), set()),
        ({"num_nextn_predict_layers": "1"}, (), set()),
        ({"num_nextn_predict_layers": 1}, ("model.layers.2.eh_proj.weight",), set()),
        ({"num_nextn_predict_layers": 1}, ("model.layers.2.weight",), set()),
        ({"num_nextn_predict_layers": 1}, ("mtp.norm.weight",), set()),
        ({"num_nextn_predict_layers": 1}, ("model.mtp_layers.0.norm.weight",), set()),
        ({"num_nextn_predict_layers": 1}, ("model.nextn.norm.weight",), set()),
        ({"num_nextn_predict_layers": 1}, ("model.empty.norm.weight",), {"DESC-037"}),
        ({"num_nextn_predict_layers": 1, "num_hidden_layers": None}, (), set()),
    ],
)
def test_prediction_layers(draft, judge, config, stored, expected):
    draft.config |= config
    assert judge(floats(draft, *stored)).ids & MINE == expected


@pytest.mark.parametrize("name", [EMBEDDING, NORM, "lm_head.weight"])
def test_lost_part_of_a_decoder(draft, judge, name):
    draft.drop(name)
    verdict = judge(draft)
    assert verdict.ids & MINE == {"DESC-038"}
    assert verdict.one("DESC-038").pattern == name
    assert not verdict.must


@pytest.mark.parametrize(
    "tied",
    [{"tie_word_embeddings": True}, {"tie_word_embeddings": None}, {}, {"text_config": UNTIED}],
)
def test_head_is_asked_for_where_config_unties_it(draft, judge, tied):
    del draft.config["tie_word_embeddings"]
    draft.config |= tied
    draft.drop("lm_head.weight")
    assert judge(draft).ids & MINE == ({"DESC-038"} if "text_config" in tied else set())


def test_levels_that_contradict_each_other_do_not_untie(draft, judge):
    draft.config["text_config"] = {"tie_word_embeddings": True}
    draft.drop("lm_head.weight")
    assert not judge(draft).ids & MINE


def test_base_model_without_a_prefix_has_no_head(draft, judge):
    draft.drop("lm_head.weight")
    assert not judge(renamed(draft, (MODEL, ""))).ids & MINE


def test_draft_borrows_from_its_model(draft, judge):
    draft.drop(EMBEDDING, NORM, "lm_head.weight")
    assert not judge(floats(draft, "model.fc.weight")).ids & MINE


def test_other_architectures_are_not_judged(draft, judge):
    draft.drop(EMBEDDING, NORM, "lm_head.weight")
    draft.tensors = {n.replace("self_attn", "attention"): a for n, a in draft.tensors.items()}
    draft.description = {
        n.replace("self_attn", "attention"): a for n, a in draft.description.items()
    }
    assert "DESC-038" not in judge(draft).ids


def test_what_is_described_but_not_stored_is_named_once(draft, judge):
    del draft.tensors[EMBEDDING]
    assert judge(draft).ids & (MINE | {"DESC-021"}) == {"DESC-021"}


@pytest.mark.parametrize(
    ("type_", "stated", "expected"),
    [
        ("W8A8_DYNAMIC", "W8A8_DYNAMIC", None),
        ("W8A8_DYNAMIC", "FLOAT", "W8A8_DYNAMIC"),
        ("W8A8_DYNAMIC", "W8A8", "W8A8_DYNAMIC"),
        ("W8A8_DYNAMIC", "W8A8_FLATQUANT_DYNAMIC", None),
        ("W8A8_DYNAMIC", "Unknown", None),
        ("W8A8_DYNAMIC", "W8A8FP8_DYNAMIC", None),
        ("W8A8_MIX", "W8A8", "W8A8_MIX"),
    ],
)
def test_type_of_the_model(builders, judge, type_, stated, expected):
    draft = builders.make("A1", type_)
    draft.description["model_quant_type"] = stated
    verdict = judge(draft)
    assert ("DESC-039" in verdict.ids) == (expected is not None)
    if expected:
        assert verdict.one("DESC-039").found == f"model_quant_type '{stated}'"
        assert verdict.one("DESC-039").expected == expected


def test_mixed_model_may_be_called_after_any_of_its_types(draft, judge):
    draft.description["model.layers.0.self_attn.q_proj.weight"] = "W8A8"
    draft.description["model_quant_type"] = "W8A8"
    assert "DESC-039" not in judge(draft).ids


def test_float_model_is_called_float(draft, judge):
    for name in draft.description.keys() & draft.tensors.keys():
        draft.description[name] = "FLOAT"
    assert judge(draft).one("DESC-039").expected == "FLOAT"
    draft.description["model_quant_type"] = "FLOAT"
    assert "DESC-039" not in judge(draft).ids


def test_many_lost_heads_are_one_group(draft, judge):
    names = [f"lost{i}.{leaf}.weight" for i in range(50) for leaf in ("lm_head", "embed_tokens")]
    groups = judge(floats(draft, *names)).results["DESC-036"].groups
    assert sorted((group.kind, len(group.tensors)) for group in groups) == [
        ("embed_tokens", 50),
        ("lm_head", 50),
    ]


PARTS = st.lists(st.sampled_from(["a", "b", "0", "12", "0a"]), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PARTS, PARTS, st.booleans())
def test_what_holds_a_numbered_list(module, parent, directly):
    name, start = ".".join(module), ".".join(parent)
    between = r"[^.]+" if directly else r".+?"
    for place, lead in ((start, re.escape(start) + r"\."), ("", "")):
        held = re.match(rf"{lead}{between}\.\d+(?:\.|$)", name) is not None
        assert (place in _holders(name, directly)) == held
