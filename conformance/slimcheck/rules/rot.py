"""ROT: rotations beside the weights, headers and JSON."""

from collections.abc import Iterator
from typing import Any

from slimcheck.context import Context, join
from slimcheck.findings import Finding
from slimcheck.registry import rule

_TENSORS = {  # member of metadata.quarot -> tensors of each of its layers
    "heads_rotation": ("heads_rotation",),
    "kronecker_rotation": ("kronecker_rotation_m", "kronecker_rotation_n"),
}
_SCALE = ".div.mul_scale"


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


@rule("ROT-001")
def listed_layers_are_rotated(ck: Context) -> Iterator[Finding]:
    quarot = _member(ck.metadata("metadata"), "quarot")
    for member, suffixes in _TENSORS.items() if ck.readable else ():
        layers = _member(_member(quarot, member), "layers")
        listed = [name for name in layers if isinstance(name, str)] if type(layers) is list else []
        for suffix in suffixes:
            names = (join(layer, suffix) for layer in listed)
            absent = tuple(name for name in names if name not in ck.checkpoint.table)
            if absent:
                found = f"listed under metadata.quarot.{member}, not stored"
                yield Finding("ROT-001", suffix, found, "a tensor", absent, ck.description_name)


@rule("ROT-004")
def rotation_of_the_model_is_stored(ck: Context) -> Iterator[Finding]:
    if ck.metadata("is_rot_used") is not True or not ck.readable:
        return
    if "rot.weight" not in ck.checkpoint.table:
        yield Finding(
            "ROT-004", "absent", "is_rot_used, no rot.weight", "rot.weight in rot.safetensors",
            file=ck.description_name,
        )  # fmt: skip
    for index in ck.checkpoint.indexes:
        if index.weight_map and "rot.weight" not in index.weight_map:
            yield Finding(
                "ROT-004", "index", "rot.weight not listed", "an entry of weight_map",
                file=ck.prefix + index.name,
            )  # fmt: skip


@rule("ROT-005")
def smoothing_scale_has_its_linear(ck: Context) -> Iterator[Finding]:
    table = ck.checkpoint.table
    scales = [name for name in table.names if name.endswith(_SCALE)]
    alone = tuple(n for n in scales if f"{n.removesuffix(_SCALE)}.linear.weight" not in table)
    if alone and ck.readable:
        yield Finding(
            "ROT-005", "alone", "a scale alone", "its linear under .linear", alone,
            ck.one_file(alone),
        )  # fmt: skip
