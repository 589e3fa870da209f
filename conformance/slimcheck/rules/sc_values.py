"""SC: compressed weights (W8A8SC, W16A16SC), elements: info, lengths, and the stream itself."""

from collections.abc import Iterator

from slimcheck.context import Context
from slimcheck.described import as_count, readable
from slimcheck.findings import Finding
from slimcheck.registry import value_rule
from slimcheck.values.modules import Module
from slimspec.sparse import StreamDefect, TilePlan, validate
from slimspec.sparse.codebook import ModeName
from slimspec.sparse.plan import TILING

_DECODE = 3  # level of a full decode
_SHOWN = 8  # defects per weight; each costs a decode by the readable definition
_MODES: dict[str, ModeName] = {"W8A8SC": "low", "W16A16SC": "high"}
_LIMIT = 1 << 40  # of k and of n: beyond, no product is formed


def info_of(module: Module) -> tuple[int, ...] | None:
    """The five numbers of info; None where it is no I64 [5] (SC-003)."""
    spec = module.cls.tensors.get("info")
    if spec is None or spec.dtype != "I64" or spec.shape != (5,):
        return None
    return tuple(int(value) for value in module.array("info"))


def _plan(module: Module) -> TilePlan | None:
    """The tiles of a weight of that size; None where info states none (SC-004, SC-005)."""
    info = info_of(module)
    if info is None or info[:2] != (TILING, TILING) or not all(0 < x < _LIMIT for x in info[2:4]):
        return None
    return TilePlan(n=info[3], k=info[2])


def _length(module: Module, suffix: str) -> int | None:
    spec = module.cls.tensors.get(suffix)
    return spec.shape[0] if spec is not None and len(spec.shape) == 1 else None


def _said(
    key: str, kind: str, module: Module, suffix: str, found: str, expected: str
) -> Iterator[Finding]:
    name = module.tensor(suffix)
    yield Finding(key, kind, found, expected, (name,), module.file(suffix))


@value_rule("SC-002")
def index_has_one_entry_per_tile(ck: Context, module: Module) -> Iterator[Finding]:
    plan, length = _plan(module), _length(module, "index")
    if plan is not None and length is not None and length != plan.index_bytes:
        found = f"{length} bytes, {plan.index_bytes} for n = {plan.n}, k = {plan.k}"
        yield from _said("SC-002", "length", module, "index", found, "8 bytes for each tile")


@value_rule("SC-004")
def tiling_is_eight(ck: Context, module: Module) -> Iterator[Finding]:
    info = info_of(module)
    if info is not None and info[:2] != (TILING, TILING):
        found = f"info {list(info)}"
        yield from _said("SC-004", "tiling", module, "info", found, f"[{TILING}, {TILING}, …]")


@value_rule("SC-005")
def info_is_the_size_of_the_weight(ck: Context, module: Module) -> Iterator[Finding]:
    info = info_of(module)
    if info is None:
        return
    k, n, direction = info[2:]
    odd = "W16A16SC" in module.types and k % 2
    if not (0 < k < _LIMIT and 0 < n < _LIMIT) or odd or direction != 1:
        expected = "k and n above 0" + (", k even" if odd else "") + ", then 1"
        yield from _said("SC-005", "size", module, "info", f"info {list(info)}", expected)


@value_rule("SC-006")
def info_counts_the_rows(ck: Context, module: Module) -> Iterator[Finding]:
    info = info_of(module)
    rows = {s: _length(module, s) for s in ("deq_scale", "quant_bias")}
    counts = {count for count in rows.values() if count is not None}
    if info is not None and info[3] > 0 and len(counts) == 1 and counts != {info[3]}:
        found = f"n = {info[3]}, {counts.pop()} elements"
        expected = "the number of elements of deq_scale and quant_bias"
        yield from _said("SC-006", "rows", module, "info", found, expected)


@value_rule("SC-007")
def weight_is_not_longer_than_its_raw_tiles(ck: Context, module: Module) -> Iterator[Finding]:
    plan, length = _plan(module), _length(module, "weight")
    if plan is not None and length is not None and length > plan.largest_weight:
        found = f"{length} bytes, raw {plan.largest_weight} for n = {plan.n}, k = {plan.k}"
        yield from _said("SC-007", "length", module, "weight", found, "no more than raw")


@value_rule("SC-008")
def compression_gains_something(ck: Context, module: Module) -> Iterator[Finding]:
    plan, length = _plan(module), _length(module, "weight")
    if plan is None or length is None or length > plan.largest_weight:  # SC-007
        return
    if length >= plan.n * plan.k:
        found = f"{length} bytes, n · k = {plan.n * plan.k}"
        yield from _said("SC-008", "length", module, "weight", found, "less than n · k")


@value_rule("SC-009")
def stream_decodes(ck: Context, module: Module) -> Iterator[Finding]:
    """One finding for each rule of the stream that is violated, about its first defect.

    What the shapes already contradict is left to the rules above.
    """
    mode = _MODES.get(module.label or "")
    if mode is None or not {"index", "info"} <= module.cls.tensors.keys():
        return
    weight, index, info = (module.array(suffix) for suffix in ("weight", "index", "info"))
    if index.size and not index.any():
        yield from _said("SC-009", "zero", module, "index", "all zero", "the places of the tiles")
        return
    defects: dict[str, list[StreamDefect]] = {}
    for defect in validate(weight, index, info, level=_DECODE, mode=mode, limit=_SHOWN):
        if defect.level > 0 and not defect.warning:
            defects.setdefault(defect.code, []).append(defect)
    for code, alike in defects.items():
        suffix = "index" if alike[0].level == 1 else "weight"
        yield from _said("SC-009", code, module, suffix, _first_of(alike), alike[0].rule)


def _first_of(defects: list[StreamDefect]) -> str:
    first, more = defects[0], len(defects) - 1
    place = f"{first.place}: " if first.place else ""
    found = f"{place}{first.found} instead of {first.expected}"
    return f"{found}; {more} more such defects" if more else found


@value_rule("SC-016")
def outdim_is_the_rows(ck: Context, module: Module) -> Iterator[Finding]:
    info, description = info_of(module), readable(ck)
    if info is None or description is None:
        return
    rows = as_count(description.other.get(module.tensor("weight") + ".outdim"))
    if rows and rows != info[3]:  # absent or no count: DESC-031
        found = f"outdim {rows}, info {list(info)}"
        name = module.tensor("weight")
        yield Finding("SC-016", "outdim", found, f"{info[3]}", (name,), ck.description_name)
