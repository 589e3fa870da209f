"""KV: int8 KV caches, one scale per channel beside the projections of keys and values."""

from collections.abc import Iterator

from slimcheck.context import Context, ModuleClass, join
from slimcheck.elements import wrong_elements
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS, rules_of
from slimcheck.registry import rule, value_rule
from slimcheck.scales import not_above_zero
from slimcheck.values.modules import Module
from slimspec import layout

_HOSTS = ("k_proj", "v_proj")
_SUFFIXES = ("kv_cache_scale", "kv_cache_offset")


def _caches(ck: Context) -> Iterator[tuple[ModuleClass, str, tuple[str, ...]]]:
    """(class, suffix, tensor names) of every scale and offset of a cache."""
    for cls in ck.classes:
        for suffix in _SUFFIXES:
            if suffix in cls.tensors:
                yield cls, suffix, cls.names(suffix)


@rule("KV-001")
def keys_and_values_have_scale_and_offset(ck: Context) -> Iterator[Finding]:
    if not ck.readable:
        return
    stored = {name for _, _, names in _caches(ck) for name in names}
    attentions = dict.fromkeys(name.rpartition(".")[0].rpartition(".")[0] for name in stored)
    for host in _HOSTS:
        for suffix in _SUFFIXES:
            wanted = (join(attention, f"{host}.{suffix}") for attention in sorted(attentions))
            names = tuple(n for n in wanted if n not in stored and n not in ck.labels)  # DESC-021
            if names:
                found = f"no {host}.{suffix} beside the others"
                yield Finding("KV-001", "missing", found, f"{host}.{suffix}", names)


@rule("KV-002")
def there_is_one_scale_per_channel(ck: Context) -> Iterator[Finding]:
    for cls, suffix, names in _caches(ck):
        shape, rows = cls.shapes[suffix], _rows(ck, cls)
        if len(shape) != 1 or (rows is not None and shape != (rows,)):
            expected = "shape [kv_dim]" + (f" = [{rows}]" if rows is not None else "")
            found = f"shape {list(shape)}"
            yield Finding("KV-002", "shape", found, expected, names, ck.one_file(names))


def _rows(ck: Context, cls: ModuleClass) -> int | None:
    """Rows of the projection, None if they cannot be told."""
    weight = cls.shapes.get("weight", ())
    if cls.label is None or len(weight) != 2:
        return None
    if layout.base_label(cls.label, ck.profile) == "FLOAT":
        return weight[0]
    rules = rules_of(cls.label, ck.profile)
    bound = layout.bind(rules, cls.shapes) if rules else None
    return bound.env.get("n") if bound is not None and bound.ok else None


@value_rule("KV-002")
def cache_scale_is_positive(ck: Context, module: Module) -> Iterator[Finding]:
    yield from not_above_zero("KV-002", module, "kv_cache_scale")


@value_rule("KV-003")
def cache_offset_is_zero(ck: Context, module: Module) -> Iterator[Finding]:
    offset = module.numbers("kv_cache_offset")
    if offset is not None:
        yield from wrong_elements("KV-003", module, "kv_cache_offset", offset != 0, "all 0")


@rule("KV-004")
def scale_and_offset_have_one_float_dtype(ck: Context) -> Iterator[Finding]:
    for cls, suffix, names in _caches(ck):
        allowed = _dtypes(ck, suffix)
        found = cls.tensors[suffix].dtype
        if found not in allowed:
            expected = " or ".join(sorted(allowed))
            yield Finding("KV-004", "dtype", f"dtype {found}", expected, names, ck.one_file(names))
    for cls in ck.classes:
        pair = {s: cls.tensors[s].dtype for s in _SUFFIXES if s in cls.tensors}
        if len(set(pair.values())) == 2 and all(d in _dtypes(ck, s) for s, d in pair.items()):
            names, found = cls.names("kv_cache_offset"), f"dtype {pair['kv_cache_offset']}"
            expected = f"{pair['kv_cache_scale']}, as kv_cache_scale"
            yield Finding("KV-004", "differ", found, expected, names, ck.one_file(names))


def _dtypes(ck: Context, suffix: str) -> frozenset[str]:
    known = layout.load("C8")
    if ck.profile not in known.profiles:
        return FLOATS
    rules = known.rules(ck.profile)
    return frozenset().union(
        *(rules[f"{host}.{suffix}"].resolve_dtypes(ck.model_dtype) for host in _HOSTS)
    )


@rule("KV-005")
def all_layers_have_cache_scales(ck: Context) -> Iterator[Finding]:
    """Layers are those whose key projections have the same name but for numbers."""
    with_scale = {
        name.rpartition(".")[0]
        for _, _, names in _caches(ck)
        for name in names
        if name.rpartition(".")[0].endswith(f".{_HOSTS[0]}")
    }
    kinds = {_numberless(name) for name in with_scale}
    for cls in ck.classes:
        names = tuple(
            join(member, "weight")
            for member in cls.members
            if "weight" in cls.tensors and member not in with_scale and _numberless(member) in kinds
        )
        if names:
            found = "no KV scales, other layers have them"
            yield Finding("KV-005", "layers", found, "KV scales on all layers", names)


def _numberless(name: str) -> tuple[str, ...]:
    return tuple("#" if part.isdecimal() else part for part in name.split("."))


@rule("KV-006")
def cache_tensors_are_labelled_c8(ck: Context) -> Iterator[Finding]:
    for cls, suffix, names in _caches(ck):
        label = cls.tensors[suffix].label
        if label is not None and label != "C8":  # none: DESC-020
            found = f"label {label}"
            yield Finding("KV-006", "label", found, "label C8", names, ck.description_name)
