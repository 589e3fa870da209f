"""What is wrong with the tensors of a module by the layout of its label.

The layouts say which tensors a linear of a type has, in which dtype, of which shape and under
which label. All of it is compared once per module class; a rule picks the problems that are its
own with `breaches`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from slimcheck.findings import Finding
from slimcheck.labels import types_of_label
from slimspec import layout, requirements
from slimspec.layout import LayoutError, TensorRule
from slimspec.layout.beside import SHARD, guests

if TYPE_CHECKING:
    from slimcheck.context import Context, ModuleClass, Spec

NORM_TENSORS = frozenset({"weight", "bias"})

MISSING = "missing"  # required, neither stored nor described
UNEXPECTED = "unexpected"  # stored and described, but the type has no such tensor
DTYPE = "dtype"
SHAPE = "shape"
LABEL = "label"

FLOATS = frozenset({"F16", "BF16", "F32"})
_TWINS = ("weight_scale", "weight_offset")  # of one shape wherever both are
COMPRESSED = frozenset(
    {"W8A8SC", "W16A16SC"}
)  # DESC-029 and DESC-030 own their presence and labels
Rules = Mapping[str, TensorRule]


@dataclass(frozen=True, slots=True)
class Problem:
    """One aspect of one tensor that contradicts the layout, in all members of a class."""

    cls: "ModuleClass"
    type: str  # the type whose layout is contradicted
    types: frozenset[str]  # that type and the wrapper on it
    aspect: str
    suffix: str
    found: str
    expected: str
    tensors: tuple[str, ...]


def breaches(
    ck: "Context",
    requirement: str,
    aspects: Collection[str],
    suffixes: Collection[str] | None = None,
) -> Iterator[Finding]:
    """Findings for the problems of these aspects (of these suffixes) in the requirement's types."""
    types = types_of(requirement)
    for problem in ck.problems:
        if (
            problem.aspect in aspects
            and (suffixes is None or problem.suffix in suffixes)
            and (not types or not problem.types.isdisjoint(types))
        ):
            yield breach(ck, requirement, problem)


def foreign_dtypes(
    ck: "Context",
    requirement: str,
    suffixes: Collection[str],
    allowed: frozenset[str] = FLOATS,
) -> Iterator[Finding]:
    """Findings for tensors in no dtype of `allowed`.

    Another dtype than the profile writes, but one of `allowed`, is NUM-005's.
    """
    types = types_of(requirement)
    for problem in ck.problems:
        own = problem.suffix in suffixes and not problem.types.isdisjoint(types)
        if problem.aspect != DTYPE or not own:
            continue
        if problem.cls.tensors[problem.suffix].dtype not in allowed:
            expected = " or ".join(sorted(allowed))
            yield replace(breach(ck, requirement, problem), expected=expected)


def breach(ck: "Context", requirement: str, problem: Problem) -> Finding:
    return Finding(
        requirement,
        problem.aspect,
        problem.found,
        problem.expected,
        problem.tensors,
        ck.one_file(problem.tensors),
    )


@cache
def types_of(requirement: str) -> frozenset[str]:
    """Types that the requirement is about; empty = all."""
    known = requirements.load().get(requirement)
    return frozenset(known.types) if known else frozenset()


def problems(ck: "Context") -> Iterator[Problem]:
    """Compare every class with the layout of its label."""
    for cls in ck.classes:
        own = label_of(cls, ck.profile)
        rules = rules_of(own, ck.profile) if own else None
        if own is not None and rules is not None and _is_linear_of(cls, rules):
            yield from _Judged(ck, cls, own, rules).problems()


