"""CFG: the members of config.json that belong to the format."""

from collections.abc import Iterator
from typing import Any

from slimcheck.consumers import consumers
from slimcheck.context import Context
from slimcheck.findings import Finding
from slimcheck.registry import ROOT, WEIGHTS, rule

_CONFIG = "config.json"
_EQUAL = {"w8a8_mix": "w8a8_pdmix"}  # model_quant_type in lower case -> `quantize`
_MIXED = ("mla_quantize", "moe_quantize", "mtp_quantize")  # then `quantize` is one of several
_SHARED = ("group_size", "kv_quant_type", "fa_quant_type")


def _value(ck: Context) -> dict[str, Any]:
    return ck.root.config.value if ck.root.config else {}


def _quantization(ck: Context) -> dict[str, Any]:
    found = _value(ck).get("quantization_config")
    return found if isinstance(found, dict) else {}


def _derived_quantize(ck: Context) -> str | None:
    label = ck.metadata("model_quant_type")
    if not isinstance(label, str):
        return None
    return _EQUAL.get(label.lower(), label.lower())


@rule("CFG-001")
def mindie_knows_the_effective_type(ck: Context) -> Iterator[Finding]:
    stated = _value(ck).get("quantize")
    effective = stated if stated is not None else _derived_quantize(ck)
    known = consumers()["mindie-atb"].config["quantize"]
    if effective is not None and effective not in known:
        origin = "quantize" if stated is not None else "model_quant_type in lower case"
        yield Finding(
            "CFG-001", "quantize", f"{effective!r} ({origin})", ", ".join(map(str, known)),
            file=_CONFIG if stated is not None else ck.description_name,
        )  # fmt: skip


@rule("CFG-002")
def quantize_agrees_with_the_description(ck: Context) -> Iterator[Finding]:
    stated, derived = _value(ck).get("quantize"), _derived_quantize(ck)
    if stated is None or derived is None or any(key in _value(ck) for key in _MIXED):
        return
    if _EQUAL.get(str(stated), str(stated)) != derived:
        yield Finding("CFG-002", "quantize", f"quantize {stated!r}", repr(derived), file=_CONFIG)


@rule("CFG-003")
def mindie_accepts_group_size(ck: Context) -> Iterator[Finding]:
    yield from _mindie_member(ck, "CFG-003", "group_size", described=True)


@rule("CFG-004")
def mindie_accepts_kv_quant_type(ck: Context) -> Iterator[Finding]:
    yield from _mindie_member(ck, "CFG-004", "kv_quant_type")


@rule("CFG-005")
def mindie_accepts_reduce_quant_type(ck: Context) -> Iterator[Finding]:
    yield from _mindie_member(ck, "CFG-005", "reduce_quant_type")


@rule("CFG-006")
def mindie_accepts_fa_quant_type(ck: Context) -> Iterator[Finding]:
    yield from _mindie_member(ck, "CFG-006", "fa_quant_type")


def _mindie_member(
    ck: Context, key: str, member: str, described: bool = False
) -> Iterator[Finding]:
    allowed = consumers()["mindie-atb"].config[member]
    places = [(_quantization(ck), _CONFIG)]
    if described and ck.checkpoint.description:
        places.append((ck.checkpoint.description.metadata, ck.description_name))
    for members, file in places:
        value = members.get(member)
        if member in members and not _among(value, allowed):
            wanted = ", ".join("null" if a is None else str(a) for a in allowed)
            yield Finding(key, "value", f"{member} {value!r}", wanted, file=file)


def _among(value: Any, allowed: list[Any]) -> bool:
    """Equal in value and type: true is not 1, and nothing unhashable is compared."""
    return any(type(value) is type(choice) and value == choice for choice in allowed)


@rule("CFG-007")
def sparse_models_are_float16(ck: Context) -> Iterator[Finding]:
    stated = ck.root.config.model_dtype if ck.root.config else None
    if stated not in (None, "F16"):
        yield Finding("CFG-007", "dtype", f"model dtype {stated}", "float16", file=_CONFIG)


@rule("CFG-008", on=ROOT)
def model_dtype_is_that_of_the_weights(ck: Context) -> Iterator[Finding]:
    config = ck.checkpoint.config
    for defect in config.defects if config else ():
        if defect.code == "config-dtype":
            yield Finding("CFG-008", "unknown", defect.found, defect.expected, file=_CONFIG)
    conflict = ck.checkpoint.model_dtype_conflict
    if conflict:
        found = f"torch_dtype {config.stated_dtype if config else None}; {conflict}"
        yield Finding("CFG-008", "conflict", found, f"{ck.model_dtype}", file=_CONFIG)


@rule("CFG-009")
def deepseek_members_match_the_layers(ck: Context) -> Iterator[Finding]:
    places = {"mla_quantize": ".self_attn.", "moe_quantize": ".mlp.experts."}
    for member, part in places.items():
        stated = _value(ck).get(member)
        if stated is None:
            continue
        used = {
            label.lower()
            for name, label in ck.labels.items()
            if name.endswith(".weight") and part in name and label != "FLOAT"
        }
        if used and stated not in [_EQUAL.get(label, label) for label in used]:
            found = f"{member} {stated!r}"
            yield Finding("CFG-009", member, found, " or ".join(sorted(used)), file=_CONFIG)


@rule("CFG-010", on=WEIGHTS)
def config_agrees_with_the_description(ck: Context) -> Iterator[Finding]:
    stated = _quantization(ck)
    for member in _SHARED:
        described = ck.metadata(member)
        if stated.get(member) is None or described is None:
            continue
        if stated[member] != described:
            found = f"{member} {stated[member]!r}"
            yield Finding("CFG-010", member, found, f"{described!r} as described", file=_CONFIG)


@rule("CFG-011", on=ROOT)
def no_stale_quantization_config(ck: Context) -> Iterator[Finding]:
    for where in ("", "text_config"):
        holder = _value(ck).get(where, {}) if where else _value(ck)
        found = holder.get("quantization_config") if isinstance(holder, dict) else None
        if found is not None and ck.profile in ("A1", "MF"):
            place = f"{where}.quantization_config" if where else "quantization_config"
            yield Finding("CFG-011", "present", place, "no such member", file=_CONFIG)
