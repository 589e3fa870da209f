"""SC: compressed weights (W8A8SC, W16A16SC), headers and JSON."""

from collections.abc import Iterator
from dataclasses import replace

from slimcheck.context import Context, ModuleClass
from slimcheck.described import as_count, entries, readable, shown
from slimcheck.findings import Finding
from slimcheck.layouts import (
    COMPRESSED,
    DTYPE,
    FLOATS,
    LABEL,
    SHAPE,
    UNEXPECTED,
    Problem,
    breach,
    breaches,
    foreign_dtypes,
    is_linear,
    rules_of,
    types_of,
)
from slimcheck.registry import ROOT, rule
from slimspec import layout
from slimspec.layout.beside import is_norm_copy

STREAM = ("weight", "index", "info")
UNIT = 128  # bytes; a stored tile is a whole number of them


@rule("SC-001")
def weight_is_a_stream(ck: Context) -> Iterator[Finding]:
    for finding in breaches(ck, "SC-001", {DTYPE, SHAPE}, {"weight"}):
        if not _is_nz(ck, finding.tensors):
            yield finding
    for cls in ck.of(*types_of("SC-001")):
        spec = cls.tensors["weight"]
        if spec.dtype == "I8" and len(spec.shape) == 1 and (not spec.shape[0] or _odd(spec.shape)):
            names = cls.names("weight")
            expected = f"a positive multiple of {UNIT}"
            yield Finding(
                "SC-001", "length", f"{spec.shape[0]} bytes", expected, names, ck.one_file(names)
            )


def _odd(shape: tuple[int, ...]) -> bool:
    return shape[0] % UNIT != 0


def _is_nz(ck: Context, names: tuple[str, ...]) -> bool:
    row = ck.checkpoint.table.find(names[0])
    return row is not None and len(ck.checkpoint.table.shape(row)) == 4


@rule("SC-002")
def index_is_a_vector(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "SC-002", {DTYPE}, {"index"})
    for finding in breaches(ck, "SC-002", {SHAPE}, {"index"}):
        weights = tuple(f"{name.removesuffix('.index')}.weight" for name in finding.tensors)
        if not _is_nz(ck, weights):  # it has an empty index
            yield finding


@rule("SC-003")
def info_has_five_elements(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "SC-003", {DTYPE, SHAPE}, {"info"})


@rule("SC-010")
def inputs_have_the_dtypes_of_the_kernel(ck: Context) -> Iterator[Finding]:
    for finding in breaches(ck, "SC-010", {DTYPE}, {"input_scale", "input_offset"}):
        offset = finding.tensors[0].endswith("input_offset")
        dtype = finding.found.removeprefix("dtype ")
        if not offset or dtype in FLOATS | {"I8"}:  # other offsets: W8A8-006
            yield finding


@rule("SC-011")
def quant_bias_and_deq_scale_fit_the_rows(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "SC-011", {DTYPE}, {"quant_bias"})
    yield from breaches(ck, "SC-011", {SHAPE}, {"quant_bias", "deq_scale"})


@rule("SC-012")
def labels_tell_stream_and_companions(ck: Context) -> Iterator[Finding]:
    """Of tensors that the type has; others are SC-015's."""
    for problem in ck.problems:
        if problem.type in types_of("SC-012") and problem.aspect == LABEL and _has(ck, problem):
            yield breach(ck, "SC-012", problem)


def _has(ck: Context, problem: Problem) -> bool:
    """Whether the type of the problem has a tensor of that suffix."""
    rules = rules_of(problem.type, ck.profile)
    return rules is not None and problem.suffix in rules


@rule("SC-013")
def norms_are_not_compressed(ck: Context) -> Iterator[Finding]:
    for cls in ck.classes:
        for member in cls.members if _has_stream(cls) else ():
            if "norm" in member.lower() and not is_norm_copy(member, ck.profile):
                names = tuple(f"{member}.{s}" for s in STREAM if s in cls.tensors)
                found = "index and info" if len(names) > 1 else f"label {cls.label}"
                yield Finding("SC-013", "norm", found, "a float norm", names, ck.one_file(names))


