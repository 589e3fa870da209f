"""Named profiles."""

import inspect

import ml_dtypes
import numpy as np
import pytest

import slimspec.attention
import slimspec.matmul
from slimspec.matmul import PROFILES, Numerics, profile, to_output

F16, F32, BF16 = np.float16, np.float32, ml_dtypes.bfloat16
HARD = F32([65519, 65520, -65520, np.inf, -np.inf, np.nan, 1e-9])


def test_the_three_profiles_exist():
    assert set(PROFILES) == {"canonical", "sat", "k310p"}
    assert profile("sat") is PROFILES["sat"]
    own = Numerics("own", "saturate", "div", "k310p")
    assert profile(own) is own
    with pytest.raises(ValueError, match="canonical, sat, k310p"):
        profile("fast")


def test_canonical_overflows_to_infinity_and_sat_to_the_largest():
    assert to_output(HARD, F16).view(np.uint16).tolist() == [
        0x7BFF, 0x7C00, 0xFC00, 0x7C00, 0xFC00, 0x7E00, 0,
    ]  # fmt: skip
    assert to_output(HARD, F16, "sat").view(np.uint16).tolist() == [
        0x7BFF, 0x7BFF, 0xFBFF, 0x7BFF, 0xFBFF, 0, 0,
    ]  # fmt: skip


def test_bf16_and_float32_follow_ieee_in_every_profile():
    with np.errstate(invalid="ignore"):
        expected = HARD.astype(BF16)
    for name in PROFILES:
        got = to_output(HARD, BF16, name)
        assert got.dtype == BF16
        assert np.array_equal(got.astype(F32), expected.astype(F32), equal_nan=True)
        assert to_output(HARD, F32, name).tobytes() == HARD.tobytes()


NO_PROFILE = {  # functions with a form of their own, and why no profile chooses it
    "quantize_dynamic_asym": "the form of the 310P is not public",
    "quantize_kv": "the cache has its own two forms, named by `form`",
}


@pytest.mark.parametrize("package", [slimspec.matmul, slimspec.attention])
def test_whatever_a_profile_can_change_takes_one(package):
    """A float result of a chosen dtype, or a variant of the quantizers that profiles name."""
    for name in package.__all__:
        made = getattr(package, name)
        if not inspect.isfunction(made) or name in NO_PROFILE:
            continue
        parameters = inspect.signature(made).parameters.keys()
        if parameters & {"out_dtype", "variant", "form", "dtype"}:
            assert "numerics" in parameters, name
