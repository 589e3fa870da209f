"""File names, JSON style and permissions of each profile that the writer can write.

Source: formats.md 1.1 (names), 1.2 (permissions), 2.1 (which metadata keys); the member order is
that of the producer's own files: V0 puts metadata first, V1 last.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Naming:
    """How a profile names and writes things; `{t}` is model_quant_type in lower case.

    Attributes:
        weights: file name prefix of an unsharded file.
        sharded: file name prefix of shards and of the index.
        description: file name; None = no description is written.
        first, last: metadata keys before and after the per-tensor entries, in order; keys given
            by the caller and listed in neither follow `first` when there is one, else they
            precede `last`.
        indent: JSON indentation of the description.
        weights_mode, json_mode: file permissions.
    """

    weights: str
    sharded: str
    description: str | None
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    indent: int = 4
    weights_mode: int = 0o600
    json_mode: int = 0o600


DIRECTORY_MODE = 0o750
INDEX_MODE = 0o644

NAMINGS: dict[str, Naming] = {
    "L0": Naming(
        "quant_model_weight_{t}", "quant_model_weight_{t}", "quant_model_description_{t}.json",
        first=("model_quant_type",), indent=2, weights_mode=0o400,
    ),
    "A0": Naming(
        "quant_model_weight_{t}", "quant_model_weight_{t}", "quant_model_description.json",
        first=("version", "model_quant_type", "group_size"), indent=2, weights_mode=0o400,
    ),
    "A1": Naming(
        "quant_model_weights", "quant_model_weights", "quant_model_description.json",
        last=("version", "model_quant_type", "metadata", "group_size", "optional"),
    ),
    "MF": Naming(
        "quant_model_weight_{t}", "quant_model_weight", "quant_model_description_{t}.json",
        last=("model_quant_type",),
    ),
    "FLOAT": Naming("model", "model", None, weights_mode=0o640, json_mode=0o640),
}  # fmt: skip


def shard_name(prefix: str, number: int, count: int) -> str:
    """Return `{prefix}-{number:05d}-of-{count:05d}.safetensors`; no padding past 99999 shards."""
    if count > 99_999:
        return f"{prefix}-{number}-of-{count}.safetensors"
    return f"{prefix}-{number:05d}-of-{count:05d}.safetensors"
