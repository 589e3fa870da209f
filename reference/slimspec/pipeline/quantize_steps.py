"""From steps to a directory: rotate, calibrate layer by layer, write."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from slimspec.checkpoint import Checkpoint, CheckpointError
from slimspec.checkpoint.publish import check_free
from slimspec.layout import layer_names
from slimspec.model import read_architecture
from slimspec.model.config import DEEPSEEK
from slimspec.model.dtype import model_numerics
from slimspec.model.numerics import Cpu

from .calibrate import Calibration, CalibrationRun
from .calibration.gptq import by_gptq
from .calibration.samples import encode_texts, read_texts
from .calibration.settings import Settings
from .calibration.source import FoldedWeights, loaded_dtype
from .low_rank import split_model
from .quantize import Plan, open_float, quantize_directory
from .quantize_config import Bar, Done, no_bar
from .recipe import KEEP, Rule, model_quant_type, mtp_layers
from .rotate_model import rotate_model, widen_mtp
from .rotate_online import rotate_online
from .select import service_linears
from .steps import Steps

_LOG = logging.getLogger(__name__)


def quantize_by_steps(
    source: str | Path,
    out: str | Path,
    steps: Steps,
    *,
    longest: int = 0,
    cpu: Cpu = "amx",
    overwrite: bool = False,
    bar: Bar = no_bar,
) -> Done:
    """Quantize a float directory step by step; return what was done.

    Args: longest: tokens of a text that are used, 0 for all; cpu: whose sums of bfloat16 products;
        bar: makes a progress bar.
    Raises: CheckpointError: no text, an unusable source or output.
    """
    check_free(Path(out), overwrite)  # before the long part
    plan, done = prepare_steps(source, steps, longest=longest, cpu=cpu, bar=bar)
    assert plan.calibration is not None
    total = plan.calibration.weights.checkpoint.table.nbytes
    with bar("quantize", total) as advance:
        done.linears = quantize_directory(source, out, plan, overwrite=overwrite, progress=advance)
    return done


def prepare_steps(
    source: str | Path,
    steps: Steps,
    *,
    longest: int = 0,
    cpu: Cpu = "amx",
    bar: Bar = no_bar,
) -> tuple[Plan, Done]:
    """Rotate and calibrate; return what `quantize_directory` needs.

    Args and Raises: as `quantize_by_steps`.
    """
    float_model = open_float(source)
    rules = steps.rules(service_linears(float_model))
    _name_routers(rules)
    calibration = _calibrate(float_model, steps, rules, longest, cpu, bar)
    labels = {rule.type for rule in rules.values()} - {KEEP}
    done = Done(", ".join(sorted(labels)) or KEEP, smoothed=len(calibration.smoothed))
    plan = Plan(
        model_quant_type(labels | {KEEP}),  # there are always float tensors too
        producer=steps.producer,
        rules=rules,
        calibration=calibration,
        part_file_size=steps.part_file_size,
        config=_config_changes(float_model, steps, labels),
        leave_out="exclude of its step:",
    )
    return plan, done


def _name_routers(rules: Mapping[str, Rule]) -> None:
    routers = [n for n, r in rules.items() if r.type != KEEP and layer_names.of_role("router", n)]
    if routers:
        _LOG.warning(
            "warning: %d routers are quantized, as the producer would; engines expect them float: "
            "exclude *.%s",
            len(routers),
            routers[0].rpartition(".")[2],
        )


def _config_changes(float_model: Checkpoint, steps: Steps, labels: set[str]) -> dict[str, Any]:
    """Members that the service sets in config.json of a DeepSeek model with W4A8_DYNAMIC.

    Source: msmodelslim model/deepseek_v3/model_adapter.py (ascendv1_save_postprocess).
    """
    members = float_model.config.value if float_model.config else {}
    if members.get("model_type") not in DEEPSEEK or "W4A8_DYNAMIC" not in labels:
        return {}
    per_head = steps.attention is not None and steps.attention.element == "int8"
    return {
        "mtp_quantize": "w8a8_dynamic",
        "quantize": "w8a8_dynamic",
        "moe_quantize": "w4a8_dynamic",
        "mla_quantize": "w8a8" if per_head else "w8a8_dynamic",
    }


def _calibrate(
    float_model: Checkpoint,
    steps: Steps,
    rules: dict[str, Rule],
    longest: int,
    cpu: Cpu,
    bar: Bar,
) -> Calibration:
    dtype = loaded_dtype(float_model, "v1")
    settings = replace(steps.settings(), load_dtype=dtype, cpu=cpu)
    _refuse_16_bit_gptq(float_model, rules)
    texts = read_texts(steps.texts_from) if steps.texts_from else list(steps.texts)
    if steps.needs_texts and not texts:
        raise CheckpointError("steps: some need calibration text: give calib_file or calib_texts")
    if not steps.needs_texts:
        calibration = _data_free(float_model, settings)
        if steps.online:
            architecture = read_architecture(float_model.config, str(float_model.path))
            calibration.online = rotate_online(calibration.weights, architecture, steps.online)
        if steps.rank:
            calibration.low_rank = split_model(calibration.weights, rules, steps.rank)
        return calibration
    tokens = encode_texts(texts, float_model.path, longest=longest)
    config = float_model.config.value if float_model.config else {}
    with bar("calibrate", int(config.get("num_hidden_layers", 1))) as advance:
        run = CalibrationRun(float_model, tokens, settings, advance)
        if steps.rank:
            run.result.low_rank = split_model(run.result.weights, rules, steps.rank)
        run.observe(rules)
    return run.result


def _refuse_16_bit_gptq(float_model: Checkpoint, rules: Mapping[str, Rule]) -> None:
    """GPTQ of the service multiplies float32 by the weight's dtype, and fails where they differ.

    Source: msmodelslim core/quantizer/impl/gptq.py (calculate_hessian_inv); measured.
    """
    found = model_numerics(float_model, loaded_dtype(float_model, "v1")).dtype
    if found != np.float32 and any(by_gptq(rule.options) for rule in rules.values()):
        raise CheckpointError(
            f"{float_model.path}: steps: method gptq: found {found}, expected a float32 model, as "
            "the producer does: set torch_dtype float32 in its config.json, or take method ssz"
        )


def _data_free(float_model: Checkpoint, settings: Settings) -> Calibration:
    """What steps leave that see no activations."""
    calibration = Calibration(FoldedWeights(float_model, loaded_dtype(float_model, "v1")))
    config = float_model.config.value if float_model.config else {}
    if settings.rotation or mtp_layers(config):
        architecture = read_architecture(float_model.config, str(float_model.path))
        widen_mtp(calibration.weights, architecture)
        if settings.rotation:
            calibration.rotation = rotate_model(
                calibration.weights,
                architecture,
                settings.rotation,
                defects=settings.defects,
            )
    return calibration


__all__ = ["prepare_steps", "quantize_by_steps"]
