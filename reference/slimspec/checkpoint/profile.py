"""Who wrote the directory: producer profile detection.

Source: formats.md 5.0 (first match wins) and 1.1 (file names).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slimspec.layout import profiles, resolve

from .config import Config
from .description import Description
from .errors import clip
from .table import TensorTable

PART = re.compile(r"part(\d+)-of-(\d+)")
RANK_SHARD = re.compile(r"model-rank-(\d+)-part-(\d+)\.safetensors")
RANK_DIRECTORY = re.compile(r"rank_(\d+)")
PLAIN_DESCRIPTION = "quant_model_description.json"
SHARDED_METADATA = "model_sharded_metadata.json"
COMPRESSED = ("W8A8SC", "W16A16SC")


@dataclass(frozen=True, slots=True)
class Detected:
    """The producer profile (None: not of this family), why, and what speaks against it."""

    name: str | None
    evidence: tuple[str, ...]
    conflicts: tuple[str, ...] = ()
    forced: bool = False


def detect(
    files: Sequence[str],
    directories: Sequence[str],
    description: Description | None,
    candidates: Sequence[str],
    config: Config | None,
    table: TensorTable,
) -> Detected:
    """Apply the detection rules in order; the first match wins.

    Args:
        files: names of the regular files of the directory.
        directories: names of its sub-directories.
        description: the description that counts, if one does.
        candidates: names of all description files.
        config: config.json, if present.
        table: the tensors of the directory.
    """
    parts = [d for d in directories if PART.fullmatch(d)]
    if parts:
        return Detected("SC", (f"sub-directories {_some(parts)}",))
    if SHARDED_METADATA in files:
        return Detected("OFF", (f"file {SHARDED_METADATA}",))
    ranks = [f for f in files if RANK_SHARD.fullmatch(f)]
    if ranks:
        return Detected("SH310", (f"files {_some(ranks)}",))
    if description is not None and not description.readable:
        return _by_names(files, description)
    if description is not None and description.name == PLAIN_DESCRIPTION:
        return _plain(files, description)
    if description is not None:
        return _typed(files, description, table)
    if config is not None and config.quant_method == "compressed-tensors":
        return Detected(
            "CTS", ("config.json quantization_config.quant_method is compressed-tensors",)
        )
    if len(candidates) > 1:
        several = f"several description files: {_some(candidates)}"
        return Detected(None, ("no single description file",), (several,))
    return Detected(None, ("no quant_model_description*.json",))


def _plain(files: Sequence[str], description: Description) -> Detected:
    label = description.get("model_quant_type")
    found = [f"description {description.name}"]
    if label in COMPRESSED:
        why = f"model_quant_type {label}: one part{{r}}-of-{{N}} directory opened by itself"
        return Detected("SC", (*found, why))
    present = [key for key in ("metadata", "group_size", "optional") if _has(description, key)]
    version = _has(description, "version")
    if len(present) == 3:
        found.append("keys metadata, group_size and optional are present")
        return Detected("A1", tuple(found), _prefix_conflict(files, "A1"))
    found.append(f"of the keys metadata, group_size and optional it has {_some(present)}")
    if version:
        found.append("key version is present")
        return Detected("A0", tuple(found), _prefix_conflict(files, "A0"))
    untyped = _untyped(files)
    if untyped and label is None and set(description.labels.values()) <= {"FLOAT"}:
        found.append(f"weights file {clip(untyped)} without a type, and nothing is quantized")
        return Detected("MF", tuple(found))
    hybrid = "the description has the newer name but no version: read as L0"
    return Detected("L0", tuple(found), (hybrid,))


def _typed(files: Sequence[str], description: Description, table: TensorTable) -> Detected:
    found = [f"description {description.name}"]
    if description.get("model_quant_type") in COMPRESSED:
        why = "a compressed model_quant_type: one part{r}-of-{N} directory opened by itself"
        return Detected("SC", (*found, why))
    static = [n for n, label in description.labels.items() if label == "W8A8" and _is_scale(n)]
    prefixes = [name.removesuffix("deq_scale") for name in static]
    rows = [table.find(name) for name in static]
    if static and all(row is not None and table.dtype(row) == "F32" for row in rows):
        if not any(prefix + "weight_scale" in table for prefix in prefixes):
            found.append("every static W8A8 linear has float32 deq_scale and no weight_scale")
            return Detected("MF", tuple(found))
        found.append("static W8A8 linears have weight_scale")
    elif static:
        found.append("static W8A8 linears have deq_scale other than float32")
    else:
        untyped = _untyped(files)
        if untyped:  # 1.1: the rename to the typed name does not reach the shards
            return Detected("MF", (*found, f"weights file {clip(untyped)} without a type"))
        newer = [label for label in set(description.labels.values()) if _newer(label)]
        if newer:
            return Detected("MF", (*found, f"label {clip(min(newer))} is of the newer tool"))
        found.append("no static W8A8 linear")
        if _ends_with_type(description) and _float32_rows(description, table):
            found.append("model_quant_type is the last member, and all scales are float32")
            return Detected("MF", tuple(found))
    return Detected("L0", tuple(found))


def _by_names(files: Sequence[str], description: Description) -> Detected:
    """Guess from file names alone when the description cannot be read."""
    typed = description.name != PLAIN_DESCRIPTION
    for name in ("L0", "MF") if typed else ("A1", "A0"):
        owned = [f for f in files if profiles.profile(name).owns(f)]
        if owned:
            found = f"weights file {clip(owned[0])}; {description.name} cannot be read"
            return Detected(name, (found,))
    name = "L0" if typed else "A1"
    return Detected(name, (f"the name {description.name} alone; it cannot be read",))


def _untyped(files: Sequence[str]) -> str:
    """The first weights file whose name has no type, as only MF writes it; "" if none."""
    mf, l0 = profiles.profile("MF"), profiles.profile("L0")
    return next((f for f in files if mf.owns(f) and not l0.owns(f)), "")


def _newer(label: str) -> bool:
    """Whether the newer tool writes a type that the older one does not have."""
    found = resolve(label)
    return found is not None and "MF" in found[0].profiles and "L0" not in found[0].profiles


def _ends_with_type(description: Description) -> bool:
    """Whether model_quant_type is the last member, where the newer tool has it, unless by sorting.

    The older tool puts it first.
    """
    names = list(description.labels)
    return description.last == "model_quant_type" and names != sorted(names)


def _float32_rows(description: Description, table: TensorTable) -> bool:
    """Whether every quantized linear is W8A8_DYNAMIC with float32 scales of rows."""
    scales = 0
    for name, label in description.labels.items():
        row = table.find(name)
        if label not in ("FLOAT", "W8A8_DYNAMIC"):
            return False
        if row is not None and label != "FLOAT" and name.endswith(".weight_scale"):
            if table.dtype(row) != "F32" or table.shape(row)[1:] != (1,):
                return False
            scales += 1
    return scales > 0


def _is_scale(name: str) -> bool:
    return name.endswith(".deq_scale")


def _has(description: Description, key: str) -> bool:
    return description.get(key, description) is not description


def _prefix_conflict(files: Sequence[str], profile: str) -> tuple[str, ...]:
    other = "A0" if profile == "A1" else "A1"
    wrong = [f for f in files if profiles.profile(other).owns(f)]
    if not wrong:
        return ()
    return (f"the weights file name {clip(wrong[0])} is that of profile {other}",)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(clip(name, 80) for name in names[:3]) or "none"
    return shown if len(names) <= 3 else f"{shown}, ... ({len(names)})"
