"""NUM: numbers that no layout speaks of: NaN, ranges, and labels that contradict the tensors."""

from collections.abc import Iterator

from slimcheck.context import Context, ModuleClass, Spec, join
from slimcheck.described import entries
from slimcheck.elements import Mask, wrong_elements
from slimcheck.findings import Finding
from slimcheck.layouts import (
    DTYPE,
    FLOATS,
    MISSING,
    UNEXPECTED,
    breach,
    is_linear,
    rules_of,
    types_of,
)
from slimcheck.registry import rule, value_rule
from slimcheck.scales import are_scales, bare_zeros, no_scale
from slimcheck.values.modules import Module
from slimcheck.values.words import EXPONENT
from slimspec import layout
from slimspec.layout import TensorRule, layer_names
from slimspec.layout.beside import guests

_OWN_RULE = {  # suffix -> requirements that judge it for their types
    "input_scale": ("W8A8-004",),
    "deq_scale": ("W8A8-010",),
    "weight_scale": ("DYN-002", "W8A16-003", "W4A8-003", "MX-008"),
    "weight_scale_second": ("W4A8-004",),
    "weight_dual_scale": ("MX-010",),
    "clip_ratio": ("FQ-003",),
    "kv_cache_scale": ("KV-002",),
    "scale": ("FA-003",),
}
_OWN_DTYPE = (  # requirements that judge the dtypes of weight_scale and weight_offset
    "W8A8-015", "W8A16-005", "W4A8-003", "W4A4-002", "MX-001", "MX-004", "MX-008", "MX-010",
)  # fmt: skip


@value_rule("NUM-001", by_row=True)
def scales_and_floats_are_numbers(ck: Context, module: Module) -> Iterator[Finding]:
    rules = rules_of(module.label, ck.profile) if module.label else None
    for suffix, spec in module.cls.tensors.items():
        if spec.dtype not in FLOATS:
            continue
        known = (rules or {}).get(suffix) or guests(ck.profile).get(suffix)
        if known is not None and known.values.min_exclusive is not None:
            yield from _scale(module, suffix)
        elif spec.label is not None and layout.base_label(spec.label) == "FLOAT":
            yield from _float(module, suffix, spec)


def _scale(module: Module, suffix: str) -> Iterator[Finding]:
    own = any(not module.types.isdisjoint(types_of(key)) for key in _OWN_RULE.get(suffix, ()))
    scale = None if own else module.numbers(suffix)
    if scale is None or are_scales(module, suffix):
        return
    wrong = no_scale(scale)
    if suffix == "weight_scale" and module.base_label not in types_of("W8A8-020"):
        wrong |= bare_zeros(module, scale)
    elif suffix != "weight_scale":
        wrong |= scale == 0
    yield from wrong_elements("NUM-001", module, suffix, wrong, "finite, above 0", kind="scale")


def _float(module: Module, suffix: str, spec: Spec) -> Iterator[Finding]:
    if module.words(suffix).not_finite < 0:
        return
    values, exponent = module.array(suffix), EXPONENT[spec.dtype]
    wrong: Mask = (values.view(exponent.dtype) & exponent) == exponent
    yield from wrong_elements("NUM-001", module, suffix, wrong, "finite numbers", kind="float")


@value_rule("NUM-002", by_row=True)
def integers_stay_in_range(ck: Context, module: Module) -> Iterator[Finding]:
    rules = rules_of(module.label, ck.profile) if module.label else None
    known = rules.get("weight") if rules else None
    stats = module.integers
    if known is None or stats is None or known.values.range is None or not stats.least.size:
        return
    low, high = known.values.range
    codes = module.codes if stats.least.min() < low or stats.most.max() > high else None
    if codes is None:
        return
    wrong = (codes < low) | (codes > high)
    expected = f"{low:g} … {high:g}"
    yield from wrong_elements("NUM-002", module, "weight", wrong, expected, kind="range")


