"""Labels of the description: which layout a label means, derived labels included.

A wrapper around a linear changes its label (`W8A8` -> `W8A8_FLATQUANT`) and adds tensors;
`schemas/derivations.json` holds both.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

from slimspec.data import folder
from slimspec.layout.model import (
    Constraint,
    Layout,
    LayoutError,
    TensorRule,
    constraints,
    load,
    tensors,
    types,
)


@dataclass(frozen=True, slots=True)
class Derivation:
    """A wrapper: how it renames a label and which tensors it adds."""

    name: str
    title: str
    forms: tuple[tuple[str, str], ...]  # (ending of the base label, ending of the derived one)
    profiles: tuple[str, ...]
    tensors: Mapping[str, Mapping[str, TensorRule]]
    constraints: tuple[Constraint, ...]

    def derive(self, base: str) -> str:
        """Return the label a wrapped linear of type `base` carries."""
        for ending, derived in self.forms:
            if base.endswith(ending):
                return base.removesuffix(ending) + derived
        return base

    def base(self, label: str) -> str | None:
        """Return the label before the wrapper, or None if this wrapper did not rename it."""
        for ending, derived in self.forms:
            if label.endswith(derived) and label != derived:
                return label.removesuffix(derived) + ending
        return None


@cache
def derivations() -> Mapping[str, Derivation]:
    """Return name -> wrapper."""
    raw = json.loads((folder("schemas") / "derivations.json").read_text(encoding="utf-8"))
    return MappingProxyType({item["name"]: _derivation(item) for item in raw["derivations"]})


def _derivation(raw: dict) -> Derivation:
    profiles = tuple(raw["profiles"])
    return Derivation(
        name=raw["name"],
        title=raw["title"],
        forms=tuple((form["base"], form["derived"]) for form in raw["forms"]),
        profiles=profiles,
        tensors=tensors(raw["name"], profiles, raw["tensors"]),
        constraints=constraints(raw.get("constraints", [])),
    )


@lru_cache(1024)  # a hostile description has a million labels
def resolve(label: str, profile: str | None = None) -> tuple[Layout, Derivation | None] | None:
    """Return the layout a label means and the wrapper on it; None for a label nobody writes.

    A label may have a layout of its own for some writers and be a wrapped type for others, so the
    answer may depend on `profile`.
    """
    own = _own(label)
    if own is not None and (profile is None or profile in own[0].profiles):
        return own
    for derivation in derivations().values():
        base = derivation.base(label)
        if base is not None and base in types() and (own is None or profile in load(base).profiles):
            return load(base), derivation
    return own


def _own(label: str) -> tuple[Layout, Derivation | None] | None:
    if label not in types():
        return None
    layout = load(label)
    return layout, derivations()[layout.derivation] if layout.derivation else None


def base_label(label: str, profile: str | None = None) -> str | None:
    """Return the type whose layout a label follows: "W8A8_FLATQUANT" -> "W8A8".

    None means that no layout describes the label.
    """
    found = resolve(label, profile)
    return found[0].type if found else None


@cache
def rules(label: str, profile: str) -> Mapping[str, TensorRule]:
    """Return suffix -> rule for a label in a profile, the tensors of its wrapper included.

    Raises:
        LayoutError: unknown label, or a type that no writer of that profile produces.
    """
    found = resolve(label, profile)
    if found is None:
        raise LayoutError(f"no layout for label {label!r}")
    layout, derivation = found
    if derivation and profile not in layout.profiles:  # the wrapper of one may be a type of another
        base = derivation.base(label)
        layout = load(base) if base in types() else layout
    extra = derivation.tensors.get(profile, {}) if derivation else {}
    return MappingProxyType({**layout.rules(profile), **extra})


@cache
def attachments(profile: str) -> Mapping[str, TensorRule]:
    """Return what may hang on any linear beside the tensors of its type: KV scales, rotations, …

    A suffix holds `{i}` where the files have a number.
    """
    found: dict[str, TensorRule] = {}
    for name in types():
        layout = load(name)
        if layout.kind != "linear" and layout.host == "linear" and profile in layout.profiles:
            found.update(layout.rules(profile))
    for derivation in derivations().values():
        found.update(derivation.tensors.get(profile, {}))
    return MappingProxyType(found)
