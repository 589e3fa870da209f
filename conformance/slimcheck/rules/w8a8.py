"""W8A8: static int8 linears (W8A8, W8A8_MIX, W8A8_TIMESTEP, W8A8S), headers."""

from collections.abc import Iterator

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.layouts import (
    DTYPE,
    FLOATS,
    LABEL,
    MISSING,
    SHAPE,
    UNEXPECTED,
    breach,
    breaches,
    foreign_dtypes,
    types_of,
)
from slimcheck.registry import rule

_PAIR = frozenset({"weight_scale", "weight_offset"})


@rule("W8A8-001")
def weight_is_an_int8_matrix(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A8-001", {DTYPE, SHAPE}, {"weight"})


@rule("W8A8-003")
def input_scale_has_one_element(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A8-003", {SHAPE}, {"input_scale"})


@rule("W8A8-005")
def input_scale_is_float(ck: Context) -> Iterator[Finding]:
    yield from foreign_dtypes(ck, "W8A8-005", {"input_scale"})


@rule("W8A8-006")
def input_offset_has_one_element(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A8-006", {SHAPE}, {"input_offset"})
    yield from foreign_dtypes(ck, "W8A8-006", {"input_offset"}, FLOATS | {"I8"})


@rule("W8A8-008")
def quant_bias_is_int32(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A8-008", {DTYPE, SHAPE}, {"quant_bias"})


@rule("W8A8-009")
def deq_scale_is_per_channel(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W8A8-009")):
        spec, weight = cls.tensors.get("deq_scale"), cls.tensors.get("weight")
        if spec and weight and spec.shape == (1,) and weight.shape[:1] != (1,):
            names = cls.names("deq_scale")
            rows = weight.shape[0] if weight.shape else "n"
            yield Finding(
                "W8A8-009", "per-tensor", "shape [1]", f"shape [n] = [{rows}]", names,
                ck.one_file(names),
            )  # fmt: skip


@rule("W8A8-010")
def deq_scale_has_one_of_two_dtypes(ck: Context) -> Iterator[Finding]:
    yield from foreign_dtypes(ck, "W8A8-010", {"deq_scale"}, frozenset({"F32", "I64"}))


@rule("W8A8-013")
def weight_scale_and_offset_come_together(ck: Context) -> Iterator[Finding]:
    """Where the profile requires both, a missing one is DESC-023's."""
    required = {id(p.cls) for p in ck.problems if p.aspect == MISSING and p.suffix in _PAIR}
    for cls in ck.of(*types_of("W8A8-013")):
        have = _PAIR & cls.tensors.keys()
        if len(have) == 1 and id(cls) not in required:
            (present,), (absent,) = have, _PAIR - have
            names = cls.names(present)
            if all(name not in ck.labels for name in cls.names(absent)):  # else DESC-021
                yield Finding(
                    "W8A8-013", "alone", f"{present} without {absent}", "both or none", names,
                    ck.one_file(names),
                )  # fmt: skip


@rule("W8A8-015")
def weight_scale_is_per_channel(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A8-015", {DTYPE, SHAPE}, _PAIR)


@rule("W8A8-016")
def bias_is_a_float_vector(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W8A8-016", {SHAPE, LABEL}, {"bias"})
    yield from foreign_dtypes(ck, "W8A8-016", {"bias"})


@rule("W8A8-017")
def tensors_are_those_of_the_profile(ck: Context) -> Iterator[Finding]:
    for problem in ck.problems:
        if problem.type not in types_of("W8A8-017"):
            continue
        lone = problem.suffix in _PAIR and len(_PAIR & problem.cls.tensors.keys()) == 1
        deq_scale = problem.aspect == SHAPE and problem.suffix == "deq_scale"
        if deq_scale or (problem.aspect == UNEXPECTED and not lone):  # a lone one: W8A8-013
            yield breach(ck, "W8A8-017", problem)


@rule("W8A8-021")
def deq_scale_is_int64_on_310p(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W8A8-021")):
        spec = cls.tensors.get("deq_scale")
        if spec and spec.dtype == "F32":
            names = cls.names("deq_scale")
            yield Finding("W8A8-021", DTYPE, "dtype F32", "I64", names, ck.one_file(names))


@rule("W8A8-022")
def mix_has_both_sets(ck: Context) -> Iterator[Finding]:
    yield from foreign_dtypes(ck, "W8A8-022", _PAIR)
    yield from breaches(ck, "W8A8-022", {SHAPE}, _PAIR | {"deq_scale"})
    yield from breaches(ck, "W8A8-022", {UNEXPECTED})


@rule("W8A8-024")
def timesteps_agree(ck: Context) -> Iterator[Finding]:
    for finding in breaches(ck, "W8A8-024", {SHAPE, UNEXPECTED}):
        if finding.tensors[0].rpartition(".")[2] != "weight":  # W8A8-001
            yield finding
