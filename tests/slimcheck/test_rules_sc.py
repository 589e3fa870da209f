"""Each rule of SC trips on the defect it is about, and alone."""

import numpy as np
import pytest

from slimcheck.engine import Options
from slimcheck.engine import judge as run_judge
from slimspec.checkpoint import open_checkpoint

Q0 = "model.layers.0.self_attn.q_proj"
DOWN0 = "model.layers.0.mlp.down_proj"
NORM = "model.layers.0.input_layernorm"
INT8 = {"type_": "W8A8SC"}
FLOAT = {"type_": "W16A16SC"}


def says(**entries):
    return lambda draft: draft.description.update(entries)


def as_nz(draft):
    draft.put("weight", np.zeros((1, 2, 16, 32), np.int8))
    draft.put("index", np.zeros((0, 0), np.int8))


def with_stream_at_norm(draft):
    for suffix in ("weight", "index", "info"):
        draft.tensors.pop(f"{NORM}.{suffix}", None)
        draft.add(f"{NORM}.{suffix}", draft.tensors[f"{Q0}.{suffix}"], "W8A8SC")
    for suffix in ("input_scale", "input_offset", "quant_bias", "deq_scale"):
        draft.add(f"{NORM}.{suffix}", draft.tensors[f"{Q0}.{suffix}"], "W8A8S")


def with_index_at_head(draft):
    draft.add("lm_head.index", np.zeros(8, np.int8), "W8A8SC")


def left_dense(draft):
    draft.put("weight", np.zeros((32, 32), np.int8))
    draft.relabel(Q0, "W8A8S")
    draft.drop(f"{Q0}.index", f"{Q0}.info")


def longer_than_raw(draft):
    draft.put("weight", np.zeros(1024 + 128, np.int8))


def raw(draft):
    """Store the only tile of q_proj as it is: two blocks of 512 bytes, 8 units of 128."""
    draft.put("weight", np.zeros(1024, np.int8))
    draft.put("index", np.array([8, 0, 0, 0, 0, 0, 0, 0], np.int8))


