"""DYN: W8A8_DYNAMIC linears."""

import re
from collections.abc import Iterator

from slimcheck.context import Context
from slimcheck.described import as_count, entries
from slimcheck.findings import Finding
from slimcheck.groups import wrong_group_size
from slimcheck.layouts import DTYPE, SHAPE, UNEXPECTED, breaches, foreign_dtypes, types_of
from slimcheck.registry import rule, value_rule
from slimcheck.rules.tp import split_of
from slimcheck.rules.w8a8_values import offsets_are_zero, weak_rows
from slimcheck.scales import not_above_zero
from slimcheck.values.modules import Module

_PAIR = {"weight_scale", "weight_offset"}


@rule("DYN-001")
def weight_and_scale_fit(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "DYN-001", {DTYPE}, {"weight"})
    yield from breaches(ck, "DYN-001", {SHAPE}, {"weight", "weight_scale", "bias"})


@value_rule("DYN-002", by_row=True)
def weight_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    yield from not_above_zero("DYN-002", module, "weight_scale", idle=True)


@rule("DYN-003")
def weight_offset_has_the_shape_of_the_scale(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "DYN-003", {SHAPE}, {"weight_offset"})


@value_rule("DYN-003", by_row=True)
def weight_offset_is_zero(ck: Context, module: Module) -> Iterator[Finding]:
    yield from offsets_are_zero("DYN-003", module)


@rule("DYN-004")
def there_is_nothing_static(ck: Context) -> Iterator[Finding]:
    yield from breaches(ck, "DYN-004", {UNEXPECTED})


@rule("DYN-005")
def scale_and_offset_are_float(ck: Context) -> Iterator[Finding]:
    yield from foreign_dtypes(ck, "DYN-005", _PAIR)
    foreign = {name for f in foreign_dtypes(ck, "DYN-005", _PAIR) for name in f.tensors}
    for cls in ck.of(*types_of("DYN-005")):
        found = {suffix: cls.tensors[suffix].dtype for suffix in _PAIR & cls.tensors.keys()}
        names = cls.names("weight_offset")
        if len(set(found.values())) == 2 and foreign.isdisjoint(names + cls.names("weight_scale")):
            yield Finding(
                "DYN-005", "differ", f"dtype {found['weight_offset']}",
                f"{found['weight_scale']}, as weight_scale", names, ck.one_file(names),
            )  # fmt: skip


@rule("DYN-006")
def experts_have_the_sizes_of_the_layer(ck: Context) -> Iterator[Finding]:
    """gate and up [I, H], down [H, I], for one I and H per layer."""
    layers: dict[str, list[tuple[str, tuple[int, int]]]] = {}
    for cls in ck.of(*types_of("DYN-006")):
        shape = cls.shapes.get("weight", ())
        if len(shape) != 2:
            continue
        for member in cls.members if any(".experts." in m for m in cls.members) else ():
            layer, _, rest = member.partition(".experts.")
            leaf = rest.rpartition(".")[2]
            split = split_of(leaf)
            if split is not None and split.split != "replicated":
                inner, hidden = shape if split.split == "rows" else shape[::-1]
                layers.setdefault(layer, []).append((member, (inner, hidden)))
    for experts in layers.values():
        yield from _odd_sizes(ck, experts)


def _odd_sizes(ck: Context, experts: list[tuple[str, tuple[int, int]]]) -> Iterator[Finding]:
    """Experts whose (I, H) is not that of most."""
    sizes = [size for _, size in experts]
    usual = max(dict.fromkeys(sizes), key=sizes.count)
    for member, size in experts:
        if size != usual:
            name = f"{member}.weight"
            yield Finding(
                "DYN-006", "size", f"I, H = {size[0]}, {size[1]}",
                f"I, H = {usual[0]}, {usual[1]} as in the other experts of the layer", (name,),
                ck.file_of(name),
            )  # fmt: skip


@value_rule("DYN-007", by_row=True)
def rows_use_the_range(ck: Context, module: Module) -> Iterator[Finding]:
    shape = module.cls.shapes.get("weight_scale", ())
    if shape[1:] == (1,):
        yield from weak_rows("DYN-007", module)


@rule("DYN-008")
def group_size_is_described(ck: Context) -> Iterator[Finding]:
    yield from wrong_group_size(ck, "DYN-008")


_RECIPE = {  # config member -> part of the names of its layers, types of the recipe
    "mla_quantize": (".self_attn.", {"w8a8"}),
    "moe_quantize": (".experts.", {"w8a8_dynamic", "w4a8_dynamic"}),
}
_LAYER = re.compile(r"\.layers\.(\d{1,9})\.")


@rule("DYN-010")
def layers_follow_the_recipe(ck: Context) -> Iterator[Finding]:
    """Where no layer does, the member itself is wrong: CFG-009."""
    config = ck.root.config
    for member, (part, recipe) in _RECIPE.items():
        stated = config.value.get(member) if config else None
        if not isinstance(stated, str) or stated not in recipe:
            continue
        layers = [
            (name, label)
            for name, label in ck.labels.items()
            if part in name and name.endswith("_proj.weight") and label != "FLOAT"
        ]
        other = tuple(n for n, label in layers if label.lower() not in recipe and not _extra(ck, n))
        if other and len(other) < len(layers):
            expected = " or ".join(sorted(recipe)).upper().replace(" OR ", " or ")
            yield entries(ck, "DYN-010", member, f"label {ck.labels[other[0]]}", expected, other)


def _extra(ck: Context, name: str) -> bool:
    """Whether the layer lies beyond num_hidden_layers (multi-token prediction)."""
    hidden = as_count(ck.root.config.get("num_hidden_layers")) if ck.root.config else None
    layer = _LAYER.search(name)
    return hidden is not None and layer is not None and int(layer[1]) >= hidden
