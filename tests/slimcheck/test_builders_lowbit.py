"""What the low-bit builder makes is valid: the rules say nothing but what engines lack."""

import pytest

ENGINES = {  # said of every valid directory of the type, for one engine
    "W4A16": {"W4A16-011"},
    "WFP8AFP8_DYNAMIC": {"MX-009"},
}
VALID = [
    *(
        ("W4A16", profile, d, g)
        for profile in ("L0", "A0")
        for d in ("F16", "BF16")
        for g in (0, 32)
    ),
    *(("W4A8_DYNAMIC", profile, "BF16", 32) for profile in ("L0", "A0")),
    ("W4A8_DYNAMIC", "A1", "BF16", 0),
    *(("W4A4_DYNAMIC", "A1", d, g) for d in ("F16", "BF16") for g in (0, 32)),
    *(("W8A8_MXFP8", profile, "BF16", 0) for profile in ("A1", "MF")),
    ("W4A8_MXFP", "A1", "BF16", 0),
    *(("W4A4_MXFP4", profile, "F16", 0) for profile in ("A1", "MF")),
    *(("W4A4_MXFP4_DUALSCALE", profile, "BF16", 0) for profile in ("A1", "MF")),
    ("WFP8AFP8_DYNAMIC", "A1", "F16", 0),
]


@pytest.mark.parametrize(("type_", "profile", "dtype", "group"), VALID)
def test_valid_directory_is_clean(lowbit, judge, type_, profile, dtype, group):
    verdict = judge(lowbit.make(profile, type_, dtype, group=group))
    named = ENGINES.get(type_, set())
    if type_ == "W4A8_DYNAMIC":
        named = {"L0": set(), "A0": {"W4A8-014"}, "A1": {"W4A8-018"}}[profile]
    assert verdict.ids == named
    assert verdict.must == set()


@pytest.mark.parametrize("type_", ["W4A4_FLATQUANT_DYNAMIC", "W8A8_DYNAMIC"])
@pytest.mark.parametrize("profile", ["L0", "A0", "A1"])
def test_valid_flatquant_is_clean(lowbit, judge, profile, type_):
    if profile == "A1" and type_.startswith("W4A4"):
        type_ = "W4A4_DYNAMIC"  # the same label by another way
    elif profile != "A1" and type_.startswith("W8A8"):
        pytest.skip("the older tool labels such transforms in a way of its own")
    draft = lowbit.make(profile, type_, wrapper="FLATQUANT")
    assert judge(draft).ids == set()


@pytest.mark.parametrize(
    ("profile", "wrapper"), [("A1", "SVD"), ("MF", "SVD"), ("A1", "FLATQUANT")]
)
def test_valid_wrapped_mxfp4_is_clean(lowbit, judge, profile, wrapper):
    draft = lowbit.make(profile, "W4A4_MXFP4", wrapper=wrapper)
    if wrapper == "FLATQUANT":
        draft.description["max_supported_tp"] = 1
    assert judge(draft).ids == set()


@pytest.mark.parametrize("profile", ["L0", "A0", "A1"])
@pytest.mark.parametrize("beside", ["kv", "fa"])
def test_valid_attention_is_clean(lowbit, judge, profile, beside):
    verdict = judge(lowbit.make(profile, "W8A8_DYNAMIC", "F16", **{beside: True}))
    older = beside == "fa" and profile != "A1"
    assert verdict.ids == ({"DESC-017"} if older else set())


def test_valid_experts_are_clean(lowbit, judge):
    dense = {"W4A8-018"}  # the attention and the first layer
    assert judge(lowbit.make("A1", "W4A8_DYNAMIC", experts=2)).ids == dense
