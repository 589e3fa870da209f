"""What the one-click service takes, casts and stores beside the linears it is told about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from slimcheck.run import run as judge
from slimspec.checkpoint import open_checkpoint
from slimspec.cli import main
from slimspec.pipeline.quantize import Plan, quantize_directory
from slimspec.pipeline.select import linear_modules, service_linears

Build = Callable[..., Path]
DYNAMIC = {"step": "quantize", "type": "W8A8_DYNAMIC"}
CORRECTION = "model.layers.1.mlp.gate.e_score_correction_bias"


def changed(source: Path, out: Path, config: dict, change: Callable[[dict], None]) -> Path:
    """A copy of a float model with other members of config.json and other tensors."""
    shutil.copytree(source, out)
    members = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**members, **config}), encoding="utf-8")
    tensors = load_file(out / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors")
    return out


def by_steps(source: Path, out: Path, steps: list[dict], **members: object) -> Path:
    config = out.with_suffix(".json")
    config.write_text(json.dumps({"steps": steps, **members}), encoding="utf-8")
    assert main(["quantize", str(source), str(out), "--config", str(config)]) == 0
    assert [r.requirement.id for r in judge(out).failed if r.counts] == []
    return out


def tied(build: Build, tmp_path: Path) -> Path:
    return changed(
        build(), tmp_path / "tied", {"tie_word_embeddings": True}, lambda t: t.pop("lm_head.weight")
    )


def test_a_glob_meets_every_linear_of_the_decoder_layers(build: Build) -> None:
    extra = {}
    for family in ("llama", "qwen3_moe", "deepseek_mtp"):
        model = open_checkpoint(build(family))
        usual = linear_modules(model.table)
        extra[family] = [name for name in service_linears(model) if name not in usual]
        assert set(usual) < {*usual, *service_linears(model), "lm_head"}
        assert "lm_head" not in service_linears(model)
    assert extra["llama"] == []
    assert extra["qwen3_moe"] == ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate"]
    assert extra["deepseek_mtp"] == ["model.layers.2.shared_head.head"]


def test_a_router_with_a_correction_of_its_own_is_no_linear(build: Build, tmp_path: Path) -> None:
    def correct(tensors: dict) -> None:
        tensors["model.layers.1.mlp.gate.e_score_correction_bias"] = np.zeros(4, np.float32)

    model = changed(build("qwen3_moe"), tmp_path / "m", {"model_type": "glm4_moe"}, correct)
    found = service_linears(open_checkpoint(model))
    assert "model.layers.0.mlp.gate" in found
    assert "model.layers.1.mlp.gate" not in found


def test_a_quantized_router_is_named(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = build("qwen3_moe")
    out = by_steps(source, tmp_path / "q", [DYNAMIC])
    labels = open_checkpoint(out).description.labels  # type: ignore[union-attr]
    assert labels["model.layers.0.mlp.gate.weight"] == "W8A8_DYNAMIC"
    assert labels["lm_head.weight"] == "FLOAT"
    assert "2 routers are quantized" in caplog.text
    caplog.clear()
    by_steps(source, tmp_path / "f", [{**DYNAMIC, "exclude": ["*.gate"]}])
    assert "routers" not in caplog.text


def test_a_step_for_the_head_alone_quantizes_nothing(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = by_steps(build(), tmp_path / "q", [{**DYNAMIC, "include": ["lm_head"]}])
    assert "no step quantizes lm_head" in caplog.text
    made = open_checkpoint(out)
    assert made.description is not None
    assert made.description.get("model_quant_type") == "FLOAT"
    assert set(made.description.labels.values()) == {"FLOAT"}


@pytest.mark.parametrize("profile", ["A1", "MF", "A0"])
def test_a_tied_head_is_stored_by_the_service_only(
    build: Build, tmp_path: Path, profile: str
) -> None:
    source = tied(build, tmp_path)
    quantize_directory(source, tmp_path / "q", Plan("W8A8_DYNAMIC", producer=profile))
    made = open_checkpoint(tmp_path / "q")
    assert ("lm_head.weight" in made.table) == (profile != "A0")
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []
    if profile != "A0":
        head, table = (made.tensor(n) for n in ("lm_head.weight", "model.embed_tokens.weight"))
        assert head.tobytes() == table.tobytes()
        assert made.description is not None
        assert made.description.labels["lm_head.weight"] == "FLOAT"


def test_the_service_casts_what_it_loads_to_the_dtype_of_the_model(
    build: Build, tmp_path: Path
) -> None:
    exact = np.array([1 + 2.0**-20, -0.3, 0.7, 2.0**-9], np.float32)
    wide = np.float32(1) + np.arange(64, dtype=np.float32) * np.float32(2.0**-20)

    def widen(tensors: dict) -> None:
        tensors[CORRECTION] = exact
        tensors["model.layers.2.enorm.weight"] = np.resize(
            wide, tensors["model.layers.2.enorm.weight"].shape
        )
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = wide

    source = changed(build("deepseek_mtp"), tmp_path / "m", {}, widen)
    steps = [{**DYNAMIC, "include": ["*.mlp.*"]}]
    made = open_checkpoint(by_steps(source, tmp_path / "q", steps))
    assert made.tensor(CORRECTION).tobytes() == exact.astype(ml_dtypes.bfloat16).tobytes()
    assert made.tensor("model.norm.weight").dtype == ml_dtypes.bfloat16
    enorm = made.tensor("model.layers.2.enorm.weight")  # a float32 part of the extra layer
    assert enorm.tobytes() == np.resize(wide, enorm.shape).tobytes()
    buffer = made.tensor("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert buffer.tobytes() == wide.tobytes()
    quantize_directory(source, tmp_path / "a0", Plan("W8A8_DYNAMIC", producer="A0"))
    assert open_checkpoint(tmp_path / "a0").tensor(CORRECTION).tobytes() == exact.tobytes()


def test_nothing_quantized_in_the_mindie_profile_has_no_type(build: Build, tmp_path: Path) -> None:
    out = by_steps(build(), tmp_path / "q", [], producer="MF", part_file_size=0)
    names = {path.name for path in out.iterdir()}
    assert {"quant_model_description.json", "quant_model_weight.safetensors"} <= names
    made = open_checkpoint(out)
    assert made.description is not None
    assert made.description.get("model_quant_type") is None
    assert set(made.description.labels.values()) == {"FLOAT"}
    parts = by_steps(build(), tmp_path / "parts", [], producer="MF")
    assert (parts / "quant_model_weight-00001-of-00001.safetensors").is_file()


def test_nothing_quantized_in_the_newer_profile_is_float(build: Build, tmp_path: Path) -> None:
    made = open_checkpoint(by_steps(build(), tmp_path / "q", []))
    assert made.description is not None
    assert made.description.get("model_quant_type") == "FLOAT"
    source = open_checkpoint(build())
    for name in source.table.names:
        assert made.tensor(name).tobytes() == source.tensor(name).tobytes()


@pytest.mark.parametrize("options", ["", "--is_dynamic True", "--a_bit 16 --calib_file="])
def test_a_tied_head_that_is_quantized_is_a_tensor_of_its_own(
    build: Build, calib_file: Path, tmp_path: Path, options: str
) -> None:
    """The embedding stays float, and config.json tells engines to read the head."""
    source = tied(build, tmp_path)
    given = ["--calib_file", str(calib_file), "--disable_last_linear", "False", *options.split()]
    assert main(["quantize", str(source), str(tmp_path / "q"), *given]) == 0
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []
    made, model = open_checkpoint(tmp_path / "q"), open_checkpoint(source)
    table = model.tensor("model.embed_tokens.weight")
    assert made.tensor("model.embed_tokens.weight").tobytes() == table.tobytes()
    scale = made.tensor("lm_head.weight_scale").astype(np.float32)
    values = made.tensor("lm_head.weight") * scale
    # half a step, and a quotient of at most 127 rounded to 8 bits: a quarter more, and the scale
    assert np.abs(values - table.astype(np.float32)).max() <= scale.max()
    assert made.config is not None
    assert made.config.value["tie_word_embeddings"] is False


def test_a_tied_head_is_kept_by_default(build: Build, tmp_path: Path) -> None:
    source = tied(build, tmp_path)
    assert main(["quantize", str(source), str(tmp_path / "q"), "--is_dynamic", "True"]) == 0
    made = open_checkpoint(tmp_path / "q")
    assert not [name for name in made.table.names if name.startswith("lm_head")]
    assert made.config is not None
    assert made.config.value["tie_word_embeddings"] is True
    assert made.tensor("model.layers.1.mlp.down_proj.weight").dtype == np.int8
