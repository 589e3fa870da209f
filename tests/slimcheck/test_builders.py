"""What the builder makes is valid: the rules say nothing of it."""

import pytest

from slimcheck.engine import Options
from slimspec.checkpoint import open_checkpoint

VALID = [
    *(
        ("W8A8", profile, dtype)
        for profile in ("L0", "A0", "A1")
        for dtype in ("F16", "BF16", "F32")
    ),
    *(("W8A8", "MF", dtype) for dtype in ("BF16", "F32")),
    *(
        ("W8A8_DYNAMIC", profile, dtype)
        for profile in ("L0", "A0", "A1", "MF")
        for dtype in ("F16", "BF16")
    ),
    *(("W8A16", profile, dtype) for profile in ("L0", "A0", "A1") for dtype in ("F16", "BF16")),
    *(("W8A8_MIX", profile, dtype) for profile in ("A0", "A1") for dtype in ("F16", "BF16")),
    *(("W8A8S", profile, "F16") for profile in ("L0", "A0")),
    ("W8A8_TIMESTEP", "A0", "F16"),
    ("W8A8SC", "SC", "F16"),
    *(("W16A16S", "A1", dtype) for dtype in ("F16", "BF16", "F32")),
    ("W16A16SC", "SC", "F16"),
]


@pytest.mark.parametrize(("type_", "profile", "dtype"), VALID)
def test_valid_directory_is_clean(builders, judge, type_, profile, dtype):
    verdict = judge(builders.make(profile, type_, dtype))
    assert verdict.ids <= {"W8A8-021"}  # of an engine: bfloat16 is not for 310P


@pytest.mark.parametrize("profile", ["A0", "A1", "L0"])
@pytest.mark.parametrize("type_", ["W8A8_DYNAMIC", "W8A16"])
def test_valid_groups_are_clean(builders, judge, type_, profile):
    assert judge(builders.make(profile, type_, group=16)).ids == set()


def test_valid_asymmetric_weights_are_clean(builders, judge):
    assert judge(builders.make("A1", "W8A16", asymmetric=True)).ids == set()


def test_valid_experts_are_clean(builders, judge):
    assert judge(builders.make("A1", "W8A8_DYNAMIC", experts=3)).ids == set()


def test_per_tensor_scales_are_for_no_engine_but_valid(builders, judge):
    verdict = judge(builders.make("A0", "W8A8", per_tensor=True))
    assert verdict.ids == {"W8A8-009"}
    assert verdict.must == set()


@pytest.mark.parametrize("profile", ["L0", "A0", "A1", "MF", "SC"])
def test_profile_is_detected(builders, tmp_path, profile):
    type_ = "W8A8SC" if profile == "SC" else "W8A8"
    directory = builders.make(profile, type_, "BF16").write(tmp_path / "x")
    assert open_checkpoint(directory).profile.name == profile


def test_options_default_to_values():
    assert Options().level == "values"
