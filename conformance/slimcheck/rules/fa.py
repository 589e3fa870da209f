"""FA: quantized attention, static scales of queries, keys and values per head."""

from collections.abc import Iterator

from slimcheck.context import Context, ModuleClass, join
from slimcheck.described import as_count, readable
from slimcheck.elements import wrong_elements
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS
from slimcheck.registry import rule, value_rule
from slimcheck.rules.desc_attention import layer_type
from slimcheck.scales import not_above_zero
from slimcheck.values.modules import Module
from slimspec import layout, requirements

_ROLES = ("fa_q", "fa_k", "fa_v")
_SUFFIXES = ("scale", "offset")
_STATIC = ("L0", "A0")  # profiles in which no role is quantized at run time
_LATENT = ("kv_a_proj_with_mqa", "kv_b_proj")  # projections of a latent attention


def _roles(ck: Context) -> Iterator[tuple[ModuleClass, str, list[str]]]:
    """(class, role, modules of that role) of everything that hangs on an attention."""
    for cls in ck.classes:
        if any(suffix in cls.tensors for suffix in _SUFFIXES):
            for role in _ROLES:
                members = [m for m in cls.members if m.rpartition(".")[2] == role]
                if members:
                    yield cls, role, members


@rule("FA-001")
def roles_are_complete(ck: Context) -> Iterator[Finding]:
    if not ck.readable:
        return
    stored: dict[str, set[str]] = {}
    for cls, role, members in _roles(ck):
        for member in members:
            have = {f"{role}.{suffix}" for suffix in _SUFFIXES if suffix in cls.tensors}
            stored.setdefault(member.rpartition(".")[0], set()).update(have)
    latent = _latent(ck)
    absent: dict[str, list[str]] = {}
    for attention, have in stored.items():
        roles = {name.partition(".")[0] for name in have}
        if ck.profile in _STATIC:
            roles |= {"fa_q", "fa_k"} if attention in latent else set(_ROLES)
        roles |= _stated_roles(ck, attention, roles)
        for wanted in (f"{role}.{suffix}" for role in sorted(roles) for suffix in _SUFFIXES):
            name = join(attention, wanted)
            if wanted not in have and name not in ck.labels:  # DESC-021
                absent.setdefault(wanted, []).append(name)
    for wanted, names in absent.items():
        found = f"no {wanted} beside the others"
        yield Finding("FA-001", "missing", found, wanted, tuple(names))


def _stated_roles(ck: Context, attention: str, stored: set[str]) -> set[str]:
    """Roles that `{attn}.quant_type` calls static together with one that is stored.

    Where none of them is stored DESC-027 says so.
    """
    found: set[str] = set()
    for letters, dynamic in layer_type(ck.labels.get(f"{attention}.quant_type", "")) or ():
        group = {f"fa_{letter.lower()}" for letter in letters} & set(_ROLES)
        if not dynamic and not group.isdisjoint(stored):
            found |= group
    return found


def _latent(ck: Context) -> set[str]:
    """Attentions with the projections of MLA."""
    parts = (member.rpartition(".") for cls in ck.classes for member in cls.members)
    return {attention for attention, _, leaf in parts if leaf in _LATENT}


@rule("FA-002")
def there_is_one_scale_per_head(ck: Context) -> Iterator[Finding]:
    latent = _latent(ck)
    for cls, role, members in _roles(ck):
        for mla in (False, True):
            chosen = [m for m in members if (m.rpartition(".")[0] in latent) is mla]
            heads = 1 if mla and role != "fa_q" else _heads(ck, role)
            for suffix in (s for s in _SUFFIXES if chosen and s in cls.tensors):
                shape = cls.shapes[suffix]
                fits = len(shape) == 2 and shape[1] == 1 and heads in (None, shape[0])
                if not fits:
                    names = tuple(join(member, suffix) for member in chosen)
                    expected = f"shape [{'heads' if heads is None else heads}, 1]"
                    found = f"shape {list(shape)}"
                    yield Finding("FA-002", "shape", found, expected, names, ck.one_file(names))


def _heads(ck: Context, role: str) -> int | None:
    config = ck.root.config
    heads = as_count(config.get("num_attention_heads")) if config else None
    if role == "fa_q" or config is None:
        return heads
    stated = as_count(config.get("num_key_value_heads"))
    return heads if stated is None else stated


@rule("FA-003")
def scale_and_offset_have_their_dtypes(ck: Context) -> Iterator[Finding]:
    for cls, role, members in _roles(ck):
        for suffix in (s for s in _SUFFIXES if s in cls.tensors):
            allowed, found = _dtypes(ck, role, suffix), cls.tensors[suffix].dtype
            if found not in allowed:
                names, expected = (
                    tuple(join(m, suffix) for m in members),
                    " or ".join(sorted(allowed)),
                )
                yield Finding(
                    "FA-003", "dtype", f"dtype {found}", expected, names, ck.one_file(names)
                )


def _dtypes(ck: Context, role: str, suffix: str) -> frozenset[str]:
    known = layout.load("FAQuant")
    if ck.profile not in known.profiles:
        return FLOATS if suffix == "scale" else frozenset({"I8", "F32"})
    return known.rules(ck.profile)[f"{role}.{suffix}"].resolve_dtypes(ck.model_dtype)


@value_rule("FA-003")
def scale_is_positive_and_offset_zero(ck: Context, module: Module) -> Iterator[Finding]:
    if module.name.rpartition(".")[2] not in _ROLES:
        return
    yield from not_above_zero("FA-003", module, "scale")
    offset = module.numbers("offset")
    if offset is not None:
        yield from wrong_elements("FA-003", module, "offset", offset != 0, "all 0")


@rule("FA-004")
def tensors_are_labelled_faquant(ck: Context) -> Iterator[Finding]:
    stored: list[str] = []
    for cls, _, members in _roles(ck):
        for suffix in (s for s in _SUFFIXES if s in cls.tensors):
            names, label = tuple(join(m, suffix) for m in members), cls.tensors[suffix].label
            stored += names
            if label not in (None, "FAQuant"):  # none: DESC-020
                found = f"label {label}"
                yield Finding("FA-004", "label", found, "label FAQuant", names, ck.description_name)
    judged = requirements.load()["DESC-018"].scope.profiles
    if stored and ck.profile not in judged and readable(ck) and not ck.metadata("fa_quant_type"):
        yield Finding(
            "FA-004", "type", "no fa_quant_type", "fa_quant_type", tuple(stored),
            ck.description_name,
        )  # fmt: skip


@rule("FA-005")
def heads_are_shared_evenly(ck: Context) -> Iterator[Finding]:
    heads = _heads(ck, "fa_q")
    if ck.tp and heads and heads % ck.tp:
        found, expected = f"{heads} heads", f"a multiple of {ck.tp}, the tensor-parallel size"
        yield Finding("FA-005", "heads", found, expected, file="config.json")
