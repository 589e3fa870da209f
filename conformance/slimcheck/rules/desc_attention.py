"""DESC: what the metadata says of KV caches, attention and communication."""

import re
from collections.abc import Iterator

from slimcheck.context import REDUCE, Context, is_layer_type, join
from slimcheck.described import entries, readable, said, shown, stored
from slimcheck.findings import Finding
from slimcheck.registry import rule


@rule("DESC-013")
def kv_types_go_with_kv_scales(ck: Context) -> Iterator[Finding]:
    if readable(ck) is None:
        return
    names = tuple(n for cls in ck.classes for n in stored(cls, "kv_cache_scale"))
    for key in ("kv_quant_type", "kv_cache_type"):
        value = ck.metadata(key)
        if names and not value:
            yield entries(ck, "DESC-013", key, f"no {key}", f"{key} C8", names)
        elif value == "C8" and not names:
            yield said(ck, "DESC-013", key, f"{key} C8, no kv_cache_scale", "kv_cache_scale")


@rule("DESC-014")
def kv_types_are_spelled_c8(ck: Context) -> Iterator[Finding]:
    for key in ("kv_cache_type", "kv_quant_type"):
        value = ck.metadata(key)
        if value and value != "C8":
            yield said(ck, "DESC-014", key, f"{key} {shown(value)}", f"{key} C8")


@rule("DESC-015")
def kv_and_attention_are_not_both_quantized(ck: Context) -> Iterator[Finding]:
    fa = ck.metadata("fa_quant_type")
    if fa and (ck.metadata("kv_cache_type") or ck.metadata("kv_quant_type")):
        found = f"kv_cache_type and fa_quant_type {shown(fa)}"
        yield said(ck, "DESC-015", "both", found, "one of the two")


@rule("DESC-017")
def attention_type_is_fakquant(ck: Context) -> Iterator[Finding]:
    if ck.metadata("fa_quant_type") == "FAQuant":
        yield said(ck, "DESC-017", "name", "fa_quant_type FAQuant", "FAKQuant")


_FA = {"Q": "fa_q", "K": "fa_k", "V": "fa_v"}


def _attentions(ck: Context) -> dict[str, set[str]]:
    """Attention module -> the letters Q, K, V whose static scale is stored."""
    letters = {leaf: letter for letter, leaf in _FA.items()}
    found: dict[str, set[str]] = {}
    for cls in ck.classes:
        for member in cls.members if "scale" in cls.tensors else ():
            attention, _, leaf = member.rpartition(".")
            if leaf in letters:
                found.setdefault(attention, set()).add(letters[leaf])
    return found


@rule("DESC-018")
def attention_type_goes_with_scales(ck: Context) -> Iterator[Finding]:
    if readable(ck) is None:
        return
    scales = _attentions(ck)
    names = tuple(
        join(a, f"{_FA[s]}.scale") for a, letters in scales.items() for s in sorted(letters)
    )
    stated = ck.metadata("fa_quant_type")
    if names and not stated:
        yield entries(ck, "DESC-018", "missing", "no fa_quant_type", "fa_quant_type", names)
    elif stated and not names:
        found = f"fa_quant_type {shown(stated)}, no fa_q, fa_k or fa_v"
        yield said(ck, "DESC-018", "unused", found, "stored scales")


@rule("DESC-019")
def reduce_type_goes_with_reduce_scales(ck: Context) -> Iterator[Finding]:
    names = tuple(n for cls in ck.classes for s in sorted(REDUCE) for n in stored(cls, s))
    stated = ck.metadata("reduce_quant_type")
    if names and stated != "per_channel" and readable(ck):
        found = f"reduce_quant_type {shown(stated)}"
        yield entries(ck, "DESC-019", "type", found, "per_channel", names)


_NUMBERED = ("fa_k.scale", "indexer.quant_type", "k_proj.kv_cache_scale")


@rule("DESC-024")
def layer_keys_have_one_number(ck: Context) -> Iterator[Finding]:
    """vllm-ascend joins all numbers of such a key into the number of its layer."""
    if not any(map(ck.metadata, ("kv_cache_type", "fa_quant_type", "indexer_quant_type"))):
        return
    wrong = tuple(
        name
        for name in ck.labels
        if any(key in name for key in _NUMBERED) and len(_NUMBER.findall(name)) != 1
    )
    if wrong:
        found = f"{shown(wrong[0])}: not one number"
        yield entries(ck, "DESC-024", "number", found, "one layer number", wrong)


_NUMBER = re.compile(r"\.\d+(?=\.)")
_LAYER_TYPE = re.compile(r"(?:(Q?K?V?P?)_)?(FP8|INT8|MXFP4|MXFP8)(_DYNAMIC)?(?:_|$)")


def layer_type(text: str) -> list[tuple[str, bool]] | None:
    """Groups of a `*.quant_type`: (letters, dynamic); None if the text is none."""
    groups: list[tuple[str, bool]] = []
    at = 0
    while at < len(text):
        hit = _LAYER_TYPE.match(text, at)
        if hit is None or hit[1] == "":
            return None
        groups.append((hit[1] or "QKV", hit[3] is not None))
        at = hit.end()
    return groups if groups and not text.endswith("_") else None


@rule("DESC-027")
def layer_types_go_with_scales(ck: Context) -> Iterator[Finding]:
    scales = _attentions(ck)
    for name, text in ck.labels.items():
        if not is_layer_type(name):
            continue
        attention = name.removesuffix(".quant_type")
        groups = layer_type(text)
        if groups is None:
            form = "letters of Q, K, V, P and FP8, INT8, MXFP4 or MXFP8, perhaps _DYNAMIC"
            yield entries(ck, "DESC-027", "form", shown(text), form, (name,))
            continue
        if attention.endswith("indexer"):
            continue
        have = scales.get(attention, set())
        for letters, dynamic in groups:
            static = set(letters) & set(_FA)
            if static and dynamic != static.isdisjoint(have):
                expected = "no scale of a dynamic part" if dynamic else "a scale of a static part"
                found = f"{text}, scales of {', '.join(sorted(have)) or 'none'}"
                yield entries(ck, "DESC-027", "scales", found, expected, (name,))
