"""What the parameters of a quantization mean together: refusals, and the type they choose.

Source: math.md 7 (sparse), 5 (W4A8), 6 (W8A16, W4A16), 16 (defaults); msmodelslim
pytorch/llm_ptq/llm_ptq_tools/quant_config/quant_config_classes/config_utils.py:66-206, 231-262.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip

from .config import QuantizationConfig

Config = QuantizationConfig


class Choice(NamedTuple):
    """The type of all linears and its options for `Scheme.quantize`."""

    type: str
    options: dict[str, Any]


class Conflict(NamedTuple):
    """A rule between parameters: when it is broken, and what to change."""

    broken: Callable[[Config], bool]
    message: str


def sparse(c: Config) -> bool:
    """True for the sparse type W8A8S; is_lowbit goes before co_sparse."""
    return c.co_sparse or (c.is_lowbit and c.w_bit == 4 and c.a_bit == 8 and not c.is_dynamic)


def grouped(c: Config) -> bool:
    """True for one weight scale per group_size columns: low-bit weights without an outlier split.

    A sparse type has one scale per row or tensor, 8-bit weights beside 8-bit activations one per
    row. Source: config_utils.py:82-92; measured.
    """
    low = c.is_lowbit and not c.open_outlier and not sparse(c)
    return low and (c.a_bit == 16 or c.w_bit == 4)


def low_rows(c: Config) -> bool:
    """True for 8-bit low-bit weights with a scale per row: min-max in float32 (math.md 7.1)."""
    return c.is_lowbit and c.w_bit == 8 and not grouped(c)


def per_tensor(c: Config) -> bool:
    """True for one weight scale per tensor: mm_tensor, but only where it is asked for.

    Its default is True, yet the field's script hands False to the tool whatever it is told, and
    engines expect one scale per row. Source: quantifier.py (get_quant_conf); math.md 15, D-16.
    """
    return c.mm_tensor and "mm_tensor" in c.given


TP_SIZES = (2, 4, 8, 16)  # msmodelslim simulate_tp
CONFLICTS = (
    Conflict(
        lambda c: c.device_type == "npu",
        "device_type npu: slimspec computes on the CPU only; set device_type cpu",
    ),
    Conflict(
        lambda c: c.trust_remote_code,
        "trust_remote_code: slimspec never runs code of a model directory; leave it out (models "
        "whose architecture is not built in cannot be calibrated)",
    ),
    Conflict(
        lambda c: c.use_reduce_quant and c.tp_size not in TP_SIZES,
        f"use_reduce_quant: ranks are simulated for tp_size {' or '.join(map(str, TP_SIZES))}; set "
        "tp_size to one of them",
    ),
    Conflict(
        lambda c: c.use_reduce_quant and (c.w_bit != 8 or c.a_bit != 8 or c.is_dynamic),
        "use_reduce_quant: sums are quantized behind W8A8 linears only; set w_bit 8, a_bit 8 and "
        "is_dynamic False",
    ),
    Conflict(
        lambda c: c.tp_size != 1 and not c.use_reduce_quant,
        "tp_size: has an effect with use_reduce_quant only; set tp_size 1",
    ),
    Conflict(
        lambda c: c.co_sparse and (c.w_bit, c.a_bit) != (4, 8),
        "co_sparse: sparse quantization needs w_bit 4 and a_bit 8",
    ),
    Conflict(
        lambda c: low_rows(c) and per_tensor(c),
        "is_lowbit with w_bit 8 and mm_tensor True: the tool stores a scale without dimensions, "
        "which no engine reads; set mm_tensor False",
    ),
    Conflict(
        lambda c: c.is_lowbit and c.a_bit == 16 and c.w_bit == 4 and c.open_outlier,
        "is_lowbit with w_bit 4 and a_bit 16: the file would hold outliers cut to the range of the "
        "others, as the tool's does; set open_outlier False",
    ),
    Conflict(
        lambda c: (
            c.w_bit == 4 and c.a_bit == 8 and not sparse(c) and not (c.is_dynamic and grouped(c))
        ),
        "w_bit 4 with a_bit 8: set is_lowbit True for the sparse type W8A8S, or is_lowbit True, "
        "open_outlier False and is_dynamic True for W4A8_DYNAMIC",
    ),
    Conflict(
        lambda c: c.is_dynamic and c.co_sparse,
        "is_dynamic with co_sparse: sparse types have static activations; set one of them False",
    ),
    Conflict(
        lambda c: c.is_dynamic and c.a_bit == 16,
        "is_dynamic: per-token quantization needs a_bit 8",
    ),
    Conflict(
        lambda c: not c.w_sym and c.a_bit == 8,
        "w_sym False: weights with an offset need a_bit 16; set w_sym True or a_bit 16",
    ),
    Conflict(
        lambda c: c.act_method == 3 and c.is_lowbit,
        "act_method 3: not with is_lowbit; set act_method 1 or 2",
    ),
    Conflict(
        lambda c: c.do_smooth and not (c.is_lowbit and sparse(c)),
        "do_smooth: smooths low-bit sparse types only; set is_lowbit True, w_bit 4 and a_bit 8, or "
        "use anti_method",
    ),
    Conflict(
        lambda c: c.do_smooth and bool(c.anti_method),
        "do_smooth with anti_method: the weights would be smoothed twice; choose one",
    ),
    Conflict(
        lambda c: c.use_kvcache_quant and c.use_fa_quant,
        "use_kvcache_quant with use_fa_quant: one quantizes the cache, the other what reads it; "
        "set one of them False",
    ),
    Conflict(
        lambda c: c.fa_amp > 0 and not c.use_fa_quant,
        "fa_amp: has an effect with use_fa_quant only; set fa_amp 0",
    ),
    Conflict(
        lambda c: c.calib_texts is not None and bool(c.calib_file),
        "calib_texts with calib_file: give one of them",
    ),
    Conflict(
        lambda c: (
            bool(c.tokenizer_args)
            and bool(set(c.tokenizer_args or ()) - {"padding_side", "pad_token"})
        ),
        "tokenizer_args: texts are run one by one, without padding; only padding_side and "
        "pad_token are known, and change nothing",
    ),
)


def conflicts(config: Config) -> Iterator[str]:
    """Yield what is wrong with a config, each with what to change."""
    yield from (rule.message for rule in CONFLICTS if rule.broken(config))


def check(config: Config) -> Config:
    """Return the config. Raises: CheckpointError for the first rule that it breaks."""
    for message in conflicts(config):
        raise CheckpointError(message)
    return config


def choose(config: Config, *, mix: bool = False) -> Choice:
    """Return the type that a checked config asks for.

    Args: mix: W8A8_MIX (pdmix) instead of W8A8; a parameter of the newer tool.
    Raises: CheckpointError: mix with another type.
    """
    c = config
    options: dict[str, Any] = {}
    if sparse(c):
        label = "W8A8S"
    elif c.a_bit == 16:
        label = "W8A16" if c.w_bit == 8 else "W4A16"
        options = {"symmetric": c.w_sym}
    elif c.w_bit == 4:
        label = "W4A8_DYNAMIC"
    else:
        label = "W8A8_DYNAMIC" if c.is_dynamic else "W8A8"
    if mix and label != "W8A8":
        raise CheckpointError(f"pdmix: needs W8A8, found parameters that choose {label}")
    if grouped(c):
        options["group_size"] = c.group_size
    elif per_tensor(c) and label in ("W8A8", "W8A8_DYNAMIC", "W8A16"):
        options["per_tensor"] = True
    return Choice("W8A8_MIX" if mix else label, options)


def needs_texts(config: Config, choice: Choice) -> bool:
    """True if the type, a smoothing, a cache or a fallback level has to see activations."""
    static = choice.type in ("W8A8", "W8A8_MIX", "W8A8S")
    asked = config.anti_method or config.use_kvcache_quant or config.use_fa_quant
    return bool(static or asked or config.do_smooth)


def flex_exponents(flex_config: Mapping[str, Any], anti_method: str) -> tuple[float, float] | None:
    """Return alpha and beta of m6, None to search them.

    Raises: CheckpointError: not both, no numbers between 0 and 1, or another method. Source:
    msmodelslim pytorch/llm_ptq/anti_outlier/config.py:109-125.
    """
    if not flex_config:
        return None
    if anti_method != "m6":
        raise CheckpointError("flex_config: has an effect with anti_method m6 only")
    values = [flex_config.get(name) for name in ("alpha", "beta")]
    if len(flex_config) != len(values) or not all(_is_share(value) for value in values):
        raise CheckpointError(
            f"flex_config: found {clip(json.dumps(dict(flex_config)), 60)}, "
            "expected alpha and beta, each a number from 0 to 1"
        )
    return float(values[0]), float(values[1])  # type: ignore[arg-type]


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
