"""Run our pipeline on a recorded run's float model and texts, and compare the directories.

Nothing but config, texts and float model goes in: activations, scales and smoothing of the capture
are not read.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from oracle_replay.case import Case, Output, Tensors
from pipeline_v1 import NotRunError, steps_of

from slimcheck.run import run as judge
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.model import Architecture, read_architecture
from slimspec.model.numerics import Cpu
from slimspec.numeric import as_float32
from slimspec.pipeline.calibrate import CalibrationRun
from slimspec.pipeline.calibration.samples import encode_texts, read_texts
from slimspec.pipeline.calibration.settings import Settings
from slimspec.pipeline.config import MIN_MAX, parameters, parse_config
from slimspec.pipeline.quantize import Plan, open_float, quantize_directory
from slimspec.pipeline.quantize_config import Extra, prepare
from slimspec.pipeline.quantize_steps import prepare_steps
from slimspec.pipeline.recipe import Rule
from slimspec.pipeline.steps import parse_steps

PROFILES = {"ascendV1": "A0", "safe_tensor": "L0"}
READ_AT = "model.layers.61."


@dataclass
class Compared:
    """One directory of the producer beside ours.

    Attributes:
        missing: names that one side lacks, or that have another dtype or shape; what differs beside
            the tensors; requirements that our directory violates.
        integers, equal_integers: of all integer tensors.
        scale, offset: largest relative difference of an input_scale, largest of an input_offset.
        floats: largest relative difference in a smoothed float tensor.
    """

    name: str
    tensors: int = 0
    differing: int = 0
    missing: list[str] = field(default_factory=list)
    integers: int = 0
    equal_integers: int = 0
    inputs: int = 0
    scale: float = 0.0
    offset: float = 0.0
    floats: float = 0.0


@dataclass
class PipelineReport:
    """What came out of one recorded run's recipe.

    Attributes:
        cpu: whose bfloat16 sums the run has: no recording says, so the one that fits better.
        attend: the attention that the model of the Calibrator API was loaded with, likewise.
    """

    name: str
    dtype: str = ""
    cpu: Cpu = "amx"
    attend: str = "eager"
    w_method: str = MIN_MAX
    outputs: list[Compared] = field(default_factory=list)


@cache
def run_pipeline(path: Path) -> PipelineReport:
    """Run one case. Raises: NotRunError."""
    case = Case(path)
    folder = _float_folder(path)
    best = _run(case, folder, "amx", "eager")
    attentions = ("eager", "fused") if case.variant == "v0" else ("eager",)
    cpus: tuple[Cpu, ...] = ("amx", "avx512") if best.dtype == "BF16" else ("amx",)
    for cpu, attend in list(product(cpus, attentions))[1:]:
        if _differing(best):
            best = min(best, _run(case, folder, cpu, attend), key=_differing)
    return best


def _differing(report: PipelineReport) -> int:
    return sum(output.differing for output in report.outputs)


def _run(case: Case, folder: Path, cpu: Cpu, attend: str) -> PipelineReport:
    report = PipelineReport(case.name, _dtype(case, folder), cpu, attend)
    if case.variant == "v0":
        _run_v0(case, folder, report)
    elif case.variant == "v1":
        _run_v1(case, folder, report)
    else:
        raise NotRunError("no recipe")
    return report


def _float_folder(path: Path) -> Path:
    readme = path / "README.txt"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    named = re.search(r"^float model:\s*(\S+)", text, re.MULTILINE)
    folder = (path / named[1]).resolve() if named else Path("/nonexistent")
    if not folder.is_dir():
        raise NotRunError("the float model is not here")
    return folder


def _dtype(case: Case, folder: Path) -> str:
    if case.recipe.get("load_dtype") == "fp32":
        return "F32"
    return str(open_checkpoint(folder).model_dtype)


def _texts(case: Case) -> list[str]:
    files = sorted((case.path / "calib").glob("*.jsonl"))
    if len(files) != 1:
        raise NotRunError(f"{len(files)} calibration sets")
    return read_texts(files[0])


def _run_v0(case: Case, folder: Path, report: PipelineReport) -> None:
    recipe, q = case.recipe, dict(case.recipe.get("q", {}))
    anti = dict(recipe.get("anti", {}))
    load = np.float32 if recipe.get("load_dtype") == "fp32" else None
    chain = dict(recipe.get("chain", []))
    parallel = chain.pop("simulate_tp", {})
    cache = chain.pop("kv_quant", None)
    if chain:
        raise NotRunError(f"chain {', '.join(chain)}")
    if recipe.get("anti_only"):
        _compare_state(case, folder, anti, load, report)
        return
    report.w_method = q.get("w_method", MIN_MAX)
    members = {name: value for name, value in q.items() if name in parameters()}
    members |= {"anti_method": anti.get("anti_method", ""), "mm_tensor": q.get("mm_tensor", True)}
    members["disable_level"] = _found(recipe, "disable_level") or "L0"
    if not recipe.get("datafree"):
        members["calib_texts"] = _texts(case)
    if cache is not None:
        members["use_kvcache_quant"] = True
    if parallel:
        members |= {"use_reduce_quant": True, "tp_size": parallel["tp_size"]}
    extra = Extra(
        mix=q.get("pdmix", False),
        load_dtype=load,
        cpu=report.cpu,
        attend=report.attend,
        w_method=report.w_method,
        per_device=parallel.get("enable_per_device_quant", False),
        mix_cfg=recipe.get("mix_cfg") or {},
        flex_config=anti.get("flex_config") or {},
        exact_sums=not parallel.get("enable_communication_quant", True),
        kv_sym=(cache or {}).get("kv_sym", True),
    )
    plan, _ = prepare(folder, parse_config(members), extra)
    for output in case.outputs:
        profile = PROFILES.get(output.path.name)
        if profile is None:
            raise NotRunError(f"output {output.path.name}")
        mixed = extra.mix and profile == "L0"  # that saver does not know the mix
        own = replace(plan, producer=profile, **(_plain(plan) if mixed else {}))
        report.outputs.append(_written(folder, own, output))


def _found(value: Any, key: str) -> Any:
    """Return the value of a key wherever it stands in a recipe."""
    if not isinstance(value, Mapping):
        return None
    inner = (_found(part, key) for part in value.values())
    return value.get(key) or next((found for found in inner if found), None)


def _plain(plan: Plan) -> dict[str, Any]:
    rules = {name: _not_mixed(rule) for name, rule in (plan.rules or {}).items()}
    return {"scheme": "W8A8", "rules": rules}


def _not_mixed(rule: Rule) -> Rule:
    return replace(rule, type="W8A8") if rule.type == "W8A8_MIX" else rule


def _compare_state(
    case: Case, folder: Path, anti: Mapping[str, Any], load: Any, report: PipelineReport
) -> None:
    """Compare the float tensors that anti-outlier alone left."""
    method = str(anti.get("anti_method", "m2"))
    settings = Settings(
        "v0", anti_method=method, load_dtype=load, w_bit=anti.get("w_bit", 8), cpu=report.cpu
    )
    run = CalibrationRun(open_float(folder), encode_texts(_texts(case), folder), settings)
    run.smooth()
    stored = Tensors(sorted((case.path / "quant").glob("*.safetensors")))
    compared = Compared("state")
    weights = run.result.weights
    for name in stored:
        own = name if name in weights else name.replace(".module.", ".")
        if own not in weights or (".module." not in name and f"{own[:-6]}module.weight" in stored):
            continue  # NormBias keeps the weight of before beside the smoothed one
        _compare(compared, name, weights.stored(own), stored[name])
    report.outputs.append(compared)


def _run_v1(case: Case, folder: Path, report: PipelineReport) -> None:
    members = {**steps_of(case), "calib_texts": _texts(case)}
    try:
        steps = parse_steps(members, case.name)
    except CheckpointError as refused:
        raise NotRunError(str(refused)) from None
    steps = replace(steps, defects=True)
    own_code = (folder / "modeling_tinydsv3.py").is_file()
    if steps.smoothing:
        steps = replace(steps, smoothing=replace(steps.smoothing, defects=True))
    with _experts_added_in_model_dtype() if own_code else nullcontext():
        plan, _ = prepare_steps(folder, steps, cpu=report.cpu)
    report.outputs += [_written(folder, plan, output) for output in case.outputs]


@contextmanager
def _experts_added_in_model_dtype() -> Iterator[None]:
    """The recorded DeepSeek model brings its own code, which adds experts without widening."""

    def read(config: Any, where: str) -> Architecture:
        a = read_architecture(config, where)
        assert a.experts is not None
        return replace(a, experts=replace(a.experts, sum_in_float32=False))

    with patch("slimspec.pipeline.calibrate.read_architecture", read):
        yield


def _written(folder: Path, plan: Plan, output: Output) -> Compared:
    """Write the directory, read it back, and compare it with the producer's."""
    with tempfile.TemporaryDirectory() as parent:
        out = Path(parent) / "out"
        quantize_directory(folder, out, plan)
        ours = open_checkpoint(out)
        compared = Compared(output.path.name)
        labels = ours.description.labels if ours.description else {}
        moved = _prediction_names(ours.table.names)
        names = {n: n for n in ours.table.names if n not in moved.values()} | moved
        for name in names:
            if name not in output.tensors:
                compared.missing.append(f"{name}: not stored")
        for name in output.tensors:
            if name not in names:
                compared.missing.append(f"{name}: not made")
            else:
                own = names[name]
                _compare(compared, name, ours.tensor(own), output.tensors[name])
                if output.description.get(name) == "W16A16S":  # few values: they are its codes
                    same = ours.tensor(own) == output.tensors[name]
                    compared.integers += same.size
                    compared.equal_integers += int(same.sum())
                if labels.get(own) != output.description.get(name):
                    compared.missing.append(f"{name}: label {labels.get(own)}")
        compared.missing += _beside(out, output)
        compared.missing += [f"violates {r.requirement.id}" for r in judge(out).failed if r.counts]
    return compared


