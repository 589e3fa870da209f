"""DESC: what the names say of the model: embedding, layers, norm, head, prediction layers, type."""

import re
from collections.abc import Collection, Iterable, Iterator

from slimcheck.context import Context, join
from slimcheck.described import as_count, readable, said, shown
from slimcheck.findings import Finding
from slimcheck.layouts import is_linear
from slimcheck.registry import rule
from slimspec import layout
from slimspec.checkpoint.config import Config
from slimspec.checkpoint.errors import clip
from slimspec.layout import layer_names, vocabulary

_EMBEDDING, _HEAD = "embed_tokens", "lm_head"  # beside the layers, and above them
_NORM = "input_layernorm"  # of a decoder layer whose attention is self_attn
_PREDICTED = ("num_nextn_predict_layers", "mtp_num_hidden_layers")  # of config.json
_PREDICTION = re.compile(r"(?:^|\.)(?:mtp|nextn)")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,9})\.", re.ASCII)
_SHOWN = 8  # places of layers


@rule("DESC-036")
def one_model_has_one_prefix(ck: Context) -> Iterator[Finding]:
    described = [m for m in ck.outside if join(m, "weight") in ck.labels]  # DESC-020: the others
    beside = _without_list(ck, _parents(described, _EMBEDDING), directly=True)
    below = _without_list(ck, _parents(described, _HEAD), directly=False)
    found = f"no layers there, they are in {_places(ck)}" if beside or below else ""
    for module in described:
        parent, _, leaf = module.rpartition(".")
        if leaf == _EMBEDDING and parent in beside:
            wanted = "a list of layers beside it"
        elif leaf == _HEAD and parent in below:
            wanted = "a list of layers below what holds it"
        else:
            continue
        names = (join(module, "weight"),)
        yield Finding("DESC-036", leaf, found, wanted, names, ck.one_file(names))


def _parents(modules: Iterable[str], leaf: str) -> set[str]:
    """What holds the modules whose last name is `leaf`."""
    split = (module.rpartition(".") for module in modules)
    return {parent for parent, _, last in split if last == leaf}


def _without_list(ck: Context, parents: set[str], *, directly: bool) -> set[str]:
    """Those of `parents` in which no numbered list of modules lies, or nowhere below which."""
    left = set(parents)
    for module in ck.class_of:
        if not left:
            break
        left -= _holders(module, directly)
    return left


def _holders(module: str, directly: bool) -> set[str]:
    """What holds a list that the module is in: "model" of model.layers.0.mlp."""
    parts = module.split(".")
    numbered = [i for i, part in enumerate(parts) if i and part.isdecimal()]
    if directly:
        return {".".join(parts[: i - 1]) for i in numbered}
    return {".".join(parts[:i]) for i in range(max(numbered, default=0))}


def _places(ck: Context) -> str:
    """Where the decoder layers are: model.layers, …"""
    places = [join(parent, "layers") for parent in _decoders(ck)]
    return clip(", ".join(places[:_SHOWN])) or "no known place"


def _decoders(ck: Context) -> list[str]:
    """What holds a list `layers` of decoder layers: "model", "language_model.model", "", …"""
    found: dict[str, None] = {}
    for module in ck.class_of:
        if module.endswith(_NORM):
            before, _, rest = f".{module}".partition(".layers.")
            if rest.partition(".")[0].isdecimal() and rest.count(".") == 1:
                found.setdefault(before[1:])
    return list(found)


@rule("DESC-037")
def promised_prediction_layers_are_stored(ck: Context) -> Iterator[Finding]:
    config = ck.root.config
    if config is None or not ck.readable:
        return
    hidden = as_count(config.get("num_hidden_layers"))
    for key in _PREDICTED:
        count = as_count(config.get(key))
        if count and hidden is not None and not _predicts(ck, hidden):
            found = f"{key} {clip(count)}, but no layer {clip(hidden)} and nothing named mtp"
            expected = "the prediction layers, or 0"
            yield Finding("DESC-037", "absent", found, expected, file="config.json")
            return


def _predicts(ck: Context, hidden: int) -> bool:
    for module in ck.class_of:
        layer = _LAYER.search(module + ".")
        if (layer and int(layer[1]) >= hidden) or _PREDICTION.search(module):
            return True
    return False


@rule("DESC-038")
def a_decoder_is_whole(ck: Context) -> Iterator[Finding]:
    decoders = [
        name
        for name in _with_attention(ck, _decoders(ck))
        if join(name, "fc") not in ck.class_of  # no draft
    ]
    if not decoders or not ck.readable:
        return
    absent = _absent(ck, decoders, ck.outside)
    if absent:  # what is described, DESC-021 speaks of
        absent = _absent(ck, decoders, [*ck.outside, *_described(ck)])
    for kind, module in absent.items():
        found = f"{join(decoders[0], 'layers')} without it, in no file and in no entry"
        yield Finding("DESC-038", kind, found, "stored", (join(module, "weight"),))


def _absent(ck: Context, decoders: list[str], known: list[str]) -> dict[str, str]:
    """What the modules `known` lack, by kind: the name that it would have."""
    absent = {}
    parents = frozenset(decoders)
    if not any(layer_names.judged_by("NUM-008", module) for module in known):
        absent[_EMBEDDING] = join(decoders[0], _EMBEDDING)
    if not any(_is_norm_of(module, parents) for module in known):
        absent["norm"] = join(decoders[0], "norm")
    if decoders != [""] and _is_untied(ck.root.config) and not any(map(_is_head, known)):
        absent[_HEAD] = _HEAD
    return absent


def _with_attention(ck: Context, decoders: list[str]) -> list[str]:
    """Those of `decoders` with a self_attn in one of their layers."""
    left = set(decoders)
    for module in ck.class_of:
        if not left:
            break
        if ".self_attn" in module:
            left.discard(f".{module}".partition(".layers.")[0][1:])
    return [name for name in decoders if name not in left]


def _described(ck: Context) -> Iterator[str]:
    """Modules of entries without a tensor."""
    table = ck.checkpoint.table
    return (name.rpartition(".")[0] for name in ck.labels if name not in table)


def _is_norm_of(module: str, decoders: Collection[str]) -> bool:
    parent, _, leaf = module.rpartition(".")
    return parent in decoders and "norm" in leaf.lower()


def _is_head(module: str) -> bool:
    named = layer_names.of_role("head", module) or layer_names.of_role("classifier", module)
    return named or any("head" in part for part in module.split("."))


def _is_untied(config: Config | None) -> bool:
    stated = list(config.each("tie_word_embeddings")) if config else []
    return False in stated and True not in stated


@rule("DESC-039")
def model_type_is_that_of_a_weight(ck: Context) -> Iterator[Finding]:
    stated = ck.metadata("model_quant_type")
    if readable(ck) is None or not isinstance(stated, str):
        return
    if not is_linear(stated):  # DESC-002, DESC-003, or a name of one engine
        return
    labels = {
        label
        for name, label in ck.labels.items()
        if name.endswith(".weight") and vocabulary.is_label(label)
    }
    quantized = sorted(labels - {"FLOAT"})
    names = {stated, _base(stated, ck.profile)}
    if stated == "FLOAT":
        fits = not quantized
    else:
        fits = any(label in names or _base(label, ck.profile) in names for label in quantized)
    if labels and not fits:
        found = f"model_quant_type {shown(stated)}"
        yield said(ck, "DESC-039", "type", found, " or ".join(quantized[:8]) or "FLOAT")


def _base(label: str, profile: str) -> str:
    return layout.base_label(label, profile) or label
