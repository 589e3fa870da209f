"""The layouts as typed records: `schemas/layouts/TYPE.json` read once.

Dtypes are safetensors tags plus two symbols: `D`, the dtype of the float model when it was
quantized, and `DQ`, the dtype of `deq_scale` (I64 for F16 and F32 models, F32 for BF16).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from slimspec.data import folder
from slimspec.layout import symbols

Dim = str | int
Shape = tuple[Dim, ...]

SELF = "SELF"
MODEL = "MODEL"
_MODEL_DTYPES = ("F16", "BF16", "F32")
_DEQ_SCALE = {"F16": "I64", "F32": "I64", "BF16": "F32"}


class LayoutError(ValueError):
    """A type or a profile that the layouts do not know, or data that breaks their rules."""


@dataclass(frozen=True, slots=True)
class Values:
    """What may be said of the elements without knowing the float model."""

    min_exclusive: float | None = None
    const: float | None = None
    integral: bool = False
    range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TensorRule:
    """What one suffix of one type is in one producer profile.

    `shapes` None means any shape; `packing` runs parallel to `shapes`; `named` says which one it is
    by parts of the name of the host; `labels` holds what the description may say: SELF is the label
    of the host, MODEL the type of the model, () no entry.
    """

    suffix: str
    presence: str
    dtypes: tuple[str, ...] = ()
    shapes: tuple[Shape, ...] | None = None
    labels: tuple[str, ...] = (SELF,)
    values: Values = field(default_factory=Values)
    packing: tuple[str, ...] = ()
    named: tuple[tuple[tuple[str, ...], Shape], ...] = ()
    when: str | None = None
    note: str | None = None
    source: tuple[str, ...] = ()

    def resolve_dtypes(self, model_dtype: str | None = None) -> frozenset[str]:
        """Return the safetensors tags allowed for a float model of `model_dtype` (None: any)."""
        models = _MODEL_DTYPES if model_dtype is None else (model_dtype,)
        return frozenset(_tag(token, model) for token in self.dtypes for model in models)

    def accepts_label(self, label: str | None, own: str, model: str | None = None) -> bool:
        """True if the tensor may carry `label` (None: no entry).

        Args:
            label: what the description says of the tensor.
            own: label of the weight of its host, meant by SELF.
            model: model_quant_type, meant by MODEL.
        """
        if not self.labels:
            return label is None
        return label is not None and label in (
            {SELF: own, MODEL: model}.get(word, word) for word in self.labels
        )

    def shape_of(self, host: str) -> Shape | None:
        """Return the shape that the name of the host decides; None where it decides none."""
        fitting = (shape for parts, shape in self.named if any(part in host for part in parts))
        return next(fitting, None)

    def match(self, shape: tuple[int, ...], env: symbols.Env) -> dict[str, int] | None:
        """Return `env` extended by what `shape` tells, by the first alternative that fits."""
        if self.shapes is None:
            return dict(env)
        for alternative in self.shapes:
            bound = match_shape(alternative, shape, env)
            if bound is not None:
                return bound
        return None


def _tag(token: str, model_dtype: str) -> str:
    if token == "D":
        return model_dtype
    return _DEQ_SCALE[model_dtype] if token == "DQ" else token


def write_dtype(rule: TensorRule, model_dtype: str) -> str:
    """Return the one dtype a writer uses: the first of the rule, symbols resolved."""
    if not rule.dtypes:
        raise LayoutError(f"{rule.suffix}: {rule.presence}, has no dtype to write")
    return _tag(rule.dtypes[0], model_dtype)


def match_shape(formula: Shape, shape: tuple[int, ...], env: symbols.Env) -> dict[str, int] | None:
    """Extend `env` so that `formula` gives `shape`; None when it cannot."""
    if len(formula) != len(shape):
        return None
    bound = dict(env)
    for _ in range(2):  # a later dimension may bind what an earlier one needs
        for dim, size in zip(formula, shape, strict=True):
            new = symbols.solve(symbols.parse(dim), size, bound)
            if new is None:
                return None
            bound.update(new)
    return bound


@dataclass(frozen=True, slots=True)
class Constraint:
    """One comparison of symbols; `when` lists the suffixes that must exist for it to apply."""

    expr: str
    phase: str
    when: tuple[str, ...] = ()
    note: str | None = None
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """One quantization type: which tensors hang on its host, per producer profile."""

    type: str
    kind: str
    host: str
    title: str
    profiles: tuple[str, ...]
    rejected: bool
    derivation: str | None
    constraints: tuple[Constraint, ...]
    description_keys: Mapping[str, str]
    releases: tuple[str, ...]
    consumers: Mapping[str, Any]
    note: str | None
    source: tuple[str, ...]
    tensors: Mapping[str, Mapping[str, TensorRule]]  # profile -> suffix -> rule

    def rules(self, profile: str) -> Mapping[str, TensorRule]:
        """Return suffix -> rule for one producer profile.

        Raises:
            LayoutError: no writer of that profile produces this type.
        """
        try:
            return self.tensors[profile]
        except KeyError:
            known = ", ".join(self.profiles)
            raise LayoutError(f"{self.type} is not written by {profile}, only by {known}") from None


@cache
def types() -> tuple[str, ...]:
    """Return the names of all layouts, in order."""
    return tuple(sorted(path.stem for path in (folder("schemas") / "layouts").glob("*.json")))


@cache
def load(type_name: str) -> Layout:
    """Return the layout of one type, e.g. load("W8A8_DYNAMIC").

    Raises:
        LayoutError: there is none of that name.
    """
    if type_name not in types():
        raise LayoutError(f"no layout for type {type_name!r}")
    path = folder("schemas") / "layouts" / f"{type_name}.json"
    return _layout(json.loads(path.read_text(encoding="utf-8")))


def _layout(raw: dict[str, Any]) -> Layout:
    profiles = tuple(raw["profiles"])
    return Layout(
        type=raw["type"],
        kind=raw["kind"],
        host=raw["host"],
        title=raw["title"],
        profiles=profiles,
        rejected=raw.get("reject", False),
        derivation=raw.get("derivation"),
        constraints=constraints(raw.get("constraints", [])),
        description_keys=MappingProxyType(raw.get("description_keys", {})),
        releases=tuple(raw.get("releases", ())),
        consumers=MappingProxyType(raw.get("consumers", {})),
        note=raw.get("note"),
        source=tuple(raw["source"]),
        tensors=tensors(raw["type"], profiles, raw["tensors"]),
    )


def constraints(raw: list[dict[str, Any]]) -> tuple[Constraint, ...]:
    """Read a list of constraints as written in the data."""
    return tuple(
        Constraint(
            expr=item["expr"],
            phase=item["phase"],
            when=tuple(item.get("when", ())),
            note=item.get("note"),
            source=tuple(item["source"]),
        )
        for item in raw
    )


def tensors(
    owner: str, profiles: tuple[str, ...], raw: dict[str, list[dict[str, Any]]]
) -> Mapping[str, Mapping[str, TensorRule]]:
    """Turn suffix -> entries with profile lists into profile -> suffix -> rule."""
    table: dict[str, dict[str, TensorRule]] = {profile: {} for profile in profiles}
    for suffix, entries in raw.items():
        for entry in entries:
            rule = _rule(suffix, entry)
            for profile in entry["profiles"]:
                if profile not in table:
                    raise LayoutError(f"{owner}.{suffix}: profile {profile} is not in `profiles`")
                if suffix in table[profile]:
                    raise LayoutError(f"{owner}.{suffix}: two entries for profile {profile}")
                table[profile][suffix] = rule
    return MappingProxyType({name: MappingProxyType(rules) for name, rules in table.items()})


def _rule(suffix: str, raw: dict[str, Any]) -> TensorRule:
    shape = raw.get("shape")
    values = dict(raw.get("values", {}))
    if "range" in values:
        values["range"] = tuple(values["range"])
    return TensorRule(
        suffix=suffix,
        presence=raw["presence"],
        dtypes=tuple(raw.get("dtype", ())),
        shapes=None if shape is None else tuple(tuple(dims) for dims in shape),
        labels=tuple(raw.get("label", (SELF,))),
        values=Values(**values),
        packing=tuple(raw.get("packing", ())),
        named=tuple((tuple(item["parts"]), tuple(item["shape"])) for item in raw.get("named", ())),
        when=raw.get("when"),
        note=raw.get("note"),
        source=tuple(raw.get("source", ())),
    )
