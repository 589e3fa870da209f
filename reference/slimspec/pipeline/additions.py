"""What a calibration adds to a directory: biases of norms, parameters of cache and attention.

Source: formats.md 2.1 (kv_cache_type, kv_quant_type, fa_quant_type), 2.2 ({attention}.quant_type),
1.5 (rotation), 3.0 (norms: the L0 saver repeats weight and bias under `module.`).
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from slimspec.checkpoint.dtypes import tag_of
from slimspec.checkpoint.writer import OPTIONAL, CheckpointWriter
from slimspec.schemes import QuantizedAttention, attention_schemes
from slimspec.schemes.faquant import quant_type

from .calibrate import Calibration

V1_PROFILES = ("A1", "MF")
WITH_OPTIONAL = "A1"  # the one profile with files beside the weights
ROTATION, ROTATION_FILE = "global_rotation", "quarot.safetensors"


def attention_metadata(calibration: Calibration, profile: str) -> dict[str, Any]:
    """Return the metadata keys of the description for C8, FAQuant and a rotation."""
    labels = {a.label for found in calibration.attention.values() for a in found}
    metadata: dict[str, Any] = {}
    if "C8" in labels:
        metadata |= {"kv_cache_type": "C8", "kv_quant_type": "C8"}
    if "FAQuant" in labels:
        metadata["fa_quant_type"] = "FAKQuant" if profile in V1_PROFILES else "FAQuant"
    if calibration.rotation is not None and profile == WITH_OPTIONAL:
        path = f"{OPTIONAL}/{ROTATION_FILE}"
        metadata["optional"] = {"quarot": {"rotation_map": {ROTATION: path}}}
    if calibration.online is not None:
        metadata["metadata"] = calibration.online.metadata()
    return metadata


def write_additions(
    calibration: Calibration,
    quantized: Container[str],
    profile: str,
    writer: CheckpointWriter,
) -> None:
    """Write the tensors that the float model does not have.

    Args: quantized: linears whose bias has gone into their own tensors.
    """
    weights = calibration.weights
    if calibration.rotation is not None and profile == WITH_OPTIONAL:
        writer.write_optional(ROTATION_FILE, {ROTATION: calibration.rotation})
    for name, matrix in calibration.online.tensors() if calibration.online else ():
        writer.write(name, matrix, None)
    for name, _ in weights.added():
        if name.rpartition(".")[0] not in quantized:
            writer.write(name, weights.stored(name), "FLOAT")
    if profile == "L0":
        for norm in calibration.norms:
            for part in ("weight", "bias"):
                array = weights.stored(f"{norm}.{part}")
                writer.write(f"{norm}.module.{part}", array, writer.model_quant_type)
    for module, found in calibration.attention.items():
        for attention in found:
            _write_attention(calibration, module, attention, profile, writer)


def _write_attention(
    calibration: Calibration,
    module: str,
    attention: QuantizedAttention,
    profile: str,
    writer: CheckpointWriter,
) -> None:
    scheme = attention_schemes()[attention.label]
    tag = _model_tag(calibration)
    if attention.label == "FAQuant" and profile in V1_PROFILES:
        writer.describe(f"{module}.quant_type", _roles(attention))
    for suffix, array in scheme.tensors(attention, profile, tag).items():
        writer.write(f"{module}.{suffix}", array, attention.label)


def _roles(attention: QuantizedAttention) -> str:
    """quant_type of an attention: roles without tensors are quantized at run time."""
    element = _element(attention)
    found = {role: f"fa_{role.lower()}.scale" not in attention.values for role in "QKV"}
    return quant_type({role: (element, dynamic) for role, dynamic in found.items()})


def _element(attention: QuantizedAttention) -> str:
    return "INT8" if attention.need("fa_k.offset").dtype == np.int8 else "FP8"


def _model_tag(calibration: Calibration) -> str:
    weights = calibration.weights
    if weights.dtype is not None:
        return str(tag_of(weights.dtype))
    return weights.checkpoint.model_dtype or "F32"
