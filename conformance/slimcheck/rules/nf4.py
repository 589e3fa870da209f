"""NF4: a type that cannot be read back."""

from collections.abc import Iterator
from itertools import groupby

from slimcheck.context import Context
from slimcheck.described import entries
from slimcheck.findings import Finding
from slimcheck.layouts import types_of
from slimcheck.registry import rule


@rule("NF4-001")
def nothing_is_nf4(ck: Context) -> Iterator[Finding]:
    names = sorted((n for n, label in ck.labels.items() if label in types_of("NF4-001")), key=_leaf)
    for _, alike in groupby(names, key=_leaf):
        found = "codes without absolute maxima"
        yield entries(ck, "NF4-001", "label", found, "a type that can be read", tuple(alike))


def _leaf(name: str) -> tuple[str, int]:
    return name.rpartition(".")[2], name.count(".")
