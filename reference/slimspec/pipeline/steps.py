"""A quantization as steps, in the manner of the one-click service: read and checked.

The statement is `schemas/quantization_steps.schema.json`. Rotation comes first, then each layer is
smoothed, its linears get their types, and what attention holds is quantized.

Source: msmodelslim core/runner/generated_runner.py, app/quant_service/modelslim_v1 (order).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slimspec import layout, schemes
from slimspec.checkpoint import CheckpointError
from slimspec.patterns import matches_glob
from slimspec.quantize.svd_lowrank import DEFAULT_RANK
from slimspec.sparse.admm import DEFAULT_RATIO

from .calibration.fake_linear import sees_texts, takes_range
from .calibration.gptq import by_gptq
from .calibration.settings import V1_TAKES, AttentionStep, CacheStep, KeyStep, Settings, SmoothStep
from .config import read_members
from .low_rank import SUFFIX
from .prune_model import PRUNED
from .recipe import KEEP, Rule
from .rotate_online import OnlineStep

SCHEMA = "quantization_steps"
HEAD = "lm_head"  # outside of the decoder layers that the service walks through
_LOG = logging.getLogger(__name__)
_ONCE = ("rotate", "smooth", "kv_smooth", "prune", "svd", "cache", "attention")
_NOT_MADE = {  # steps of the service -> why they are not made here
    "flatquant": "its transforms are trained",
    "autoround_quant": "its rounding is trained; quantize with method minmax or ssz",
}
_STORES = {"cache": "C8", "attention": "FAQuant"}  # step -> label
_OPTIONS = ("method", "group_size", "symmetric", "dual_block")  # of `Scheme.quantize`
_GPTQ = ("percdamp", "block_size")
_ACTIVATIONS = ("act_method", "act_symmetric", "aggregation")  # one choice for all static linears


@dataclass(frozen=True)
class LinearStep:
    """A type for the linears that a glob of `include` matches and none of `exclude`.

    Attributes:
        options: of `Scheme.quantize`.
        activations: act_method, act_symmetric, aggregation of static types, where given.
    """

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    activations: Mapping[str, Any] = field(default_factory=dict)

    def takes(self, module: str) -> bool:
        """True for a module that gets this type."""
        return matches(module, self.include, self.exclude)


@dataclass(frozen=True)
class Steps:
    """What to do; see the schema.

    `rotation` is the block size, `rank` that of float branches beside linears; 0 for none.
    `defects`: as in `Settings`.
    """

    producer: str = "A1"
    texts_from: str | None = None
    texts: tuple[str, ...] = ()
    part_file_size: float = 4
    one_pass: bool = True
    rotation: int = 0
    defects: bool = False
    online: OnlineStep | None = None
    smoothing: SmoothStep | None = None
    keys: KeyStep | None = None
    linears: tuple[LinearStep, ...] = ()
    cache: CacheStep | None = None
    attention: AttentionStep | None = None
    prune_ratio: float = DEFAULT_RATIO
    rank: int = 0

    def rules(self, modules: Sequence[str]) -> dict[str, Rule]:
        """Return the type of every module: that of the first step that takes it, else FLOAT.

        A step for the output head alone takes nothing, as in the service, and a warning says so.
        Raises: CheckpointError: another step that takes no module.
        """
        found = {name: Rule(name, KEEP) for name in modules}
        for place, step in enumerate(self.linears):
            turn = 0 if self.one_pass else place
            mine = [name for name in modules if step.takes(name)]
            if not mine:
                globs = ", ".join(step.include)
                if step.takes(HEAD):
                    _LOG.warning("warning: %s: no step quantizes %s; it stays float", globs, HEAD)
                    continue
                raise CheckpointError(f"steps: {step.type}: no linear matches include {globs}")
            for name in mine:
                if found[name].type == KEEP:
                    found[name] = Rule(name, self._label(step), step.options, turn=turn)
        return found

    def _label(self, step: LinearStep) -> str:
        return f"{step.type}{SUFFIX}" if self.rank else step.type

    def settings(self) -> Settings:
        """Return how to calibrate."""
        activations = next((s.activations for s in self.linears if takes_range(s.type)), {})
        return Settings(
            "v1",
            **activations,
            anti_method=self.smoothing.anti_method if self.smoothing else "",
            smoothing=self.smoothing,
            key_step=self.keys,
            cache=self.cache is not None,
            cache_step=self.cache,
            attention=self.attention is not None,
            attention_step=self.attention,
            prune_ratio=self.prune_ratio,
            rotation=self.rotation,
            defects=self.defects,
        )

    @property
    def needs_texts(self) -> bool:
        """True if a step has to see activations."""
        seen = any(sees_texts(s.type, s.options) or s.type == PRUNED for s in self.linears)
        return seen or any((self.cache, self.smoothing, self.keys, self.attention))


def matches(module: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """True for a module that a glob of `include` matches and none of `exclude`."""
    return _any(module, include) and not _any(module, exclude)


def _any(module: str, globs: Sequence[str]) -> bool:
    try:
        return any(matches_glob(module, glob) for glob in globs)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def read_steps(file: str | Path) -> Steps:
    """Read steps from YAML or JSON. Raises: CheckpointError: unreadable, as `parse_steps`."""
    return parse_steps(read_members(file), str(file))


def parse_steps(value: Any, where: str = "steps") -> Steps:
    """Check and build the steps.

    Raises: CheckpointError naming `where`, the place, what was found and what is expected.
    """
    from slimspec.jsonschemas import validator  # slow to import, and only needed here

    _refuse_not_made(value, where)
    errors = sorted(validator(SCHEMA).iter_errors(value), key=lambda e: list(map(str, e.path)))
    for error in errors:
        place = ".".join(map(str, error.absolute_path)) or "top level"
        raise CheckpointError(f"{where}: {place}: {error.message[:300]}")
    if "calib_file" in value and "calib_texts" in value:
        raise CheckpointError(f"{where}: calib_texts with calib_file: give one of them")
    steps = Steps(
        producer=value.get("producer", "A1"),
        texts_from=value.get("calib_file"),
        texts=tuple(value.get("calib_texts", ())),
        part_file_size=value.get("part_file_size", 4),
        one_pass=value.get("one_pass", True),
    )
    for index, raw in enumerate(value["steps"]):
        steps = _add(steps, raw, f"{where}: steps.{index}: {raw['step']}", value["steps"])
    _check_activations(steps, where)
    if steps.rank:
        _check_branches(steps, where)
    if steps.online and (steps.needs_texts or steps.rank or steps.producer != "A1"):
        raise CheckpointError(
            f"{where}: rotate: online: goes with quantize steps that need no calibration text, and "
            "with producer A1"
        )
    return steps


def _refuse_not_made(value: Any, where: str) -> None:
    found = value.get("steps") if isinstance(value, dict) else None
    for index, step in enumerate(found if isinstance(found, list) else ()):
        name = step.get("step") if isinstance(step, dict) else None
        if isinstance(name, str) and name in _NOT_MADE:
            raise CheckpointError(f"{where}: steps.{index}: {name} is not made: {_NOT_MADE[name]}")


def _add(steps: Steps, raw: Mapping[str, Any], where: str, all_steps: Sequence[Any]) -> Steps:
    kind = raw["step"]
    if kind in _ONCE and sum(other["step"] == kind for other in all_steps) > 1:
        raise CheckpointError(f"{where}: found twice, expected once")
    if kind in _STORES:
        _check_written(_STORES[kind], steps.producer, where)
    if kind == "quantize":
        return replace(steps, linears=(*steps.linears, _linear(raw, steps.producer, where)))
    if kind == "prune":
        made = _linear({**raw, "type": PRUNED}, steps.producer, where)
        steps = replace(steps, prune_ratio=raw.get("ratio", DEFAULT_RATIO))
        return replace(steps, linears=(*steps.linears, made))
    if kind == "svd":
        return replace(steps, rank=raw.get("rank", DEFAULT_RANK))
    if kind == "rotate":
        return replace(steps, rotation=raw.get("block_size", -1), online=_online(raw, where))
    if kind == "smooth":
        return replace(steps, smoothing=_smoothing(raw, where))
    if kind == "kv_smooth":
        return replace(steps, keys=KeyStep(**_members(raw)))
    if kind == "cache":
        return replace(steps, cache=CacheStep(**_members(raw)))
    first = not steps.linears and any(other["step"] == "quantize" for other in all_steps)
    heads = AttentionStep(
        element=raw.get("element", "int8"),
        dynamic=tuple(raw.get("dynamic", ())),
        include=tuple(raw.get("include", ("*",))),
        exclude=tuple(raw.get("exclude", ())),
        first=first,
    )
    return replace(steps, attention=heads)


def _online(raw: Mapping[str, Any], where: str) -> OnlineStep | None:
    """What a rotation leaves to the engine. Raises: CheckpointError: members without online."""
    given = {k: v for k, v in _members(raw).items() if k in ("max_tp_size", "down_proj_layers")}
    if raw.get("online"):
        return OnlineStep(**given)
    for member in given:
        raise CheckpointError(f"{where}: {member}: has an effect with online true only")
    return None


def _check_written(label: str, producer: str, where: str) -> None:
    try:
        layout.rules(label, producer)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _members(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a step, lists as tuples."""
    found = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return {k: v for k, v in found.items() if k != "step"}


