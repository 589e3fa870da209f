"""Folding a model's outliers away leaves what it computes, and is done where a producer does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimspec.checkpoint import CheckpointError
from slimspec.model import Decoder
from slimspec.numeric import as_float32
from slimspec.pipeline.calibrate import CalibrationRun
from slimspec.pipeline.calibration.scales import channel_middle, shifted_peaks
from slimspec.pipeline.calibration.settings import LOWBIT, Settings, SmoothStep
from slimspec.pipeline.calibration.source import FoldedWeights
from slimspec.pipeline.quantize import open_float
from slimspec.pipeline.recipe import KEEP, Rule
from slimspec.pipeline.smooth_model import add_norm_biases, subgraphs
from slimspec.sparse.lowbit import LowBitOptions

Build = Callable[..., Path]
SLOW = ("m2", "m6", LOWBIT, "flex_awq_ssz")  # searches
METHODS = [
    pytest.param(variant, method, marks=[pytest.mark.slow] if method in SLOW else [])
    for variant, methods in (
        ("v0", ("m1", "m2", "m3", "m4", "m5", "m6", LOWBIT)),
        ("v1", ("m1", "m4", "m6", "awq", "flex_awq_ssz")),
    )
    for method in methods
]
SIGMA = LowBitOptions(use_sigma=True)
TOKENS = [np.arange(9) * 7 % 250, np.arange(14) * 11 % 250]


def smoothed(folder: Path, variant: str, method: str) -> CalibrationRun:
    run = CalibrationRun(
        open_float(folder), TOKENS, Settings(variant, anti_method=method, lowbit=SIGMA)
    )
    if variant == "v0":
        run.smooth()
    else:
        names = ("model.layers.0.self_attn.o_proj",)
        run.observe({name: Rule(name, KEEP) for name in names})
    return run


def logits(folder: Path, weights: FoldedWeights) -> np.ndarray:
    model = Decoder.open(folder)
    model.weights = weights
    return np.concatenate([as_float32(model.forward(tokens)) for tokens in TOKENS])


@pytest.mark.parametrize(("variant", "method"), METHODS)
@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen3_moe", "deepseek_v3"])
def test_float_outputs_before_and_after_agree(
    build: Build, family: str, variant: str, method: str
) -> None:
    """In float32 each fold rounds three times (W·s, w/s, x) by at most 2^-24 of the value.

    Relative to the largest logit, a layer's sums of positive and negative terms may lose a few
    bits more; with 2 layers of at most 7 linears, 2^-24 · 3 · 14 · 2^6 is 2.5e-4.
    """
    folder = build(family, "float32")
    run = smoothed(folder, variant, method)
    before = logits(folder, FoldedWeights(open_float(folder)))
    after = logits(folder, run.result.weights)
    assert run.result.smoothed
    assert np.abs(after - before).max() <= 2.5e-4 * np.abs(before).max()


@pytest.mark.parametrize(("variant", "method"), METHODS)
def test_smoothing_changes_weights_and_narrows_inputs(
    build: Build, variant: str, method: str
) -> None:
    folder = build("llama", "float32")
    run = smoothed(folder, variant, method)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not np.array_equal(run.result.weights.stored(name), open_float(folder).tensor(name))
    spread = {}
    for key, weights in (
        ("before", FoldedWeights(open_float(folder))),
        ("after", run.result.weights),
    ):
        seen: dict[str, list[np.ndarray]] = {}
        model = Decoder.open(folder)
        model.weights = weights
        for tokens in TOKENS:
            model.forward(tokens, observe=lambda n, x, seen=seen: seen.setdefault(n, []).append(x))
        x = np.concatenate(seen["model.layers.0.self_attn.q_proj"])
        channels = np.abs(x).max(axis=0)
        spread[key] = channels.max() / np.median(channels)
    assert spread["after"] < spread["before"]


def kinds(folder: Path, variant: str, method: str) -> list[tuple[str, str]]:
    run = CalibrationRun(open_float(folder), TOKENS, Settings(variant, anti_method=method))
    a, weights = run.model.architecture, run.result.weights
    graphs = subgraphs(a, "model.layers.0", weights, run.settings)
    return [(g.kind, g.source.removeprefix("model.layers.0.")) for g in graphs]


def test_one_click_service_goes_back_to_front(build: Build) -> None:
    assert kinds(build("qwen3", "float32"), "v1", "m4") == [
        ("up-down", "mlp.up_proj"),
        ("ov", "self_attn.v_proj"),
        ("norm-linear", "input_layernorm"),
        ("norm-linear", "post_attention_layernorm"),
    ]


def test_service_finds_norms_alone_in_a_model_it_is_not_told_and_in_smooth_quant(
    build: Build,
) -> None:
    norms = [("norm-linear", "input_layernorm"), ("norm-linear", "post_attention_layernorm")]
    for method in ("m1", "m4", "m6", "flex_awq_ssz"):
        assert kinds(build("llama", "float32"), "v1", method) == norms
    assert kinds(build("qwen3", "float32"), "v1", "m1") == norms


def test_latent_attention_goes_from_o_proj_over_kv_b_to_the_norms(build: Build) -> None:
    for variant in ("v0", "v1"):
        found = kinds(build("deepseek_v3", "float32"), variant, "m4")
        if variant == "v1":
            assert found.pop(0) == ("up-down", "mlp.up_proj")
        assert found[0] == ("ov", "self_attn.kv_b_proj")
        assert found[1] == ("norm-linear", "input_layernorm")


def test_calibrator_api_smooths_norms_first_and_linears_with_m4_and_m6_only(build: Build) -> None:
    folder = build("llama", "float32")
    norms = [("norm-linear", "input_layernorm"), ("norm-linear", "post_attention_layernorm")]
    assert kinds(folder, "v0", "m1") == norms
    assert kinds(folder, "v0", "m4") == [
        *norms,
        ("ov", "self_attn.v_proj"),
        ("up-down", "mlp.up_proj"),
    ]


@pytest.mark.parametrize("method", ["m4", "m6"])
def test_calibrator_api_goes_back_to_front_where_it_is_told_the_parts(
    build: Build, method: str
) -> None:
    assert kinds(build("qwen3", "float32"), "v0", method) == [
        ("up-down", "mlp.up_proj"),
        ("ov", "self_attn.v_proj"),
        ("norm-linear", "input_layernorm"),
        ("norm-linear", "post_attention_layernorm"),
    ]
    attention = [("ov", "self_attn.v_proj"), ("norm-linear", "input_layernorm")]
    assert kinds(build("qwen3_moe", "float32"), "v0", method) == attention


@pytest.mark.parametrize(
    ("family", "shared"), [("deepseek_v3", ["shared_experts.up_proj"]), ("qwen3_moe", [])]
)
def test_one_click_service_smooths_every_expert(
    build: Build, family: str, shared: list[str]
) -> None:
    folder = build(family, "float32")
    run = CalibrationRun(open_float(folder), TOKENS, Settings("v1", anti_method="m4"))
    a, weights = run.model.architecture, run.result.weights
    found = subgraphs(a, "model.layers.1", weights, run.settings)
    sources = [g.source.removeprefix("model.layers.1.mlp.") for g in found if g.kind == "up-down"]
    experts = [f"experts.{e}.up_proj" for e in range(4)]
    assert sources == [*shared, *experts]
    run.observe({"model.layers.1.self_attn.o_proj": Rule("model.layers.1.self_attn.o_proj", KEEP)})
    for name in (*shared, *experts):
        stored = f"model.layers.1.mlp.{name}.weight"
        assert not np.array_equal(weights.stored(stored), open_float(folder).tensor(stored))


def test_only_asked_subgraphs_are_smoothed(build: Build) -> None:
    step = SmoothStep("iter_smooth", ("up-down",))
    settings = Settings("v1", anti_method="m4", smoothing=step)
    run = CalibrationRun(open_float(build("qwen3", "float32")), TOKENS, settings)
    found = subgraphs(run.model.architecture, "model.layers.0", run.result.weights, settings)
    assert [g.kind for g in found] == ["up-down"]


def test_globs_choose_by_what_a_scale_is_divided_out_of(build: Build) -> None:
    step = SmoothStep("iter_smooth", include=("*norm",), exclude=("*.input_layernorm",))
    settings = Settings("v1", anti_method="m4", smoothing=step)
    run = CalibrationRun(open_float(build("qwen3", "float32")), TOKENS, settings)
    found = subgraphs(run.model.architecture, "model.layers.0", run.result.weights, settings)
    assert [g.source for g in found] == ["model.layers.0.post_attention_layernorm"]


def service_smoothed(folder: Path, step: SmoothStep) -> CalibrationRun:
    settings = Settings("v1", anti_method=step.anti_method, smoothing=step)
    run = CalibrationRun(open_float(folder), TOKENS, settings)
    run.observe({"model.layers.0.self_attn.o_proj": Rule("", KEEP)})
    return run


def first_inputs(folder: Path) -> list[np.ndarray]:
    """What the norm of layer 0 makes of each text."""
    seen: list[np.ndarray] = []
    model = Decoder.open(folder)
    for tokens in TOKENS:
        model.forward(tokens, observe=lambda n, x: seen.append(x) if n.endswith(FIRST) else None)
    return seen


FIRST = "layers.0.self_attn.q_proj"
NORM = "model.layers.0.input_layernorm"


@pytest.mark.parametrize(
    ("step", "alpha", "beta", "smallest"),
    [
        (SmoothStep("smooth_quant"), 0.5, 0.5, 1e-5),
        (SmoothStep("smooth_quant", alpha=0.25), 0.25, 0.75, 1e-5),
        (SmoothStep("iter_smooth"), 0.9, 0.1, 1e-5),
        (SmoothStep("iter_smooth", alpha=0.5, scale_min=2.2), 0.5, 0.5, 2.2),
        (SmoothStep("flex_smooth_quant", alpha=0.75, beta=0.1), 0.75, 0.1, 1e-5),
    ],
)
def test_scale_of_a_step_has_its_exponents(
    build: Build, step: SmoothStep, alpha: float, beta: float, smallest: float
) -> None:
    """A second formula in float64: max(max|x|^alpha / max|W|^beta, smallest); a float32 power and
    quotient are off by a few 2^-24, the norm's weight by two roundings more."""
    folder = build("llama", "float32")
    run = service_smoothed(folder, step)
    model = open_float(folder)
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    w = np.max([np.abs(model.tensor(name)).max(axis=0) for name in names], axis=0)
    a = np.max([np.abs(x).max(axis=0) for x in first_inputs(folder)], axis=0)
    expected = np.maximum(a.astype(np.float64) ** alpha / w.astype(np.float64) ** beta, smallest)
    weights = run.result.weights
    scale = model.tensor(f"{NORM}.weight") / weights.stored(f"{NORM}.weight").astype(np.float64)
    assert np.allclose(scale, expected, rtol=2e-6, atol=0)
    assert (expected == smallest).any() == (smallest == 2.2)


