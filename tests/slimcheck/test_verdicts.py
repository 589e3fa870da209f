"""Every fact of every engine changes a verdict when it is broken, and none when it is kept."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimcheck.cli import main
from slimcheck.consumers import Choice, Consumer, consumers
from slimcheck.consumers_facts import ABSENT, PRESENT, ZERO, Tensor
from slimcheck.engine import Result, Status
from slimcheck.findings import Group
from slimcheck.run import RunError, run
from slimcheck.verdicts import facts, verdicts
from slimcheck.verdicts_seen import HEAD, LINEAR, MOE, Kind, Seen, layer_kind
from slimcheck.verdicts_words import FAILS, OK, UNKNOWN, WRONG
from slimspec import layout, requirements
from slimspec.data import folder

ENGINES = list(consumers().values())
GOLDEN = folder("golden") / "checkpoints" / "valid"
every = pytest.mark.parametrize("engine", ENGINES, ids=[engine.name for engine in ENGINES])


def at(engine: Consumer, version: str = "") -> Choice:
    return Choice(engine, version or engine.versions[-1], engine.name)


def first(engine: Consumer, when: Any) -> str:
    """The oldest version in a window."""
    return next(version for version in engine.versions if engine.holds(when, version))


def container_for(engine: Consumer, label: str, version: str) -> str:
    """How files lie where the engine takes them with this label."""
    about = (fact for fact in engine.containers if not fact.labels or label in fact.labels)
    return next(fact.containers[0] for fact in about if engine.holds(fact.when, version))


def reasons(choice: Choice, seen: Seen, soc: str = "") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for verdict, reason in facts(choice, seen, soc):
        found.setdefault(verdict, []).append(reason)
    return found


@every
def test_a_label_loads_where_the_data_say_so_and_nowhere_else(engine: Consumer) -> None:
    labels = {label for fact in engine.labels for label in fact.labels} | {"NO_SUCH_LABEL"}
    for label in labels:
        for layer in (LINEAR, MOE, HEAD):
            for version in engine.versions:
                fate = engine.fate(layer, version)
                lies = container_for(engine, label, version)
                seen = Seen(pairs={(label, layer): 1}, container=lies)
                where = {
                    soc
                    for fact in engine.labels
                    if label in fact.labels and layer in fact.layers
                    for soc in engine.socs
                    if engine.holds(fact.when, version, soc)
                }
                for soc in engine.socs:
                    found = reasons(at(engine, version), seen, soc)
                    assert set(found) == (set() if soc in where else {fate.verdict})
                found = reasons(at(engine, version), seen)
                partly = {OK} if where != set(engine.socs) else set()
                assert set(found) == (partly if where else {fate.verdict})


def test_reason_names_the_versions_and_the_socs_that_do_load_it() -> None:
    engine = replace(ENGINES[0], versions=("1.0", "1.1", "1.2"), socs=("910B", "950"))
    fact = engine.labels[0]
    for until, text in (("1.0", "; 1.0 has"), ("1.1", "; 1.0 to 1.1 have")):
        old = replace(fact, labels=("OLD",), when=replace(fact.when, until=until))
        found = reasons(at(replace(engine, labels=(old,))), Seen(pairs={("OLD", LINEAR): 1}))
        assert [reason.endswith(text) for (reason,) in found.values()] == [True]
    new = replace(fact, labels=("NEW",), when=replace(fact.when, socs=("950",)))
    engine = replace(engine, labels=(new,))
    seen = Seen(pairs={("NEW", LINEAR): 1})
    assert reasons(at(engine), seen) == {OK: ["NEW needs 950"]}
    (reason,) = (r for found in reasons(at(engine), seen, "910B").values() for r in found)
    assert reason.endswith("; 950 has")


@every
def test_a_description_under_another_name_is_not_read(engine: Consumer) -> None:
    for name in engine.descriptions:
        seen = Seen(descriptions=(name.format(quantize="w8a8"),), quantize="W8A8")
        assert reasons(at(engine), seen) == {}
    found = reasons(at(engine), Seen(descriptions=("quant_model_description_other.json",)))
    assert list(found) == [engine.no_description.verdict]
    assert reasons(at(engine), Seen()) == {}  # without any, DIR-003 and others speak


@every
def test_metadata_outside_of_the_values_is_said(engine: Consumer) -> None:
    for fact in engine.metadata:
        version = first(engine, fact.when)
        labels = {(fact.label, LINEAR): 1} if fact.label else {}
        bad = Seen(pairs=labels, metadata={fact.key: "something else"})
        texts = reasons(at(engine, version), bad).get(fact.verdict, [])
        assert any(text == f"{fact.key} something else: {fact.effect}" for text in texts)
        for value in fact.values:
            good = Seen(pairs=labels, metadata={fact.key: value})
            assert not _says(at(engine, version), good, fact.effect)
        assert not _says(at(engine, version), Seen(pairs=labels), fact.effect)
        if fact.label:
            assert not _says(at(engine, version), replace(bad, pairs={}), fact.effect)
        for other in engine.versions:
            if not engine.holds(fact.when, other):
                assert not _says(at(engine, other), bad, fact.effect)


def _says(choice: Choice, seen: Seen, effect: str) -> bool:
    return any(effect in text for texts in reasons(choice, seen).values() for text in texts)


@every
def test_tensors_are_held_to_what_the_engine_asks(engine: Consumer) -> None:
    for fact in engine.tensors:
        version = first(engine, fact.when)
        for label in fact.labels or ("FLOAT",):
            for layer in fact.layers or (LINEAR, MOE):
                good, bad = _kinds(fact, label, layer)
                found = reasons(at(engine, version), Seen(kinds=[bad]))
                assert any(fact.effect in text for text in found[fact.verdict])
                assert not _says(at(engine, version), Seen(kinds=[good]), fact.effect)
        if fact.labels:
            _, bad = _kinds(fact, "SOME_OTHER_LABEL", LINEAR)
            assert not _says(at(engine, version), Seen(kinds=[bad]), fact.effect)
        if fact.modules:
            _, bad = _kinds(replace(fact, modules=("other",)), fact.labels[0], LINEAR)
            assert not _says(at(engine, version), Seen(kinds=[bad]), fact.effect)


def _kinds(fact: Tensor, label: str, layer: str) -> tuple[Kind, Kind]:
    """Modules that keep and break what a tensor must be."""
    base = Kind(label, layer, {"weight": (8, 4)}, {"n": 8, "k": 4}, leaf="".join(fact.modules[:1]))
    there = replace(base, shapes={"weight": (8, 4), fact.tensor: (8, 1)}, nonzero=frozenset())
    if fact.must == PRESENT:
        return there, base
    if fact.must == ABSENT:
        return base, there
    if fact.must == ZERO:
        return there, replace(there, nonzero=frozenset({fact.tensor}))
    shape = tuple({"n": 8, "k": 4}.get(d, d) for d in fact.must)
    return (
        replace(there, shapes={"weight": (8, 4), fact.tensor: shape}),
        replace(there, shapes={"weight": (8, 4), fact.tensor: (1, 1, 1)}),
    )


def test_an_offset_that_was_not_read_is_a_note() -> None:
    engine = consumers()["vllm-ascend"]
    fact = next(fact for fact in engine.tensors if fact.must == ZERO)
    kind = Kind(fact.labels[0], LINEAR, {"weight": (8, 4), fact.tensor: (8, 1)}, {"n": 8, "k": 4})
    found = reasons(at(engine), Seen(kinds=[kind]))
    assert list(found) == [OK]
    assert "was not read" in found[OK][0]


def _buffers() -> Iterator[tuple[Consumer, str, str, list[list[Any]]]]:
    for engine in ENGINES:
        for name in layout.types():
            tensors = layout.load(name).consumers.get(engine.layouts, {}).get("tensors", {})
            for suffix, tensor in tensors.items():
                if tensor.get("shape") and tensor["reads"] != "ignored":
                    yield engine, name, suffix, tensor["shape"]


@pytest.mark.parametrize(
    ("engine", "label", "suffix", "shapes"),
    [pytest.param(*row, id=f"{row[0].name}-{row[1]}-{row[2]}") for row in _buffers()],
)
def test_buffers_of_the_layouts_must_fit(engine, label, suffix, shapes) -> None:
    if not any(label in fact.labels for fact in engine.labels):
        pytest.skip(f"{engine.name} does not load {label}")
    layer = next(fact.layers[0] for fact in engine.labels if label in fact.labels)
    kind = Kind(label, layer, {suffix: (3, 3, 3)}, {"n": 256, "k": 512})
    found = reasons(at(engine), Seen(kinds=[kind]))
    assert any(text.startswith(f"{suffix} [3, 3, 3] of {label}") for text in found[FAILS])
    assert "allocates" in found[FAILS][0]


def result(key: str, status: Status = Status.FAILED) -> Result:
    return Result(requirements.load()[key], status, [Group(key, "x", "", "")], True)


@every
def test_violated_requirements_become_their_verdict(engine: Consumer) -> None:
    for key, requirement in requirements.load().items():
        scope = requirement.scope
        (verdict,) = verdicts([result(key)], Seen(), [at(engine)])
        if requirement.level != "MUST":
            expected = OK
        elif engine.binds(key, scope.consumers, engine.versions[-1]):
            expected = scope.verdict
        else:
            expected = OK if scope.consumers else UNKNOWN
        assert (verdict.verdict, verdict.reasons) == (expected, () if expected == OK else (key,))
        (verdict,) = verdicts([result(key, Status.WAIVED)], Seen(), [at(engine)])
        assert verdict.verdict == OK


def test_the_worst_verdict_wins_and_names_only_its_own_reasons() -> None:
    engine = consumers()["vllm-ascend"]
    results = [result("W8A8-003"), result("DEQ-002"), result("PACK-002")]
    (verdict,) = verdicts(results, Seen(), [at(engine)])
    assert (verdict.verdict, verdict.reasons, verdict.serve) == (FAILS, ("PACK-002",), "")
    (verdict,) = verdicts(results[:2], Seen(), [at(engine)])
    assert (verdict.verdict, verdict.reasons) == (WRONG, ("DEQ-002",))


def test_an_engine_that_computes_in_the_dtype_of_the_config_needs_a_soc_that_does() -> None:
    for engine in ENGINES:
        for soc in engine.socs:
            found = reasons(at(engine), Seen(model_dtype="BF16"), soc)
            stuck = engine.dtype == "config.json" and soc == "310P"
            assert set(found) == ({FAILS} if stuck else set())
        assert reasons(at(engine), Seen(model_dtype="F16"), engine.socs[-1]) == {}


@pytest.mark.parametrize(
    ("name", "soc", "model_dtype", "tp", "text"),
    [
        (
            "vllm-ascend",
            "",
            "BF16",
            None,
            "vllm serve '/a b' --quantization ascend --dtype bf",
        ),
        ("vllm-ascend", "", "F32", 8, "--dtype float16 --tensor-parallel-size 8"),
        ("vllm-ascend-310p", "310P", "BF16", None, "--dtype float16"),
        ("sglang-ascend", "", "BF16", 2, "--dtype bfloat16 --tp-size 2"),
        (
            "mindie-atb",
            "",
            "F16",
            2,
            '"quantize": "w8a8_pdmix" (absent; ',
        ),
    ],
)
def test_serve_hint_is_a_command_that_can_be_pasted(name, soc, model_dtype, tp, text) -> None:
    seen = Seen(
        model_dtype=model_dtype, directory="/a b", metadata={"model_quant_type": "W8A8_MIX"}
    )
    (verdict,) = verdicts([], seen, [at(consumers()[name])], soc=soc, tp=tp)
    assert text in verdict.serve


def test_layers_are_told_apart_by_name() -> None:
    assert layer_kind("model.layers.3.mlp.experts.7.up_proj.weight") == MOE
    assert layer_kind("model.layers.3.mlp.shared_experts.up_proj.weight") == LINEAR
    assert {layer_kind("lm_head.weight"), layer_kind("language_model.lm_head.weight")} == {HEAD}


def test_command_takes_versions_and_socs(capsys: pytest.CaptureFixture[str]) -> None:
    directory = str(GOLDEN / "w8a16-a1-fp16")
    assert main([directory, "-q", "--consumer", "vllm-ascend@0.11"]) == 0
    out = capsys.readouterr().out
    assert "vllm-ascend@0.11.0  will not load" in out
    assert len(out.splitlines()) == 2
    assert main([directory, "-q", "--soc", "A5"]) == 0
    assert "310p" not in capsys.readouterr().out
    assert main([directory, "-q", "--soc", "Z80"]) == 4
    assert "no SoC 'Z80'" in capsys.readouterr().err
    with pytest.raises(RunError, match="no consumer"):
        run(directory, consumers=["nobody"])


def test_an_offset_that_is_not_zero_is_wrong_for_the_engine_that_adds_it(
    builders, tmp_path: Path
) -> None:
    for value, expected in ((0, OK), (3, WRONG)):
        draft = builders.make("A1", "W8A16", "F16")
        offset = draft.tensors[f"{builders.Q0}.weight_offset"]
        draft.put("weight_offset", np.full_like(offset, value))
        directory = draft.write(tmp_path / str(value))
        report = run(directory, producer="A1", select=["IDX-*"], consumers=["vllm-ascend"])
        assert [v.verdict for v in report.verdicts] == [expected]


@pytest.mark.parametrize("case", sorted(p.name for p in GOLDEN.iterdir()))
def test_valid_golden_checkpoints_get_verdicts_by_facts_of_engines_only(case: str) -> None:
    report = run(GOLDEN / case, level="layout")
    assert not [v for v in report.verdicts if v.verdict == UNKNOWN and ": " not in v.reasons[0]]
    for verdict in report.verdicts:
        assert bool(verdict.reasons) == (verdict.verdict != OK)
        assert bool(verdict.serve) == (verdict.verdict in (OK, UNKNOWN))
