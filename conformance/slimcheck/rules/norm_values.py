"""NORM: the second set of a norm, elements."""

from collections.abc import Iterator

import numpy as np

from slimcheck.context import Context, join
from slimcheck.elements import wrong_elements
from slimcheck.findings import Finding
from slimcheck.registry import value_rule
from slimcheck.values.modules import Module
from slimspec.layout.beside import is_norm_copy
from slimspec.numeric import as_float32

_EXPECTED = "the numbers of the norm itself"


@value_rule("NORM-002")
def second_set_is_a_copy(ck: Context, module: Module) -> Iterator[Finding]:
    if not is_norm_copy(module.name, ck.profile):
        return
    norm = module.name.rpartition(".")[0]
    for suffix in module.cls.tensors:
        own = module.numbers(suffix)
        row = ck.checkpoint.table.find(join(norm, suffix))
        if own is None:
            continue
        name = (module.tensor(suffix),)
        if row is None:
            found = f"no {join(norm, suffix)}"
            yield Finding("NORM-002", "alone", found, _EXPECTED, name, module.file(suffix))
            continue
        shape, dtype = ck.checkpoint.table.shape(row), ck.checkpoint.table.dtype(row)
        if shape != own.shape or dtype not in ("F16", "BF16", "F32"):
            found = f"shape {list(own.shape)}, the norm {dtype} {list(shape)}"
            yield Finding("NORM-002", "shape", found, _EXPECTED, name, module.file(suffix))
            continue
        other = as_float32(ck.checkpoint.tensor(join(norm, suffix)))
        wrong = (own != other) & ~(np.isnan(own) & np.isnan(other))
        yield from wrong_elements("NORM-002", module, suffix, wrong, _EXPECTED, instead=other)