def _smoothing(raw: Mapping[str, Any], where: str) -> SmoothStep:
    members, method = _members(raw), raw["method"]
    optional = {member for takes in V1_TAKES.values() for member in takes}
    for member in members:
        if member in optional and member not in V1_TAKES[method]:
            raise CheckpointError(f"{where}: {method} does not take {member}")
    if "beta" in V1_TAKES[method] and ("alpha" in members) != ("beta" in members):
        raise CheckpointError(f"{where}: {method}: give both alpha and beta, or none to search")
    return SmoothStep(**members)


def _linear(raw: Mapping[str, Any], producer: str, where: str) -> LinearStep:
    label = raw["type"]
    options = {k: raw[k] for k in _OPTIONS if k in raw}
    solving = {k: raw[k] for k in _GPTQ if k in raw}
    activations = {k: raw[k] for k in _ACTIVATIONS if k in raw}
    try:
        scheme = schemes.get(label)
    except ValueError as error:
        raise CheckpointError(f"{where}: {error}") from None
    _check_written(label, producer, where)
    for option in options:
        if option not in scheme.takes:
            raise CheckpointError(f"{where}: {label} does not take {option}")
    if "dual_block" in scheme.takes and "dual_block" not in options:
        raise CheckpointError(f"{where}: {label} needs dual_block, the columns of a long block")
    methods = (*scheme.methods, *scheme.from_inputs)
    method = options.get("method", methods[0])
    if method not in methods:
        known = ", ".join(methods)
        raise CheckpointError(f"{where}: {label}: method {method}, expected one of {known}")
    if solving and not by_gptq(options):
        raise CheckpointError(f"{where}: method {method} does not take {next(iter(solving))}")
    if label == "W4A8_DYNAMIC" and "group_size" in options:
        raise CheckpointError(
            f"{where}: {label} of {producer} has one scale per row, no group_size"
        )
    if activations and not takes_range(label):
        raise CheckpointError(f"{where}: {label} does not take {next(iter(activations))}")
    include, exclude = tuple(raw.get("include", ("*",))), tuple(raw.get("exclude", ()))
    return LinearStep(label, options | solving, include, exclude, activations)


def _check_branches(steps: Steps, where: str) -> None:
    """Refuse low-rank branches beside what no recorded run shows, or of types without them."""
    gptq = any(by_gptq(step.options) for step in steps.linears)
    pruned = any(step.type == PRUNED for step in steps.linears)
    if gptq or pruned or any((steps.cache, steps.smoothing, steps.keys, steps.attention)):
        raise CheckpointError(
            f"{where}: svd: goes with rotate and quantize steps only, and not with method gptq"
        )
    for step in steps.linears:
        _check_written(f"{step.type}{SUFFIX}", steps.producer, f"{where}: svd")


def _check_activations(steps: Steps, where: str) -> None:
    static = [step.activations for step in steps.linears if takes_range(step.type)]
    for other in static[1:]:
        if other != static[0]:
            raise CheckpointError(
                f"{where}: found {dict(static[0])} and {dict(other)}, expected one choice of "
                f"{', '.join(_ACTIVATIONS)} for all static types"
            )


__all__ = ["LinearStep", "Steps", "matches", "parse_steps", "read_steps"]
