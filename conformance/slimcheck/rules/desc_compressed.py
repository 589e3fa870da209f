"""DESC: entries of compressed linears."""

from collections.abc import Iterator

from slimcheck.context import Context
from slimcheck.described import as_count, entries, readable, said, shown
from slimcheck.findings import Finding
from slimcheck.layouts import COMPRESSED, MISSING, breaches
from slimcheck.registry import rule

_STREAM = frozenset({"weight", "index", "info"})


@rule("DESC-029")
def compressed_weights_are_whole(ck: Context) -> Iterator[Finding]:
    stated = ck.metadata("model_quant_type")
    if not (isinstance(stated, str) and stated in COMPRESSED) and readable(ck):
        found = f"model_quant_type {shown(stated)}"
        yield said(ck, "DESC-029", "model", found, "W8A8SC or W16A16SC")
    yield from breaches(ck, "DESC-029", {MISSING}, _STREAM)  # labels: SC-012


@rule("DESC-030")
def compressed_linears_have_their_companions(ck: Context) -> Iterator[Finding]:
    for finding in breaches(ck, "DESC-030", {MISSING}):
        if finding.tensors[0].rpartition(".")[2] not in _STREAM:
            yield finding


@rule("DESC-031")
def compressed_float_weights_tell_their_rows(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    for cls in ck.of("W16A16SC") if description else ():
        for name in cls.names("weight"):
            rows = description.other.get(name + ".outdim") if description else None
            if not as_count(rows):
                found = "no outdim" if rows is None else f"outdim {shown(rows)}"
                yield entries(
                    ck, "DESC-031", "outdim", found, "weight.outdim, an integer above 0", (name,)
                )


@rule("DESC-033")
def sharded_streams_have_no_entries(ck: Context) -> Iterator[Finding]:
    for cls in ck.of("W8A8SC"):
        for suffix in ("index", "info"):
            names = tuple(name for name in cls.names(suffix) if name in ck.labels)
            if names:
                yield entries(ck, "DESC-033", suffix, f"{suffix} described", "no entry", names)
