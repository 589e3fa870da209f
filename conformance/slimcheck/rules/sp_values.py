"""SP: sparse weights that are stored dense (W8A8S, W16A16S), elements."""

from collections.abc import Iterator

import numpy as np

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.layouts import FLOATS
from slimcheck.registry import value_rule
from slimcheck.values.modules import Module

_LOW_BIT = 7  # largest integer of four bits
_SHARE = 0.9
_CHUNK = 1 << 20  # elements looked at together


@value_rule("SP-003")
def most_integers_are_small(ck: Context, module: Module) -> Iterator[Finding]:
    codes = module.codes
    if codes is None or not codes.size:
        return
    flat = codes.reshape(-1)
    blocks = (flat[at : at + _CHUNK] for at in range(0, flat.size, _CHUNK))
    small = sum(
        int(np.count_nonzero((block >= -_LOW_BIT) & (block <= _LOW_BIT))) for block in blocks
    )
    if small < _SHARE * flat.size:
        found = f"{small / flat.size:.1%} within -{_LOW_BIT} … {_LOW_BIT}"
        yield _about_weight("SP-003", "share", module, found, f"{_SHARE:.0%} or more")


@value_rule("SP-006")
def some_weights_are_zero(ck: Context, module: Module) -> Iterator[Finding]:
    if module.cls.tensors["weight"].dtype not in FLOATS:
        return
    flat = module.array("weight").reshape(-1)
    blocks = (flat[at : at + _CHUNK] for at in range(0, flat.size, _CHUNK))
    if flat.size and not any((block == 0).any() for block in blocks):
        yield _about_weight("SP-006", "dense", module, "no zero", "zeros where it was pruned")


def _about_weight(key: str, kind: str, module: Module, found: str, expected: str) -> Finding:
    name = module.tensor("weight")
    return Finding(key, kind, found, expected, (name,), module.file("weight"))
