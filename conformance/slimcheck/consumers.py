"""The consumer engines: `schemas/consumers/NAME.json` and `schemas/socs.json`, read once.

An engine is a list of facts, each true from one version to another and on some SoCs. Nothing here
looks at a checkpoint: `slimcheck.verdicts` does.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from slimcheck import consumers_facts as read
from slimcheck.consumers_facts import (
    Biases,
    Binding,
    Containers,
    Feature,
    Labels,
    Metadata,
    Models,
    Names,
    Otherwise,
    Tensor,
    When,
)
from slimspec.data import folder


@dataclass(frozen=True)
class Consumer:
    """One engine.

    Attributes:
        scope: the name by which requirements address it.
        layouts: member of the layouts' `consumers` that says what it allocates; "" = none does.
        versions: oldest first.
        dtype: what decides the dtype it computes in: "config.json" or "option".
        descriptions: file names it reads; {quantize} stands for quantize of config.json.
        no_description: what it does without such a file.
        config: member of config.json -> values it accepts.
        serve, serve_tp, serve_ranks: the command, and what is added for ranks and for RANKS files.
    """

    name: str
    title: str
    scope: str
    layouts: str
    versions: tuple[str, ...]
    socs: tuple[str, ...]
    dtype: str
    labels: tuple[Labels, ...]
    otherwise: tuple[Otherwise, ...]
    descriptions: tuple[str, ...]
    no_description: Otherwise
    models: tuple[Models, ...]
    containers: tuple[Containers, ...]
    names: tuple[Names, ...]
    features: tuple[Feature, ...]
    biases: tuple[Biases, ...]
    metadata: tuple[Metadata, ...]
    tensors: tuple[Tensor, ...]
    requirements: tuple[Binding, ...]
    config: Mapping[str, list[str | int | None]]
    serve: str
    serve_tp: str
    serve_ranks: str

    def holds(self, when: When, version: str, soc: str = "") -> bool:
        """Whether a fact is true of `version` on `soc` ("" = on some of its SoCs)."""
        at = self.versions.index
        first = at(when.since) if when.since else 0
        last = at(when.until) if when.until else len(self.versions) - 1
        return first <= at(version) <= last and (not soc or not when.socs or soc in when.socs)

    def fate(self, layer: str, version: str) -> Otherwise:
        """What becomes of a label that is not loaded for a kind of layer."""
        for row in self.otherwise:
            if (not row.layers or layer in row.layers) and self.holds(row.when, version):
                return row
        raise ValueError(f"{self.name} {version}: no `otherwise` for {layer}")

    def binds(self, requirement: str, scope: Sequence[str], version: str) -> bool:
        """Whether a requirement with `scope.consumers` speaks of this engine."""
        for row in self.requirements:
            if requirement in row.ids and self.holds(row.when, version):
                return row.binding
        return self.scope in scope or self.name in scope


@dataclass(frozen=True, slots=True)
class Soc:
    """A chip, and the dtypes in which it computes a float model."""

    name: str
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine at a version; `asked` is how reports call it."""

    consumer: Consumer
    version: str
    asked: str


