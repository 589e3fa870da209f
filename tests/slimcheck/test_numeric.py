"""Level numeric: exact, exact under named numerics, bound, transformed, changed, not judged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from slimcheck.numeric.records import Outcome
from slimcheck.numeric.sample import SampleError, choose, parse
from slimcheck.numeric.table import lines, text
from slimcheck.run import RunError, run
from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.writer import CheckpointWriter
from slimspec.data import folder
from slimspec.golden.recipes import recipes
from slimspec.golden.tiny_models import write_float
from slimspec.quantize.hqq import quantize_hqq

VALID = folder("golden") / "checkpoints" / "valid"
RECIPES = {r.id: r for r in recipes() if not r.tp}
Q0 = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Float models of the golden checkpoints, written when first asked."""
    made: dict[str, Path] = {}

    def of(recipe) -> Path:
        key = f"{recipe.model}-{recipe.dtype}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp("float") / key
            write_float(made[key], recipe.dtype, recipe.model)
        return made[key]

    return of


def compared(directory, model, **options):
    report = run(directory, level="numeric", float_model=model, **options)
    return report, {row.name: row for row in report.comparisons}


@pytest.mark.parametrize("case", sorted(RECIPES))
def test_golden_checkpoint_is_exactly_its_float_model(models, case):
    recipe = RECIPES[case]
    report, rows = compared(VALID / case, models(recipe))
    outcomes = {row.outcome for row in rows.values()}
    assert Outcome.DIFFERS not in outcomes
    if recipe.type not in ("W8A8S", "W16A16S"):
        assert outcomes <= {Outcome.EXACT, Outcome.EXACT_UNDER}, rows
    assert not [r for r in report.failed if r.requirement.phase == "numeric"]


def copy_of(case: str, tmp_path: Path) -> Path:
    directory = tmp_path / case
    shutil.copytree(VALID / case, directory)
    for path in directory.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return directory


def poke(directory: Path, name: str, at: int, mask: int) -> None:
    """Flip bits of one byte of a tensor."""
    checkpoint = open_checkpoint(directory)
    row = checkpoint.table.row(checkpoint.table.index(name))
    path = directory / row.file
    content = bytearray(path.read_bytes())
    content[row.begin + at] ^= mask
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("case", "suffix", "requirement"),
    [
        ("w8a16-a1-bf16", "weight", "W8A16-004"),
        ("w8a16-a1-bf16", "weight_scale", "W8A16-004"),
        ("w4a16-g32-a0-bf16", "weight", "W4A16-005"),
        ("w8a8-dynamic-a0-fp16", "weight", "VAL-101"),
        ("mxfp4-a1-bf16", "weight", "VAL-101"),
        ("mxfp8-a1-bf16", "weight_scale", "VAL-101"),
    ],
)
def test_one_flipped_bit_is_named(models, tmp_path, case, suffix, requirement):
    directory = copy_of(case, tmp_path)
    poke(directory, f"{Q0}.{suffix}", 40, 1)
    report, rows = compared(directory, models(RECIPES[case]))
    assert rows[Q0].outcome is Outcome.DIFFERS
    (change,) = rows[Q0].changes
    assert (change.suffix, change.count) == (suffix, 1)
    (result,) = (r for r in report.failed if r.requirement.phase == "numeric")
    assert result.requirement.id == requirement
    assert result.groups[0].tensors == [f"{Q0}.{suffix}"]


def test_flipped_bit_of_a_norm_is_named(models, tmp_path):
    directory = copy_of("w8a16-a1-bf16", tmp_path)
    poke(directory, "model.norm.weight", 8, 64)
    report, _ = compared(directory, models(RECIPES["w8a16-a1-bf16"]))
    assert [r.requirement.id for r in report.failed if r.counts] == ["VAL-102"]


