"""Scales in groups: which size a linear has, and which the description states."""

import re
from collections.abc import Iterator

from slimcheck.context import Context, ModuleClass
from slimcheck.described import as_count
from slimcheck.findings import Finding
from slimcheck.layouts import rules_of, types_of
from slimspec import layout

USUAL = (32, 64, 128, 256)  # what the older tool takes (its GROUP_SIZE_LIST)
_BLOCK = re.compile(r"ceil\(k/(\d+)\)")


def group_size_of(ck: Context, cls: ModuleClass) -> int | None:
    """Columns that share one scale; None where a scale serves a whole row, or the shapes fail."""
    rules = rules_of(cls.label, ck.profile) if cls.label else None
    if rules is None:
        return None
    dims = (str(dim) for r in rules.values() for shape in r.shapes or () for dim in shape)
    block = next(filter(None, map(_BLOCK.fullmatch, dims)), None)
    if block:  # MX blocks have the size that the layout states
        return int(block[1])
    scaling = {suffix: r for suffix, r in rules.items() if "offset" not in suffix}
    bound = layout.bind(scaling, cls.shapes)
    return bound.env.get("g") if bound.ok else None


def stated_group_size(ck: Context) -> int | None:
    """group_size of the description, 0 if absent; None if it is no count (DESC-008)."""
    stated = ck.metadata("group_size")
    return 0 if stated is None else as_count(stated)


def wrong_group_size(
    ck: Context, requirement: str, suffix: str = "weight_scale"
) -> Iterator[Finding]:
    """Linears of the requirement's types in groups of another size than the description states.

    Where the directory has several sizes the one key cannot fit all, and nothing is said.
    """
    stated = stated_group_size(ck)
    sizes = {size for cls in ck.classes if (size := group_size_of(ck, cls))}
    if stated is None or len(sizes) != 1 or stated in sizes:
        return
    for cls in ck.of(*types_of(requirement)):
        if group_size_of(ck, cls):
            yield Finding(
                requirement, "group_size", f"group_size {stated} in the description",
                f"group_size {min(sizes)}, as {suffix} has it", cls.names(suffix),
                ck.description_name,
            )  # fmt: skip


def unusual_group_size(ck: Context, requirement: str, suffix: str) -> Iterator[Finding]:
    """Linears of the requirement's types whose groups have none of the USUAL sizes."""
    for cls in ck.of(*types_of(requirement)):
        size = group_size_of(ck, cls)
        if size is not None and size not in USUAL and suffix in cls.tensors:
            names = cls.names(suffix)
            yield Finding(
                requirement, "size", f"groups of {size}", f"one of {', '.join(map(str, USUAL))}",
                names, ck.one_file(names),
            )  # fmt: skip
