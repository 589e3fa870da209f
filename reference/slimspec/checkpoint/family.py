"""Which family of checkpoints a directory belongs to, from its headers and config.json.

Source: formats.md 5.0 rules 4 to 7; users.md 2.1 F01.
"""

from collections.abc import Sequence

from .config import Config
from .profile import Detected
from .table import TensorTable

# quant_method of config.json -> the name of the family
METHODS = {
    "compressed-tensors": "compressed-tensors",
    "awq": "awq",
    "gptq": "gptq",
    "fp8": "fp8",
    "fbgemm_fp8": "fp8",
    "bitsandbytes": "bitsandbytes",
    "auto-round": "auto-round",
    "modelopt": "modelopt",
    "mxfp4": "mxfp4",
    "hqq": "hqq",
    "torchao": "torchao",
}

_FLOATS = frozenset(("F16", "BF16", "F32", "F64"))


def recognise_kind(
    files: Sequence[str],
    profile: Detected,
    descriptions: Sequence[str],
    config: Config | None,
    table: TensorTable,
) -> str:
    """Return "msmodelslim", "float", a family of `METHODS`, "gguf", "mlx" or "unknown"."""
    if profile.name == "CTS":
        return "compressed-tensors"
    if profile.name is not None or descriptions:
        return "msmodelslim"
    method = config.quant_method if config is not None else None
    if method is not None:
        return METHODS.get(method, "unknown")
    if config is not None and isinstance(config.value.get("quantization"), dict):
        return "mlx"
    if not len(table):
        return "gguf" if any(name.endswith(".gguf") for name in files) else "unknown"
    tags = {table.dtype_tags[code] for code in set(table.dtype_codes.tolist())}
    if {"I8", "F8_E4M3"} & tags or not tags & _FLOATS:
        return "unknown"
    return "float"