def test_flipped_bit_of_a_float_linear_is_no_smoothing(models, tmp_path):
    """The linears of its layer were not smoothed, though their factors are known vaguely only."""
    directory, name = copy_of("w8a8-a0-fp16", tmp_path), "model.layers.1.self_attn.o_proj.weight"
    poke(directory, name, 2 * (37 * 64 + 54), 8)
    report, rows = compared(directory, models(RECIPES["w8a8-a0-fp16"]))
    assert rows[name].outcome is Outcome.DIFFERS
    assert "VAL-102" in {r.requirement.id for r in report.failed}


def test_layers_that_changed_places_are_told(models, tmp_path):
    directory = copy_of("w8a16-a1-bf16", tmp_path)
    checkpoint = open_checkpoint(directory)
    one, other = (f"model.layers.{i}.mlp.up_proj" for i in (0, 1))
    path = directory / checkpoint.shards[0].name
    content = bytearray(path.read_bytes())
    for suffix in ("weight", "weight_scale"):
        a, b = (checkpoint.table.row(checkpoint.table.index(f"{m}.{suffix}")) for m in (one, other))
        first, second = bytes(content[a.begin : a.end]), bytes(content[b.begin : b.end])
        content[a.begin : a.end], content[b.begin : b.end] = second, first
    path.write_bytes(content)
    _, rows = compared(directory, models(RECIPES["w8a16-a1-bf16"]))
    assert rows[one].outcome is Outcome.DIFFERS
    assert rows[one].note == f"it is {other}.weight"


def write_model(directory: Path, tensors: dict[str, np.ndarray]) -> Path:
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({"torch_dtype": "float32"}), "utf-8")
    return directory


def quantized(directory: Path, weights: dict[str, np.ndarray], extra: dict, scale_up=1.0) -> Path:
    """W8A16 by plain NumPy: s = max|w| / 127 · scale_up, q = rint(w / s)."""
    with CheckpointWriter(directory, profile="A1", model_quant_type="W8A16") as writer:
        for name, w in weights.items():
            scale = np.abs(w).max(axis=1, keepdims=True) / np.float32(127) * np.float32(scale_up)
            writer.write(f"{name}.weight", np.rint(w / scale).astype(np.int8), "W8A16")
            writer.write(f"{name}.weight_scale", scale, "W8A16")
            writer.write(f"{name}.weight_offset", np.zeros_like(scale), "W8A16")
        for name, array in extra.items():
            writer.write(name, array, "FLOAT")
    (directory / "config.json").write_text(json.dumps({"torch_dtype": "float32"}), "utf-8")
    return directory


def weights(seed=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"model.layers.{i}.mlp.up_proj": rng.normal(size=(48, 32)).astype(np.float32)
        for i in range(3)
    }


def test_other_scale_with_nearest_codes_is_exact_under_the_stored_scale(tmp_path):
    float_weights = weights()
    model = write_model(tmp_path / "f", {f"{k}.weight": v for k, v in float_weights.items()})
    directory = quantized(tmp_path / "q", float_weights, {}, scale_up=1.03125)
    _, rows = compared(directory, model)
    for row in rows.values():
        assert row.outcome is Outcome.EXACT_UNDER
        assert "stored scale" in row.numerics


def test_hqq_is_found_though_its_file_lacks_the_lowest_integer(tmp_path):
    float_weights = weights(seed=5)
    model = write_model(tmp_path / "f", {f"{k}.weight": v for k, v in float_weights.items()})
    lowest = 0
    with CheckpointWriter(tmp_path / "q", profile="A0", model_quant_type="W8A16") as writer:
        for name, w in float_weights.items():
            made = quantize_hqq(w, bits=8)
            lowest += int((made.q == -128).sum())
            writer.write(f"{name}.weight", np.maximum(made.q, np.int8(-127)), "W8A16")
            writer.write(f"{name}.weight_scale", made.scale, "W8A16")
            writer.write(f"{name}.weight_offset", made.offset, "W8A16")
    assert lowest
    _, rows = compared(tmp_path / "q", model)
    for row in rows.values():
        assert (row.outcome, row.numerics) == (Outcome.EXACT_UNDER, "f32·hqq")


