"""What an engine does, fact by fact: the rows of `schemas/consumers/NAME.json`.

Each fact holds from one version to another, on some SoCs; `slimcheck.verdicts` applies them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate
from types import MappingProxyType
from typing import Any

PRESENT, ABSENT, ZERO = "present", "absent", "zero"
FLAT, PARTS, RANKS, OFFLINE = "flat", "parts", "ranks", "offline"


@dataclass(frozen=True, slots=True)
class When:
    """From version `since` to `until`, both included; "" leaves that end open."""

    since: str = ""
    until: str = ""
    socs: tuple[str, ...] = ()  # () = all of the engine's


@dataclass(frozen=True, slots=True)
class Labels:
    """These labels are loaded for these kinds of layer."""

    labels: tuple[str, ...]
    layers: tuple[str, ...]
    when: When
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Otherwise:
    """What becomes of a label that is not loaded for one of `layers` (() = any)."""

    layers: tuple[str, ...]
    verdict: str
    effect: str
    when: When


@dataclass(frozen=True, slots=True)
class Known:
    """Values of `model_type` that an engine has from one version to another."""

    types: tuple[str, ...]
    when: When


@dataclass(frozen=True, slots=True)
class Models:
    """The model types that an engine has, and what becomes of others.

    Attributes:
        layers: only where a weight of this kind of layer has one of `labels`; () = any.
        labels: () = any label but FLOAT where `layers` are named, else any directory.
        nested: whether the model_type of a language model inside counts as well.
    """

    known: tuple[Known, ...]
    labels: tuple[str, ...]
    layers: tuple[str, ...]
    nested: bool
    verdict: str
    effect: str


@dataclass(frozen=True, slots=True)
class Containers:
    """How files must lie in a directory with weights of one of `labels` (() = any)."""

    containers: tuple[str, ...]
    labels: tuple[str, ...]
    verdict: str
    effect: str
    when: When


@dataclass(frozen=True, slots=True)
class Names:
    """Names of modules that an engine does not ask for.

    They are those that `foreign` matches, or those of weights with one of `labels` that the maps
    of `tp_map` (schemas/tp_maps, by model_type) fuse or rename.
    """

    foreign: re.Pattern[str] | None
    tp_map: str
    labels: tuple[str, ...]
    verdict: str
    effect: str
    when: When


@dataclass(frozen=True, slots=True)
class Feature:
    """Modules that must have one of `labels` where config.json has the member `config`."""

    modules: tuple[str, ...]  # last components of names
    labels: tuple[str, ...]
    config: str
    verdict: str
    effect: str
    when: When


@dataclass(frozen=True, slots=True)
class Biases:
    """Linears that have no bias in the engine's classes of some model types.

    Attributes:
        without: last components of their names.
        unless: member of config.json -> those that have one after all where it is true.
        folded: labels whose quant_bias holds the bias already.
    """

    types: tuple[str, ...]
    without: tuple[str, ...]
    unless: Mapping[str, tuple[str, ...]]
    folded: tuple[str, ...]
    verdict: str
    effect: str
    when: When


@dataclass(frozen=True, slots=True)
class Metadata:
    """Values of one member of the description that are taken, where weights of `label` are."""

    key: str
    values: tuple[str | int, ...]
    label: str
    verdict: str
    effect: str
    when: When


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a tensor must be: PRESENT, ABSENT, ZERO, or of a shape in symbols."""

    tensor: str
    labels: tuple[str, ...]  # of the weight beside it; () = any
    layers: tuple[str, ...]
    modules: tuple[str, ...]  # last components of names; () = any
    must: str | tuple[str | int, ...]
    verdict: str
    effect: str
    when: When


@dataclass(frozen=True, slots=True)
class Binding:
    """Requirements that do or do not bind the engine, whatever their scope says."""

    ids: tuple[str, ...]
    binding: bool
    because: str
    when: When


def when(raw: Mapping[str, Any]) -> When:
    """Read the window of a fact."""
    return When(raw.get("since", ""), raw.get("until", ""), tuple(raw.get("socs", ())))


def labels(raw: Mapping[str, Any]) -> Labels:
    return Labels(tuple(raw["labels"]), tuple(raw["layers"]), when(raw), tuple(raw["source"]))


def otherwise(raw: Mapping[str, Any]) -> Otherwise:
    return Otherwise(tuple(raw.get("layers", ())), raw["verdict"], raw["effect"], when(raw))


def models(raw: Mapping[str, Any]) -> Models:
    return Models(
        tuple(Known(tuple(item["types"]), when(item)) for item in raw["known"]),
        tuple(raw.get("labels", ())), tuple(raw.get("layers", ())), raw.get("nested", False),
        raw["verdict"], raw["effect"],
    )  # fmt: skip


def containers(raw: Mapping[str, Any]) -> Containers:
    return Containers(
        tuple(raw["containers"]), tuple(raw.get("labels", ())), raw["verdict"], raw["effect"],
        when(raw),
    )  # fmt: skip


def names(raw: Mapping[str, Any]) -> Names:
    globs = raw.get("foreign", ())
    foreign = re.compile("|".join(map(translate, globs))) if globs else None
    return Names(
        foreign, raw.get("tp_map", ""), tuple(raw.get("labels", ())), raw["verdict"],
        raw["effect"], when(raw),
    )  # fmt: skip


def feature(raw: Mapping[str, Any]) -> Feature:
    return Feature(
        tuple(raw["modules"]), tuple(raw["labels"]), raw["config"], raw["verdict"], raw["effect"],
        when(raw),
    )  # fmt: skip


def biases(raw: Mapping[str, Any]) -> Biases:
    unless = {key: tuple(modules) for key, modules in raw.get("unless", {}).items()}
    return Biases(
        tuple(raw["types"]), tuple(raw["without"]), MappingProxyType(unless),
        tuple(raw["folded"]), raw["verdict"], raw["effect"], when(raw),
    )  # fmt: skip


def metadata(raw: Mapping[str, Any]) -> Metadata:
    return Metadata(
        raw["key"], tuple(raw["values"]), raw.get("label", ""), raw["verdict"], raw["effect"],
        when(raw),
    )  # fmt: skip


def tensor(raw: Mapping[str, Any]) -> Tensor:
    must = raw["must"]
    return Tensor(
        raw["tensor"], tuple(raw.get("labels", ())), tuple(raw.get("layers", ())),
        tuple(raw.get("modules", ())), must if isinstance(must, str) else tuple(must),
        raw["verdict"], raw["effect"], when(raw),
    )  # fmt: skip


def binding(raw: Mapping[str, Any]) -> Binding:
    return Binding(tuple(raw["ids"]), raw["binding"], raw["because"], when(raw))
