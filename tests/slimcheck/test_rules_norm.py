"""Each rule of NORM trips on the defect it is about, and alone."""

import numpy as np
import pytest

NORM = "model.layers.0.input_layernorm"
A1, A0, L0 = {"profile": "A1"}, {"profile": "A0"}, {"profile": "L0"}
SC = {"profile": "SC", "type_": "W8A8SC"}


def with_bias(draft, dtype=np.float32, size=32, module=NORM):
    draft.add(f"{module}.bias", np.full(size, 0.5, dtype), "FLOAT")


def with_copy(draft, label="W8A8"):
    """As outlier suppression m1 to m5 leaves a norm in the older form."""
    with_bias(draft)
    for suffix in ("weight", "bias"):
        draft.add(f"{NORM}.module.{suffix}", draft.tensors[f"{NORM}.{suffix}"].copy(), label)


def with_other_copy(suffix, change):
    def apply(draft):
        with_copy(draft)
        draft.put(suffix, change(draft.tensors[f"{NORM}.{suffix}"]), NORM)

    return apply


def added(array):
    array[5] += 1
    return array


def stored_alone(draft):
    with_bias(draft)
    del draft.description[f"{NORM}.bias"]


CASES = {
    "bias too short": (A1, lambda d: with_bias(d, size=31), {"NORM-001"}),
    "bias in integers": (A1, lambda d: with_bias(d, np.int32), {"NORM-001"}),
    "bias alone": (A1, lambda d: with_bias(d, module="model.final_norm"), {"NORM-001"}),
    "another weight in the copy": (L0, with_other_copy("module.weight", added), {"NORM-002"}),
    "another bias in the copy": (L0, with_other_copy("module.bias", added), {"NORM-002"}),
    "copy cut off": (
        L0,
        with_other_copy("module.weight", lambda a: a[:-1]),
        {"NORM-002"},
    ),
    "copy without its norm": (
        L0,
        lambda d: d.add("model.last_norm.module.weight", np.ones(4, "f2"), "W8A8"),
        {"NORM-002"},
    ),
    "copy in the newer tool": (
        A1,
        lambda d: d.add(f"{NORM}.module.weight", np.ones(32, "f2"), "FLOAT"),
        {"NORM-003"},
    ),
    "copy in ascendV1": (
        A0,
        lambda d: d.add(f"{NORM}.module.weight", np.ones(32, "f2"), "FLOAT"),
        {"NORM-003"},
    ),
    "bias without an entry": (A1, stored_alone, {"NORM-004", "DESC-020"}),
    "entry without a bias": (
        A1,
        lambda d: d.description.update({f"{NORM}.bias": "FLOAT"}),
        {"NORM-004", "DESC-021"},
    ),
    "name of the older form in a part": (
        SC,
        lambda d: d.add(f"{NORM}.module.weight", np.ones(32, "f2"), "FLOAT"),
        {"NORM-005"},
    ),
    "quantized norm": (
        A1,
        lambda d: d.description.update({f"{NORM}.weight": "W8A8"}),
        {"NORM-006"},
    ),
    "quantized bias of a norm": (
        A1,
        lambda d: with_bias(d) or d.description.update({f"{NORM}.bias": "W8A8"}),
        {"NORM-006"},
    ),
    "copy with another label": (L0, lambda d: with_copy(d, "W8A16"), {"NORM-006"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make(**{"type_": "W8A8", **kwargs})
    change(draft)
    assert judge(draft).ids == expected


@pytest.mark.parametrize(
    ("kwargs", "change"),
    [
        (A1, with_bias),
        (L0, with_copy),
        (L0, lambda d: with_copy(d, "FLOAT")),
        (SC, lambda d: d.add(f"{NORM}.anti.weight", np.ones(32, "f2"), "W8A8SC")),
        (SC, lambda d: d.add(f"{NORM}.ori.weight", np.ones(32, "f2"), "FLOAT")),
    ],
)
def test_forms_of_outlier_suppression_are_valid(builders, judge, kwargs, change):
    draft = builders.make(**{"type_": "W8A8", **kwargs})
    change(draft)
    assert judge(draft).ids == set()


def test_undescribed_copies_of_the_script_are_tolerated(builders, judge):
    draft = builders.make("A0", "W8A8")
    draft.tensors[f"{NORM}.module.weight"] = np.ones(32, np.float16)
    assert judge(draft).ids == set()


def test_first_other_number_is_named(builders, judge):
    draft = builders.make("L0", "W8A8")
    with_other_copy("module.bias", added)(draft)
    group = judge(draft).one("NORM-002")
    assert group.found == "element [5]: 1.5 instead of 0.5; 1 of 32 elements"


def test_same_not_a_number_is_a_copy(builders, judge):
    draft = builders.make("L0", "W8A8")
    with_copy(draft)
    for module in (NORM, f"{NORM}.module"):
        draft.edit("weight", 3, np.nan, module)
    assert judge(draft).ids == {"NUM-001"}