def test_smoothing_is_verified_by_the_norm(tmp_path):
    rng = np.random.default_rng(5)
    float_weights = weights()
    factors = np.exp(rng.normal(size=32)).astype(np.float32)
    norms = {f"model.layers.{i}.post_attention_layernorm.weight": np.ones(32, np.float32)
             for i in range(3)}  # fmt: skip
    model = write_model(
        tmp_path / "f", {**{f"{k}.weight": v for k, v in float_weights.items()}, **norms}
    )
    smoothed = {k: w * factors for k, w in float_weights.items()}
    told = quantized(tmp_path / "told", smoothed, {k: v / factors for k, v in norms.items()})
    _, rows = compared(told, model)
    assert {row.outcome for row in rows.values()} == {Outcome.TRANSFORMED}
    silent = quantized(tmp_path / "silent", smoothed, norms)
    _, rows = compared(silent, model)
    linears = [row for row in rows.values() if row.label == "W8A16"]
    assert {row.outcome for row in linears} == {Outcome.NOT_JUDGED}


def test_weights_smoothed_a_little_were_not_changed(tmp_path):
    """Most codes are the float weight's, but every scale is another: no damage."""
    float_weights = weights()
    model = write_model(tmp_path / "f", {f"{k}.weight": v for k, v in float_weights.items()})
    factors = np.exp(np.random.default_rng(8).normal(scale=1e-3, size=32)).astype(np.float32)
    directory = quantized(tmp_path / "q", {k: w * factors for k, w in float_weights.items()}, {})
    report, rows = compared(directory, model)
    for row in rows.values():
        assert row.outcome is Outcome.NOT_JUDGED
        assert row.equal > 0.9
    assert not [r for r in report.failed if r.counts]


