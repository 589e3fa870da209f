"""Directories from calibration text: conformant, near the float model, with one-line errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimcheck.run import run as judge
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli import main
from slimspec.numeric import as_float32
from slimspec.pipeline.calibrate import CalibrationRun
from slimspec.pipeline.calibration.samples import encode_texts, read_texts
from slimspec.pipeline.calibration.settings import Settings
from slimspec.pipeline.quantize import open_float
from slimspec.pipeline.recipe import Rule

Build = Callable[..., Path]


def violated(directory: Path) -> list[tuple]:
    report = judge(directory)
    return [
        (r.requirement.id, g.pattern, g.found, g.expected)
        for r in report.failed
        if r.counts
        for g in r.groups
    ]


DOWN = [f"model.layers.{i}.mlp.down_proj" for i in range(2)]
COMMANDS = {  # the commands of seeds 001, 003 and 004, as options of ours
    "w8a8 of LLaMA3.1-8B": (
        "llama bfloat16 --w_bit 8 --a_bit 8 --disable_level L0 --device_type cpu --anti_method m1 "
        "--act_method 1 --calib_file CALIB"
    ),
    "w8a16 of LLaMA2-70B": (
        "llama float16 --calib_file= --w_bit 8 --a_bit 16 --act_method 3 "
        '--tokenizer_args {"padding_side":"left","pad_token":"<unk>"}'
    ),
    "w8a8s of LLaMA-33B": (
        f"llama float16 --calib_file CALIB --disable_names {' '.join(DOWN)} --act_method 2 "
        "--do_smooth True --use_sigma True --is_lowbit True --co_sparse True --w_bit 4 "
        '--tokenizer_args {"padding_side":"left","pad_token":"<unk>"}'
    ),
    "w8a8 mix of Qwen3-32B": "llama bfloat16 --calib_file CALIB --anti_method m4 --pdmix",
    "w8a8s of Qwen3-8B": "llama float16 --calib_file CALIB --co_sparse True --w_bit 4",
    "kv cache of LLaMA3.1-70B": "llama bfloat16 --calib_file CALIB --use_kvcache_quant True",
    "fallback by globs and level": (
        "llama bfloat16 --calib_file CALIB --disable_names *.down_proj *.o_proj --disable_level L2"
    ),
    "attention of LLaMA3.1-70B": "llama float16 --calib_file CALIB --use_fa_quant True --fa_amp 1",
    "sums between cards of LLaMA2-13B": (
        "llama float16 --calib_file CALIB --use_reduce_quant True --tp_size 4"
    ),
    "awq of InternLM-7B": (
        "llama float16 --calib_file CALIB --w_bit 4 --a_bit 16 --is_lowbit True "
        "--open_outlier False --group_size 32 --anti_method m3"
    ),
    "w4a8 of DeepSeek-R1": (
        "deepseek_v3 bfloat16 --calib_file CALIB --w_bit 4 --is_lowbit True --open_outlier False "
        "--is_dynamic True --group_size 32 --mm_tensor False --anti_method m4"
    ),
}
MORE = {
    "w8a8 of DeepSeek": "deepseek_v3 bfloat16 --calib_file CALIB --anti_method m4",
    "attention of latent": "deepseek_v3 bfloat16 --calib_file CALIB --use_fa_quant True",
    "dynamic": "llama bfloat16 --is_dynamic True",
    "w4a16 per group": (
        "llama float16 --w_bit 4 --a_bit 16 --is_lowbit True --open_outlier False --group_size 64"
    ),
    "mixed method": "llama float16 --calib_file CALIB --act_method 3 --anti_method m2",
    "one-click": "llama bfloat16 --calib_file CALIB --anti_method m4 --producer A1",
    "cache with an offset": (
        "llama bfloat16 --calib_file CALIB --use_kvcache_quant True --kv_sym False"
    ),
    "one-click cache": "llama float16 --calib_file CALIB --use_kvcache_quant True --producer A1",
    "experts": "qwen3_moe bfloat16 --recipe qwen-moe-w8a8 --calib_file CALIB",
    "m5": "llama float16 --calib_file CALIB --anti_method m5 --load-dtype float32",
    "typed names": "llama float16 --calib_file CALIB --anti_method m3 --a_bit 16 --producer A0",
}


def arguments(command: str, build: Build, calib_file: Path, out: Path) -> list[str]:
    family, dtype, *options = command.split(" ")
    options = [str(calib_file) if part == "CALIB" else part for part in options]
    return ["quantize", str(build(family, dtype)), str(out), *options]


@pytest.mark.parametrize(
    "name", [*COMMANDS, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
)
def test_command_ends_in_a_conformant_directory(
    build: Build, calib_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    command = {**COMMANDS, **MORE}[name]
    code = main(arguments(command, build, calib_file, tmp_path / "q"))
    said = capsys.readouterr()
    assert code == 0, said.err
    assert violated(tmp_path / "q") == []
    assert list(tmp_path.iterdir()) == [tmp_path / "q"]


def test_commands_stand_in_the_documentation() -> None:
    page = Path(__file__).parents[2] / "docs" / "pipeline.md"
    text = " ".join(page.read_text(encoding="utf-8").replace("\\\n", " ").split())
    for command in COMMANDS.values():
        for option in command.split(" ")[2:]:
            assert option.replace("CALIB", "calib.jsonl") in text or option in DOWN, option


def test_config_json_says_the_type_and_the_description_the_cache(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    options = ["--calib_file", str(calib_file), "--use_kvcache_quant", "True"]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 0
    config = json.loads((tmp_path / "q" / "config.json").read_text(encoding="utf-8"))
    assert config["quantize"] == "w8a8"
    described = open_checkpoint(tmp_path / "q").description
    assert described is not None
    assert described.get("kv_quant_type") == described.get("kv_cache_type") == "C8"


def test_fallback_keeps_what_was_asked_and_the_most_sensitive(
    build: Build, calib_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--calib_file", str(calib_file), "--disable_names", "*.q_proj"]
    options += ["--disable_level", "L1", "--sensitivity"]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 0
    said = capsys.readouterr().out
    labels = open_checkpoint(tmp_path / "q").description.labels  # type: ignore[union-attr]
    floats = {n.removesuffix(".weight") for n, label in labels.items() if label == "FLOAT"}
    linears = {n for n in floats if n.endswith("_proj")}
    assert {f"model.layers.{i}.self_attn.q_proj" for i in range(2)} < linears
    assert len(linears) == 3
    assert "lm_head" in floats
    rows = [line for line in said.splitlines() if "model.layers" in line and "e" in line]
    assert sum(line.startswith("* ") for line in rows) == 3
    assert "note: " in said  # more than a fifth stays float


def test_last_linear_is_quantized_on_request(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    options = ["--calib_file", str(calib_file), "--disable_last_linear", "False"]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 0
    labels = open_checkpoint(tmp_path / "q").description.labels  # type: ignore[union-attr]
    assert labels["lm_head.weight"] == "W8A8"


def test_config_file_and_command_line_go_together(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    config = tmp_path / "c.json"
    members = {"w_bit": 8, "a_bit": 8, "act_method": 2, "calib_file": str(calib_file)}
    config.write_text(json.dumps({**members, "save_directory": str(tmp_path / "q")}))
    assert main(["quantize", str(build()), "--config", str(config), "--is_dynamic", "True"]) == 0
    labels = open_checkpoint(tmp_path / "q").description.labels  # type: ignore[union-attr]
    assert labels["model.layers.0.self_attn.q_proj.weight"] == "W8A8_DYNAMIC"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--w_bit", "8"], "needs calibration text"),
        (["--device_type", "npu"], "set device_type cpu"),
        (["--trust_remote_code"], "never runs code"),
        (["--w_bit", "4"], "set is_lowbit True"),
        (["--calib_file", "absent.jsonl"], "absent.jsonl: cannot be read"),
        (["--calib_texts", "a", "--disable_names", "*.nothing"], "matches no linear"),
        (["--calib_texts", "a", "--scheme", "W8A8"], "does not go with"),
        (["--config", "absent.json"], "absent.json"),
        ([], "--calib_file FILE"),
    ],
)
def test_mistake_is_one_line_and_leaves_nothing(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], said: str
) -> None:
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 4
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_interrupt_leaves_nothing(
    build: Build, calib_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from slimspec.pipeline import quantize

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize, "write_additions", stop)
    options = ["--calib_file", str(calib_file)]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 2
    assert not list(tmp_path.iterdir())


def test_cache_of_latent_attention_is_refused(
    build: Build, calib_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--calib_file", str(calib_file), "--use_kvcache_quant", "True"]
    assert main(["quantize", str(build("deepseek_v3")), str(tmp_path / "q"), *options]) == 4
    assert "use_kvcache_quant False" in capsys.readouterr().err


def test_expert_without_a_token_is_named(build: Build) -> None:
    folder = build("qwen3_moe", "bfloat16")
    run = CalibrationRun(open_float(folder), [np.array([5])], Settings("v1"))
    rules = {
        n: Rule(n, "W8A8") for n in (f"model.layers.0.mlp.experts.{e}.up_proj" for e in range(4))
    }
    with pytest.raises(CheckpointError, match="no calibration text reaches this linear"):
        run.observe(rules)


def test_running_range_of_v0_is_the_mean_and_of_v1_the_extreme(build: Build) -> None:
    """The scale of the first linear, whose inputs are float in both runs."""
    folder, tokens = build("llama", "float32"), [np.arange(5), np.arange(40, 52)]
    name = "model.layers.0.self_attn.q_proj"
    seen: list[np.ndarray] = []
    model = CalibrationRun(open_float(folder), tokens, Settings("v0")).model
    for ids in tokens:
        model.forward(ids, observe=lambda n, x: seen.append(x) if n == name else None)
    lows, highs = ([float(f(x)) for x in seen] for f in (np.min, np.max))
    expected = {
        "v0": (np.mean(highs) - np.mean(lows)) / 255,
        "v1": (max(highs) - min(lows)) / 255,
    }
    for variant, scale in expected.items():
        run = CalibrationRun(open_float(folder), tokens, Settings(variant))  # type: ignore[arg-type]
        run.observe({name: Rule(name, "W8A8")})
        found = float(as_float32(run.result.inputs[name].scale)[0])
        assert found == pytest.approx(scale, rel=1e-6)


def test_same_texts_give_the_same_bytes(build: Build, calib_file: Path, tmp_path: Path) -> None:
    options = ["--calib_file", str(calib_file), "--anti_method", "m4", "--act_method", "2"]
    for out in ("a", "b"):
        assert main(["quantize", str(build()), str(tmp_path / out), *options]) == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no calibration text"),
        ("not json", "c.jsonl:1: no JSON"),
        ('{"x": 1}', "c.jsonl:1: expected a text"),
        ('{"text": 5}', "expected a text"),
        ('\n"a"\n[1]', "c.jsonl:3: expected a text"),
    ],
)
def test_bad_text_file_names_the_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=said):
        read_texts(path)


def test_texts_come_from_every_known_key(tmp_path: Path, build: Build) -> None:
    path = tmp_path / "c.jsonl"
    lines = ['{"inputs_pretokenized": "a"}', '{"prompt": "bc"}', '"def"', '{"text": "g"}']
    path.write_text("\n".join(lines), encoding="utf-8")
    texts = read_texts(path)
    assert texts == ["a", "bc", "def", "g"]
    assert [len(t) for t in encode_texts(texts, build(), longest=2)] == [1, 2, 2, 1]