def test_given_exponents_of_m6_are_not_searched(build: Build) -> None:
    """max|x|^0.75 / max|W|^0.1 in float64; two powers, a quotient and a division in float32."""
    folder = build("llama", "float32")
    settings = Settings("v0", anti_method="m6", exponents=(0.75, 0.1))
    run = CalibrationRun(open_float(folder), TOKENS, settings)
    run.smooth()
    model = open_float(folder)
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    w = np.max([np.abs(model.tensor(name)).max(axis=0) for name in names], axis=0)
    a = np.max([np.abs(x).max(axis=0) for x in first_inputs(folder)], axis=0)
    expected = a.astype(np.float64) ** 0.75 / w.astype(np.float64) ** 0.1
    stored = run.result.weights.stored(f"{NORM}.weight").astype(np.float64)
    scale = model.tensor(f"{NORM}.weight") / stored
    assert np.allclose(scale, expected, rtol=2e-6, atol=0)


def test_asymmetric_step_moves_the_middle_of_every_channel_into_biases(build: Build) -> None:
    folder = build("qwen3", "float32")
    run = service_smoothed(folder, SmoothStep("iter_smooth", symmetric=False))
    weights, model, texts = run.result.weights, open_float(folder), first_inputs(folder)
    low = np.min([x.min(axis=0) for x in texts], axis=0).astype(np.float64)
    high = np.max([x.max(axis=0) for x in texts], axis=0).astype(np.float64)
    middle = (low + high) / 2
    scale = model.tensor(f"{NORM}.weight") / weights.stored(f"{NORM}.weight").astype(np.float64)
    bias = weights.stored(f"{NORM}.bias")
    assert bias.dtype == np.float32
    assert np.allclose(bias, -middle / scale, rtol=1e-5, atol=1e-6)
    name = "model.layers.0.self_attn.k_proj"
    expected = model.tensor(f"{name}.weight").astype(np.float64) @ middle
    assert np.allclose(weights.stored(f"{name}.bias"), expected, rtol=1e-5, atol=1e-6)
    before, after = logits(folder, FoldedWeights(model)), logits(folder, weights)
    assert np.abs(after - before).max() <= 2.5e-4 * np.abs(before).max()


