"""From a quantization config to a directory: choose types, calibrate, fall back, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from slimspec.checkpoint import Checkpoint, CheckpointError
from slimspec.checkpoint.publish import check_free
from slimspec.model.config import DEEPSEEK
from slimspec.model.numerics import Cpu
from slimspec.numeric import model_dtype
from slimspec.observe.activation import MIXED
from slimspec.quantize.affine import Variant

from .calibrate import Calibration, CalibrationRun
from .calibration.communication import Parallel
from .calibration.fake_linear import takes_range
from .calibration.samples import encode_texts, read_texts
from .calibration.settings import LOWBIT, CacheStep, Settings
from .calibration.source import FoldedWeights, loaded_dtype
from .config import MIN_MAX, QuantizationConfig
from .config_rules import Choice, check, choose, flex_exponents, low_rows, needs_texts
from .fallback import Sensitivity, last_linear, level, match_names, most_sensitive
from .mix_cfg import check_mix, mixed_rules
from .quantize import EMBEDDING, VARIANTS, Plan, lacks_head, open_float, quantize_directory
from .recipe import KEEP, Recipe, Rule, load
from .select import linear_modules
from .solvers import WeightSolver, lowbit_options, make_solver

HEAD = "lm_head"
Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def no_bar(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda done: None)


@dataclass(frozen=True)
class Extra:
    """Choices that the field's table does not have.

    Attributes:
        producer: profile to write.
        mix: W8A8_MIX (pdmix) instead of W8A8.
        load_dtype: of the loaded model, None for its own.
        attend: "eager" or "fused", None for what the producer ran.
        cpu: whose sums of bfloat16 products.
        longest: tokens of a text that are used, 0 for all.
        table: measure the sensitivity of every linear also where nothing asks for it.
        recipe: types by module instead of one for all.
        flex_config: alpha and beta of m6; without them they are searched.
        w_method: how weights are found: MinMax, GPTQ or HQQ.
        per_device: with use_reduce_quant, a reduce_scale for each device (enable_per_device_quant).
        exact_sums: with use_reduce_quant, only cut linears; what ranks send stays as it is
            (enable_communication_quant False).
        mix_cfg: name or glob -> type of single linears.
        kv_sym: with use_kvcache_quant, a cache without an offset.
    """

    producer: str = "A0"
    mix: bool = False
    load_dtype: DTypeLike | None = None
    attend: Any = None
    cpu: Cpu = "amx"
    longest: int = 0
    table: bool = False
    recipe: Recipe | None = None
    flex_config: Mapping[str, Any] = field(default_factory=dict)
    w_method: str = MIN_MAX
    per_device: bool = False
    exact_sums: bool = False
    mix_cfg: Mapping[str, Any] = field(default_factory=dict)
    kv_sym: bool = True


@dataclass
class Done:
    """What was done: linears by type, those that stay float by choice, and the table."""

    label: str
    linears: int = 0
    kept: list[str] = field(default_factory=list)
    table: list[Sensitivity] = field(default_factory=list)
    smoothed: int = 0


def quantize_by_config(
    source: str | Path,
    out: str | Path,
    config: QuantizationConfig,
    extra: Extra | None = None,
    *,
    overwrite: bool = False,
    bar: Bar = no_bar,
) -> Done:
    """Quantize a float directory as a config says; return what was done.

    Args: bar: makes a progress bar from a title and a total.
    Raises: CheckpointError: a rule that is broken, no text, an unusable source or output.
    """
    check_free(Path(out), overwrite)  # before the long part
    plan, done = prepare(source, config, extra, bar=bar)
    assert plan.calibration is not None
    total = plan.calibration.weights.checkpoint.table.nbytes
    with bar("quantize", total) as advance:
        done.linears = quantize_directory(source, out, plan, overwrite=overwrite, progress=advance)
    return done


def prepare(
    source: str | Path, config: QuantizationConfig, extra: Extra | None = None, *, bar: Bar = no_bar
) -> tuple[Plan, Done]:
    """Choose types, calibrate and fall back; return what `quantize_directory` needs.

    Raises: CheckpointError: as `quantize_by_config`.
    """
    extra = extra or Extra()
    check(config)
    if not (extra.kv_sym or config.use_kvcache_quant):
        raise CheckpointError("kv_sym: has an effect with use_kvcache_quant only")
    choice = choose(config, mix=extra.mix)
    float_model = open_float(source)
    dtype = loaded_dtype(float_model, VARIANTS[profile_of(extra)], extra.load_dtype)
    linears = all_linears(float_model)
    rules = typed(float_model, linears, choice, config, extra)
    kept = match_names(config.disable_names or (), linears)
    last = last_linear(linears)
    if config.disable_last_linear and last is not None and last not in kept:
        kept.append(last)
    parallel = parallel_of(config, choice, extra, float_model)
    done = Done(extra.recipe.name if extra.recipe else choice.type)
    solver = make_solver(config, choice, extra.w_method)
    if VARIANTS[profile_of(extra)] != "v0":
        _refuse_calibrators(config, extra)
    calibration = Calibration(FoldedWeights(float_model, dtype))
    unties = lacks_head(float_model) and _without(rules, kept)[HEAD].type != KEEP
    if unties:
        calibration.weights.untie(f"{HEAD}.weight", EMBEDDING)
    texts = _texts(config)
    static = any(takes_range(rule.type) for rule in _without(rules, kept).values())
    needed = needs_texts(config, choice) or static or (solver is not None and solver.keeps)
    if texts is None and needed:
        raise CheckpointError(
            f"{done.label} needs calibration text: give calib_file FILE.jsonl or calib_texts"
        )
    if texts:
        tokens = encode_texts(texts, source, longest=extra.longest)
        settings = settings_of(config, extra, VARIANTS[profile_of(extra)])
        settings = replace(settings, load_dtype=dtype)
        count = level(config.disable_level)
        calibration, more = _calibrate(
            float_model, tokens, settings, rules, kept, count, solver, parallel, extra, unties, bar
        )
        kept += more
        done.table, done.smoothed = calibration.sensitivity, len(calibration.smoothed)
    final = _without(rules, kept)
    done.kept = [name for name in rules if name in set(kept)]
    plan = Plan(
        scheme=choice.type if extra.mix_cfg else _quant_type(final, extra),
        producer=profile_of(extra),
        part_file_size=config.part_file_size or 0,
        rules=final,
        calibration=calibration,
        solver=solver,
        config=config_changes(choice.type, extra),
        leave_out="--disable_names",
    )
    return plan, done


def _refuse_calibrators(config: QuantizationConfig, extra: Extra) -> None:
    """Refuse what the one-click service does not have."""
    problems = {
        f"w_method {extra.w_method}": extra.w_method != MIN_MAX,
        "is_lowbit with w_bit 8": low_rows(config),
    }
    for problem, found in problems.items():
        if found:
            raise CheckpointError(f"{problem}: is the Calibrator's; set --producer A0")


def _calibrate(
    float_model: Checkpoint,
    tokens: Sequence[NDArray[np.int64]],
    settings: Settings,
    rules: Mapping[str, Rule],
    kept: Sequence[str],
    count: int,
    solver: WeightSolver | None,
    parallel: Parallel | None,
    extra: Extra,
    unties: bool,
    bar: Bar,
) -> tuple[Calibration, list[str]]:
    """Run the texts; return what was found and which further linears stay float."""
    needs_look = bool(count) or settings.act_method == MIXED or extra.table
    v0 = settings.variant == "v0"
    observes = any(takes_range(r.type) for r in rules.values()) or settings.attention
    observes = observes or not v0 or (solver is not None and solver.keeps)
    looks = needs_look or (v0 and settings.cache)
    passes = (v0 and bool(settings.anti_method)) + looks + observes
    layers = int(float_model.config.value.get("num_hidden_layers", 1)) if float_model.config else 1
    with bar("calibrate", passes * layers) as advance:
        run = CalibrationRun(float_model, tokens, settings, advance)
        if unties:
            run.result.weights.untie(f"{HEAD}.weight", EMBEDDING)
        if v0:
            run.smooth()
        if looks:
            run.look(sensitivity=needs_look, head=HEAD in rules)
        more = []
        if count:
            measured = [row for row in run.result.sensitivity if row.name in rules]
            more = most_sensitive(measured, count, without=kept)
        if observes:
            run.observe(_without(rules, [*kept, *more]), solver=solver, parallel=parallel)
    return run.result, more


def profile_of(extra: Extra) -> str:
    """The producer profile to write: that of the recipe, if there is one."""
    return extra.recipe.producer if extra.recipe else extra.producer


def parallel_of(
    config: QuantizationConfig, choice: Choice, extra: Extra, float_model: Checkpoint
) -> Parallel | None:
    """Return the ranks to simulate. Raises: CheckpointError: a choice that no producer writes."""
    if not config.use_reduce_quant:
        return None
    members = float_model.config.value if float_model.config else {}
    problems = {
        "pdmix: W8A8_MIX": extra.mix,
        "producer A1": VARIANTS[profile_of(extra)] != "v0",
        "a recipe": extra.recipe is not None,
        "a model with experts": bool({"num_experts", "n_routed_experts"} & members.keys()),
    }
    for problem, found in problems.items():
        if found:
            raise CheckpointError(
                f"use_reduce_quant: not with {problem}, which no producer's directory shows; set "
                "use_reduce_quant False"
            )
    return Parallel(config.tp_size, extra.per_device, quantized=not extra.exact_sums)


def all_linears(float_model: Checkpoint) -> list[str]:
    """Return the linears that quantizers take, and lm_head, in file order."""
    found = linear_modules(float_model.table)
    if f"{HEAD}.weight" in float_model.table or lacks_head(float_model):
        found.append(HEAD)
    return found


def typed(
    float_model: Checkpoint,
    linears: Sequence[str],
    choice: Choice,
    config: QuantizationConfig,
    extra: Extra,
) -> dict[str, Rule]:
    """Return the type of every linear.

    A DeepSeek model takes W8A8 and W4A8_DYNAMIC by the mix of its own recipe, as the tools do.
    Raises: CheckpointError: a mix_cfg that matches nothing, or with what it does not go with.
    """
    if extra.mix_cfg:
        if extra.recipe is not None or VARIANTS[profile_of(extra)] != "v0":
            raise CheckpointError("mix_cfg: is the Calibrator's; set --producer A0, and no recipe")
        check_mix(extra.mix_cfg, config, choice, extra.w_method)
        return mixed_rules(extra.mix_cfg, linears, choice)
    label, options = choice
    members = float_model.config.value if float_model.config else {}
    recipe = extra.recipe
    mixes = {"W8A8": "deepseek-w8a8", "W4A8_DYNAMIC": "deepseek-r1-w4a8"}
    if recipe is None and members.get("model_type") in DEEPSEEK and label in mixes:
        recipe = load(mixes[label])
        if "group_size" in options:
            recipe = recipe.with_group_size(int(options["group_size"]))
    if recipe is None:
        return {name: Rule(name, label, dict(options)) for name in linears}
    bound = recipe.bind(members)
    return {name: replace(bound.resolve(name), match=name) for name in linears}


def settings_of(config: QuantizationConfig, extra: Extra, variant: Variant) -> Settings:
    """Return the calibration settings of a config."""
    return Settings(
        variant,
        act_method=config.act_method,
        anti_method=LOWBIT if config.do_smooth else config.anti_method,
        exponents=flex_exponents(extra.flex_config, config.anti_method),
        w_bit=config.w_bit,
        w_sym=config.w_sym,
        cache=config.use_kvcache_quant,
        cache_step=CacheStep(symmetric=extra.kv_sym),
        attention=config.use_fa_quant,
        lowbit=lowbit_options(config),
        fa_amp=config.fa_amp,
        attend=extra.attend,
        cpu=extra.cpu,
    )


def config_changes(label: str, extra: Extra) -> dict[str, Any]:
    """Return what changes in config.json: `quantize` for the Calibrator's profiles, the dtype.

    Source: seeds 001 (`quantize` is mandatory); formats.md 1.4; the one-click service writes none.
    """
    changes: dict[str, Any] = {}
    if extra.recipe:
        changes |= extra.recipe.config
    elif extra.producer in ("A0", "L0"):
        changes["quantize"] = {"W8A8_MIX": "w8a8_pdmix"}.get(label, label.lower())
    if extra.load_dtype is not None:
        changes["torch_dtype"] = model_dtype(extra.load_dtype).name
    return changes


def _texts(config: QuantizationConfig) -> list[str] | None:
    if config.calib_file:
        return read_texts(config.calib_file)
    return list(config.calib_texts) if config.calib_texts else None


def _without(rules: Mapping[str, Rule], kept: Iterable[str]) -> dict[str, Rule]:
    """Return the rules with those linears FLOAT."""
    floats = set(kept)
    return {n: Rule(n, KEEP) if n in floats else rule for n, rule in rules.items()}


def _quant_type(rules: Mapping[str, Rule], extra: Extra) -> str:
    """model_quant_type: that of the recipe or the one type there is; "" lets the ranks decide."""
    if extra.recipe:
        return extra.recipe.model_quant_type or ""
    labels = {rule.type for rule in rules.values()} - {KEEP}
    if labels == {"W8A8", "W8A8_DYNAMIC"}:
        return "W8A8"
    if "W4A8_DYNAMIC" in labels:
        return "W8A8_DYNAMIC" if len(labels) > 1 else "W4A8_DYNAMIC"
    return labels.pop() if len(labels) == 1 else ""


__all__ = ["Done", "Extra", "prepare", "quantize_by_config"]
