"""SP: sparse weights that are stored dense (W8A8S, W16A16S), headers."""

from collections.abc import Iterator

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.layouts import (
    DTYPE,
    FLOATS,
    LABEL,
    SHAPE,
    UNEXPECTED,
    breach,
    breaches,
    foreign_dtypes,
    types_of,
)
from slimcheck.registry import rule


@rule("SP-001")
def tensors_are_the_static_five(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "SP-001", {UNEXPECTED})


@rule("SP-002")
def weight_is_an_int8_matrix(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "SP-002", {DTYPE}, {"weight"})
    yield from breaches(ck, "SP-002", {SHAPE}, {"weight", "deq_scale", "bias"})
    yield from foreign_dtypes(ck, "SP-002", {"bias"})


@rule("SP-004")
def deq_scale_is_int64(ck: Context) -> Iterator[Finding]:
    """Dtypes that nobody writes are W8A8-010's."""
    for cls in ck.of(*types_of("SP-004")):
        spec = cls.tensors.get("deq_scale")
        if spec is not None and spec.dtype == "F32":
            names = cls.names("deq_scale")
            yield Finding("SP-004", DTYPE, "dtype F32", "I64", names, ck.one_file(names))


@rule("SP-005")
def sparse_float_linear_is_weight_and_bias(ck: Context) -> Iterator[Finding]:
    for problem in ck.problems:
        float_bias = problem.suffix == "bias" and problem.aspect == DTYPE
        if float_bias and problem.cls.tensors["bias"].dtype in FLOATS:  # NUM-003
            continue
        label = problem.aspect == LABEL and problem.suffix == "bias"  # others: DESC-022
        if problem.type in types_of("SP-005") and (
            label or problem.aspect in (DTYPE, SHAPE, UNEXPECTED)
        ):
            yield breach(ck, "SP-005", problem)
