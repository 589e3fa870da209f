"""Recipes: which linear of a model gets which quantization type (`schemas/recipes`).

>>> recipe = load("deepseek-w8a8").bind({"num_hidden_layers": 61, "num_nextn_predict_layers": 1})
>>> recipe.resolve("model.layers.7.self_attn.o_proj").type
'W8A8'
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slimspec import layout, schemes
from slimspec.checkpoint import CheckpointError, read_json
from slimspec.data import folder
from slimspec.layout import vocabulary

MTP = "{mtp}"
KEEP = "FLOAT"
_MOST_LAYERS = 1024  # a bound for what a hostile config.json may ask for


@dataclass(frozen=True, slots=True)
class Rule:
    """Modules that `match`, a glob, are quantized as `type` with `options` of `Scheme.quantize`.

    `turn` is the place among the steps of the one-click service that pass the texts one by one.
    """

    match: str
    type: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    why: str | None = None
    source: tuple[str, ...] = ()
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Ordered rules: the first that matches counts, a module without one stays FLOAT."""

    name: str
    title: str
    producer: str
    rules: tuple[Rule, ...]
    model_quant_type: str | None = None
    config: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    note: str | None = None
    source: tuple[str, ...] = ()

    def bind(self, config: Mapping[str, Any]) -> Recipe:
        """Put the model's own layers in the place of {mtp}; without such layers the rule goes.

        Args: config: config.json of the float model.
        """
        layers = mtp_layers(config)
        rules = (
            replace(rule, match=rule.match.replace(MTP, str(layer)))
            for rule in self.rules
            for layer in (layers if MTP in rule.match else (0,))
        )
        return replace(self, rules=tuple(rules))

    def resolve(self, module: str) -> Rule:
        """Return the first rule that matches a module name, or one that keeps it FLOAT."""
        for rule in self.rules:
            if fnmatchcase(module, rule.match):
                return rule
        return Rule(module, KEEP)

    def with_group_size(self, group_size: int) -> Recipe:
        """Return the recipe with another group size wherever a rule has one."""
        rules = (
            replace(rule, options={**rule.options, "group_size": group_size})
            if "group_size" in rule.options
            else rule
            for rule in self.rules
        )
        return replace(self, rules=tuple(rules))

    @property
    def static(self) -> bool:
        """True if a rule needs the range of a linear's input."""
        return any("activation_range" in schemes.get(rule.type).takes for rule in self.rules)

    @property
    def group_size(self) -> int:
        """Return the largest group size of the rules, 0 for none: the one of the description."""
        return max((rule.options.get("group_size", 0) for rule in self.rules), default=0)


def mtp_layers(config: Mapping[str, Any]) -> range:
    """Return the indices of the multi-token prediction layers, which follow the others."""
    first, count = (config.get(k) for k in ("num_hidden_layers", "num_nextn_predict_layers"))
    if type(first) is not int or type(count) is not int or not 0 < count <= _MOST_LAYERS:
        return range(0)
    return range(first, first + count)


def names() -> tuple[str, ...]:
    """Return the names of the recipes that come with slimspec."""
    return tuple(sorted(path.stem for path in (folder("schemas") / "recipes").glob("*.json")))


def load(name: str | Path) -> Recipe:
    """Read a recipe by name, or from a JSON file.

    Raises:
        CheckpointError: unknown name, unreadable file, or content that no producer can write.
    """
    if str(name) in names():
        name = folder("schemas") / "recipes" / f"{name}.json"
    elif not Path(name).is_file():
        raise CheckpointError(f"no recipe {str(name)!r}: found no such file, nor one of {names()}")
    read = read_json(name)
    for defect in read.defects:
        raise CheckpointError(defect.message)
    return parse(read.value, str(name))


def parse(value: Any, file: str = "recipe") -> Recipe:
    """Check and build a recipe. Raises: CheckpointError naming `file`, the place and the reason."""
    from slimspec.jsonschemas import validator  # slow to import, and only needed here

    errors = sorted(validator("recipe").iter_errors(value), key=lambda e: list(map(str, e.path)))
    for error in errors:
        where = ".".join(map(str, error.absolute_path)) or "top level"
        raise CheckpointError(f"{file}: {where}: {error.message}")
    recipe = Recipe(
        name=value["name"],
        title=value["title"],
        producer=value["producer"],
        rules=tuple(_rule(raw) for raw in value["rules"]),
        model_quant_type=value.get("model_quant_type"),
        config=MappingProxyType(value.get("config", {})),
        note=value.get("note"),
        source=tuple(value.get("source", ())),
    )
    _check(recipe, file)
    return recipe


def _rule(raw: Mapping[str, Any]) -> Rule:
    options = MappingProxyType(raw.get("options", {}))
    return Rule(raw["match"], raw["type"], options, raw.get("why"), tuple(raw.get("source", ())))


def _check(recipe: Recipe, file: str) -> None:
    """Refuse types without a scheme, types of other producers, and options a type does not have."""
    producer = recipe.producer
    if recipe.model_quant_type is None and producer in ("L0", "A0"):
        raise CheckpointError(f"{file}: producer {producer} needs model_quant_type")
    for index, rule in enumerate(recipe.rules):
        where = f"{file}: rules.{index}: {rule.match}"
        try:
            takes = schemes.get(rule.type).takes
            layout.rules(rule.type, producer)
        except ValueError as error:
            raise CheckpointError(f"{where}: {error}") from None
        for option in rule.options:
            if option not in takes:
                raise CheckpointError(f"{where}: {rule.type} does not take {option}")


def model_quant_type(labels: Iterable[str]) -> str:
    """Return the model_quant_type that profiles A1 and MF derive from the labels of the linears.

    The label of the highest rank; "Unknown" if none has a rank. A derived label without a rank
    counts as its base. Source: formats.md 2.3; msmodelslim save/ascendv1.py:165-181,758-765.
    """
    known = vocabulary.labels()
    best, rank = "Unknown", -1
    for label in set(labels):
        for candidate in (label, layout.base_label(label)):
            found = known.get(candidate or "")
            if found is not None and found.rank is not None and found.rank > rank:
                best, rank = found.label, found.rank
    return best


def describe(recipe: Recipe) -> str:
    """Return the rules as lines of glob, type and options."""
    width = max(len(rule.match) for rule in recipe.rules)
    lines = (
        f"{rule.match:<{width}}  {rule.type}"
        + (f"  {json.dumps(dict(rule.options))}" if rule.options else "")
        for rule in recipe.rules
    )
    return "\n".join(lines)