def test_symmetric_smooth_quant_gives_norms_zero_biases_and_iter_smooth_none(build: Build) -> None:
    folder = build("llama", "bfloat16")
    weights = service_smoothed(folder, SmoothStep("smooth_quant")).result.weights
    for norm in ("input_layernorm", "post_attention_layernorm"):
        bias = weights.stored(f"model.layers.1.{norm}.bias")
        assert (bias.dtype, bool(bias.any())) == (np.dtype(np.float32), False)
    assert [n for n, _ in weights.added() if not n.endswith("norm.bias")] == []
    assert not list(service_smoothed(folder, SmoothStep("iter_smooth")).result.weights.added())


def test_middle_is_of_what_was_seen_so_far() -> None:
    batches = [np.float32([[0, 2]]), np.float32([[4, -2]])]
    # column 0: |0 - 0|, then |4 - 2|; column 1: |2 - 2|, then |-2 - 0|
    assert shifted_peaks(batches).tolist() == [2, 2]
    assert channel_middle(batches).tolist() == [2, 0]


def test_awq_leaves_shared_values_alone_unless_defects_are_asked_for(build: Build) -> None:
    folder = build("llama", "float32")
    changed = {}
    for defects in (False, True):
        step = SmoothStep("awq", ("ov",), defects=defects)
        settings = Settings("v1", anti_method="awq", smoothing=step)
        run = CalibrationRun(open_float(folder), TOKENS, settings)
        run.observe({"model.layers.0.self_attn.o_proj": Rule("", KEEP)})
        changed[defects] = [
            part
            for part in ("v_proj", "o_proj")
            if not np.array_equal(
                run.result.weights.stored(f"model.layers.0.self_attn.{part}.weight"),
                open_float(folder).tensor(f"model.layers.0.self_attn.{part}.weight"),
            )
        ]
    assert changed == {False: [], True: ["o_proj"]}