def masked(norm_moves: bool) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A float layer, and the same with one of 32 columns smoothed; its up_proj stays FLOAT."""
    rng = np.random.default_rng(6)
    up, norm = "model.layers.0.mlp.up_proj.weight", "model.layers.0.post_attention_layernorm.weight"
    before = {
        "model.layers.0.mlp.gate_proj.weight": rng.normal(size=(8, 32)).astype(np.float32),
        up: rng.normal(size=(8, 32)).astype(np.float32),
        norm: np.ones(32, np.float32),
    }
    factors = np.ones(32, np.float32)
    factors[7] = 3
    after = {up: before[up] * factors}
    if norm_moves:
        after[norm] = before[norm] / factors
    return before, before | after


def test_float_linear_may_follow_a_smoothing_of_few_columns(tmp_path):
    for norm_moves in (True, False):
        before, after = masked(norm_moves)
        model = write_model(tmp_path / f"f{norm_moves}", before)
        gate = "model.layers.0.mlp.gate_proj"
        directory = tmp_path / f"q{norm_moves}"
        quantized(directory, {gate: after.pop(f"{gate}.weight")}, after)
        report, rows = compared(directory, model)
        expected = {Outcome.TRANSFORMED} if norm_moves else {Outcome.DIFFERS, Outcome.EXACT}
        found = {row.outcome for name, row in rows.items() if name != gate}
        assert found == expected
        counted = {r.requirement.id for r in report.failed if r.requirement.phase == "numeric"}
        assert ("VAL-102" in counted) is not norm_moves


def test_one_linear_unlike_its_peers_is_changed(tmp_path):
    float_weights = weights()
    model = write_model(tmp_path / "f", {f"{k}.weight": v for k, v in float_weights.items()})
    last = "model.layers.2.mlp.up_proj"
    directory = quantized(tmp_path / "q", {**float_weights, last: weights(9)[last]}, {})
    report, rows = compared(directory, model)
    assert rows[last].outcome is Outcome.DIFFERS
    assert "W8A16-004" in {r.requirement.id for r in report.failed}


def test_search_may_smooth_one_layer_and_spare_others(tmp_path):
    """As the test before, but a norm elsewhere tells that the directory was smoothed."""
    factors = np.exp(np.random.default_rng(5).normal(size=32)).astype(np.float32)
    told, norm = "model.layers.2.self_attn.q_proj", "model.layers.2.input_layernorm.weight"
    last, before = "model.layers.2.mlp.up_proj", weights()
    before[told] = weights(3)[last]
    ones = np.ones(32, np.float32)
    floats = {f"{name}.weight": w for name, w in before.items()} | {norm: ones}
    after = before | {told: before[told] * factors, last: before[last] * factors[::-1]}
    directory = quantized(tmp_path / "q", after, {norm: ones / factors})
    report, rows = compared(directory, write_model(tmp_path / "f", floats))
    assert rows[told].outcome is Outcome.TRANSFORMED
    assert rows[last].outcome is Outcome.NOT_JUDGED
    assert not [r for r in report.failed if r.counts]


def test_weight_that_the_float_model_lacks_is_not_judged(tmp_path):
    float_weights = weights()
    model = write_model(tmp_path / "f", {"other.weight": np.ones((2, 2), np.float32)})
    _, rows = compared(quantized(tmp_path / "q", float_weights, {}), model)
    for row in rows.values():
        assert row.outcome is Outcome.NOT_JUDGED
        assert "the float model has no" in row.note


def test_level_and_float_model_go_together(models):
    case = "w8a16-a1-bf16"
    with pytest.raises(RunError, match="go together"):
        run(VALID / case, level="numeric")
    with pytest.raises(RunError, match="go together"):
        run(VALID / case, float_model=models(RECIPES[case]))
    with pytest.raises(RunError, match="sample"):
        run(VALID / case, level="numeric", float_model=models(RECIPES[case]), sample="some")
    with pytest.raises(RunError, match="--sample 3: goes with --level numeric only"):
        run(VALID / case, sample="3")


def test_float_model_that_is_quantized_is_refused():
    case = VALID / "w8a8-a1-bf16"
    with pytest.raises(RunError, match="found weights of W8A8, expected a float model"):
        run(case, level="numeric", float_model=case)


def test_absent_float_model_is_a_plain_error(tmp_path):
    with pytest.raises(RunError):
        run(VALID / "w8a16-a1-bf16", level="numeric", float_model=tmp_path / "absent")


def test_report_lines_fit_their_schema(models):
    from slimspec.jsonschemas import validator

    case = "w8a8-a1-bf16"
    report, rows = compared(VALID / case, models(RECIPES[case]))
    made = list(lines(report.comparisons, report.directory, "model", "all"))
    for line in made:
        validator("numeric").validate(json.loads(line))
    assert [json.loads(made[i])["kind"] for i in (0, -1)] == ["header", "footer"]
    assert len(made) == len(rows) + 2
    assert any("EXACT" in line for line in text(report.comparisons, "all"))


def names() -> list[str]:
    return [f"model.layers.{i}.mlp.{p}_proj" for i in range(10) for p in ("up", "down", "gate")]


def test_sample_takes_of_every_layer():
    shuffled = names()[::-1]
    for sample, count in (("all", 30), ("5%", 10), ("34%", 20), ("100%", 30), ("7", 7), ("99", 30)):
        assert len(choose(names(), sample)) == count
        assert choose(names(), sample) == choose(shuffled, sample)
    assert len({name.split(".")[2] for name in choose(names(), "10")}) == 10
    assert choose(names(), "7", seed="other") != choose(names(), "7")


@pytest.mark.parametrize("sample", ["", "0", "0%", "101%", "-3", "5 %", "x%", "1e9", "nan"])
def test_sample_that_means_nothing_is_refused(sample):
    with pytest.raises(SampleError):
        parse(sample)


def test_files_are_only_read(models, tmp_path):
    directory = copy_of("w8a8-a1-bf16", tmp_path)
    before = {p: p.read_bytes() for p in directory.iterdir()}
    compared(directory, models(RECIPES["w8a8-a1-bf16"]))
    assert {p: p.read_bytes() for p in directory.iterdir()} == before
    with safe_open(next(directory.glob("*.safetensors")), "numpy") as file:
        assert file.keys()
