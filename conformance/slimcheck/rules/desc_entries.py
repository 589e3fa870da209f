"""DESC: the entries of the description, one label per tensor."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

from slimcheck.context import Context, is_layer_type, join
from slimcheck.described import as_count, at_most, entries, readable
from slimcheck.findings import Finding
from slimcheck.layouts import COMPRESSED, LABEL, MISSING, breach, is_norm, types_of
from slimcheck.packed import EXPERTS
from slimcheck.registry import rule
from slimcheck.rules.fq import FLATQUANT_TENSORS
from slimcheck.rules.mx import SVD_BRANCH
from slimspec.checkpoint.records import NAME_LIMIT
from slimspec.layout.vocabulary import may_be_undescribed

_SHOWN = 8  # numbers of absent experts


@rule("DESC-020")
def every_tensor_is_described(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is None:
        return
    for cls in ck.classes:
        for suffix, spec in cls.tensors.items():
            if spec.label is not None:
                continue
            names = tuple(
                name
                for name in cls.names(suffix)
                if name not in description.other and not may_be_undescribed(name, ck.profile)
            )
            if names:
                found = f"{spec.dtype} tensor without an entry{_extra_layer(ck, names)}"
                yield Finding(
                        "DESC-020", "undescribed", found, "an entry of its full name", names,
                        ck.one_file(names),
                    )  # fmt: skip


def _extra_layer(ck: Context, names: Iterable[str]) -> str:
    """Say so where all names lie in layers beyond num_hidden_layers (multi-token prediction)."""
    config = ck.root.config
    hidden = as_count(config.get("num_hidden_layers")) if config else None
    numbers = {int(n) for name in names for n in re.findall(r"\.layers\.(\d{1,9})\.", name)[:1]}
    if hidden is None or not numbers or min(numbers) < hidden:
        return ""
    return f" (layer {min(numbers)} of {hidden} is a multi-token-prediction layer)"


@rule("DESC-021")
def every_entry_names_a_tensor(ck: Context) -> Iterator[Finding]:
    table = ck.checkpoint.table
    if not ck.readable:
        return
    absent = [n for n in table.absent(ck.labels) if n and not is_layer_type(n)]
    if _tied_head(ck):
        absent = [
            name for name in absent if name.rpartition(".")[0].rpartition(".")[2] != "lm_head"
        ]
    absent.sort(key=_leaf)
    alike = list(at_most(names for _, names in groupby(absent, key=_leaf)))
    near = _stored_as(ck, [names[0] for names in alike])
    for names in alike:
        found = f"label {ck.labels[names[0]]}, no tensor of that name in any file"
        found += f"; {near[names[0]]} is stored" if names[0] in near else ""
        yield entries(ck, "DESC-021", "absent", found, "a stored tensor", names)


def _stored_as(ck: Context, names: Sequence[str]) -> dict[str, str]:
    """For some of `names`, the first undescribed tensor whose name differs by a prefix only."""
    wanted = set(names) | {ending for name in names for ending in _endings(name)}
    shorter: dict[str, int] = {}  # tensor -> its place, where a name may end so
    longer: dict[str, int] = {}  # ending of a tensor -> place of the first
    table = ck.checkpoint.table
    for row, stored in enumerate(table.names if wanted else ()):
        if stored not in ck.labels:
            if stored in wanted:
                shorter.setdefault(stored, row)
            for ending in _endings(stored):
                if ending in wanted:
                    longer.setdefault(ending, row)
    found = {}
    for name in names:
        rows = [shorter[ending] for ending in _endings(name) if ending in shorter]
        rows += [longer[name]] if name in longer else []
        if rows:
            found[name] = table.names[min(rows)]
    return found


def _endings(name: str) -> Iterator[str]:
    """What stands behind each dot; nothing for a name longer than any tensor may have."""
    while "." in name and len(name) <= NAME_LIMIT:
        name = name.partition(".")[2]
        yield name


def _leaf(name: str) -> tuple[str, int]:
    return name.rpartition(".")[2], name.count(".")


def _tied_head(ck: Context) -> bool:
    config = ck.root.config
    return bool(config and config.get("tie_word_embeddings") is True)


_OWN_LABEL_RULE = FLATQUANT_TENSORS | SVD_BRANCH  # FQ-005, MX-011


@rule("DESC-022")
def one_label_per_linear(ck: Context) -> Iterator[Finding]:
    for problem in ck.problems:
        bias_rule = types_of("W8A8-016") | types_of("SP-005")
        own_bias = problem.suffix == "bias" and problem.type in bias_rule
        own_rule = own_bias or problem.suffix in _OWN_LABEL_RULE
        if problem.aspect == LABEL and problem.type not in COMPRESSED and not own_rule:
            yield breach(ck, "DESC-022", problem)


@rule("DESC-023")
def every_companion_is_there(ck: Context) -> Iterator[Finding]:
    for problem in ck.problems:
        if problem.aspect == MISSING and problem.type not in COMPRESSED:
            yield breach(ck, "DESC-023", problem)


@rule("DESC-025")
def norms_are_described(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is None:
        return
    for cls in ck.classes:
        if "weight" in cls.tensors:  # of the bias: NORM-004
            names = tuple(
                name
                for norm in filter(is_norm, cls.members)
                if (name := join(norm, "weight")) not in description.labels
                and name not in description.other
            )
            if names:
                found = "weight stored, not described"
                yield entries(ck, "DESC-025", "weight", found, "an entry", names)


@rule("DESC-028")
def float_tensors_are_float(ck: Context) -> Iterator[Finding]:
    for label in ("FLOAT_FLATQUANT", "FLOAT_SVD"):
        if label in ck.labels.values():
            names = tuple(name for name, found in ck.labels.items() if found == label)
            yield entries(ck, "DESC-028", label, f"label {label}", "FLOAT", names)


_EXPERT = re.compile(r"(.*\.experts)\.(\d{1,9})\.")


@rule("DESC-034")
def every_expert_is_described(ck: Context) -> Iterator[Finding]:
    experts: dict[str, set[int]] = {}
    for name in ck.labels:
        hit = _EXPERT.match(name) if name.endswith(".weight") else None
        if hit:
            experts.setdefault(hit[1], set()).add(int(hit[2]))
    stated = _stated_experts(ck)
    for layer, numbers in experts.items():
        count = max(stated, max(numbers) + 1)
        if len(numbers) < count:
            found = f"{len(numbers)} experts, without {_some_absent(numbers, count)}"
            yield entries(ck, "DESC-034", "absent", found, f"experts 0 to {count - 1}", (layer,))


def _stated_experts(ck: Context) -> int:
    config = ck.root.config
    for key in ("n_routed_experts", "num_experts", "num_local_experts") if config else ():
        value = as_count(config.get(key)) if config else None
        if value is not None:
            return value
    return 0


def _some_absent(numbers: set[int], count: int) -> str:
    """The first numbers below `count` that are not there; `count` may be absurdly large."""
    absent = list(islice((n for n in range(count) if n not in numbers), _SHOWN + 1))
    shown = ", ".join(map(str, absent[:_SHOWN]))
    return shown + (", …" if len(absent) > _SHOWN else "")


@rule("DESC-035")
def fused_groups_are_described(ck: Context) -> Iterator[Finding]:
    for group in ck.fused:
        have, wanted = set(group.modules), group.group.shards
        absent = [shard for shard in wanted if shard not in have]
        shared_values = absent == ["v_proj"]  # Gemma 4 computes V from K
        if group.group.fused != EXPERTS and absent and not shared_values and not _alone(have):
            names = tuple(join(join(group.parent, shard), "weight") for shard in absent)
            found = f"{', '.join(sorted(have))} without {', '.join(absent)}"
            yield entries(ck, "DESC-035", wanted[0], found, ", ".join(wanted), names)


def _alone(have: set[str]) -> bool:
    """q_proj of a latent attention, or a plain up_proj, is no part of a fused group."""
    return have in ({"q_proj"}, {"up_proj"}, {"kv_a_proj_with_mqa"})
