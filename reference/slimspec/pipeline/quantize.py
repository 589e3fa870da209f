"""A float directory to a quantized directory, one linear in memory at a time."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from slimspec.checkpoint.dtypes import tag_of
from slimspec.checkpoint.naming import STYLES
from slimspec.checkpoint.writer import GIB, CheckpointWriter
from slimspec.numeric import to_dtype
from slimspec.pipeline.additions import attention_metadata, write_additions
from slimspec.pipeline.calibrate import Calibration
from slimspec.pipeline.calibration.fake_linear import reached_rule
from slimspec.pipeline.calibration.source import FoldedWeights, loaded_dtype
from slimspec.pipeline.linear_check import check_made
from slimspec.pipeline.parallel import parallel_metadata, parallel_tensors
from slimspec.pipeline.recipe import KEEP, Recipe, Rule, model_quant_type
from slimspec.pipeline.select import linear_modules
from slimspec.pipeline.solvers import WeightSolver
from slimspec.quantize.affine import Variant
from slimspec.quantize.mx_blocks import BLOCK
from slimspec.schemes import Linear, Options, QuantizedLinear, Scheme
from slimspec.schemes.mx import MxScheme
from slimspec.schemes.wrapper import Wrapper

VARIANTS: dict[str, Variant] = {"A1": "v1", "MF": "v1", "A0": "v0", "L0": "v0"}
DATA_FREE = (
    "W8A8_DYNAMIC",
    "W8A16",
    "W4A16",
    "W4A8_DYNAMIC",
    "W4A4_DYNAMIC",
    "WFP8AFP8_DYNAMIC",
    "W8A8_MXFP8",
    "W4A8_MXFP",
    "W4A4_MXFP4",
)
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
STATIC = ("W8A8", "W8A8_MIX")  # need the range of each linear's input

_INT32_MIN = np.int32(-(2**31))
_UNSUITED = ("odd size", "multiple", "divide", "chunks", "; expected")  # of sizes and made tensors
_LOG = logging.getLogger(__name__)

Progress = Callable[[int], None]  # called with the number of source bytes just done


@dataclass(frozen=True)
class Plan:
    """What to do with a float directory.

    Attributes:
        scheme: label of the quantization type.
        producer: profile to write, "A1" or "A0"; it also fixes the arithmetic.
        group_size: columns per group, 0 for one scale per row.
        symmetric: weights without an offset.
        include, exclude: globs over module names.
        part_file_size: GiB per shard, 0 for one file.
        ranges: glob over module names -> [lowest, highest] input, for the static types; the
            first glob that matches counts.
        recipe: a type for each module instead of one for all; it names the producer and the
            options, and overrides `scheme`, `producer`, `group_size` and `symmetric`.
        rules: module -> type and options instead of both; others stay float.
        calibration: weights after smoothing, input parameters, cache and attention.
        solver: makes the weights that are not min-max.
        config: members to set in config.json, None to remove one.
        leave_out: what leaves a linear float, for messages.
    """

    scheme: str = ""
    producer: str = "A1"
    group_size: int = 0
    symmetric: bool = True
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    part_file_size: float = 4
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    recipe: Recipe | None = None
    rules: Mapping[str, Rule] | None = None
    calibration: Calibration | None = None
    solver: WeightSolver | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    leave_out: str = "--exclude"

    @property
    def profile(self) -> str:
        """The producer profile to write."""
        return self.recipe.producer if self.recipe else self.producer


def quantize_directory(
    source: str | Path,
    out: str | Path,
    plan: Plan,
    *,
    overwrite: bool = False,
    progress: Progress = lambda nbytes: None,
) -> int:
    """Quantize every linear of `source` into the new directory `out`; return their number.

    Raises:
        CheckpointError: unusable source or output; a weight that the scheme refuses.
    """
    calibration = plan.calibration
    float_model = calibration.weights.checkpoint if calibration else open_float(source)
    variant = VARIANTS[plan.profile]
    dtype = loaded_dtype(float_model, variant)
    weights = calibration.weights if calibration else FoldedWeights(float_model, dtype)
    rules = assign(float_model, plan)
    quantized = {module: rule for module, rule in rules.items() if rule.type != "FLOAT"}
    nothing_else = calibration is None or not calibration.attention
    if not quantized and plan.scheme != "FLOAT" and nothing_else:
        raise CheckpointError(f"{source}: no linear to quantize (2-D float `.weight`)")
    _check_writer(source, {rule.type for rule in quantized.values()}, plan.profile)
    limit = int(plan.part_file_size * GIB) or None
    saturated: list[str] = []
    with CheckpointWriter(
        out,
        profile=plan.profile,
        model_quant_type=_quant_type(plan, rules.values()),
        group_size=_group_size(plan, rules.values()),
        part_file_size=limit,
        metadata=_metadata(calibration, plan.profile),
        overwrite=overwrite,
    ) as writer:
        changes = {**(plan.recipe.config if plan.recipe else {}), **plan.config}
        if weights.untied:
            changes["tie_word_embeddings"] = False
        writer.copy_companions(source, changes=changes or None)
        for tensor in float_model.table:
            module, _, suffix = tensor.name.rpartition(".")
            if module not in quantized or suffix not in ("weight", "bias"):
                writer.write(tensor.name, weights.stored(tensor.name), "FLOAT")
            elif suffix == "weight":
                overflow = _write_linear(weights, module, quantized[module], plan, writer)
                saturated += [module] * overflow
            progress(tensor.end - tensor.begin)
        for module in quantized:
            if f"{module}.weight" not in float_model.table:  # a head that was tied
                overflow = _write_linear(weights, module, quantized[module], plan, writer)
                saturated += [module] * overflow
        if variant == "v1" and HEAD not in weights and lacks_head(float_model):
            writer.write(HEAD, weights.stored(EMBEDDING), "FLOAT")
        if calibration:
            write_additions(calibration, quantized, plan.profile, writer)
    if saturated:
        _LOG.warning("%s", _saturation(saturated))
    return len(quantized)


def lacks_head(float_model: Checkpoint) -> bool:
    """True for a head tied to the embedding, which the one-click service stores once more.

    Source: msmodelslim save/utils/safetensors.py:96-115; measured on recorded directories. The
    Calibrator refuses to save tensors that share memory; a quantized head shares none.
    """
    config, table = float_model.config, float_model.table
    tied = config is not None and config.value.get("tie_word_embeddings") is True
    return tied and HEAD not in table and EMBEDDING in table


def _metadata(calibration: Calibration | None, profile: str) -> dict[str, Any]:
    if calibration is None:
        return {}
    return attention_metadata(calibration, profile) | parallel_metadata(calibration, profile)


def _saturation(modules: list[str]) -> str:
    shown = ", ".join(modules[:6]) + (", .." if len(modules) > 6 else "")
    return (
        f"warning: quant_bias is -2^31 in {len(modules)} linears, where deq_scale is 0 or "
        f"bias / deq_scale overflows as in the producer ({shown})"
    )


def assign(float_model: Checkpoint, plan: Plan) -> dict[str, Rule]:
    """Return module -> type and options, for every linear that is not left out."""
    if plan.rules is not None:
        return dict(plan.rules)
    if plan.recipe is None:
        options = {"group_size": plan.group_size, "symmetric": plan.symmetric}
        modules = linear_modules(float_model.table, plan.include, plan.exclude)
        return {module: Rule(module, plan.scheme, options) for module in modules}
    recipe = plan.recipe.bind(float_model.config.value if float_model.config else {})
    modules = linear_modules(float_model.table, plan.include or ("*",), plan.exclude)
    return {module: recipe.resolve(module) for module in modules}


def _quant_type(plan: Plan, rules: Iterable[Rule]) -> str:
    heads = plan.calibration is not None and plan.calibration.attention
    if STYLES[plan.profile].untyped and plan.scheme == KEEP and not heads:
        return ""
    if plan.recipe is None or plan.scheme:
        return plan.scheme or model_quant_type(rule.type for rule in rules)
    return plan.recipe.model_quant_type or model_quant_type(rule.type for rule in rules)


def _group_size(plan: Plan, rules: Iterable[Rule]) -> int:
    """The one of the description: that of the groups, or of the blocks of MX types."""
    found = list(rules)
    if any(isinstance(schemes.get(rule.type).core, MxScheme) for rule in found):
        return BLOCK
    if plan.rules is not None:
        return max((int(rule.options.get("group_size", 0)) for rule in found), default=0)
    return plan.recipe.group_size if plan.recipe else plan.group_size


def _check_writer(source: str | Path, types: Iterable[str], profile: str) -> None:
    """Refuse a type that the producer does not write."""
    for name in sorted(types):
        try:
            layout.rules(name, profile)
        except layout.LayoutError as error:
            raise CheckpointError(f"{source}: {error}") from None


def open_float(source: str | Path) -> Checkpoint:
    """Open a float directory.

    Raises:
        CheckpointError: unreadable, defective, or not a float model.
    """
    checkpoint = open_checkpoint(source)
    if checkpoint.kind != "float":
        raise CheckpointError(
            f"{source}: found a {checkpoint.kind} directory, expected float *.safetensors"
        )
    for shard in checkpoint.shards:
        for defect in shard.defects:
            raise CheckpointError(f"{source}: {defect.message}")
    for name, files in checkpoint.table.duplicates.items():
        places = " and ".join(checkpoint.table.files[file] for file in files)
        raise CheckpointError(f"{source}: tensor {name} is stored in {places}")
    return checkpoint


def _write_linear(
    weights: FoldedWeights,
    module: str,
    rule: Rule,
    plan: Plan,
    writer: CheckpointWriter,
) -> bool:
    """Write one linear; return whether its quant_bias overflowed."""
    bias = weights.stored(f"{module}.bias") if f"{module}.bias" in weights else None
    linear = Linear(weights.stored(f"{module}.weight"), bias, module)
    sums = plan.calibration.communication.get(module) if plan.calibration else None
    known = layout.rules(rule.type, plan.profile)
    own = linear.weight.dtype if weights.dtype is None else weights.dtype  # awq widens weights
    loaded = str(tag_of(own))
    try:
        if sums is None:
            tensors = _tensors(linear, rule, plan, loaded)
        else:
            tensors = parallel_tensors(
                linear, sums, lambda part: _tensors(part, rule, plan, loaded)
            )
    except ValueError as error:
        named = "" if module in str(error) else f"{module}.weight: "
        hint = _hint(str(error), module, plan)
        raise CheckpointError(f"{weights.checkpoint.path}: {named}{error}{hint}") from None
    for suffix, array in tensors.items():
        labels = known[suffix].labels if suffix in known else (layout.SELF,)  # else of a rank
        label = rule.type if layout.SELF in labels else labels[0]
        writer.write(f"{module}.{suffix}", array, label)
    return "quant_bias" in tensors and bool((tensors["quant_bias"] == _INT32_MIN).any())


def _tensors(linear: Linear, rule: Rule, plan: Plan, loaded: str) -> dict[str, NDArray]:
    """Return suffix -> array of one quantized linear of a model loaded in a dtype.

    Raises: ValueError: it does not suit.
    """
    scheme = schemes.get(rule.type)
    quantized = _quantize(linear, scheme, rule, plan)
    tensors = scheme.tensors(quantized, plan.profile, loaded)
    check_made(scheme, quantized, layout.rules(rule.type, plan.profile), tensors)
    return tensors


def _hint(problem: str, module: str, plan: Plan) -> str:
    """How to leave out a linear that does not suit the type."""
    if not any(word in problem for word in _UNSUITED):
        return ""
    return f"; leave it float with {plan.leave_out} {module}"


def _quantize(linear: Linear, scheme: Scheme, rule: Rule, plan: Plan) -> QuantizedLinear:
    """Quantize with the parameters of the calibration, else with a given range."""
    variant = VARIANTS[plan.profile]
    seen = plan.calibration.inputs.get(linear.name) if plan.calibration else None
    if plan.solver is not None and plan.solver.takes(rule.type):
        given = Options(variant, input_params=seen)
        return scheme.assemble(linear, plan.solver(linear, rule).stored, given)
    made = plan.calibration.made.get(linear.name) if plan.calibration else None
    if made is not None:
        return scheme.assemble(linear, made, Options(variant, input_params=seen))
    factors = plan.calibration.low_rank.get(linear.name) if plan.calibration else None
    if factors is not None and isinstance(scheme, Wrapper):  # the weight is the residual already
        inner = _quantize_plain(linear, scheme.inner, rule, plan)
        dtype = linear.weight.dtype
        parts = {"l1": to_dtype(factors.l1, dtype), "l2": to_dtype(factors.l2, dtype)}
        return scheme.wrap(inner, {f"svd_lowrank_{part}": array for part, array in parts.items()})
    return _quantize_plain(linear, scheme, rule, plan)


def _quantize_plain(linear: Linear, scheme: Scheme, rule: Rule, plan: Plan) -> QuantizedLinear:
    """Quantize the weight as it is."""
    variant = VARIANTS[plan.profile]
    seen = plan.calibration.inputs.get(linear.name) if plan.calibration else None
    reached = plan.calibration.reached.get(linear.name) if plan.calibration else None
    options = dict(reached_rule(rule, reached).options)
    if seen is not None:
        options.pop("activation_symmetric", None)  # it is in the parameters
        return scheme.quantize(linear, variant=variant, input_params=seen, **options)
    ends = _range(plan, scheme, linear.name, linear.weight.dtype)
    return scheme.quantize(linear, variant=variant, activation_range=ends, **options)


def _range(
    plan: Plan, scheme: Scheme, module: str, dtype: np.dtype
) -> tuple[NDArray[np.generic], NDArray[np.generic]] | None:
    """The input range of a linear, as arrays [1] in the model dtype; None for dynamic types."""
    if "activation_range" not in scheme.takes:
        return None
    for glob, bounds in plan.ranges.items():
        if fnmatchcase(module, glob):
            with np.errstate(over="ignore"):  # infinity is refused with the linear's name
                lo, hi = (np.array([bound]).astype(dtype) for bound in bounds)
            return lo, hi
    raise ValueError(f"{module}: no activation range for it, expected a glob that matches")