@rule("NUM-003")
def bias_has_the_dtype_of_the_profile(ck: Context) -> Iterator[Finding]:
    for problem in ck.problems:
        if problem.aspect == DTYPE and problem.suffix == "bias" and _is_float(problem.cls, "bias"):
            yield breach(ck, "NUM-003", problem)


def _is_float(cls: ModuleClass, suffix: str) -> bool:
    return cls.tensors[suffix].dtype in FLOATS


@rule("NUM-005")
def label_fits_the_tensors(ck: Context) -> Iterator[Finding]:
    yield from _other_float_dtypes(ck)
    yield from _integers_under_float(ck)
    told: set[int] = set()
    for problem in ck.problems:
        if problem.aspect in (MISSING, UNEXPECTED) and id(problem.cls) not in told:
            told.add(id(problem.cls))
            other = _signature(ck, problem.cls)
            if other and problem.cls.label:
                names = problem.cls.names("weight")
                found = f"label {problem.cls.label}, the tensors of {other}"
                yield Finding("NUM-005", "type", found, f"label {other}", names, ck.one_file(names))


def _other_float_dtypes(ck: Context) -> Iterator[Finding]:
    """Scales and offsets in a float dtype that the profile does not write."""
    weight_rules = frozenset().union(*map(types_of, _OWN_DTYPE))
    for problem in ck.problems:
        if problem.aspect != DTYPE or not problem.suffix.endswith(("_scale", "_offset")):
            continue
        own_rule = problem.suffix.startswith("weight") and problem.type in weight_rules
        if (
            not own_rule
            and problem.suffix != "deq_scale"
            and _is_float(problem.cls, problem.suffix)
        ):
            yield breach(ck, "NUM-005", problem)


def _integers_under_float(ck: Context) -> Iterator[Finding]:
    for cls in ck.of("FLOAT"):
        if cls.tensors["weight"].dtype not in FLOATS | {"F64"}:
            names = cls.names("weight")
            other = _signature(ck, cls)
            expected = f"label {other}" if other else "F16, BF16 or F32"
            found = f"label FLOAT, dtype {cls.tensors['weight'].dtype}"
            yield Finding("NUM-005", "float", found, expected, names, ck.one_file(names))


def _signature(ck: Context, cls: ModuleClass) -> str | None:
    """The one type whose tensors these are, by suffix and dtype."""
    fitting = [name for name in layout.types() if _fits(ck, cls, name)]
    return fitting[0] if len(fitting) == 1 else None


def _fits(ck: Context, cls: ModuleClass, name: str) -> bool:
    rules = rules_of(name, ck.profile) if is_linear(name) and name != "FLOAT" else None
    if rules is None:
        return False
    present = {s: r for s, r in rules.items() if r.presence != "forbidden"}
    required = {s for s, r in present.items() if r.presence == "required"}
    own = set(cls.tensors) - set(guests(ck.profile))
    return required <= own <= set(present) and all(
        _takes(present[suffix], cls.tensors[suffix], ck.model_dtype) for suffix in own
    )


def _takes(known: TensorRule, spec: Spec, model: str | None) -> bool:
    return spec.dtype in known.resolve_dtypes(model)


@rule("NUM-006")
def head_is_float(ck: Context) -> Iterator[Finding]:
    yield from _quantized(ck, "NUM-006")


@rule("NUM-007")
def router_is_float(ck: Context) -> Iterator[Finding]:
    yield from _quantized(ck, "NUM-007")


@rule("NUM-008")
def embedding_is_float(ck: Context) -> Iterator[Finding]:
    yield from _quantized(ck, "NUM-008")


def _quantized(ck: Context, requirement: str) -> Iterator[Finding]:
    for cls in ck.classes:
        if cls.label is None or layout.base_label(cls.label) == "FLOAT":
            continue
        for member in cls.members:
            if layer_names.judged_by(requirement, member):
                found, name = f"label {cls.label}", join(member, "weight")
                yield entries(ck, requirement, "label", found, "FLOAT", (name,))