def contradictions(found: Iterable[Problem], profile: str) -> dict[int, str]:
    """By id of a class: the first tensor with which no arithmetic of its type is defined.

    A float of another width than the layout's is a number still.
    """
    told: dict[int, str] = {}
    for problem in found:
        cls, suffix = problem.cls, problem.suffix
        if problem.aspect == DTYPE:
            own = label_of(cls, profile)
            rules = rules_of(own, profile) if own else None
            dtypes = rules[suffix].resolve_dtypes() if rules and suffix in rules else frozenset()
            if FLOATS.issuperset({cls.tensors[suffix].dtype, *dtypes}):
                continue
        elif problem.aspect != SHAPE:
            continue
        told.setdefault(id(cls), f"{suffix}: {problem.found}, expected {problem.expected}")
    return told


def _is_linear_of(cls: "ModuleClass", rules: Rules) -> bool:
    """A weight, or some tensor that only a linear has (and not, say, `reduce_scale.0`); no norm."""
    if cls.tensors.keys() <= NORM_TENSORS and all(map(is_norm, cls.members)):  # NORM-006
        return False
    return any(
        suffix == "weight" or (suffix in rules and rules[suffix].presence == "required")
        for suffix in cls.tensors
    )


def is_norm(module: str) -> bool:
    """Whether a module is a normalization, by the last component of its name."""
    return module[-4:].lower() == "norm"


def label_of(cls: "ModuleClass", profile: str) -> str | None:
    """The label of the weight; where there is no weight, the one its companions agree on."""
    if cls.label is not None or "weight" in cls.tensors:
        return cls.label
    labels = {spec.label for suffix, spec in cls.tensors.items() if suffix != "bias"}
    linear = [label for label in labels if label is not None and rules_of(label, profile)]
    return linear[0] if len(linear) == 1 else None


@lru_cache(1024)
def rules_of(label: str, profile: str) -> Rules | None:
    """Suffix -> rule of a linear; None for a label that no writer of the profile has."""
    if not is_linear(label):
        return None
    try:
        return layout.rules(label, profile)
    except LayoutError:
        return None


@lru_cache(1024)
def is_linear(label: str) -> bool:
    """Whether the label is that of a linear (and not of an attention tensor, or unknown)."""
    found = layout.resolve(label)
    return found is not None and found[0].kind == "linear"


@cache
def _releases(profile: str) -> Mapping[str, frozenset[str]]:
    """Guest suffix -> companions that a linear beside it need not have."""
    found: dict[str, frozenset[str]] = {}
    for name in layout.types():
        described = layout.load(name)
        if described.releases and profile in described.profiles:
            for suffix in described.rules(profile):
                found[suffix] = frozenset(described.releases)
    return found


def _per_shard(profile: str) -> frozenset[str]:
    """Companions that a linear need not have whose shards have them."""
    return _releases(profile).get("tp_list.{i}.weight", frozenset())