CASES = {
    "float weight": (INT8, lambda d: d.cast("weight", np.float16), {"SC-001"}),
    "weight in rows": (
        INT8,
        lambda d: d.put("weight", np.zeros((4, 128), np.int8)),
        {"SC-001"},
    ),
    "weight cut off": (
        INT8,
        lambda d: d.put("weight", d.tensors[f"{Q0}.weight"][:-1]),
        {"SC-001"},
    ),
    "empty weight": (INT8, lambda d: d.put("weight", np.zeros(0, np.int8)), {"SC-001"}),
    "index in bytes without sign": (INT8, lambda d: d.cast("index", np.uint8), {"SC-002"}),
    "index in rows": (INT8, lambda d: d.put("index", np.ones((1, 8), np.int8)), {"SC-002"}),
    "index of two tiles": (INT8, lambda d: d.put("index", np.ones(16, np.int8)), {"SC-002"}),
    "info in int32": (INT8, lambda d: d.cast("info", np.int32), {"SC-003"}),
    "info of four": (INT8, lambda d: d.put("info", np.arange(4)), {"SC-003"}),
    "another tiling": (INT8, lambda d: d.edit("info", 0, 4), {"SC-004"}),
    "no columns": (INT8, lambda d: d.edit("info", 2, 0), {"SC-005"}),
    "negative rows": (INT8, lambda d: d.edit("info", 3, -32), {"SC-005"}),
    "absurd rows": (INT8, lambda d: d.edit("info", 3, 2**62), {"SC-005", "SC-006"}),
    "another direction": (INT8, lambda d: d.edit("info", 4, 0), {"SC-005"}),
    "odd number of bytes": (FLOAT, lambda d: d.edit("info", 2, 63), {"SC-005", "SC-009"}),
    "more rows than scales": (INT8, lambda d: d.edit("info", 3, 31), {"SC-006", "SC-009"}),
    "longer than raw": (INT8, longer_than_raw, {"SC-007"}),
    "nothing gained": (INT8, raw, {"SC-008"}),
    "input_scale in integers": (
        INT8,
        lambda d: d.put("input_scale", np.ones(1, np.int32)),
        {"SC-010"},
    ),
    "input_scale in bfloat16": (
        INT8,
        lambda d: d.cast("input_scale", "bfloat16"),
        {"SC-010", "NUM-005"},
    ),
    "input_offset in integers": (INT8, lambda d: d.cast("input_offset", np.int32), {"W8A8-006"}),
    "quant_bias in int64": (INT8, lambda d: d.cast("quant_bias", np.int64), {"SC-011"}),
    "deq_scale too short": (
        INT8,
        lambda d: d.put("deq_scale", np.full(31, 0x3A000000)),
        {"SC-011"},
    ),
    "weight with the label of its companions": (
        INT8,
        lambda d: d.relabel(Q0, "W8A8S") or says(**{f"{Q0}.weight": "W8A8SC"})(d),
        {"SC-012"},
    ),
    "index labelled FLOAT": (FLOAT, says(**{f"{Q0}.index": "FLOAT"}), {"SC-012"}),
    "a norm": (INT8, with_stream_at_norm, {"SC-013", "NORM-006"}),
    "left in NZ": (INT8, as_nz, {"SC-014"}),
    "weight_scale": (
        INT8,
        lambda d: d.add(f"{Q0}.weight_scale", np.ones((32, 1), np.float16), "W8A8S"),
        {"SC-015"},
    ),
    "quant_bias of a float weight": (
        FLOAT,
        lambda d: d.add(f"{Q0}.quant_bias", np.zeros(32, np.int32), "W16A16SC"),
        {"SC-015"},
    ),
    "bias of another size": (INT8, lambda d: d.put("bias", np.zeros(31, "f2")), {"SC-015"}),
    "another outdim": (FLOAT, says(**{f"{Q0}.weight.outdim": 31}), {"SC-016"}),
    "bias without outdim": (
        FLOAT,
        lambda d: d.description.pop(f"{Q0}.bias.outdim"),
        {"SC-017"},
    ),
    "left dense": (INT8, left_dense, {"SC-018", "PACK-001"}),
    "index beside a float weight": (INT8, with_index_at_head, {"SC-018", "DESC-022"}),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_defect_trips_its_rule_alone(builders, judge, case):
    kwargs, change, expected = CASES[case]
    draft = builders.make("SC", **kwargs)
    change(draft)
    assert judge(draft).ids == expected


@pytest.mark.parametrize("type_", ["W8A8SC", "W16A16SC"])
def test_part_opened_by_itself_is_judged_as_its_directory(builders, tmp_path, type_):
    directory = builders.make("SC", type_).write(tmp_path / "x") / "part0-of-1"
    results = run_judge(open_checkpoint(directory), Options())
    failed = {r.requirement.id for r in results if r.groups}
    assert failed == {"DIR-011", "DIR-012"}  # config.json and the tokenizer lie in the parent


def flip(draft, suffix, at, bit=1):
    array = draft.tensors[f"{DOWN0}.{suffix}"].copy()
    array.view(np.uint8)[at] ^= bit
    draft.put(suffix, array, DOWN0)


@pytest.mark.parametrize(
    ("suffix", "at", "found"),
    [
        ("index", 2, "tile 0, bit 16: "),  # reserved
        ("weight", 0, "tile 0, engine 0, bit 0: "),  # marker of the mode
        ("weight", 4, "tile 0, engine 0, bit 32: "),  # a checksum
    ],
)
def test_flipped_bit_is_placed(builders, judge, suffix, at, found):
    draft = builders.make("SC", "W8A8SC")
    flip(draft, suffix, at)
    verdict = judge(draft)
    assert verdict.ids == {"SC-009"}
    group = verdict.one("SC-009")
    assert group.found.startswith(found)
    assert group.tensors == [f"{DOWN0}.{suffix}"]


def test_flipped_bit_of_a_packet_names_tile_engine_packet_and_bit(builders, judge):
    draft = builders.make("SC", "W8A8SC")
    stream = draft.tensors[f"{DOWN0}.weight"]
    last = len(stream) - 32 + 31  # end of the fourth stream: padding or the last code word
    flip(draft, "weight", last, 0x80)
    groups = judge(draft).results["SC-009"].groups
    assert any("tile 0, engine 3" in group.found for group in groups)


def test_stub_of_an_index_is_called_so(builders, judge):
    draft = builders.make("SC", "W8A8SC")
    draft.put("index", np.zeros(8, np.int8))
    verdict = judge(draft)
    assert verdict.ids == {"SC-009"}
    assert verdict.one("SC-009").found == "all zero"


def test_streams_of_the_other_mode_are_noticed(builders, judge):
    draft = builders.make("SC", "W8A8SC")
    other = builders.make("SC", "W16A16SC")
    for suffix in ("weight", "index"):
        draft.put(suffix, other.tensors[f"{Q0}.{suffix}"])
    draft.edit("info", 2, 64)
    assert judge(draft).ids == {"SC-009"}


def test_layout_level_reads_no_element(builders, judge):
    draft = builders.make("SC", "W8A8SC")
    draft.put("index", np.zeros(8, np.int8))
    draft.put("info", np.zeros(5, np.int64))
    assert judge(draft, level="layout").ids == set()


def two_parts(builders, tmp_path, change):
    for rank in range(2):
        draft = builders.make("SC", "W8A8SC")
        draft.rank, draft.world = rank, 2
        if rank:
            change(draft)
        draft.write(tmp_path / "parts")
    return run_judge(open_checkpoint(tmp_path / "parts"), Options())


PARTS = {
    "a tensor less": (lambda d: d.drop(f"{Q0}.bias"), {"SC-019"}),
    "a tensor more": (
        lambda d: d.add("model.extra.weight", np.ones(4, "f2"), "FLOAT"),
        {"SC-019"},
    ),
    "another dtype": (lambda d: d.cast("input_scale", np.float32), {"SC-019"}),
    "another version": (says(version="0.0.0"), {"SC-020"}),
    "the same": (lambda d: None, set()),
}


@pytest.mark.parametrize("case", PARTS, ids=str)
def test_parts_go_together(builders, tmp_path, case):
    change, expected = PARTS[case]
    results = two_parts(builders, tmp_path, change)
    assert {r.requirement.id for r in results if r.groups} == expected
