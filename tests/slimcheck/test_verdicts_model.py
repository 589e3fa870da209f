"""What engines make of the model: its type, how the files lie, its names, biases and features."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slimcheck.consumers import Choice, Consumer, consumers
from slimcheck.consumers_facts import FLAT, OFFLINE, PARTS, RANKS, Biases, Feature, Models, Names
from slimcheck.run import run
from slimcheck.verdicts import verdicts
from slimcheck.verdicts_model import model_facts
from slimcheck.verdicts_seen import LINEAR, MOE, Kind, Seen
from slimcheck.verdicts_words import FAILS, OK, WRONG, Says
from slimspec.data import folder
from slimspec.golden.patch import apply
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.shard_map import shard_maps

ENGINES = consumers()
GOLDEN = folder("golden") / "checkpoints" / "valid"
SHARD = "quant_model_weights-00001-of-00001.safetensors"
LABELS = ("W8A8_DYNAMIC", "W8A8SC", "W16A16SC", "FLOAT")


def said(engine: Consumer, seen: Seen, version: str = "") -> list[Says]:
    return list(model_facts(Choice(engine, version or engine.versions[-1], ""), seen, ""))


def facts_of(attribute: str) -> list[object]:
    return [
        pytest.param(engine, fact, id=f"{engine.name}-{number}")
        for engine in ENGINES.values()
        for number, fact in enumerate(getattr(engine, attribute))
    ]


def about(fact: Models) -> Seen:
    """A directory that the fact speaks of."""
    label = fact.labels[0] if fact.labels else LABELS[0]
    layer = fact.layers[0] if fact.layers else LINEAR
    return Seen(pairs={(label, layer): 1}, container=PARTS if label.endswith("SC") else FLAT)


@pytest.mark.parametrize(("engine", "fact"), facts_of("models"))
def test_model_types_are_known_in_their_versions_only(engine: Consumer, fact: Models) -> None:
    def speaks(version: str, *types: str) -> bool:
        seen = replace(about(fact), model_types=types)
        expected = f"model_type {' with '.join(types if fact.nested else types[:1])}: {fact.effect}"
        found = [says for says in said(engine, seen, version) if says.reason.startswith(expected)]
        assert all(says.verdict == fact.verdict for says in found)
        return bool(found)

    for version in engine.versions:
        assert speaks(version, "no_such_model")
        for name in {name for known in fact.known for name in known.types}:
            there = any(engine.holds(k.when, version) for k in fact.known if name in k.types)
            assert speaks(version, name) != there
            assert speaks(version, "no_such_model", name) != (there and fact.nested)
        if fact.layers or fact.labels:
            plain = Seen(pairs={("FLOAT", MOE): 1}, model_types=("no_such_model",))
            assert not any(fact.effect in says.reason for says in said(engine, plain, version))
    assert not said(engine, about(fact))  # nothing is stated


def test_reason_names_the_versions_that_have_the_model() -> None:
    seen = Seen(pairs={("W8A8_DYNAMIC", MOE): 1}, model_types=("step3p5",))
    (says,) = (s for s in said(ENGINES["vllm-ascend"], seen, "0.13.0") if s.verdict == FAILS)
    assert says.reason.endswith("; 0.23.0 to main have it")


def test_tables_of_the_newest_version_are_those_by_which_groups_are_judged() -> None:
    """packed_modules.json was written from the same table, by another hand."""
    path = folder("schemas") / "packed_modules.json"
    table = {
        name
        for item in json.loads(path.read_text(encoding="utf-8"))["models"]
        for name in item["model_types"]
        if any(group["fused"] == "experts" for group in item["groups"])
    }
    engine = ENGINES["vllm-ascend"]
    fact = next(fact for fact in engine.models if fact.layers == (MOE,))
    newest = [k.types for k in fact.known if engine.holds(k.when, engine.versions[-1])]
    assert {name for types in newest for name in types} == table


def test_facts_of_another_engine_hold_in_the_versions_that_both_have() -> None:
    ours, theirs = ENGINES["vllm-ascend-310p"], ENGINES["vllm-ascend"]
    assert len(ours.models) == len(theirs.models)
    assert [fact.types for fact in ours.biases] == [fact.types for fact in theirs.biases]
    for seen in (
        replace(about(theirs.models[0]), model_types=(name,))
        for known in theirs.models[0].known
        for name in known.types
    ):
        for version in ours.versions:
            mine, other = said(ours, seen, version), said(theirs, seen, version)
            assert [says.verdict for says in mine] == [says.verdict for says in other]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_files_must_lie_as_the_engine_looks_for_them(engine: Consumer) -> None:
    assert not engine.containers[-1].labels  # so that every directory is judged
    for version in engine.versions:
        for label in LABELS:
            facts = (f for f in engine.containers if not f.labels or label in f.labels)
            fact = next(f for f in facts if engine.holds(f.when, version))
            for container in (FLAT, PARTS, RANKS, OFFLINE):
                seen = Seen(pairs={(label, LINEAR): 1}, container=container)
                found = said(engine, seen, version)
                assert [says.verdict for says in found] == (
                    [] if container in fact.containers else [fact.verdict]
                )
            alone = said(engine, Seen(pairs={(label, LINEAR): 1}, alone=PARTS), version)
            assert {s.verdict for s in alone} <= {OK} or PARTS not in fact.containers


def linear(name: str, label: str = "W8A8_DYNAMIC", **shapes: tuple[int, ...]) -> Kind:
    leaf = name.rpartition(".")[2]
    return Kind(label, LINEAR, {"weight": (8, 4)} | shapes, members=[name], leaf=leaf)


@pytest.mark.parametrize(("engine", "fact"), facts_of("names"))
def test_names_must_be_those_that_the_engine_asks_for(engine: Consumer, fact: Names) -> None:
    if fact.foreign is not None:
        assert [s.verdict for s in said(engine, Seen(kinds=[linear("blocks.3.self_attn.q")]))] == [
            fact.verdict
        ]
        assert not said(engine, Seen(kinds=[linear("blocks.3.attn1.to_q")]))
        return
    for shards in (m for m in shard_maps().values() if m.consumer == fact.tp_map):
        model_type = min(shards.model_types & {"llama", "qwen2"})
        hf = [f"model.layers.0.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj")]
        named = shards.rename("model.layers.0.self_attn.o_proj.weight").removesuffix(".weight")
        parent = named.rpartition(".")[0]
        fused = f"{parent}.{shards.member_of('q_proj')}"

        def verdict(modules: list[str], label: str, types: tuple[str, ...]) -> list[str]:
            kinds = [linear(name, label) for name in modules]
            seen = Seen(kinds=kinds, model_types=types, container=PARTS, pairs={(label, LINEAR): 1})
            found = (s for s in said(engine, seen) if fact.effect in s.reason)
            return [says.reason for says in found if says.verdict == fact.verdict]

        label = fact.labels[0]
        (reason,) = verdict(hf, label, (model_type,))
        assert reason.endswith(f" {fused}")
        assert not verdict([fused, named], label, (model_type,))
        assert not verdict(hf, "W8A8", (model_type,))
        assert not verdict(hf, label, ())
        apart = [f"{parent}.{name.rpartition('.')[2]}" for name in hf[:2]]
        assert not verdict(apart, label, (model_type,))  # v_proj stayed FLOAT


@pytest.mark.parametrize(("engine", "fact"), facts_of("features"))
def test_a_feature_speaks_where_the_member_of_the_config_is(
    engine: Consumer, fact: Feature
) -> None:
    version = fact.when.until or engine.versions[-1]
    module = f"model.layers.0.self_attn.{fact.modules[0]}"
    seen = Seen(kinds=[linear(module)], config={fact.config: 1})
    assert said(engine, seen, version) == [
        Says(fact.verdict, f"{fact.modules[0]} is W8A8_DYNAMIC: {fact.effect}")
    ]
    assert not said(engine, replace(seen, config={}), version)
    assert not said(engine, replace(seen, kinds=[linear(module, fact.labels[0])]), version)
    assert not said(engine, replace(seen, kinds=[linear("model.layers.0.mlp.other")]), version)
    assert not said(engine, seen)  # the newest version mended it


@pytest.mark.parametrize(("engine", "fact"), facts_of("biases"))
def test_a_bias_that_the_class_does_not_have_is_lost(engine: Consumer, fact: Biases) -> None:
    for leaf in fact.without:
        kind = replace(linear(f"model.layers.0.x.{leaf}", bias=(8,)), nonzero=frozenset({"bias"}))
        seen = Seen(kinds=[kind], model_types=fact.types[:1])
        assert [says.verdict for says in said(engine, seen)] == [fact.verdict]
        unread = replace(seen, kinds=[replace(kind, nonzero=None)])
        assert [says.verdict for says in said(engine, unread)] == [OK]
        for quiet in (
            replace(kind, nonzero=frozenset()),
            replace(kind, label=fact.folded[0]),
            replace(kind, shapes={"weight": (8, 4)}),
            replace(kind, leaf="other"),
        ):
            assert not said(engine, replace(seen, kinds=[quiet]))
        assert all("bias" not in s.reason for s in said(engine, replace(seen, model_types=("x",))))
        for key, modules in fact.unless.items():
            assert bool(said(engine, replace(seen, config={key: True}))) == (leaf not in modules)


def lines(directory: Path, **options: object) -> dict[str, tuple[str, str]]:
    """Engine -> verdict and everything that was said."""
    report = run(directory, **options)  # type: ignore[arg-type]
    return {v.consumer: (v.verdict, "; ".join((*v.reasons, *v.notes))) for v in report.verdicts}


def test_parts_with_names_of_the_float_model_load_nowhere(tmp_path: Path) -> None:
    assert {verdict for verdict, _ in lines(GOLDEN / "w8a8sc-tp2").values()} == {FAILS}
    named = tmp_path / "named"
    compress_directory(GOLDEN / "w8a8s-a0-fp16", named, Options(tp=2, names="mindie"))
    found = lines(named)
    assert found["mindie-atb"][0] == found["mindie-rt"][0] == OK
    assert {found[name][0] for name in found if not name.startswith("mindie")} == {FAILS}
    assert "partR-of-N: takes W8A8SC from model-rank-R" in found["vllm-ascend-310p"][1]
    config = json.loads((named / "config.json").read_text())
    (named / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    assert "has no names of W8A8SC weights for it" in lines(named)["mindie-rt"][1]


def test_files_by_rank_are_started_with_their_load_format(builders: Any, tmp_path: Path) -> None:
    directory = builders.make("A1", "W8A8").write(tmp_path / "x")
    (directory / "quant_model_weights.safetensors").rename(
        directory / "model-rank-0-part-0.safetensors"
    )
    report = run(directory)
    served = {v.consumer: v.serve for v in report.verdicts}
    assert served["vllm-ascend"].endswith("--load-format sharded_state")
    assert {v.verdict for v in report.verdicts if v.consumer.startswith("mindie")} == {FAILS}


def with_bias(directory: Path, *, zero: bool) -> Path:
    """A checkpoint in which o_proj has a bias, as outlier suppression leaves one."""
    shutil.copytree(GOLDEN / "w8a8-dynamic-a1-fp16", directory)
    name = "model.layers.0.self_attn.o_proj.bias"
    tensor = {"file": SHARD, "name": name}
    new = tensor | {"op": "tensor", "dtype": "F32", "shape": [64], "fill": 1}
    entry = {"op": "json-merge", "file": "quant_model_description.json", "path": []}
    apply([new, entry | {"value": {name: "FLOAT"}}], directory)
    if zero:
        values = tensor | {"op": "tensor-values", "value": 0.0}
        apply([values | {"at": at} for at in range(64)], directory)
    return directory


def test_dropped_bias_is_told_from_a_zero_one_and_from_one_that_was_not_read(
    tmp_path: Path,
) -> None:
    zero = lines(with_bias(tmp_path / "zero", zero=True))
    directory = with_bias(tmp_path / "bias", zero=False)
    found, unread = lines(directory), lines(directory, level="layout")
    for engine in ("vllm-ascend", "vllm-ascend-310p", "mindie-rt", "sglang-ascend"):
        assert zero[engine][0] == OK
        assert found[engine][0] == WRONG
        assert unread[engine][0] == OK
        assert "bias of o_proj (W8A8_DYNAMIC) was not read" in unread[engine][1]


UNKNOWN_TYPE = [
    {"op": "json-merge", "file": "config.json", "path": [], "value": {"model_type": "kimi_k9"}}
]
OFFLINE_SHARDS = [
    {"op": "write", "file": "model_sharded_metadata.json", "text": "{}"},
    {"op": "rename", "file": SHARD, "to": "model-000/weights.safetensors"},
]


@pytest.mark.parametrize(
    ("base", "patch", "engine", "verdict", "text"),
    [
        ("w8a8-a1-fp16", UNKNOWN_TYPE, "mindie-atb", FAILS, "kimi_k9: no folder of its models"),
        ("w8a8-a1-fp16", UNKNOWN_TYPE, "mindie-rt", FAILS, "kimi_k9: no folder of its models"),
        ("w8a8-a1-fp16", UNKNOWN_TYPE, "mindie-atb-layers", FAILS, "kimi_k9: only llama"),
        ("w8a8-a1-fp16", UNKNOWN_TYPE, "vllm-ascend", OK, "kimi_k9: is in neither its tables"),
        (
            "w8a8-a1-fp16",
            OFFLINE_SHARDS,
            "vllm-ascend",
            FAILS,
            "looks for weights in the directory",
        ),
        ("w8a8-a1-fp16", OFFLINE_SHARDS, "sglang-ascend", FAILS, "weights in the directory"),
        ("w8a8-a1-fp16", OFFLINE_SHARDS, "mindie-rt", FAILS, "in the directory itself only"),
        ("qwen-moe-w8a8-a0-bf16", [], "mindie-atb-layers", FAILS, "qwen3_moe: only llama"),
        ("w8a8sc-tp2/part0-of-2", [], "mindie-atb", OK, "one of the parts, judged alone"),
        ("w8a8sc-tp2/part0-of-2", [], "vllm-ascend-310p", FAILS, "from model-rank-R-part-P"),
    ],
)
def test_foreign_directories_are_told_from_those_of_the_engine(
    tmp_path: Path, base: str, patch: list[dict[str, Any]], engine: str, verdict: str, text: str
) -> None:
    directory = tmp_path / "x"
    shutil.copytree(GOLDEN / base, directory)
    apply(patch, directory)
    found = lines(directory, level="layout", ignore=["DIR-01*", "DIR-02*", "DIR-00*"])[engine]
    assert found[0] == verdict
    assert text in found[1]


def test_notes_do_not_change_a_verdict() -> None:
    seen = Seen(model_types=("no_such_model",))
    (verdict,) = verdicts([], seen, [Choice(ENGINES["vllm-ascend"], "main", "x")])
    assert verdict.verdict == OK
    assert "not known whether it loads" in verdict.notes[0]