class _Judged:
    """One class under comparison."""

    def __init__(self, ck: "Context", cls: "ModuleClass", own: str, rules: Rules) -> None:
        self.ck, self.cls, self.own, self.rules = ck, cls, own, rules
        self.type = layout.base_label(own, ck.profile) or own

    def problems(self) -> Iterator[Problem]:
        labels = list(self._labels())
        yield from labels
        if all(problem.suffix == "bias" for problem in labels):  # else the label is what is wrong
            yield from self._missing()
            yield from self._unexpected()
        yield from self._dtypes()
        yield from self._shapes()

    def _problem(
        self, aspect: str, suffix: str, found: str, expected: str, names: tuple[str, ...] = ()
    ) -> Problem:
        names = names or self.cls.names(suffix)
        types = types_of_label(self.own, self.ck.profile) or frozenset({self.type})
        return Problem(self.cls, self.type, types, aspect, suffix, found, expected, names)

    def _labels(self) -> Iterator[Problem]:
        for suffix, spec in self.cls.tensors.items():
            if spec.label is None:  # an undescribed tensor is DESC-020's
                continue
            wanted = self._wanted_label(suffix, spec)
            if wanted:
                found = f"label {spec.label}"
                if suffix != "weight":
                    found += f", the weight is {self.own}"
                yield self._problem(LABEL, suffix, found, f"label {wanted}")

    def _wanted_label(self, suffix: str, spec: "Spec") -> str:
        """The label the tensor should have; "" when it is right or no other is known."""
        label = spec.label
        assert label is not None
        rule = self._of_shard(suffix) or self.rules.get(suffix)
        if rule is None or rule.presence == "forbidden":
            foreign = is_linear(label) and layout.base_label(label) not in ("FLOAT", self.type)
            return self.own if foreign and suffix not in guests(self.ck.profile) else ""
        plain = "FLOAT" if layout.base_label(label) == "FLOAT" else label  # FLOAT_FLATQUANT
        if any(rule.accepts_label(name, self.own) for name in (label, plain)):
            return ""
        return " or ".join(self.own if name == layout.SELF else name for name in rule.labels)

    def _of_shard(self, suffix: str) -> TensorRule | None:
        """What a tensor is in a linear that is cut over ranks, if these are its shards."""
        if not all(map(SHARD.fullmatch, self.cls.members)):
            return None
        return layout.attachments(self.ck.profile).get(f"tp_list.{{i}}.{suffix}")

    def _missing(self) -> Iterator[Problem]:
        if self.type == "FLOAT":
            return
        released: set[str] = set()
        for suffix in self.cls.tensors:
            released |= _releases(self.ck.profile).get(suffix, frozenset())
        has = ", ".join(sorted(self.cls.tensors))
        for suffix, rule in self.rules.items():
            if rule.presence != "required" or suffix in self.cls.tensors or suffix in released:
                continue
            # what is described but not stored is DESC-021's
            hosts = self.ck.sharded if suffix in _per_shard(self.ck.profile) else frozenset()
            names = tuple(
                name
                for name in self.cls.names(suffix)
                if name not in self.ck.labels and name.rpartition(".")[0] not in hosts
            )
            if names:
                yield self._problem(
                    MISSING, suffix, f"only {has}", f"{suffix} of {self.own}", names
                )

    def _unexpected(self) -> Iterator[Problem]:
        if self.type == "FLOAT":
            return
        for suffix, spec in self.cls.tensors.items():
            rule = self.rules.get(suffix)
            known = rule is not None and rule.presence != "forbidden"
            if known or spec.label is None or suffix in guests(self.ck.profile):
                continue
            wanted = ", ".join(s for s, r in self.rules.items() if r.presence != "forbidden")
            yield self._problem(UNEXPECTED, suffix, f"a tensor {suffix}", f"{self.own}: {wanted}")

    def _dtypes(self) -> Iterator[Problem]:
        model = self.ck.model_dtype
        for suffix, spec in self.cls.tensors.items():
            rule = self.rules.get(suffix)
            if rule is None or not rule.dtypes:
                continue
            allowed = rule.resolve_dtypes(model)
            if spec.dtype not in allowed:
                expected = " or ".join(sorted(allowed))
                if model and not {"D", "DQ"}.isdisjoint(rule.dtypes):
                    expected += f" for a model in {model}"
                yield self._problem(DTYPE, suffix, f"dtype {spec.dtype}", expected)

    def _shapes(self) -> Iterator[Problem]:
        shapes = self.cls.shapes
        wrong = {problem.suffix: problem for problem in layout.bind(self.rules, shapes).problems}
        for problem in wrong.values():
            found = f"shape {list(problem.found)}"
            yield self._problem(SHAPE, problem.suffix, found, f"shape {problem.expected}")
        scale, offset = (shapes.get(suffix) for suffix in _TWINS)
        twins = all(suffix in self.rules and suffix not in wrong for suffix in _TWINS)
        if twins and scale is not None and offset is not None and scale != offset:
            expected = f"shape {list(scale)}, as weight_scale"
            yield self._problem(SHAPE, _TWINS[1], f"shape {list(offset)}", expected)
