"""Recipes: the data, its refusals, the resolved types, and whole directories."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck.run import run
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.golden.tiny_models import write_float
from slimspec.layout import vocabulary
from slimspec.numeric import as_float32
from slimspec.pipeline import recipe as recipes
from slimspec.pipeline.dequantize import dequantize_directory
from slimspec.pipeline.quantize import Plan, assign, open_float, quantize_directory
from slimspec.pipeline.recipe import Recipe, Rule, model_quant_type

RANGES = {"*": (-4.0, 4.0)}
DEEPSEEK = {"num_hidden_layers": 61, "num_nextn_predict_layers": 1}
ORACLE = Path(os.environ.get("SLIMSPEC_ORACLE", Path(__file__).parents[3] / "shared" / "oracle"))


def raw(**changes: Any) -> dict[str, Any]:
    value = {
        "$schema": "recipe.schema.json",
        "name": "mine",
        "title": "Mine",
        "producer": "A1",
        "rules": [{"match": "*", "type": "W8A8_DYNAMIC"}],
    }
    return {**value, **changes}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_loads_under_its_name_and_cites_its_source(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipe.source
    assert recipes.describe(recipe).count("\n") == len(recipe.rules) - 1


@pytest.mark.parametrize("name", recipes.names())
def test_embeddings_head_and_router_stay_float_in_every_recipe(name: str) -> None:
    recipe = recipes.load(name).bind(DEEPSEEK)
    for module in ("lm_head", "model.embed_tokens"):
        assert recipe.resolve(module).type == "FLOAT"
    if recipe.resolve("model.layers.3.mlp.experts.0.up_proj").type != "FLOAT" and (
        "deepseek" in name or "moe" in name
    ):
        assert recipe.resolve("model.layers.3.mlp.gate").type == "FLOAT"


@pytest.mark.parametrize("name", ["deepseek-r1-w4a8", "deepseek-r1-w4a8-per-channel"])
@pytest.mark.parametrize(
    ("module", "label"),
    [
        ("model.layers.0.self_attn.q_a_proj", "W8A8"),
        ("model.layers.60.self_attn.o_proj", "W8A8"),
        ("model.layers.60.self_attn.kv_b_proj", "FLOAT"),
        ("model.layers.2.mlp.down_proj", "W8A8_DYNAMIC"),
        ("model.layers.3.mlp.shared_experts.up_proj", "W8A8_DYNAMIC"),
        ("model.layers.3.mlp.experts.255.gate_proj", "W4A8_DYNAMIC"),
        ("model.layers.3.mlp.gate", "FLOAT"),
        ("model.layers.61.mlp.experts.0.gate_proj", "W8A8_DYNAMIC"),
        ("model.layers.61.self_attn.o_proj", "W8A8_DYNAMIC"),
        ("model.layers.61.self_attn.kv_b_proj", "FLOAT"),
        ("model.layers.61.shared_head.head", "FLOAT"),
        ("model.layers.61.eh_proj", "FLOAT"),
        ("model.layers.6.mlp.experts.1.up_proj", "W4A8_DYNAMIC"),
    ],
)
def test_deepseek_r1_gets_the_published_mix(name: str, module: str, label: str) -> None:
    rule = recipes.load(name).bind(DEEPSEEK).resolve(module)
    assert rule.type == label
    grouped = label == "W4A8_DYNAMIC" and name == "deepseek-r1-w4a8"
    assert dict(rule.options) == ({"group_size": 256} if grouped else {})


def test_without_prediction_layers_their_rules_go() -> None:
    recipe = recipes.load("deepseek-r1-w4a8").bind({"num_hidden_layers": 61})
    assert not any("{mtp}" in rule.match for rule in recipe.rules)
    assert recipe.resolve("model.layers.61.self_attn.o_proj").type == "W8A8"


@pytest.mark.parametrize("count", [True, "1", -1, 10**9, None, 2.0])
def test_a_strange_number_of_prediction_layers_counts_as_none(count: object) -> None:
    config = {"num_hidden_layers": 3, "num_nextn_predict_layers": count}
    assert list(recipes.mtp_layers(config)) == []


def test_first_match_wins_and_the_rest_stays_float() -> None:
    rules = (Rule("a.b", "W8A16"), Rule("a.*", "W8A8"), Rule("*.c", "W8A8_DYNAMIC"))
    recipe = Recipe("r", "R", "A1", rules)
    found = {m: recipe.resolve(m).type for m in ("a.b", "a.c", "b.c", "b.d", "A.b")}
    assert found == {
        "a.b": "W8A16", "a.c": "W8A8", "b.c": "W8A8_DYNAMIC", "b.d": "FLOAT", "A.b": "FLOAT"
    }  # fmt: skip


@given(order=st.permutations(["W8A8", "W8A16", "W8A8_DYNAMIC", "FLOAT"]), at=st.integers(0, 3))
@settings(derandomize=True, deadline=None, max_examples=40)
def test_rules_after_a_match_do_not_matter(order: list[str], at: int) -> None:
    rules = tuple(Rule("x*" if i >= at else "y", label) for i, label in enumerate(order))
    assert Recipe("r", "R", "A1", rules).resolve("x.y").type == order[at]


def test_another_group_size_replaces_only_the_ones_given() -> None:
    recipe = recipes.load("deepseek-r1-w4a8").with_group_size(64)
    assert recipe.group_size == 64
    assert [r.type for r in recipe.rules if r.options] == ["W4A8_DYNAMIC"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rules": []}, "rules: "),
        ({"surprise": 1}, "top level: Additional properties"),
        ({"producer": "SC"}, "producer: 'SC' is not one of"),
        ({"producer": "A0"}, "producer A0 needs model_quant_type"),
        ({"name": "Not a name"}, "name: "),
        ({"rules": [{"match": "*", "type": "W9A9"}]}, r"rules\.0: \*: no scheme for label 'W9A9'"),
        ({"rules": [{"match": "*", "type": "NF4"}]}, "NF4 is refused"),
        ({"rules": [{"match": "*", "type": "W4A16"}]}, "W4A16 is not written by A1"),
        ({"rules": [{"match": "{x}", "type": "W8A8"}]}, r"rules\.0\.match"),
        (
            {"rules": [{"match": "*", "type": "W8A8", "options": {"bits": 3}}]},
            "options: Additional",
        ),
        (
            {"rules": [{"match": "*", "type": "W8A8", "options": {"group_size": 64}}]},
            "W8A8 does not take group_size",
        ),
        ({"rules": [{"match": "*", "type": "W8A16", "options": {"group_size": 0}}]}, "minimum"),
        ({"config": {"hidden_size": "1"}}, "config: "),
    ],
)
def test_bad_recipes_are_refused_with_file_place_and_reason(
    tmp_path: Path, changes: dict, reason: str
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(raw(**changes)))
    with pytest.raises(CheckpointError, match=reason) as caught:
        recipes.load(file)
    assert str(caught.value).startswith(str(file))


def test_a_good_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(raw()))
    assert recipes.load(file).rules == (Rule("*", "W8A8_DYNAMIC"),)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', "null"])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(CheckpointError):
        recipes.load(file)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"no recipe 'nope'.*deepseek-r1-w4a8"):
        recipes.load("nope")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"FLOAT", "W8A8", "W8A8_DYNAMIC"}, "W8A8"),
        ({"W4A8_DYNAMIC"}, "Unknown"),
        ({"W4A8_DYNAMIC", "FLOAT"}, "FLOAT"),
        ({"W8A8_MXFP8", "W4A4_MXFP4"}, "W4A4_MXFP4"),
        ({"W4A4_MXFP4_SVD", "FLOAT"}, "W4A4_MXFP4_SVD"),
        ({"W8A8_FLATQUANT"}, "W8A8"),
        (set(), "Unknown"),
    ],
)
def test_model_quant_type_is_the_label_of_the_highest_rank(labels: set, expected: str) -> None:
    assert model_quant_type(labels) == expected


def test_ranks_are_unique() -> None:
    ranks = [label.rank for label in vocabulary.labels().values() if label.rank is not None]
    assert len(ranks) == len(set(ranks))


@pytest.fixture(scope="session")
def float_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "float"
    write_float(path, "bf16")
    return path


@pytest.mark.parametrize("name", recipes.names())
def test_directory_by_a_recipe_conforms(float_model: Path, tmp_path: Path, name: str) -> None:
    recipe = recipes.load(name)
    recipe = recipe.with_group_size(32) if recipe.group_size else recipe
    plan = Plan(recipe=recipe, ranges=RANGES)
    count = quantize_directory(float_model, tmp_path / "q", plan)
    expected = assign(open_float(float_model), plan)
    checkpoint = open_checkpoint(tmp_path / "q")
    assert checkpoint.profile.name == recipe.producer
    labels = checkpoint.description.labels
    assert {m: labels[f"{m}.weight"] for m in expected} == {m: r.type for m, r in expected.items()}
    assert count == sum(rule.type != "FLOAT" for rule in expected.values())
    report = run(tmp_path / "q")
    assert report.conformant, [r.requirement.id for r in report.failed if r.counts]


COARSE = dict.fromkeys(
    ("W4A4_DYNAMIC", "W4A8_DYNAMIC", "W4A4_MXFP4", "W4A8_MXFP", "W4A4_MXFP4_DUALSCALE"), 0.2
)


@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("W8A8_DYNAMIC", {"group_size": 32}),
        ("W8A16", {"symmetric": False}),
        ("W4A8_DYNAMIC", {}),
        ("W4A4_DYNAMIC", {}),
        ("WFP8AFP8_DYNAMIC", {}),
        ("W8A8_MXFP8", {"method": "mse_round"}),
        ("W4A8_MXFP", {}),
        ("W4A4_MXFP4", {"method": "fouroversix"}),
        ("W4A4_MXFP4_DUALSCALE", {"dual_block": 32}),
    ],
)
def test_directory_of_one_type_conforms_and_comes_back(
    float_model: Path, tmp_path: Path, label: str, options: dict
) -> None:
    """Norm of the error over norm of the weight: half a step of 4 or of 8 bits, with room."""
    rules = [{"match": "*embed*", "type": "FLOAT"}, {"match": "lm_head", "type": "FLOAT"}]
    last = {"match": "*", "type": label} | ({"options": options} if options else {})
    recipe = recipes.parse(raw(rules=[*rules, last]))
    quantize_directory(float_model, tmp_path / "q", Plan(recipe=recipe))
    report = run(tmp_path / "q")
    assert report.conformant, [r.requirement.id for r in report.failed if r.counts]
    dequantize_directory(tmp_path / "q", tmp_path / "f", dtype="F32")
    original, back = open_checkpoint(float_model), open_checkpoint(tmp_path / "f")
    assert set(back.table.names) == set(original.table.names)
    for module, rule in assign(open_float(float_model), Plan(recipe=recipe)).items():
        w = as_float32(original.tensor(f"{module}.weight"))
        error = np.linalg.norm(back.tensor(f"{module}.weight") - w) / np.linalg.norm(w)
        assert error <= (0 if rule.type == "FLOAT" else COARSE.get(label, 0.05))


def test_static_rules_need_a_range_for_each_module(float_model: Path, tmp_path: Path) -> None:
    plan = Plan(recipe=recipes.load("w8a8"), ranges={"*.q_proj": (-1.0, 1.0)})
    with pytest.raises(CheckpointError, match="no activation range"):
        quantize_directory(float_model, tmp_path / "q", plan)
    assert not (tmp_path / "q").exists()


def test_excluded_modules_stay_float(float_model: Path, tmp_path: Path) -> None:
    plan = Plan(recipe=recipes.load("w8a8-dynamic"), exclude=["*.down_proj"])
    quantize_directory(float_model, tmp_path / "q", plan)
    labels = open_checkpoint(tmp_path / "q").description.labels
    down = {label for name, label in labels.items() if ".down_proj.weight" in name}
    assert down == {"FLOAT"}


def deepseek_models() -> list[Path]:
    """Float models of the oracle that have latent attention."""
    found = []
    for config in sorted(ORACLE.glob("models/*/config.json")):
        if "kv_lora_rank" in json.loads(config.read_text(encoding="utf-8")):
            found.append(config.parent)
    return found


@pytest.mark.parametrize("name", [n for n in recipes.names() if n.startswith("deepseek")])
def test_deepseek_recipes_give_conformant_directories(tmp_path: Path, name: str) -> None:
    models = deepseek_models()
    if not models:
        pytest.skip(f"no model with latent attention in {ORACLE}")
    for model in models:
        recipe = recipes.load(name)
        groups = 32 if recipe.group_size else 0
        recipe = recipe.with_group_size(groups) if groups else recipe
        out = tmp_path / model.name
        quantize_directory(model, out, Plan(recipe=recipe, ranges=RANGES))
        checkpoint = open_checkpoint(out)
        config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        assert {key: config[key] for key in recipe.config} == recipe.config
        assert checkpoint.description.metadata["model_quant_type"] == (
            recipe.model_quant_type or model_quant_type(set(checkpoint.description.labels.values()))
        )
        report = run(out)
        assert report.conformant, [r.requirement.id for r in report.failed if r.counts]
