"""What stands beside the tensors of a type: scales of attention, copies of norms, shards."""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from slimspec.layout.labels import attachments
from slimspec.layout.model import TensorRule, load, types

SHARD = re.compile(r"(.+)\.tp_list\.(\d{1,9})")  # (linear, rank) of a linear cut over ranks


@cache
def guests(profile: str) -> Mapping[str, TensorRule]:
    """Suffix -> rule of what may stand in a module of any type: KV scales, rotations, sums, …"""
    found = {s: rule for s, rule in attachments(profile).items() if "." not in s}
    for name in types():
        described = load(name)
        if described.kind == "attention" and profile in described.profiles:
            for suffix, rule in described.rules(profile).items():
                found.setdefault(suffix.rpartition(".")[2], rule)
    return MappingProxyType(found)


def is_norm_copy(module: str, profile: str) -> bool:
    """Whether the module is a norm's second set of tensors (`norm.module`, `norm.anti`).

    Such copies carry the label of the model and are no linears.
    """
    if not module.endswith(_norm_copies(profile)):
        return False
    parent = module.rpartition(".")[0]
    return "norm" in parent.rpartition(".")[2]


@cache
def _norm_copies(profile: str) -> tuple[str, ...]:
    """How the names of such copies end: ".module", …"""
    norm = load("norm")
    suffixes = norm.rules(profile) if profile in norm.profiles else ()
    return tuple(sorted({f".{suffix.partition('.')[0]}" for suffix in suffixes if "." in suffix}))
