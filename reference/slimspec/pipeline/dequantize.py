"""A quantized directory back to a float directory."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.checkpoint import Checkpoint, CheckpointError, Tensor, open_checkpoint
from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.checkpoint.writer import GIB, CheckpointWriter
from slimspec.layout.beside import SHARD, is_norm_copy
from slimspec.numeric import to_dtype
from slimspec.pipeline.linear_check import check_stored

NO_TYPES = dict.fromkeys(("quantize", "mla_quantize", "moe_quantize", "mtp_quantize"))
FLOAT_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


def dequantize_directory(
    source: str | Path,
    out: str | Path,
    *,
    dtype: str | None = None,
    part_file_size: float = 4,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda nbytes: None,
) -> int:
    """Write the float model that the quantized directory stands for; return its linears' number.

    Weights become (q - offset) · scale, rounded once to the output dtype; those of a linear cut
    over ranks come from its shards. Tensors that only describe the quantization (scales of
    activations, of the KV cache, …) and copies of norms are left out.

    Args:
        dtype: safetensors tag of the output, None = the model dtype of the directory.

    Raises:
        CheckpointError: unusable source or output, or a type without a scheme.
    """
    checkpoint = _open_quantized(source)
    tag = dtype or checkpoint.model_dtype or "F32"
    labels = checkpoint.description.labels if checkpoint.description else {}
    profile = checkpoint.profile.name or "A1"
    done = 0
    with CheckpointWriter(
        out, profile="FLOAT", part_file_size=int(part_file_size * GIB) or None, overwrite=overwrite
    ) as writer:
        writer.copy_companions(source, changes={**NO_TYPES, "torch_dtype": _torch(tag)})
        suffixes = _suffixes(checkpoint)
        shards = _shards(suffixes)
        for tensor in checkpoint.table:
            label = labels.get(tensor.name, "FLOAT")
            module, _, suffix = tensor.name.rpartition(".")
            shard = SHARD.fullmatch(module)
            if shard and suffix == "bias" and f"{shard[1]}.bias" not in checkpoint.table:
                array = checkpoint.tensor(tensor.name)  # the first shard has all of it
                writer.write(f"{shard[1]}.bias", to_dtype(array, whole_dtype(tag)), None)
            elif shard or is_norm_copy(module, profile):
                pass
            elif label != "FLOAT" and suffix == "weight" and layout.base_label(label):
                weights = [
                    _weight(checkpoint, part, suffixes[part], label)
                    for part in shards.get(module, [module])
                ]
                _write_weight(writer, checkpoint, tensor, weights, tag)
                done += 1
            elif tensor.dtype in FLOAT_DTYPES.values() and _stays(label, suffix, profile):
                array = checkpoint.tensor(tensor.name)
                writer.write(tensor.name, to_dtype(array, whole_dtype(tag)), None)
            progress(tensor.end - tensor.begin)
    return done


def _stays(label: str, suffix: str, profile: str) -> bool:
    """True for tensors of the float model, a bias under the label of its linear included.

    What wrappers add to a linear is not one of them.
    """
    if suffix in layout.attachments(profile):
        return False
    if layout.base_label(label) == "FLOAT":
        return True
    found = layout.resolve(label)
    if found is None or profile not in found[0].profiles or suffix != "bias":
        return False
    rule = layout.rules(label, profile).get(suffix)
    return rule is not None and layout.SELF in rule.labels


def _suffixes(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Module -> suffixes of its tensors."""
    found: dict[str, list[str]] = {}
    for name in checkpoint.table.names:
        module, _, suffix = name.rpartition(".")
        found.setdefault(module, []).append(suffix)
    return found


def _torch(tag: str) -> str:
    return next(name for name, known in FLOAT_DTYPES.items() if known == tag)


def _open_quantized(source: str | Path) -> Checkpoint:
    checkpoint = open_checkpoint(source)
    if checkpoint.kind != "msmodelslim" or checkpoint.description is None:
        raise CheckpointError(
            f"{source}: found a {checkpoint.kind} directory, expected one with a description"
        )
    if checkpoint.parts:
        raise CheckpointError(
            f"{source}: found part directories; rebuild the weights with `slimspec decompress`"
        )
    for found in checkpoint.defects:
        raise CheckpointError(f"{source}: {found.message}")
    return checkpoint


def _shards(modules: Iterable[str]) -> dict[str, list[str]]:
    """Linear -> its shards in the order of the ranks, of linears that are cut over ranks."""
    found: dict[str, dict[int, str]] = {}
    for module in modules:
        shard = SHARD.fullmatch(module)
        if shard:
            found.setdefault(shard[1], {})[int(shard[2])] = module
    return {linear: [parts[i] for i in sorted(parts)] for linear, parts in found.items()}


def _weight(checkpoint: Checkpoint, module: str, suffixes: list[str], label: str) -> NDArray[Any]:
    """Return the float weight of a linear, or of one shard, [n, k]."""
    profile = checkpoint.profile.name or "A1"
    try:
        check_stored(checkpoint, module, suffixes, label, profile)
        known = layout.rules(label, profile)
        tensors = {s: checkpoint.tensor(f"{module}.{s}") for s in suffixes if s in known}
        scheme = schemes.get(label)
        return scheme.dequantize(scheme.from_tensors(tensors, profile, module))
    except (ValueError, TypeError, IndexError) as error:
        named = "" if module in str(error) else f"{module}.weight: "
        raise CheckpointError(f"{checkpoint.path}: {named}{error}") from None


def _write_weight(
    writer: CheckpointWriter,
    checkpoint: Checkpoint,
    tensor: Tensor,
    parts: list[NDArray[Any]],
    tag: str,
) -> None:
    """Write a weight; parts [n, k / N] of a linear that is cut over ranks stand side by side."""
    if len({len(part) for part in parts}) > 1:
        rows = ", ".join(str(len(part)) for part in parts)
        raise CheckpointError(
            f"{checkpoint.path}: {tensor.name}: found shards of {rows} rows; expected one number"
        )
    weight = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    if len(parts) > 1 and weight.shape != tuple(tensor.shape):
        raise CheckpointError(
            f"{checkpoint.path}: {tensor.name}: found shape {list(tensor.shape)}; expected that of "
            f"its shards side by side, {list(weight.shape)}"
        )
    writer.write(tensor.name, to_dtype(weight, whole_dtype(tag)), None)
