"""PACK: linears that an engine fuses into one."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

import numpy as np

from slimcheck.context import Context, ModuleClass, join
from slimcheck.described import as_count, entries
from slimcheck.findings import Finding
from slimcheck.groups import group_size_of
from slimcheck.layouts import FLOATS, rules_of, types_of
from slimcheck.packed import EXPERTS, LATENT, Fused, packing
from slimcheck.registry import rule
from slimspec import layout
from slimspec.numeric import as_float32
from slimspec.pipeline.shard_map import row_parallel

_EXPERTS = f".{EXPERTS}."
_NUMBERED = (".w1.weight", ".w2.weight", ".w3.weight")
_ATTENTION = re.compile(r"(?:.*\.)?layers\.\d{1,9}\.self_attn")
_USABLE: Mapping[str, Callable[[float], bool]] = {
    "input_scale": lambda x: x > 0,
    "input_offset": lambda x: -128 <= x <= 127 and x == int(x),
}
_RELATIVE, _ABSOLUTE = 1e-5, 1e-8  # of torch.allclose


def _labels(ck: Context, group: Fused) -> dict[str, str]:
    """Shard -> label of its weight."""
    return {shard: ck.labels[join(m, "weight")] for shard, m in group.modules.items()}


def _is_float(label: str) -> bool:
    return layout.base_label(label) == "FLOAT"


def _weights(group: Fused) -> tuple[str, ...]:
    return tuple(join(module, "weight") for module in group.modules.values())


def _mixed(ck: Context, key: str, kind: str, group: Fused, expected: str) -> Finding:
    found = ", ".join(f"{shard} {label}" for shard, label in _labels(ck, group).items())
    return entries(ck, key, kind, found, expected, _weights(group))


@rule("PACK-001")
def fused_members_have_one_type(ck: Context) -> Iterator[Finding]:
    for group in ck.fused:
        quantized = {label for label in _labels(ck, group).values() if not _is_float(label)}
        if len(quantized) > 1 and group.group.fused != LATENT:
            yield _mixed(ck, "PACK-001", group.group.fused, group, "one label")


@rule("PACK-002")
def fused_members_are_float_together(ck: Context) -> Iterator[Finding]:
    for group in ck.fused:
        floats = {_is_float(label) for label in _labels(ck, group).values()}
        if len(floats) > 1 and group.group.fused != LATENT:
            yield _mixed(ck, "PACK-002", group.group.fused, group, "all FLOAT or none")


@rule("PACK-008")
def latent_projections_have_one_type(ck: Context) -> Iterator[Finding]:
    for group in ck.fused:
        labels = set(_labels(ck, group).values())
        if len(labels) > 1 and group.group.fused == LATENT:
            yield _mixed(ck, "PACK-008", LATENT, group, "one label")


@rule("PACK-003", reads=True)
def fused_members_share_their_input(ck: Context) -> Iterator[Finding]:
    """Of groups whose first member is asked for. Scales that are none are W8A8-003's to 006's."""
    for group in ck.fused:
        labels = _labels(ck, group)
        static = [s for s, label in labels.items() if _is_static(label, ck.profile)]
        if not static or not ck.checkpoint.is_asked(join(group.modules[static[0]], "weight")):
            continue
        for suffix in ("input_scale", "input_offset") if group.group.fused != EXPERTS else ():
            values = {
                group.modules[shard]: value
                for shard in static
                if (value := _one(ck, join(group.modules[shard], suffix))) is not None
                and _USABLE[suffix](value)
            }
            first = next(iter(values.values()), 0.0)
            if not all(_close(value, first) for value in values.values()):
                found = ", ".join(f"{m.rpartition('.')[2]} {v:.9g}" for m, v in values.items())
                names = tuple(join(module, suffix) for module in values)
                yield Finding("PACK-003", suffix, found, "equal", names, ck.one_file(names))


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= _ABSOLUTE + _RELATIVE * abs(b)


def _is_static(label: str, profile: str) -> bool:
    return layout.base_label(label, profile) in types_of("PACK-003")


def _one(ck: Context, name: str) -> float | None:
    """The only element of a float tensor, if it is finite."""
    table = ck.checkpoint.table
    row = table.find(name)
    if row is None or table.shape(row) != (1,) or table.dtype(row) not in FLOATS | {"I8"}:
        return None
    value = float(as_float32(ck.checkpoint.tensor(name))[0])
    return value if np.isfinite(value) else None


class _Sizes:
    """n, k and group size of the linears of a directory, where their shapes agree."""

    def __init__(self, ck: Context) -> None:
        self._ck = ck
        self._known: dict[int, dict[str, int]] = {}  # by class

    def of(self, module: str) -> dict[str, int]:
        """{"n": …, "k": …, "group size": …}, as far as they are known."""
        cls = self._ck.class_of.get(module)
        if cls is None:
            return {}
        if id(cls) not in self._known:
            self._known[id(cls)] = self._of_class(cls)
        return self._known[id(cls)]

    def _of_class(self, cls: ModuleClass) -> dict[str, int]:
        rules = rules_of(cls.label, self._ck.profile) if cls.label else None
        if rules is None:
            return {}
        bound = layout.bind(rules, cls.shapes)
        found = {s: size for s in ("n", "k") if bound.ok and (size := bound.env.get(s))}
        group = group_size_of(self._ck, cls)
        return found | ({"group size": group} if group else {})


def _sizes(sizes: _Sizes, group: Fused, what: str, leave_out: Iterable[str] = ()) -> dict[str, int]:
    return {
        join(module, "weight"): size
        for shard, module in group.modules.items()
        if shard.rpartition(".")[2] not in leave_out
        and (size := sizes.of(module).get(what)) is not None
    }


def _unequal(ck: Context, key: str, what: str, values: Mapping[str, int]) -> Iterator[Finding]:
    if len(set(values.values())) > 1:
        shown = (f"{name.split('.')[-2]} {value}" for name, value in values.items())
        found, names = f"{what}: {', '.join(shown)}", tuple(values)
        yield Finding(key, what, found, f"one {what}", names, ck.one_file(names))


@rule("PACK-004")
def heads_are_those_of_the_config(ck: Context) -> Iterator[Finding]:
    rows = _head_rows(ck)
    sizes = _Sizes(ck)
    for group in ck.fused if rows else ():
        if set(group.group.shards) <= rows.keys() and _ATTENTION.fullmatch(group.parent):
            for shard, module in group.modules.items():
                n = sizes.of(module).get("n")
                if n is not None and n != rows[shard]:
                    name = join(module, "weight")
                    expected = f"{rows[shard]}, as config.json has it"
                    yield Finding(
                        "PACK-004", "rows", f"{n} rows", expected, (name,), ck.file_of(name)
                    )


def _head_rows(ck: Context) -> dict[str, int]:
    """Rows of q_proj, k_proj and v_proj by config.json; {} where it does not say.

    A compressed part holds the heads of one rank, which config.json does not number.
    """
    config, kind = ck.root.config, packing(ck).query_heads
    if config is None or kind == "by layer" or ck.profile == "SC":
        return {}
    heads = as_count(config.get("num_attention_heads"))
    stated = config.get("num_key_value_heads")
    kv = heads if stated is None else as_count(stated)
    hidden = as_count(config.get("hidden_size"))
    size = as_count(config.get("head_dim"))
    if not size and heads and hidden and hidden % heads == 0:
        size = hidden // heads
    if not (heads and kv and size):
        return {}
    gate = 2 if kind == "with a gate" else 1
    return {"q_proj": gate * heads * size, "k_proj": kv * size, "v_proj": kv * size}


@rule("PACK-005")
def fused_members_line_up(ck: Context) -> Iterator[Finding]:
    sizes = _Sizes(ck)
    for group in ck.fused:
        experts = group.group.fused == EXPERTS
        down = [m.rpartition(".")[2] for m in group.modules if experts and row_parallel(m)]
        for what in ("k", "group size"):
            yield from _unequal(ck, "PACK-005", what, _sizes(sizes, group, what, down))


@rule("PACK-006")
def gate_and_up_have_the_same_rows(ck: Context) -> Iterator[Finding]:
    sizes = _Sizes(ck)
    for group in ck.fused:
        if set(group.group.shards) == {"gate_proj", "up_proj"}:
            yield from _unequal(ck, "PACK-006", "n", _sizes(sizes, group, "n"))


@rule("PACK-007")
def numbered_projections_have_their_roles(ck: Context) -> Iterator[Finding]:
    sizes = _Sizes(ck)
    experts: dict[str, dict[str, tuple[int, ...]]] = {}
    for name in ck.labels:
        if not name.endswith(_NUMBERED):
            continue
        expert, _, leaf = name.removesuffix(".weight").rpartition(".")
        if _EXPERTS in expert:
            found = sizes.of(join(expert, leaf))
            experts.setdefault(expert, {})[leaf] = (found.get("n", 0), found.get("k", 0))
    for expert, shapes in experts.items():
        if len(shapes) != 3 or not all(all(shape) for shape in shapes.values()):
            continue
        if not shapes["w1"] == shapes["w3"] == shapes["w2"][::-1]:
            shown = ", ".join(f"{leaf} {list(shape)}" for leaf, shape in sorted(shapes.items()))
            names = tuple(f"{expert}.{leaf}.weight" for leaf in sorted(shapes))
            expected = "w1 and w3 [I, H], w2 [H, I]"
            yield Finding("PACK-007", "roles", shown, expected, names, ck.one_file(names))


@rule("PACK-009")
def experts_are_alike(ck: Context) -> Iterator[Finding]:
    sizes = _Sizes(ck)
    layers: dict[tuple[str, str], dict[int, list[str]]] = {}  # by layer and leaf, then by class
    for number, cls in enumerate(ck.classes):
        for member in cls.members if cls.label else ():
            layer, inside, rest = member.rpartition(_EXPERTS)
            if inside:
                alike = layers.setdefault((layer, rest.partition(".")[2]), {})
                alike.setdefault(number, []).append(member)
    for classes in layers.values():
        if len(classes) > 1:
            names = [join(member, "weight") for alike in classes.values() for member in alike]
            yield from _odd(ck, "label", {name: ck.labels[name] for name in names})
            yield from _odd(ck, "shape", _shapes(ck, sizes, names))


def _shapes(ck: Context, sizes: _Sizes, names: Iterable[str]) -> dict[str, str]:
    """Weight -> its sizes, where they are known and no other rule compares them."""
    return {
        name: f"n, k = {found['n']}, {found['k']}"
        for name in names
        if layout.base_label(ck.labels[name]) not in types_of("DYN-006")
        and {"n", "k"} <= (found := sizes.of(name.removesuffix(".weight"))).keys()
    }


def _odd(ck: Context, kind: str, values: Mapping[str, Hashable]) -> Iterator[Finding]:
    """Experts that are not like most of their layer."""
    counts = Counter(values.values())
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    for name, value in values.items():
        if value != usual:
            expected = f"{usual}, as in the other experts of the layer"
            yield Finding("PACK-009", kind, f"{value}", expected, (name,), ck.file_of(name))