@cache
def _read() -> dict[str, Any]:
    files = sorted((folder("schemas") / "consumers").glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def chinese_effects() -> Iterator[tuple[str, str]]:
    """Yield every effect and text of an engine with its Chinese; a name follows that of a map."""
    stack: list[Any] = list(_read().values())
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += value
        elif isinstance(value, dict):
            stack += value.values()
            after = " {name}" if "tp_map" in value else ""
            for key in ("effect", "text"):
                if f"{key}_zh" in value:
                    yield value[key] + after, value[f"{key}_zh"] + after


@cache
def consumers() -> Mapping[str, Consumer]:
    """Return every known engine by name."""
    raw = {name: dict(item) for name, item in _read().items()}
    for item in raw.values():
        if "like" in item:
            other = raw[item["like"]["engine"]]
            for key in item["like"]["facts"]:
                item[key] = _within(item["versions"], other["versions"], other[key])
    return MappingProxyType({name: _consumer(item) for name, item in raw.items()})


def _within(versions: list[str], others: list[str], facts: list[Any]) -> list[Any]:
    """Facts of an engine with `others`, with windows in `versions`; some of those are not in it."""
    at = [others.index(version) for version in versions]
    found = []
    for fact in facts:
        first, last = others.index(fact.get("since", others[0])), len(others) - 1
        if "until" in fact:
            last = others.index(fact["until"])
        inside = [v for v, n in zip(versions, at, strict=True) if first <= n <= last]
        if inside:
            known = fact.get("known")
            inner = {"known": _within(versions, others, known)} if known else {}
            found.append(fact | inner | {"since": inside[0], "until": inside[-1]})
    return found


@cache
def socs() -> Mapping[str, Soc]:
    """Return every known SoC by name and by each of its other names."""
    raw = json.loads((folder("schemas") / "socs.json").read_text(encoding="utf-8"))["socs"]
    return MappingProxyType(
        {
            name: Soc(item["name"], tuple(item["dtypes"]))
            for item in raw
            for name in (item["name"], *item["aliases"])
        }
    )


def choose(asked: Sequence[str], soc: str = "") -> list[Choice]:
    """Engines named as NAME or NAME@VERSION; all that run on `soc`, newest, if none is named.

    A name may stand for several engines (mindie), a version for the newest that starts with it.

    Raises:
        ValueError: no such engine, version, or none of that name runs on the SoC.
    """
    if not asked:
        return [
            Choice(engine, engine.versions[-1], engine.name)
            for engine in consumers().values()
            if not soc or soc in engine.socs
        ]
    return [choice for name in asked for choice in _named(name, soc)]


def _named(asked: str, soc: str) -> Iterator[Choice]:
    name, _, stated = asked.partition("@")
    engines = [e for e in consumers().values() if name in (e.name, e.scope)]
    if not engines:
        names = sorted({*consumers(), *(e.scope for e in consumers().values())})
        raise ValueError(f"no consumer {name!r}: one of {', '.join(names)}")
    there = [e for e in engines if not soc or soc in e.socs]
    if not there:
        raise ValueError(f"--consumer {name} does not run on {soc}: {', '.join(engines[0].socs)}")
    for engine in there:
        version = _version(engine, stated)
        yield Choice(engine, version, f"{engine.name}@{version}" if stated else engine.name)


def _version(engine: Consumer, stated: str) -> str:
    fitting = [v for v in engine.versions if f"{v}.".startswith(f"{stated}.") or v == stated]
    if not stated:
        return engine.versions[-1]
    if not fitting:
        known = ", ".join(engine.versions)
        raise ValueError(f"no version {stated!r} of {engine.name} is known: {known}")
    return fitting[-1]


def _consumer(raw: dict[str, Any]) -> Consumer:
    described = raw["description"]
    return Consumer(
        name=raw["name"],
        title=raw["title"],
        scope=raw["scope"],
        layouts=raw.get("layouts", ""),
        versions=tuple(raw["versions"]),
        socs=tuple(raw["socs"]),
        dtype=raw["dtype"],
        labels=tuple(map(read.labels, raw["labels"])),
        otherwise=tuple(map(read.otherwise, raw["otherwise"])),
        descriptions=tuple(described["names"]),
        no_description=read.otherwise(described),
        models=tuple(map(read.models, raw.get("models", ()))),
        containers=tuple(map(read.containers, raw.get("containers", ()))),
        names=tuple(map(read.names, raw.get("names", ()))),
        features=tuple(map(read.feature, raw.get("features", ()))),
        biases=tuple(map(read.biases, raw.get("biases", ()))),
        metadata=tuple(map(read.metadata, raw.get("metadata", ()))),
        tensors=tuple(map(read.tensor, raw.get("tensors", ()))),
        requirements=tuple(map(read.binding, raw.get("requirements", ()))),
        config=MappingProxyType(raw.get("config", {})),
        serve=raw["serve"]["text"],
        serve_tp=raw["serve"].get("tp", ""),
        serve_ranks=raw["serve"].get("ranks", ""),
    )
