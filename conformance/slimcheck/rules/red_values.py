"""RED: shards against the whole weight, elements."""

from collections.abc import Iterator

import numpy as np

from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import value_rule
from slimcheck.values.modules import Module
from slimspec.layout.beside import SHARD


@value_rule("RED-002")
def shards_are_columns_of_the_weight(ck: Context, module: Module) -> Iterator[Finding]:
    """Sizes that do not fit are RED-003's."""
    shard = SHARD.fullmatch(module.name)
    table = ck.checkpoint.table
    row = table.find(f"{shard[1]}.weight") if shard else None
    if shard is None or row is None or module.codes is None or table.dtype(row) != "I8":
        return
    own, at = module.codes, int(shard[2]) * module.codes.shape[1]
    n, columns = own.shape
    if table.shape(row)[:1] != (n,) or len(table.shape(row)) != 2:
        return
    last = table.shape(row)[1] // columns - 1 if columns else -1
    shards = [f"{shard[1]}.tp_list.{i}.weight" in table for i in (last, last + 1)]
    if shards != [True, False]:  # RED-003
        return
    whole = ck.checkpoint.tensor(f"{shard[1]}.weight")[:, at : at + columns]
    if whole.shape == own.shape and not np.array_equal(whole, own):
        count = int(np.count_nonzero(whole != own))
        found = f"{count} of {own.size} elements differ"
        expected = "the columns of the weight"
        name = (module.tensor("weight"),)
        yield Finding("RED-002", "value", found, expected, name, module.file("weight"))
