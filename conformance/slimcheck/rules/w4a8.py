"""W4A8_DYNAMIC: int4 weights under int8 activations, headers."""

from collections.abc import Iterator

from slimcheck.context import Context, ModuleClass
from slimcheck.findings import Finding
from slimcheck.groups import (
    group_size_of,
    stated_group_size,
    unusual_group_size,
    wrong_group_size,
)
from slimcheck.layouts import (
    DTYPE,
    SHAPE,
    UNEXPECTED,
    breaches,
    foreign_dtypes,
    rules_of,
    types_of,
)
from slimcheck.registry import rule
from slimcheck.verdicts_seen import MOE, layer_kind
from slimspec import layout
from slimspec.quantize.affine import Variant
from slimspec.schemes.w4a8_dynamic import W4A8Dynamic, scale_bias_chunks

_SECOND = {"weight_scale_second", "weight_offset_second"}
_INT32_CODES = W4A8Dynamic.row_multiple


def variant_of(profile: str) -> Variant:
    """The formulas of a profile: "v1" for the newer tool."""
    return "v1" if profile == "A1" else "v0"


@rule("W4A8-001")
def weight_holds_pairs_of_rows(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-001", {DTYPE, SHAPE}, {"weight"})


@rule("W4A8-002")
def weight_is_not_packed(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-002", {DTYPE, SHAPE}, {"weight"})


@rule("W4A8-003")
def weight_scale_is_float32(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-003", {DTYPE}, {"weight_scale"})
    yield from breaches(ck, "W4A8-003", {SHAPE}, {"weight_scale", "bias"})
    yield from foreign_dtypes(ck, "W4A8-003", {"bias"})


@rule("W4A8-004")
def second_scale_is_float32(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-004", {DTYPE, SHAPE}, {"weight_scale_second"})


@rule("W4A8-005")
def second_offset_is_int64(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-005", {DTYPE, SHAPE}, {"weight_offset_second"})


@rule("W4A8-006")
def weight_offset_is_float32(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-006", {DTYPE, SHAPE}, {"weight_offset"})


@rule("W4A8-009")
def scale_bias_is_summed_as_the_name_asks(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-009", {DTYPE, SHAPE}, {"scale_bias"})
    for cls in ck.of(*types_of("W4A8-009")):
        bound, shape = _bound(ck, cls), cls.shapes.get("scale_bias")
        if shape is None or bound is None:
            continue
        for chunks, members in _by_chunks(ck, cls).items():
            wanted = (bound["n"], chunks)
            if chunks is not None and shape != wanted:
                names = tuple(f"{member}.scale_bias" for member in members)
                expected = f"shape [n, {chunks}] = {list(wanted)} by the name of the layer"
                yield Finding(
                    "W4A8-009", "sums", f"shape {list(shape)}", expected, names, ck.one_file(names)
                )


def _bound(ck: Context, cls: ModuleClass) -> dict[str, int] | None:
    """n and k of the linear; None where its shapes contradict each other."""
    rules = rules_of(cls.label, ck.profile) if cls.label else None
    bound = layout.bind(rules, cls.shapes) if rules else None
    ok = bound is not None and bound.ok and {"n", "k"} <= bound.env.keys()
    return dict(bound.env) if bound is not None and ok else None


def _by_chunks(ck: Context, cls: ModuleClass) -> dict[int | None, list[str]]:
    """Sums per row of scale_bias that a name asks for -> members of those names."""
    found: dict[int | None, list[str]] = {}
    for member in cls.members:
        found.setdefault(scale_bias_chunks(member, variant_of(ck.profile)), []).append(member)
    return found


@rule("W4A8-011")
def names_are_those_that_are_summed(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W4A8-011")):
        bound, shape = _bound(ck, cls), cls.shapes.get("scale_bias")
        members = _by_chunks(ck, cls).get(None, [])
        if bound and members and shape == (bound["n"], bound["k"]):
            names = tuple(f"{member}.scale_bias" for member in members)
            yield Finding(
                "W4A8-011", "unsummed", f"shape [n, k] = {list(shape)}", "[n, 1] or [n, 16]",
                names, ck.one_file(names),
            )  # fmt: skip


@rule("W4A8-012")
def there_is_no_scale_bias(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-012", {UNEXPECTED}, {"scale_bias"})


@rule("W4A8-013")
def there_is_one_level(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "W4A8-013", {UNEXPECTED}, _SECOND)
    stated = stated_group_size(ck)
    if stated and not any(group_size_of(ck, cls) for cls in ck.classes):
        yield from _group_size(ck, "W4A8-013", stated)


@rule("W4A8-014")
def vllm_takes_no_groups(ck: Context) -> Iterator[Finding]:
    stated = stated_group_size(ck)
    if stated:
        yield from _group_size(ck, "W4A8-014", stated)


def _group_size(ck: Context, requirement: str, stated: int) -> Iterator[Finding]:
    names = tuple(name for cls in ck.of(*types_of(requirement)) for name in cls.names("weight"))
    if names:
        found = f"group_size {stated}"
        yield Finding(requirement, "group_size", found, "0", names, ck.description_name)


@rule("W4A8-015")
def group_size_is_usual(ck: Context) -> Iterator[Finding]:
    yield from unusual_group_size(ck, "W4A8-015", "weight_scale_second")


@rule("W4A8-016")
def group_size_is_described(ck: Context) -> Iterator[Finding]:
    yield from wrong_group_size(ck, "W4A8-016", "weight_scale_second")


@rule("W4A8-017")
def sizes_suit_int32_and_blocks(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W4A8-017")):
        bound = _bound(ck, cls)
        if bound is None:
            continue
        if bound["n"] % _INT32_CODES:
            found, expected = f"n = {bound['n']}", f"a multiple of {_INT32_CODES}"
            names = cls.names("weight")
            yield Finding("W4A8-017", "n", found, expected, names, ck.one_file(names))
        for chunks, members in _by_chunks(ck, cls).items():
            if chunks is not None and bound["k"] % chunks:
                found, expected = f"k = {bound['k']}", f"a multiple of {chunks}"
                names = tuple(f"{member}.weight" for member in members)
                yield Finding("W4A8-017", "k", found, expected, names, ck.one_file(names))


@rule("W4A8-018")
def dense_linears_have_two_levels(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("W4A8-018")):
        dense = tuple(name for name in cls.names("weight") if layer_kind(name) != MOE)
        if dense and "weight_scale_second" not in cls.tensors:
            yield Finding(
                "W4A8-018", "dense", "a dense linear without weight_scale_second",
                "weight_scale_second", dense, ck.one_file(dense),
            )  # fmt: skip
