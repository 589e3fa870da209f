"""Single linears of other types: the Calibrator's `mix_cfg`, name or glob -> type.

Source: math.md 10.2; msmodelslim pytorch/llm_ptq/llm_ptq_tools/layer_config_manager.py (exact name,
then the first glob), quant_tools.py:105,189,223-243 (names of types, types made from the one of
the parameters); measured on recorded directories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip

from .config import MIN_MAX, QuantizationConfig
from .config_rules import Choice
from .recipe import KEEP, Rule

TYPES = {
    "float": KEEP,
    "w8a8": "W8A8",
    "w8a8_dynamic": "W8A8_DYNAMIC",
    "w8a16": "W8A16",
}
_INT8 = ("W8A8", "W8A8_DYNAMIC", "W8A16")  # types of the parameters that it goes with


def mixed_rules(
    mix_cfg: Mapping[str, Any], linears: Sequence[str], choice: Choice
) -> dict[str, Rule]:
    """Return the type of every linear: that of its name, of the first glob, else of the parameters.

    Raises: CheckpointError: an unknown type, a name or glob that matches nothing.
    """
    for key, value in mix_cfg.items():
        if not isinstance(value, str) or value not in TYPES:
            known = ", ".join(TYPES)
            raise CheckpointError(
                f"mix_cfg: {clip(key, 120)}: found {clip(value, 60)}, expected one of {known}"
            )
        if key not in linears and not any(fnmatchcase(name, key) for name in linears):
            example = linears[0] if linears else "none"
            raise CheckpointError(
                f"mix_cfg: {clip(key, 120)!r} matches no linear, expected names like {example}"
            )
    return {name: _rule(mix_cfg, name, choice) for name in linears}


def _rule(mix_cfg: Mapping[str, Any], name: str, choice: Choice) -> Rule:
    globs = [key for key in mix_cfg if fnmatchcase(name, key)]
    key = name if name in mix_cfg else next(iter(globs), None)
    label = choice.type if key is None else TYPES[mix_cfg[key]]
    options = {k: v for k, v in choice.options.items() if k == "per_tensor" or label == choice.type}
    return Rule(name, label, {} if label == KEEP else options)


def check_mix(
    mix_cfg: Mapping[str, Any], config: QuantizationConfig, choice: Choice, w_method: str
) -> None:
    """Refuse parameters that mix_cfg does not go with; float alone goes with any type.

    Raises: CheckpointError.
    """
    types = any(value != "float" for value in mix_cfg.values())
    problems = {
        f"{choice.type}; set w_bit 8": choice.type not in _INT8,
        "is_lowbit True; set it False": config.is_lowbit,
        "w_sym False; set w_sym True": not config.w_sym,
        f"w_method {w_method}; set w_method {MIN_MAX}": w_method != MIN_MAX,
    }
    for problem, found in problems.items():
        if found and types:
            raise CheckpointError(f"mix_cfg: not with {problem}")
    if config.use_reduce_quant:
        raise CheckpointError("mix_cfg: not with use_reduce_quant; set it False")


__all__ = ["check_mix", "mixed_rules"]
