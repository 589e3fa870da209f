"""Single linears of other types: mix_cfg of the Calibrator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slimcheck.run import run as judge
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli import main
from slimspec.pipeline.config_rules import Choice
from slimspec.pipeline.mix_cfg import mixed_rules

Build = Callable[..., Path]
NAMES = [f"model.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn.q_proj", "mlp.up_proj")]


def types(mix_cfg: dict, choice: Choice = Choice("W8A8", {})) -> list[str]:  # noqa: B008
    return [rule.type for rule in mixed_rules(mix_cfg, NAMES, choice).values()]


def test_the_exact_name_goes_before_globs_and_the_first_glob_before_others() -> None:
    mix = {"*.up_proj": "w8a16", "model.layers.1.*": "float", NAMES[3]: "w8a8_dynamic"}
    assert types(mix) == ["W8A8", "W8A16", "FLOAT", "W8A8_DYNAMIC"]
    assert types({"model.layers.1.*": "float", "*.up_proj": "w8a16"})[3] == "FLOAT"
    assert types({}, Choice("W8A16", {})) == ["W8A16"] * 4


def test_options_of_the_own_type_stay_with_it() -> None:
    choice = Choice("W8A16", {"symmetric": True, "per_tensor": True})
    rules = list(mixed_rules({NAMES[0]: "w8a8", NAMES[1]: "float"}, NAMES, choice).values())
    assert [dict(r.options) for r in rules[:3]] == [{"per_tensor": True}, {}, choice.options]


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ({"*.w1": "w8a8"}, "'\\*.w1' matches no linear, expected names like model.layers.0"),
        ({"*": "w4a8"}, "expected one of float, w8a8, w8a8_dynamic, w8a16"),
        ({"*": ["w8a8"]}, "expected one of float"),
    ],
)
def test_unknown_types_and_names_are_refused(mix: dict, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        types(mix)


def test_directory_of_mixed_types(build: Build, calib_file: Path, tmp_path: Path) -> None:
    mix = {"*.down_proj": "w8a8_dynamic", "*.0.self_attn.*": "w8a16", "model.layers.1.*": "float"}
    given = ["--mix_cfg", json.dumps(mix), "--calib_file", str(calib_file)]
    given += ["--disable_names", "*.1.mlp.down_proj"]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *given]) == 0
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []
    made = open_checkpoint(tmp_path / "q")
    assert made.description is not None
    assert made.description.get("model_quant_type") == "W8A8"
    label = made.description.labels
    assert label["model.layers.0.self_attn.q_proj.weight"] == "W8A16"
    assert label["model.layers.0.mlp.down_proj.weight"] == "W8A8_DYNAMIC"
    assert label["model.layers.0.mlp.up_proj.weight"] == "W8A8"
    assert label["model.layers.1.mlp.up_proj.weight"] == "FLOAT"
    assert label["model.layers.1.mlp.down_proj.weight"] == "FLOAT"  # disable_names goes first


def test_float_alone_goes_beside_any_type(build: Build, calib_file: Path, tmp_path: Path) -> None:
    given = ["--mix_cfg", '{"*.down_proj": "float"}', "--calib_file", str(calib_file)]
    given += ["--w_bit", "4", "--is_lowbit", "True", "--use_sigma", "True"]
    source = str(build("llama", "float16"))
    assert main(["quantize", source, str(tmp_path / "q"), *given]) == 0
    assert [r.requirement.id for r in judge(tmp_path / "q").failed if r.counts] == []
    made = open_checkpoint(tmp_path / "q")
    assert made.description is not None
    assert made.description.get("model_quant_type") == "W8A8S"
    assert made.description.labels["model.layers.1.mlp.down_proj.weight"] == "FLOAT"
    assert made.description.labels["model.layers.1.mlp.up_proj.weight"] == "W8A8S"


def test_dynamic_linears_run_with_the_range_of_what_was_seen(
    build: Build, calib_file: Path, tmp_path: Path
) -> None:
    """While it calibrates, the tool rounds inputs of dynamic linears as those of static ones.

    So that what comes behind them has the ranges of a run without any dynamic linear.
    """
    given = [str(build()), "--calib_file", str(calib_file)]
    mix = ["--mix_cfg", json.dumps({"*.down_proj": "w8a8_dynamic", "*.v_proj": "w8a8_dynamic"})]
    made = []
    for out, options in ((tmp_path / "mixed", mix), (tmp_path / "static", [])):
        assert main(["quantize", given[0], str(out), *given[1:], *options]) == 0
        made.append(open_checkpoint(out))
    mixed, static = made
    scales = [name for name in mixed.table.names if name.endswith(".input_scale")]
    assert len(scales) == 2 * 5
    for name in scales:
        assert mixed.tensor(name).tobytes() == static.tensor(name).tobytes(), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--w_bit", "4", "--a_bit", "16"], "set w_bit 8"),
        (["--a_bit", "16", "--w_sym", "False"], "set w_sym True"),
        (["--use_reduce_quant", "True", "--tp_size", "2"], "set it False"),
        (["--a_bit", "16", "--w_method", "HQQ"], "set w_method MinMax"),
        (["--producer", "A1"], "set --producer A0"),
        (["--pdmix"], "W8A8_MIX"),
    ],
)
def test_mistake_is_one_line(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], said: str
) -> None:
    given = ["--calib_texts", "a", "--mix_cfg", '{"*.down_proj": "w8a8_dynamic"}', *options]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *given]) == 4
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