def _prediction_names(names: Iterable[str]) -> dict[str, str]:
    """The name of the producer -> ours, for the parts of a layer that predicts further tokens.

    The tool reads them at layer 61 of any model and writes them beside the layer's body.
    """
    names = list(names)
    parts = [name for name in names if name.startswith(READ_AT)]
    if not any(name.endswith("eh_proj.weight") for name in parts):
        return {}
    bodies = {int(name.split(".")[2]) for name in names if ".self_attn." in name}
    return {f"model.layers.{max(bodies)}.{name.removeprefix(READ_AT)}": name for name in parts}


def _beside(ours: Path, output: Output) -> list[str]:
    """What differs in config.json, the keys of the description and files of `optional`."""
    found = []
    for file in ("config.json", "quant_model_description.json"):
        if (output.path / file).is_file():
            a, b = (json.loads((d / file).read_text("utf-8")) for d in (ours, output.path))
            keys = {k for k in (*a, *b) if not k.startswith("model.") and k != "lm_head.weight"}
            found += [f"{file}: {k}" for k in sorted(keys) if a.get(k) != b.get(k)]
    for path in sorted(output.path.glob("optional/*")):
        own = ours / "optional" / path.name
        if not own.is_file() or own.read_bytes() != path.read_bytes():
            found.append(f"optional/{path.name}")
    return found


