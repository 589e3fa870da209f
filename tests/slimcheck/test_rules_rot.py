"""Each rule of ROT trips on the defect it is about, and alone."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

DOWN0 = "model.layers.0.mlp.down_proj"
Q0 = "model.layers.0.self_attn.q_proj"
H = 32


def rotation(size, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    return q.astype(np.float32)


def rotated(draft):
    """k of down_proj is 64 = 4 · 16, q_proj has 4 heads."""
    parts = {
        f"{DOWN0}.kronecker_rotation_m": rotation(4),
        f"{DOWN0}.kronecker_rotation_n": rotation(16),
        f"{Q0}.heads_rotation": rotation(4),
    }
    draft.tensors |= parts  # they have no entries
    draft.description["metadata"] = {
        "quarot": {
            "kronecker_rotation": {"layers": [DOWN0]},
            "heads_rotation": {"layers": [Q0]},
        }
    }


def with_rotation_of_the_model(draft):
    draft.description["is_rot_used"] = True


def with_scale_alone(draft):
    draft.add("model.layers.0.mlp.fc.div.mul_scale", np.ones(H, np.float32), "FLOAT")


CASES = {
    "listed layer without rotation": (lambda d: d.tensors.pop(f"{Q0}.heads_rotation"), "ROT-001"),
    "one factor of two": (lambda d: d.tensors.pop(f"{DOWN0}.kronecker_rotation_n"), "ROT-001"),
    "not square": (lambda d: d.put("heads_rotation", np.ones((4, 2), "f4")), "ROT-002"),
    "not orthogonal": (
        lambda d: d.put("heads_rotation", 1.02 * rotation(4)),
        "ROT-002",
    ),
    "two equal columns": (
        lambda d: d.put("heads_rotation", np.full((4, 4), 0.5, np.float32)),
        "ROT-002",
    ),
    "not a number": (lambda d: d.edit("heads_rotation", 3, np.nan), "ROT-002"),
    "in integers": (lambda d: d.put("heads_rotation", np.eye(4, dtype=np.int8)), "ROT-002"),
    "factors of another size": (
        lambda d: d.put("kronecker_rotation_n", rotation(8), DOWN0),
        "ROT-002",
    ),
    "rotation of the model left behind": (with_rotation_of_the_model, "ROT-004"),
    "smoothing scale alone": (with_scale_alone, "ROT-005"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    change, expected = CASES[case]
    draft = builders.make("A1", "W8A8_DYNAMIC")
    rotated(draft)
    change(draft)
    assert judge(draft).ids == {expected}


def test_rotations_are_valid(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    rotated(draft)
    assert judge(draft).ids == set()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_rounded_rotation_is_orthogonal_enough(builders, judge, dtype):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    rotated(draft)
    draft.cast("heads_rotation", dtype)
    assert "ROT-002" not in judge(draft).ids


@pytest.mark.parametrize("metadata", [[], {"quarot": 3}, {"quarot": {"heads_rotation": []}}])
def test_metadata_of_another_form_lists_nothing(builders, judge, metadata):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.description["metadata"] = metadata
    assert "ROT-001" not in judge(draft).ids


def test_rotation_of_the_model_is_listed_in_the_index(builders, judge, tmp_path):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    with_rotation_of_the_model(draft)
    draft.tensors["rot.weight"] = rotation(H)
    assert judge(draft).ids == set()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "quant_model_weights.safetensors"}}
    name = "quant_model_weights.safetensors.index.json"
    (tmp_path / "checkpoint" / name).write_text(json.dumps(index))
    assert judge(draft).ids == {"ROT-004"}


def test_smoothing_scale_beside_its_linear_is_valid(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    with_scale_alone(draft)
    draft.add("model.layers.0.mlp.fc.linear.weight", np.ones((4, H), np.float16), "FLOAT")
    assert judge(draft).ids == set()


def with_global_rotation(draft, directory, array):
    draft.description["optional"] = {
        "quarot": {"rotation_map": {"global_rotation": "optional/quarot.safetensors"}}
    }
    (directory / "checkpoint" / "optional").mkdir(parents=True)
    save_file({"global_rotation": array}, directory / "checkpoint/optional/quarot.safetensors")
    draft.config["hidden_size"] = H


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (rotation(H), None),
        (rotation(16), "shape [16, 16], hidden_size 32"),
        (rotation(H)[:16], "F32 [16, 32]"),
        (np.eye(H, dtype=np.float32)[[0, *range(H - 1)]], "column 0 has the squared length 2"),
        (2 * rotation(H), "has the squared length 4"),
        (np.full((H, H), H**-0.5, np.float32), "have the product 1"),
    ],
)
def test_global_rotation_is_orthogonal(builders, judge, tmp_path, array, found):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    with_global_rotation(draft, tmp_path, array)
    verdict = judge(draft)
    assert verdict.ids == ({"ROT-003"} if found else set())
    if found:
        assert found in verdict.one("ROT-003").found
    assert judge(draft, level="layout").ids == set()
