"""DESC: the description file, its model type, version and size of groups."""

import re
from collections.abc import Iterator
from difflib import get_close_matches

from slimcheck.context import Context
from slimcheck.described import SYNTAX, as_count, at_most, entries, has, readable, said, shown
from slimcheck.findings import Finding
from slimcheck.groups import group_size_of, stated_group_size
from slimcheck.layouts import is_linear, types_of
from slimcheck.registry import rule
from slimspec import layout
from slimspec.checkpoint.description import OMNI_PREFIX
from slimspec.layout import vocabulary

_VERSION = re.compile(r"[1-9]\d*\.\d+\.\d+", re.ASCII)


@rule("DESC-001")
def description_is_an_object(ck: Context) -> Iterator[Finding]:
    description = ck.checkpoint.description
    for defect in description.defects if description else ():
        if defect.code not in SYNTAX:
            yield said(ck, "DESC-001", defect.code, defect.found, defect.expected)
    if description and ("" in description.labels or "" in description.other):
        yield said(ck, "DESC-001", "empty-key", "a member with the name ''", "non-empty names")


@rule("DESC-032")
def description_is_strict_json(ck: Context) -> Iterator[Finding]:
    description = ck.checkpoint.description
    for defect in description.defects if description else ():
        if defect.code in SYNTAX:
            yield said(ck, "DESC-032", defect.code, defect.found, defect.expected)


@rule("DESC-002")
def model_type_is_known(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is None:
        return
    stated = description.get("model_quant_type")
    if not isinstance(stated, str):
        found = "absent" if stated is None else repr(stated)
        yield said(ck, "DESC-002", "missing", f"model_quant_type {found}", "a known type")
    elif not _is_model_type(stated):
        found = f"model_quant_type {shown(stated)}"
        yield said(ck, "DESC-002", "unknown", found, f"a known type{_near(stated)}")


def _is_model_type(label: str) -> bool:
    known = vocabulary.labels().get(label)
    return is_linear(label) or label == "Unknown" or (known is not None and known.role == "engine")


@rule("DESC-003")
def model_type_is_told(ck: Context) -> Iterator[Finding]:
    if ck.metadata("model_quant_type") == "Unknown":
        yield said(ck, "DESC-003", "unknown", "model_quant_type 'Unknown'", "the model's type")


@rule("DESC-004")
def version_has_its_form(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is None or not has(description, "version"):
        return
    version = description.get("version")
    if not isinstance(version, str) or not (version == "0.0.0" or _VERSION.fullmatch(version)):
        yield said(ck, "DESC-004", "form", f"version {shown(version)}", "MAJOR.MINOR.PATCH")


@rule("DESC-005")
def version_is_current(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is None:
        return
    version = description.get("version")
    if version != "1.0.0" and (version is None or _VERSION.fullmatch(str(version))):
        yield said(ck, "DESC-005", "version", f"version {version or 'absent'}", "1.0.0")


@rule("DESC-006")
def legacy_has_no_version(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is not None and has(description, "version"):
        yield said(
            ck, "DESC-006", "version", f"version {shown(ck.metadata('version'))}", "no version"
        )


@rule("DESC-007")
def entries_are_labels(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is None:
        return
    unknown: dict[str, list[str]] = {}
    labels = set(description.labels.values())
    strange = {label for label in labels if not vocabulary.is_label(label)}
    for name, label in description.labels.items() if strange else ():
        if label in strange and vocabulary.layer_key(name) is None:
            unknown.setdefault(label, []).append(name)
    for names in at_most(unknown.values()):
        label = description.labels[names[0]]
        yield entries(
            ck,
            "DESC-007",
            "label",
            f"label {shown(label)}",
            f"a known label{_near(label)}",
            names,
        )
    for name, value in description.other.items():
        known = vocabulary.layer_key(name)
        if known is None or "integer" not in known["types"] or not as_count(value):
            yield entries(ck, "DESC-007", "type", shown(value), "a label", (name,))
    for key in ("metadata", "optional"):
        if has(description, key) and not isinstance(description.get(key), dict):
            found = f"{key} {shown(description.get(key))}"
            yield said(ck, "DESC-007", "object", found, f"{key} is an object")


def _near(label: str) -> str:
    known = [name for name in layout.types() if is_linear(name)]
    near = get_close_matches(label.upper()[:80], known, n=1)
    return f", perhaps {near[0]}" if near else ""


@rule("DESC-008")
def group_size_is_a_count(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is not None and has(description, "group_size"):
        size = description.get("group_size")
        if as_count(size) is None:
            yield said(ck, "DESC-008", "type", f"group_size {shown(size)}", "an integer >= 0")


@rule("DESC-009")
def a1_writes_three_members(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    for key in ("group_size", "metadata", "optional") if description else ():
        if description and not has(description, key):
            yield said(ck, "DESC-009", key, f"no {key}", f"a member {key}")


@rule("DESC-010")
def a0_group_size_is_positive(ck: Context) -> Iterator[Finding]:
    size = ck.metadata("group_size")
    if type(size) is int and size == 0:
        yield said(ck, "DESC-010", "zero", "group_size 0", "absent, or above 0")


@rule("DESC-011")
def legacy_has_no_group_size(ck: Context) -> Iterator[Finding]:
    description = readable(ck)
    if description is not None and has(description, "group_size"):
        found = f"group_size {shown(description.get('group_size'))}"
        yield said(ck, "DESC-011", "present", found, "no group_size")


_OWN_GROUP_SIZE = ("DYN-008", "W8A16-008", "W4A16-008", "W4A8-016", "MX-007")


@rule("DESC-012")
def group_size_is_that_of_the_scales(ck: Context) -> Iterator[Finding]:
    """Some types have a rule of their own."""
    stated = stated_group_size(ck)
    if stated is None or readable(ck) is None:
        return
    own_rule = frozenset().union(*map(types_of, _OWN_GROUP_SIZE))
    grouped = False
    for cls in ck.classes:
        size = group_size_of(ck, cls)
        grouped = grouped or size is not None
        if size not in (None, stated) and layout.base_label(cls.label or "") not in own_rule:
            yield entries(
                ck,
                "DESC-012",
                "size",
                f"group_size {stated}",
                f"group_size {size}",
                cls.names("weight_scale"),
            )
    if stated and not grouped:
        yield said(ck, "DESC-012", "none", f"group_size {stated}", "0: nothing has group scales")


_OWN_NULL_RULE = frozenset({"model_quant_type", "version", "group_size", "metadata", "optional"})


@rule("DESC-016")
def no_metadata_is_null(ck: Context) -> Iterator[Finding]:
    description = ck.checkpoint.description
    for key, value in description.metadata.items() if description else ():
        if value is None and key not in _OWN_NULL_RULE:
            yield said(ck, "DESC-016", key, f"{key} null", f"no {key}")


@rule("DESC-026")
def metadata_has_no_prefix(ck: Context) -> Iterator[Finding]:
    description = ck.checkpoint.description
    for key in description.metadata if description else ():
        if key.startswith(OMNI_PREFIX):
            plain = key.removeprefix(OMNI_PREFIX)
            yield said(ck, "DESC-026", plain, f"key {key}", plain)