def _compare(compared: Compared, name: str, ours: NDArray, theirs: NDArray) -> None:
    if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
        compared.missing.append(f"{name}: {ours.dtype}{ours.shape}, {theirs.dtype}{theirs.shape}")
        return
    compared.tensors += 1
    if ours.tobytes() != theirs.tobytes():
        compared.differing += 1
    suffix = name.rpartition(".")[2]
    if theirs.dtype.itemsize == 1:  # codes of small floats, and E8M0 scales, count as integers
        ours, theirs = ours.view(np.int8), theirs.view(np.int8)
    if theirs.dtype.kind == "i" and suffix != "deq_scale":
        compared.integers += theirs.size
        compared.equal_integers += int((ours == theirs).sum())
    elif suffix == "input_scale":
        compared.inputs += 1
        compared.scale = max(compared.scale, _relative(ours, theirs))
    elif suffix == "input_offset":
        difference = np.abs(as_float32(ours) - as_float32(theirs)).max()
        compared.offset = max(compared.offset, float(difference))
    elif theirs.dtype.kind != "i" and suffix in ("weight", "bias"):
        compared.floats = max(compared.floats, _relative(ours, theirs))


def _relative(ours: NDArray, theirs: NDArray) -> float:
    """Largest difference, relative to the largest value."""
    a, b = as_float32(ours), as_float32(theirs)
    peak = float(np.abs(b).max(initial=0))
    return float(np.abs(a - b).max(initial=0)) / peak if peak else float(np.abs(a).max(initial=0))


__all__ = ["Compared", "NotRunError", "PipelineReport", "run_pipeline"]