def _has_stream(cls: ModuleClass) -> bool:
    return {"index", "info"} <= cls.tensors.keys() or cls.label in COMPRESSED


@rule("SC-014")
def no_weight_is_left_in_nz(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("SC-014")):
        shape = cls.tensors["weight"].shape
        if len(shape) == 4:
            names = cls.names("weight")
            yield Finding(
                "SC-014", "nz", f"shape {list(shape)}", "one dimension", names, ck.one_file(names)
            )


@rule("SC-015")
def nothing_else_lies_beside_a_stream(ck: Context) -> Iterator[Finding]:
    for problem in ck.problems:
        own = problem.type in types_of("SC-015") and problem.aspect in (UNEXPECTED, LABEL)
        if own and not _has(ck, problem):
            yield breach(ck, "SC-015", replace(problem, expected=_companions(ck, problem)))
    yield from breaches(ck, "SC-015", {SHAPE}, {"bias"})
    yield from foreign_dtypes(ck, "SC-015", {"bias"})


def _companions(ck: Context, problem: Problem) -> str:
    return f"{problem.type}: {', '.join(rules_of(problem.type, ck.profile) or ())}"


@rule("SC-017")
def bias_is_found_by_the_engine(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    for cls in ck.of("W16A16SC") if description else ():
        for member in cls.members if "bias" in cls.tensors else ():
            rows = description.other.get(f"{member}.bias.outdim") if description else None
            if not as_count(rows):
                found = "no outdim" if rows is None else f"outdim {shown(rows)}"
                yield entries(
                    ck, "SC-017", "outdim", found, "bias.outdim, an integer above 0",
                    (f"{member}.bias",),
                )  # fmt: skip


@rule("SC-018")
def weights_are_compressed_or_float(ck: Context) -> Iterator[Finding]:
    for cls in ck.classes:
        label = cls.label
        if label is None or not is_linear(label) or label in COMPRESSED:
            continue
        stray = [suffix for suffix in ("index", "info") if suffix in cls.tensors]
        if layout.base_label(label) != "FLOAT":
            names, found = cls.names("weight"), f"label {label}"
        elif stray and not all("norm" in member.lower() for member in cls.members):  # SC-013
            names, found = cls.names(stray[0]), f"{stray[0]} beside a {label} weight"
        else:
            continue
        expected = f"{' or '.join(sorted(COMPRESSED))} with index and info, or FLOAT without"
        yield Finding("SC-018", "dense", found, expected, names, ck.one_file(names))


@rule("SC-019", on=ROOT)
def parts_have_the_same_tensors(ck: Context) -> Iterator[Finding]:
    parts = ck.checkpoint.parts
    tables = [part.checkpoint.table for part in parts]
    kinds = [{n: t.dtype(i) for i, n in enumerate(t.names)} for t in tables]
    for part, own in zip(parts[1:], kinds[1:], strict=True):
        first = parts[0].name
        file = f"{part.name}/"
        absent = tuple(name for name in kinds[0] if name not in own)
        extra = tuple(name for name in own if name not in kinds[0])
        other = tuple(n for n, dtype in own.items() if kinds[0].get(n, dtype) != dtype)
        for kind, names, found in (
            ("absent", absent, f"not in {part.name}"),
            ("extra", extra, f"in {part.name} only"),
            ("dtype", other, f"{own[other[0]]} in {part.name}" if other else ""),
        ):
            if names:
                yield Finding("SC-019", kind, found, f"as in {first}", names, file)


@rule("SC-020", on=ROOT)
def parts_state_one_version(ck: Context) -> Iterator[Finding]:
    stated: dict[str, str] = {}
    for part in ck.checkpoint.parts:
        description = part.checkpoint.description
        if description is not None and not description.defects:
            version = description.get("version")
            stated.setdefault("none" if version is None else shown(version), part.name)
    if len(stated) > 1:
        found = ", ".join(f"{version} in {part}" for version, part in stated.items())
        yield Finding("SC-020", "version", found, "one version in all parts")
