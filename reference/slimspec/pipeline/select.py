"""Which tensors of a float model are the weights of linears that quantizers take.

Embeddings, the output head and the routers of mixtures of experts stay float: engines load them
unquantized (requirements NUM-006, NUM-007, NUM-008). The names are in `schemas/layer_names.json`.
"""

import re
from collections.abc import Sequence

from slimspec.checkpoint import Checkpoint, CheckpointError, TensorTable
from slimspec.layout import layer_names
from slimspec.model.config import DEEPSEEK
from slimspec.patterns import matches_glob

_FLOATS = ("F16", "BF16", "F32")
_IN_A_LAYER = re.compile(r"(^|\.)layers\.\d+\.")
_OWN_WEIGHTS = "e_score_correction_bias"  # beside the weight of a router that is no linear


def linear_modules(
    table: TensorTable, include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[str]:
    """Return the names of the modules to quantize, in file order.

    Args:
        table: tensors of the float model.
        include: globs over module names; none = every linear but those that stay float.
        exclude: globs over module names that stay float as well.
    """
    modules = []
    for row, name in enumerate(table.names):
        module, _, suffix = name.rpartition(".")
        if suffix != "weight" or len(table.shape(row)) != 2 or table.dtype(row) not in _FLOATS:
            continue
        chosen = _any(module, include) if include else not layer_names.stays_float(module)
        if chosen and not _any(module, exclude):
            modules.append(module)
    return modules


def service_linears(float_model: Checkpoint) -> list[str]:
    """Return the linears that the globs of the one-click service meet, in file order.

    It walks the decoder layers and takes every linear in them: routers and the heads of layers
    that predict further tokens too, but never lm_head. The router of DeepSeek multiplies by a
    parameter of its own and is no linear.

    Source: msmodelslim processor/quant/linear.py (_install_quantizer), model/common/
    layer_wise_forward.py (generated_decoder_layer_visit_func); measured on recorded directories.
    """
    found = linear_modules(float_model.table, ["*"])
    return [m for m in found if not layer_names.stays_float(m) or _met(float_model, m)]


def _met(float_model: Checkpoint, module: str) -> bool:
    """True for what stays float elsewhere but is a linear of a decoder layer."""
    if not _IN_A_LAYER.search(module):
        return False
    if layer_names.of_role("router", module):
        members = float_model.config.value if float_model.config else {}
        own = f"{module}.{_OWN_WEIGHTS}" in float_model.table
        return not own and members.get("model_type") not in DEEPSEEK
    return layer_names.of_role("head", module) or layer_names.of_role("expert_gate", module)


def _any(module: str, globs: Sequence[str]) -> bool:
    try:
        return any(matches_glob(module, glob) for glob in globs)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
