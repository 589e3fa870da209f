"""TP: what a number of tensor-parallel ranks asks of the weights, headers and JSON."""

from collections.abc import Callable, Iterator, Mapping

from slimcheck.context import Context, ModuleClass, join
from slimcheck.described import as_count
from slimcheck.findings import Finding
from slimcheck.groups import group_size_of
from slimcheck.layouts import rules_of, types_of
from slimcheck.packed import EXPERTS
from slimcheck.registry import ROOT, rule
from slimcheck.rules.red import reduced
from slimspec import layout
from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.profile import PART, RANK_SHARD
from slimspec.pipeline.shard_map import PLAIN, ModuleRule, choose_map
from slimspec.pipeline.shard_plan import Heads, heads_of

_PROPOSED = (1, 2, 4, 8, 16, 32, 64)  # sizes that a finding may recommend
_PAIRED = "int4-row-pairs"
Fits = Callable[[int], bool]


def split_of(module: str) -> ModuleRule | None:
    """How a module of the float model is cut; None where its name tells nothing."""
    return choose_map(PLAIN, None).rule(module)


def _works(fits: Fits) -> str:
    return f"works --tp {', '.join(str(size) for size in _PROPOSED if fits(size))}"


def _refused(
    ck: Context, key: str, kind: str, what: str, fits: Fits, names: tuple[str, ...]
) -> Iterator[Finding]:
    """A finding where the size that was asked for does not fit."""
    if ck.tp and names and not fits(ck.tp):
        found = f"{what}, --tp {ck.tp}"
        yield Finding(key, kind, found, _works(fits), names, ck.one_file(names))


def _linears(ck: Context) -> Iterator[tuple[ModuleClass, Mapping[str, int], str]]:
    """Every class of linears of a whole directory: its dimensions and how its weight is packed."""
    for cls in ck.classes if ck.where == "whole" else ():
        rules = rules_of(cls.label, ck.profile) if cls.label else None
        bound = layout.bind(rules, cls.shapes) if rules else None
        if rules and bound and bound.ok and "weight" in bound.chosen:
            packing = rules["weight"].packing
            at = bound.chosen["weight"]
            yield cls, bound.env, packing[at] if at < len(packing) else ""


def _cut(cls: ModuleClass) -> Mapping[ModuleRule, tuple[str, ...]]:
    """How the members of a class are cut, experts left out: rule -> weights."""
    found: dict[ModuleRule, tuple[str, ...]] = {}
    for member in cls.members:
        split = None if f".{EXPERTS}." in member else split_of(member)
        if split is not None:
            found[split] = (*found.get(split, ()), join(member, "weight"))
    return found


def _heads(ck: Context) -> Heads | None:
    try:
        return heads_of(ck.root.config, pad=False)
    except CheckpointError:
        return None


def _shares(heads: Heads, by: str) -> Fits:
    def fits(tp: int) -> bool:
        try:
            return bool(heads.blocks(by, tp))
        except ValueError:
            return False

    return fits


@rule("TP-001", needs_tp=True)
def shares_are_equal(ck: Context) -> Iterator[Finding]:
    heads = _heads(ck)
    for cls, dims, _ in _linears(ck):
        grouped = group_size_of(ck, cls) is not None
        for split, names in _cut(cls).items():
            if split.by and heads:
                what = f"{heads.attention} attention heads, {heads.kv} key/value heads"
                yield from _refused(ck, "TP-001", "heads", what, _shares(heads, split.by), names)
                continue
            axis = {"rows": "n", "columns": "k"}.get(split.split)
            size = dims.get(axis) if axis else None
            if size and not (split.split == "columns" and grouped):
                yield from _refused(
                    ck, "TP-001", str(axis), f"{axis} = {size}", _divides(size), names
                )


def _divides(size: int, unit: int = 1) -> Fits:
    return lambda tp: tp == 1 or size % (unit * tp) == 0


@rule("TP-002", needs_tp=True)
def slices_of_scale_bias_are_shared(ck: Context) -> Iterator[Finding]:
    for cls in ck.of(*types_of("TP-002")) if ck.where == "whole" else ():
        shape = cls.shapes.get("scale_bias", ())
        if len(shape) == 2 and shape[1] > 1:
            what = f"scale_bias of {shape[1]} slices"
            names = cls.names("scale_bias")
            yield from _refused(ck, "TP-002", "slices", what, _divides(shape[1]), names)


@rule("TP-003", needs_tp=True)
def groups_stay_whole(ck: Context) -> Iterator[Finding]:
    for cls, dims, packing in _linears(ck):
        n, k, size = dims.get("n"), dims.get("k"), group_size_of(ck, cls)
        for split, names in _cut(cls).items():
            if split.split == "columns" and k and size:
                what = f"k = {k} in groups of {size}"
                yield from _refused(ck, "TP-003", "groups", what, _divides(k, size), names)
            if split.split == "rows" and n and packing == _PAIRED:
                what = f"n = {n} in pairs"
                yield from _refused(ck, "TP-003", "pairs", what, _divides(n, 2), names)


@rule("TP-004", needs_tp=True)
def attention_scales_are_shared(ck: Context) -> Iterator[Finding]:
    for cls in ck.classes if ck.where == "whole" else ():
        shape = cls.shapes.get("scale", ())
        for leaf in ("fa_q", "fa_k", "fa_v") if shape and shape[0] else ():
            members = [member for member in cls.members if f".{member}".endswith(f".{leaf}")]
            names = tuple(join(member, "scale") for member in members)
            fits = _divides(shape[0]) if leaf == "fa_q" else _divides_or_repeats(shape[0])
            yield from _refused(ck, "TP-004", leaf, f"{shape[0]} heads in {leaf}", fits, names)


def _divides_or_repeats(heads: int) -> Fits:
    return lambda tp: heads % tp == 0 or tp % heads == 0


@rule("TP-005", on=ROOT, needs_tp=True)
def ranks_are_those_it_was_cut_for(ck: Context) -> Iterator[Finding]:
    cut = _cut_for(ck)
    if cut is not None and cut[0] != ck.tp:
        found = f"{cut[1]}, --tp {ck.tp}"
        yield Finding("TP-005", "ranks", found, f"works --tp {cut[0]}")


def _cut_for(ck: Context) -> tuple[int, str] | None:
    """For how many ranks, and what says so; None for a directory that is not cut."""
    if ck.profile == "SH310":
        found = (RANK_SHARD.fullmatch(shard.name) for shard in ck.checkpoint.shards)
        ranks = {int(match[1]) for match in found if match}
        return (len(ranks), f"{len(ranks)} ranks") if ranks else None
    if ck.profile == "OFF":
        file = ck.checkpoint.sharded_metadata
        option = (
            file.value.get("parallel_option") if file and isinstance(file.value, dict) else None
        )
        tp = as_count(option.get("tp")) if isinstance(option, dict) else None
        return (tp, f"parallel_option tp {tp}") if tp else None
    part = PART.fullmatch(ck.checkpoint.path.resolve().name)
    if ck.profile == "SC" and part and not ck.checkpoint.parts:
        return int(part[2]), part[0]
    return None


@rule("TP-008")
def communication_scales_have_a_row_each(ck: Context) -> Iterator[Finding]:
    for linear in reduced(ck):
        rows = linear.shape[:1]
        for name, spec in linear.scales.items():
            if rows and spec.shape != rows:
                found, expected = f"shape {list(spec.shape)}", f"shape [n] = {list(rows)}"
                yield Finding("TP-008", "shape", found, expected, (name,), ck.file_of(name))
