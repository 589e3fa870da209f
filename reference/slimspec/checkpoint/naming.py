"""How each writable profile arranges its files: names, member order, JSON style, permissions.

File names are the data of `slimspec.layout.profiles`; "FLOAT" is a plain model in the layout of
Hugging Face.

Source: formats.md 1.2 (permissions, as the producers leave them), 2.1 (metadata keys of each
profile); the member order is that of the producers' own files: V0 puts metadata first, V1 last.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slimspec.layout import profiles


@dataclass(frozen=True, slots=True)
class Style:
    """What a profile's files look like beyond their names.

    Attributes:
        first, last: metadata keys before and after the per-tensor entries, in order.
        indent: JSON indentation of the description.
        untyped: nothing needs to be quantized: names and description go without a type then.
        weights_mode, json_mode: file permissions.
    """

    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    indent: int = 4
    weights_mode: int = 0o600
    json_mode: int = 0o600
    untyped: bool = False


DIRECTORY_MODE = 0o750
INDEX_MODE = 0o644
FLOAT = "FLOAT"

STYLES: dict[str, Style] = {
    "L0": Style(first=("model_quant_type",), indent=2, weights_mode=0o400),
    "A0": Style(first=("version", "model_quant_type", "group_size"), indent=2, weights_mode=0o400),
    "A1": Style(last=("version", "model_quant_type", "metadata", "group_size", "optional")),
    "MF": Style(last=("model_quant_type",), untyped=True),
    FLOAT: Style(weights_mode=0o640, json_mode=0o640),
}


def weights_names(profile: str, quant_type: str, shards: int | None) -> list[str]:
    """Return the names of the weights files in order; `shards` is None for a single file."""
    if profile == FLOAT:
        if shards is None:
            return ["model.safetensors"]
        return [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
    named = profiles.profile(profile)
    if shards is None:
        return [named.weights_file(quant_type)]
    return [named.weights_file(quant_type, i + 1, shards) for i in range(shards)]


def index_name(profile: str, quant_type: str) -> str:
    """Return the name of the index JSON."""
    if profile == FLOAT:
        return "model.safetensors.index.json"
    return profiles.profile(profile).index_file(quant_type)


def description_name(profile: str, quant_type: str) -> str:
    """Return the name of the description JSON."""
    return profiles.profile(profile).description_file(quant_type)


def order_description(
    profile: str,
    quant_type: str | None,
    group_size: int,
    labels: Mapping[str, Any],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Order the members of a description as the profile's producer does.

    Args:
        profile: a key of `STYLES`.
        quant_type: model_quant_type; None where nothing is quantized: MF has no such member then.
        group_size: 0 = none; profile A0 leaves it out then.
        labels: per-tensor entries in write order.
        more: further metadata keys, which stand after the first or before the last ones.
    """
    style = STYLES[profile]
    values: dict[str, Any] = {
        "version": profiles.profile(profile).version,
        "model_quant_type": quant_type,
        "metadata": {},
        "group_size": group_size,
        "optional": {},
    }
    if profile == "A0" and not group_size:
        del values["group_size"]
    if quant_type is None:
        del values["model_quant_type"]
    values |= more
    first = {key: values[key] for key in style.first if key in values}
    last = {key: values[key] for key in style.last if key in values}
    rest = {key: value for key, value in more.items() if key not in first and key not in last}
    if first:
        return {**first, **rest, **labels, **last}
    return {**labels, **rest, **last}
