"""Chapter VAL without a float model: each rule on damage of its kind, silent on what is right."""

import numpy as np
import pytest

from slimcheck.engine import Options, Status, judge
from slimspec.checkpoint import open_checkpoint
from slimspec.checkpoint.writer import CheckpointWriter

N, K = 24, 8192
UP = "model.layers.{}.mlp.up_proj"


def codes(seed: int, n: int = N, k: int = K) -> np.ndarray:
    """int8 rows whose peak is 127."""
    rng = np.random.default_rng(seed)
    found = np.clip(np.rint(rng.normal(0, 30, (n, k))), -120, 120).astype(np.int8)
    found[np.arange(n), rng.integers(0, k, n)] = 127
    return found


class Draft:
    """A W8A16 directory of profile A1 (or A0) in memory."""

    def __init__(self, layers: int = 3) -> None:
        self.codes = {UP.format(i): codes(i) for i in range(layers)}
        # bfloat16 numbers, so that VAL-007 has something to hold on to
        values = np.float32(0.01) * np.arange(1, N + 1, dtype=np.float32)
        narrow = (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        self.scales = {name: narrow.reshape(N, 1).copy() for name in self.codes}
        self.norms = {
            f"model.layers.{i}.post_attention_layernorm.weight": np.ones(32, np.float16)
            for i in range(layers)
        }
        self.label, self.profile = "W8A16", "A1"

    def damage(self, layer: int, begin: int, end: int, value: int) -> None:
        """Fill a stretch; the rows that it begins and ends in keep a peak outside of it."""
        array = self.codes[UP.format(layer)]
        array.reshape(-1)[begin:end] = value
        array[begin // K, 0] = array[end // K, -1] = 127

    def write(self, directory):
        import ml_dtypes

        with CheckpointWriter(
            directory, profile=self.profile, model_quant_type=self.label
        ) as writer:
            for name, array in self.codes.items():
                writer.write(f"{name}.weight", array, self.label)
                writer.write(f"{name}.weight_scale", self.scales[name], self.label)
                offset = np.zeros_like(self.scales[name])
                writer.write(f"{name}.weight_offset", offset, self.label)
            for name, array in self.norms.items():
                writer.write(name, array.astype(ml_dtypes.bfloat16), "FLOAT")
        return directory


@pytest.fixture
def said(tmp_path):
    """Requirement -> its groups, for the chapter VAL."""

    def run(draft: Draft):
        directory = draft.write(tmp_path / "checkpoint")
        results = judge(open_checkpoint(directory), Options(select=("VAL-*", "NUM-*")))
        return {r.requirement.id: r.groups for r in results if r.status is Status.FAILED}

    return run


def test_sound_directory_is_not_blamed(said):
    assert said(Draft()) == {}


def test_hole_in_a_weight_is_found(said):
    draft = Draft()
    draft.damage(1, 9000, 20000, 0)
    assert set(said(draft)) == {"VAL-001"}


def test_hole_of_another_byte_is_found(said):
    draft = Draft()
    draft.damage(1, 9000, 20000, 17)
    assert set(said(draft)) == {"VAL-001"}


def test_rows_of_zeros_are_legal_only_under_the_scale_of_zeros(said, tmp_path):
    draft = Draft()
    draft.codes[UP.format(1)][5] = 0
    found = said(draft)
    assert set(found) == {"VAL-002"}
    assert found["VAL-002"][0].tensors == [f"{UP.format(1)}.weight_scale"]


def test_row_of_zeros_with_the_smallest_scale_is_legal(said):
    draft = Draft()
    draft.codes[UP.format(1)][5] = 0
    draft.scales[UP.format(1)][5] = 2.0**-23
    assert said(draft) == {}


def test_cut_weights_are_noted(said):
    draft = Draft()
    name = UP.format(2)
    draft.codes[name] = np.clip(draft.codes[name].astype(np.int16) * 3, -127, 127).astype(np.int8)
    assert "VAL-003" in said(draft)


def test_minus_128_is_not_written_by_the_older_tool(said):
    draft = Draft()
    draft.profile = "A0"
    draft.codes[UP.format(0)][3, 77] = -128
    found = said(draft)
    assert "VAL-004" in found
    assert "row [3]" in found["VAL-004"][0].found


def test_copy_of_another_weight_is_noted(said):
    draft = Draft()
    draft.codes[UP.format(2)] = draft.codes[UP.format(0)].copy()
    found = said(draft)
    assert set(found) == {"VAL-005"}
    assert found["VAL-005"][0].tensors == [f"{UP.format(2)}.weight"]


def test_row_that_lost_its_peak_is_noted(said):
    draft = Draft()
    array = draft.codes[UP.format(0)]
    array[4, abs(array[4]) >= 100] = 3
    assert set(said(draft)) == {"VAL-006"}


def test_low_bits_of_one_scale_are_noted(said):
    draft = Draft()
    draft.scales[UP.format(0)].view(np.uint32)[7] ^= np.uint32(4)
    found = said(draft)
    assert set(found) == {"VAL-007"}
    assert "element [7, 0]" in found["VAL-007"][0].found


@pytest.mark.parametrize("groups", [1, 4])
def test_weight_without_columns_has_no_scale(said, groups):
    draft = Draft()
    name = UP.format(0)
    draft.codes[name] = draft.codes[name][:, :0]
    draft.scales[name] = np.repeat(draft.scales[name], groups, axis=1)
    assert f"{N * groups} of {N * groups} elements" in said(draft)["VAL-002"][0].found


@pytest.mark.parametrize("nan", [False, True])
def test_nan_is_no_number_of_a_dtype(said, nan):
    """Fifteen of sixteen must be numbers of bfloat16: with NaN among the others they are fewer."""
    draft = Draft()
    scales = draft.scales[UP.format(0)].reshape(-1)
    others = scales.size // 16
    scales.view(np.uint32)[:others] ^= np.uint32(4)
    if nan:
        scales[others : 2 * others] = np.nan
    assert ("VAL-007" in said(draft)) is not nan


def test_exponent_of_one_scale_is_noted(said):
    draft = Draft()
    draft.scales[UP.format(0)][7] *= np.float32(2.0**16)
    assert set(said(draft)) == {"VAL-008"}


def test_norm_of_zeros_or_of_huge_numbers_is_noted(said):
    draft = Draft()
    names = list(draft.norms)
    draft.norms[names[0]] = np.zeros(32, np.float16)
    draft.norms[names[1]][3] = 40000
    found = said(draft)
    assert set(found) == {"VAL-010"}
    assert {name for group in found["VAL-010"] for name in group.tensors} == set(names[:2])


def test_absent_norm_of_one_layer_is_noted(said):
    draft = Draft(layers=4)
    name = list(draft.norms)[2]
    del draft.norms[name]
    found = said(draft)
    assert set(found) == {"VAL-011"}
    assert found["VAL-011"][0].tensors == [name]


def test_random_block_is_noted(said):
    draft = Draft()
    noise = np.random.default_rng(7).integers(-128, 128, 12000, np.int8)
    draft.codes[UP.format(1)].reshape(-1)[30000:42000] = noise
    assert "VAL-012" in said(draft)


@pytest.mark.parametrize("noisy", [False, True])
def test_random_block_among_short_rows_is_noted(said, noisy):
    draft = Draft()
    for i, name in enumerate(draft.codes):  # about 11 integers at the ends of every block
        draft.codes[name] = codes(i, 10 * N, 384)
        draft.scales[name] = np.repeat(draft.scales[name], 10, axis=0)
    if noisy:
        noise = np.random.default_rng(8).integers(-128, 128, 2 * 4096, np.int8)
        draft.codes[UP.format(1)].reshape(-1)[20000 : 20000 + noise.size] = noise
    assert set(said(draft)) == ({"VAL-012"} if noisy else set())


def test_float16_model_with_tiny_scales_is_noted(tmp_path):
    draft = Draft()
    for scale in draft.scales.values():
        scale *= np.float32(1e-5)
    directory = tmp_path / "checkpoint"
    with CheckpointWriter(directory, profile="A1", model_quant_type="W8A16") as writer:
        for name, array in draft.codes.items():
            writer.write(f"{name}.weight", array, "W8A16")
            writer.write(f"{name}.weight_scale", draft.scales[name], "W8A16")
            writer.write(f"{name}.weight_offset", np.zeros((N, 1), np.float32), "W8A16")
        for name, array in draft.norms.items():
            writer.write(name, array, "FLOAT")
    results = judge(open_checkpoint(directory), Options(select=("VAL-*",)))
    assert "VAL-009" in {r.requirement.id for r in results if r.status is Status.FAILED}
