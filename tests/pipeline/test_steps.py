"""Directories from steps: conformant, computing what the float model does, one-line errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli import main
from slimspec.pipeline.quantize_steps import prepare_steps
from slimspec.pipeline.steps import matches, parse_steps
from slimspec.quantize.ssz import quantize_ssz

Build = Callable[..., Path]
MLP, ATTENTION = ["*.mlp.*"], ["*.self_attn.*"]


def quantize(type_: str, **members: object) -> dict:
    return {"step": "quantize", "type": type_, **members}


STEPS: dict[str, tuple[str, list[dict]]] = {  # name -> model and steps
    "ssz static": ("llama", [quantize("W8A8", method="ssz")]),
    "ssz dynamic and int4": (
        "llama",
        [
            quantize("W8A8_DYNAMIC", method="ssz", include=ATTENTION),
            quantize("W4A8_DYNAMIC", method="ssz"),
        ],
    ),
    "microscaling": (
        "llama",
        [
            quantize("W8A8_MXFP8", include=ATTENTION),
            quantize("W4A4_MXFP4", method="fouroversix", include=MLP),
        ],
    ),
    "dual scales": ("llama", [quantize("W4A4_MXFP4_DUALSCALE", dual_block=64)]),
    "fp8": ("llama", [quantize("WFP8AFP8_DYNAMIC")]),
    "rotated": ("llama", [{"step": "rotate"}, quantize("W8A8", aggregation="mean")]),
    "rotated experts": ("qwen3_moe", [{"step": "rotate", "block_size": 16}, quantize("W8A16")]),
    "rotated latents": (
        "deepseek_v3",
        [{"step": "rotate"}, quantize("W8A8_DYNAMIC", exclude=["*.kv_b_proj"])],
    ),
    "branches": ("llama", [{"step": "svd", "rank": 4}, quantize("W4A4_MXFP4", include=MLP)]),
    "branches beside static linears": (
        "llama",
        [{"step": "svd", "rank": 4}, quantize("W8A8", include=ATTENTION), quantize("W8A8_DYNAMIC")],
    ),
    "sparse": ("llama", [{"step": "prune", "ratio": 0.4, "exclude": ["*.down_proj"]}]),
    "attention": (
        "llama",
        [quantize("W8A8_DYNAMIC"), {"step": "attention", "include": ["model.layers.1.*"]}],
    ),
    "latent attention in float8": (
        "deepseek_mtp",
        [
            {"step": "attention", "element": "fp8_e4m3", "dynamic": ["q"]},
            quantize("W8A8_MXFP8", include=ATTENTION, exclude=["*.kv_b_proj"]),
            quantize("W4A4_MXFP4", include=MLP),
        ],
    ),
    "everything": (
        "deepseek_mtp",
        [
            {"step": "rotate"},
            {"step": "smooth", "method": "iter_smooth", "subgraphs": ["norm-linear", "ov"]},
            quantize("W8A8", include=ATTENTION, exclude=["*.kv_b_proj"]),
            quantize("W4A8_DYNAMIC", method="ssz", include=["*.experts.*"]),
            quantize("W8A8_DYNAMIC", include=MLP),
            {"step": "attention", "exclude": ["model.layers.0.*"]},
        ],
    ),
    "smoothed": (
        "llama",
        [
            {"step": "smooth", "method": "iter_smooth", "subgraphs": ["norm-linear", "ov"]},
            quantize("W8A8_MIX", act_method=2),
            {"step": "cache"},
        ],
    ),
}


def written(tmp_path: Path, **members: object) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(members), encoding="utf-8")  # JSON is YAML
    return str(path)


def violated(directory: Path) -> list[tuple]:
    return [
        (r.requirement.id, g.pattern, g.found, g.expected)
        for r in judge(directory).failed
        if r.counts
        for g in r.groups
    ]


@pytest.mark.parametrize("name", STEPS)
def test_steps_end_in_a_conformant_directory(
    build: Build, calib_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    family, steps = STEPS[name]
    config = written(tmp_path, calib_file=str(calib_file), steps=steps)
    code = main(["quantize", str(build(family)), str(tmp_path / "q"), "--config", config])
    assert code == 0, capsys.readouterr().err
    assert violated(tmp_path / "q") == []
    labels = open_checkpoint(tmp_path / "q").description.labels  # type: ignore[union-attr]
    wanted = {s["type"] for s in steps if "type" in s}
    if any(s["step"] == "svd" for s in steps):
        wanted = {f"{label}_SVD" for label in wanted}
    wanted |= {"FAQuant" for s in steps if s["step"] == "attention"}
    assert wanted <= set(labels.values())


def test_mindie_profile_has_no_optional_files(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    steps = [{"step": "rotate"}, quantize("W8A8")]
    config = written(tmp_path, producer="MF", calib_file=str(calib_file), steps=steps)
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", config]) == 0
    assert violated(tmp_path / "q") == []
    assert not (tmp_path / "q" / "optional").exists()
    made = open_checkpoint(tmp_path / "q")
    assert made.profile.name == "MF"


def test_cache_behind_static_linears_holds_float32_states(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    """A deployed linear of the service gives float32 in a bfloat16 model, and so on from there."""
    scales = {}
    for cache in (False, True):
        steps = [quantize("W8A8"), *([{"step": "cache"}] if cache else [])]
        config = written(tmp_path, calib_file=str(calib_file), steps=steps)
        out = tmp_path / str(cache)
        assert main(["quantize", str(build()), str(out), "--config", config]) == 0
        made = open_checkpoint(out)
        name = "model.layers.{}.self_attn.q_proj.input_scale"
        scales[cache] = [made.tensor(name.format(layer))[0] for layer in (0, 1)]
        if cache:
            scales["cache"] = made.tensor("model.layers.0.self_attn.k_proj.kv_cache_scale")
    bfloat16 = ml_dtypes.bfloat16
    assert scales[False][0] == scales[True][0] == np.float32(bfloat16(scales[True][0]))
    assert scales[False][1] == np.float32(bfloat16(scales[False][1]))
    assert scales[True][1] != np.float32(bfloat16(scales[True][1]))
    assert scales["cache"].dtype == np.float32
    assert scales["cache"].tolist() != scales["cache"].astype(bfloat16).astype(np.float32).tolist()


def test_ranges_beside_branches_are_those_of_the_whole_model(
    build: Build, calib_file: Path
) -> None:
    """The tool leaves the branches out while it finds ranges; asked to do so, it is the same."""
    steps = [{"step": "svd", "rank": 16}, quantize("W8A8")]
    plain = parse_steps({"calib_file": str(calib_file), "steps": steps[1:]})
    branches = parse_steps({"calib_file": str(calib_file), "steps": steps})
    found = []
    for asked in (plain, branches, replace(branches, defects=True)):
        calibration = prepare_steps(build("llama", "float32"), asked)[0].calibration
        assert calibration is not None
        found.append({n: float(p.scale[0]) for n, p in calibration.inputs.items()})
    apart = [np.mean([abs(f[n] / found[0][n] - 1) for n in f]) for f in found[1:]]
    assert apart[0] < 0.03  # the quantized weights are others
    assert apart[1] > 0.1


@pytest.mark.parametrize("one_pass", [True, False])
def test_ssz_beside_static_linears_decides_in_the_dtype_of_what_passes(
    build: Build, calib_file: Path, tmp_path: Path, one_pass: bool
) -> None:
    """In one group with static types activations pass dynamic ones too; else none do."""
    steps = [quantize("W8A8", include=ATTENTION), quantize("W8A8_DYNAMIC", method="ssz")]
    config = written(tmp_path, calib_file=str(calib_file), one_pass=one_pass, steps=steps)
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", config]) == 0
    made, source = open_checkpoint(tmp_path / "q"), open_checkpoint(build())
    differ = 0
    for name in (n for n in made.table.names if ".mlp." in n and n.endswith(".weight")):
        w = source.tensor(name)
        found = {d: quantize_ssz(w, error_dtype=d) for d in (np.float32, ml_dtypes.bfloat16)}
        expected = found[ml_dtypes.bfloat16 if one_pass else np.float32]
        assert np.array_equal(made.tensor(name), expected.q)
        differ += not np.array_equal(*(each.q for each in found.values()))
    assert differ


def test_cache_step_says_where_and_whether_with_an_offset(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    step = {"step": "cache", "symmetric": False, "exclude": ["model.layers.0.self_attn"]}
    config = written(tmp_path, calib_file=str(calib_file), steps=[step])
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", config]) == 0
    made = open_checkpoint(tmp_path / "q")
    assert not [n for n in made.table.names if "layers.0" in n and "kv_cache" in n]
    offset = made.tensor("model.layers.1.self_attn.k_proj.kv_cache_offset")
    assert offset.astype(np.float32).any()


def test_pruned_weights_have_the_share_of_zeros(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    steps = [{"step": "prune", "ratio": 0.4, "include": ["*.o_proj"]}]
    config = written(tmp_path, calib_file=str(calib_file), steps=steps)
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", config]) == 0
    made = open_checkpoint(tmp_path / "q")
    w = made.tensor("model.layers.1.self_attn.o_proj.weight").astype(np.float32)
    assert int((w == 0).sum()) >= int(0.4 * w.size)
    assert (made.tensor("model.layers.1.mlp.up_proj.weight").astype(np.float32) != 0).all()


def test_attention_says_which_roles_are_quantized_at_run_time(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    step = {"step": "attention", "element": "fp8_e4m3", "dynamic": ["q"]}
    config = written(tmp_path, calib_file=str(calib_file), steps=[step])
    source = str(build("deepseek_v3"))
    assert main(["quantize", source, str(tmp_path / "q"), "--config", config]) == 0
    made = open_checkpoint(tmp_path / "q")
    text = (tmp_path / "q" / "quant_model_description.json").read_text(encoding="utf-8")
    name = "model.layers.1.self_attn"
    assert json.loads(text)[f"{name}.quant_type"] == "Q_FP8_DYNAMIC_KV_FP8"
    assert json.loads(text)["fa_quant_type"] == "FAKQuant"
    assert f"{name}.fa_q.scale" not in made.table
    assert made.tensor(f"{name}.fa_k.scale").shape == (1, 1)


def test_config_of_a_deepseek_mix_names_the_types_of_its_parts(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    config = written(tmp_path, calib_file=str(calib_file), steps=STEPS["everything"][1])
    source = str(build("deepseek_mtp"))
    assert main(["quantize", source, str(tmp_path / "q"), "--config", config]) == 0
    members = json.loads((tmp_path / "q" / "config.json").read_text(encoding="utf-8"))
    assert (members["moe_quantize"], members["mla_quantize"]) == ("w4a8_dynamic", "w8a8")


def test_first_step_that_takes_a_linear_counts(build: Build, tmp_path: Path) -> None:
    steps = [quantize("W8A16", include=["*.q_proj"]), quantize("W8A8_DYNAMIC", exclude=MLP)]
    config = written(tmp_path, steps=steps)
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", config]) == 0
    labels = open_checkpoint(tmp_path / "q").description.labels  # type: ignore[union-attr]
    layer = "model.layers.1"
    assert labels[f"{layer}.self_attn.q_proj.weight"] == "W8A16"
    assert labels[f"{layer}.self_attn.k_proj.weight"] == "W8A8_DYNAMIC"
    assert labels[f"{layer}.mlp.up_proj.weight"] == "FLOAT"


def test_steps_of_the_documentation_are_valid() -> None:
    yaml = pytest.importorskip("yaml")
    page = Path(__file__).parents[2] / "docs" / "pipeline.md"
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    steps = [parse_steps(yaml.safe_load(block)) for block in blocks]
    assert len(steps) >= 3
    assert any(s.rotation for s in steps)


BAD = {
    "no steps": ({}, "'steps' is a required property"),
    "unknown step": ({"steps": [{"step": "turn"}]}, "steps.0.step: 'turn' is not one of"),
    "unknown member": ({"steps": [{"step": "rotate", "size": 1}]}, "'size' was unexpected"),
    "twice": ({"steps": [{"step": "rotate"}, {"step": "rotate"}]}, "found twice, expected once"),
    "type of nobody": ({"steps": [quantize("W3A3")]}, "no scheme for label 'W3A3'"),
    "type of another producer": ({"steps": [quantize("W4A16")]}, "W4A16"),
    "dual scales without a block": (
        {"steps": [quantize("W4A4_MXFP4_DUALSCALE")]},
        "W4A4_MXFP4_DUALSCALE needs dual_block",
    ),
    "dual scales that do not cover a row": (
        {"steps": [quantize("W4A4_MXFP4_DUALSCALE", dual_block=48)]},
        "128 columns; leave it float with exclude of its step: model.layers.0.mlp.down_proj",
    ),
    "cache of another producer": (
        {"producer": "MF", "calib_texts": ["a"], "steps": [{"step": "cache"}]},
        "C8 is not written by MF",
    ),
    "method of another type": (
        {"steps": [quantize("W8A8", method="ceil_x")]},
        "expected one of minmax, ssz, gptq",
    ),
    "option it lacks": ({"steps": [quantize("W8A8", group_size=8)]}, "not take group_size"),
    "activations of a dynamic type": (
        {"steps": [quantize("W8A16", act_method=2)]},
        "W8A16 does not take act_method",
    ),
    "exponent of another method": (
        {"steps": [{"step": "smooth", "method": "smooth_quant", "scale_min": 0.1}]},
        "smooth_quant does not take scale_min",
    ),
    "one exponent of two": (
        {"steps": [{"step": "smooth", "method": "flex_smooth_quant", "alpha": 0.5}]},
        "give both alpha and beta",
    ),
    "exponent out of range": (
        {"steps": [{"step": "smooth", "method": "iter_smooth", "alpha": 1}]},
        "1 is greater than or equal to the maximum of 1",
    ),
    "two ranges": (
        {"steps": [quantize("W8A8", act_method=1), quantize("W8A8_MIX", act_method=2)]},
        "expected one choice of act_method",
    ),
    "no text": ({"steps": [quantize("W8A8")]}, "give calib_file or calib_texts"),
    "text twice": (
        {"calib_file": "x", "calib_texts": ["y"], "steps": [quantize("W8A8")]},
        "give one of them",
    ),
    "globs that match nothing": (
        {"steps": [quantize("W8A16", include=["*.qkv"])]},
        "no linear matches include *.qkv",
    ),
    "branches beside a cache": (
        {"calib_texts": ["a"], "steps": [{"step": "svd"}, quantize("W8A16"), {"step": "cache"}]},
        "svd: goes with rotate and quantize steps only",
    ),
    "rank that is too high": (
        {"steps": [{"step": "svd", "rank": 400}, quantize("W4A4_MXFP4")]},
        "rank 400, expected 1 to",
    ),
    "block that does not divide": (
        {"steps": [{"step": "rotate", "block_size": 128}]},
        "block size 128 does not divide",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_steps_are_one_clear_line(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    members, expected = BAD[name]
    config = written(tmp_path, **(members or {"steps": None}))
    if not members:
        with pytest.raises(CheckpointError, match=expected):
            parse_steps({})
        return
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", config]) != 0
    said = capsys.readouterr().err.strip()
    assert expected in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("option", ["--w_bit=4", "--scheme=W8A16", "--producer=A0", "--pdmix"])
def test_options_that_steps_replace_are_refused(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture, option: str
) -> None:
    config = written(tmp_path, steps=[quantize("W8A16")])
    code = main(["quantize", str(build()), str(tmp_path / "q"), "--config", config, option])
    assert code != 0
    assert "does not go with steps" in capsys.readouterr().err


def test_calib_file_of_the_command_line_goes_before(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    config = written(tmp_path, calib_file="/nonexistent", steps=[quantize("W8A8")])
    options = ["--config", config, "--calib_file", str(calib_file)]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 0


def test_rotation_is_stored_and_orthogonal(build: Build, tmp_path: Path) -> None:
    config = written(tmp_path, steps=[{"step": "rotate"}, quantize("W8A16")])
    assert main(["quantize", str(build()), str(tmp_path / "q"), "--config", config]) == 0
    made = open_checkpoint(tmp_path / "q")
    assert made.description is not None
    path = "optional/quarot.safetensors"
    assert made.description.get("optional") == {
        "quarot": {"rotation_map": {"global_rotation": path}}
    }
    header = made.optional[0]
    assert header.name == path
    from safetensors.numpy import load_file

    r = load_file(tmp_path / "q" / path)["global_rotation"]
    assert np.allclose(r @ r.T, np.eye(len(r)), atol=1e-6)


@pytest.mark.parametrize("name", ["flatquant", "autoround_quant"])
def test_step_of_the_service_that_is_not_made_says_why(name: str) -> None:
    members = {"steps": [quantize("W8A8"), {"step": name}]}
    with pytest.raises(CheckpointError, match=f"c: steps.1: {name} is not made: "):
        parse_steps(members, "c")


def test_braces_in_include_and_exclude_hold_alternatives() -> None:
    assert matches("model.layers.2.mlp.up_proj", ["*.layers.{1,2}.*"], ["*.{down,gate}_proj"])
    assert not matches("model.layers.2.mlp.gate_proj", ["*"], ["*.{down,gate}_proj"])
    with pytest.raises(CheckpointError, match="more than 4096 globs"):
        matches("a", ["{a,b}" * 20], [])