def test_calibrator_api_leaves_experts_alone(build: Build) -> None:
    found = kinds(build("qwen3_moe", "float32"), "v0", "m1")
    assert found == [("norm-linear", "input_layernorm")]


def test_method_the_service_lacks_says_what_to_choose(build: Build) -> None:
    with pytest.raises(CheckpointError, match="producer A0"):
        kinds(build("llama", "float32"), "v1", "m2")


def test_norms_get_float32_biases_of_zero_but_not_with_m6(build: Build) -> None:
    folder = build("llama", "bfloat16")
    run = smoothed(folder, "v0", "m1")
    added = dict(run.result.weights.added())
    assert sorted(added) == sorted(f"{norm}.bias" for norm in run.result.norms)
    assert len(added) == 5
    for bias in added.values():
        assert bias.dtype == np.float32
        assert not bias.any()
    settings = Settings("v0", anti_method="m6")
    assert add_norm_biases(run.result.weights, settings) == []


def test_m4_of_qwen3_takes_square_roots_and_moves_shifts_into_biases(build: Build) -> None:
    """A second formula in float64, as above; the value projection is already divided by its own."""
    folder = build("qwen3", "float32")
    run = smoothed(folder, "v0", "m4")
    weights, model, texts = run.result.weights, open_float(folder), first_inputs(folder)
    names = [f"model.layers.0.self_attn.{part}_proj" for part in "qkv"]
    scale = model.tensor(f"{NORM}.weight") / weights.stored(f"{NORM}.weight").astype(np.float64)
    folded = [weights.stored(f"{name}.weight") / scale for name in names]
    w = np.max([np.abs(x).max(axis=0) for x in folded], axis=0)
    a = np.max([np.abs(x).max(axis=0) for x in texts], axis=0).astype(np.float64)
    assert np.allclose(scale, np.sqrt(a / w), rtol=2e-6, atol=0)
    low, high = (np.array([f(x, axis=0) for x in texts]) for f in (np.min, np.max))
    middle = (low.min(axis=0).astype(np.float64) + high.max(axis=0)) / 2
    assert np.allclose(weights.stored(f"{NORM}.bias"), -middle / scale, rtol=1e-5, atol=1e-6)
    expected = model.tensor(f"{names[1]}.weight").astype(np.float64) @ middle
    assert np.allclose(weights.stored(f"{names[1]}.bias"), expected, rtol=1e-5, atol=1e-6)


def test_shift_of_latent_attention_moves_into_biases(build: Build) -> None:
    run = smoothed(build("deepseek_v3", "float32"), "v0", "m4")
    added = dict(run.result.weights.added())
    assert added["model.layers.0.input_layernorm.bias"].any()
    assert added["model.layers.0.self_attn.q_a_proj.bias"].any()
    assert "model.layers.0.self_attn.kv_b_proj.bias" not in added
