"""Each rule of TP trips on the defect it is about, and alone; without --tp they keep silent."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from slimcheck.engine import Options, Status
from slimcheck.engine import judge as run_judge
from slimcheck.run import RunError, run
from slimspec.checkpoint import open_checkpoint

Q0 = "model.layers.0.self_attn.q_proj"
DOWN0 = "model.layers.0.mlp.down_proj"
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


def test_sizes_that_work_are_named(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.config |= HEADS
    assert judge(draft, tp=4).ids == set()  # two ranks share a key/value head
    verdict = judge(draft, tp=8)
    assert verdict.ids == {"TP-001"}
    assert verdict.must == set()
    group = verdict.one("TP-001")
    assert group.found == "4 attention heads, 2 key/value heads, --tp 8"
    assert group.expected == "works --tp 1, 2, 4"


@pytest.mark.parametrize(
    ("tp", "found"), [(8, None), (48, "n = 64, --tp 48"), (128, "n = 64, --tp 128")]
)
def test_rows_and_columns_are_cut_evenly(builders, judge, tp, found):
    draft = builders.make("A1", "W8A8_DYNAMIC")  # config.json states no heads
    groups = judge(draft, tp=tp).results.get("TP-001")
    assert (found in [group.found for group in groups.groups]) if groups else found is None


def test_without_a_size_the_rules_do_not_apply(builders, tmp_path):
    directory = builders.make("A1", "W8A8_DYNAMIC").write(tmp_path / "x")
    results = run_judge(open_checkpoint(directory), Options())
    asked = {f"TP-00{i}" for i in range(1, 6)}
    for result in results:
        if result.requirement.id in asked:
            assert result.status is Status.NOT_APPLICABLE


def test_key_value_heads_repeat_whole_or_not_at_all(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC")
    draft.config |= HEADS | {"num_attention_heads": 12, "num_key_value_heads": 3}
    verdict = judge(draft, tp=4, select=("TP-*",))
    assert verdict.ids == {"TP-001"}
    (group,) = verdict.results["TP-001"].groups
    assert {name.split(".")[-2] for name in group.tensors} == {"k_proj", "v_proj"}
    assert group.expected == "works --tp 1"


def test_slices_of_scale_bias_are_shared(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    assert judge(draft, tp=16, select=("TP-002",)).ids == set()
    verdict = judge(draft, tp=32, select=("TP-002",), consumers=("vllm-ascend",))
    assert verdict.must == {"TP-002"}
    assert verdict.results["TP-002"].groups[0].expected == "works --tp 1, 2, 4, 8, 16"
    assert {n.split(".")[-2] for g in verdict.results["TP-002"].groups for n in g.tensors} == {
        "o_proj",
        "down_proj",
    }


def test_groups_stay_whole(builders, judge):
    draft = builders.make("A1", "W8A8_DYNAMIC", group=16)
    assert judge(draft, tp=4).ids == set()  # k of down_proj is 64
    verdict = judge(draft, tp=8, consumers=("mindie",))
    assert verdict.ids == verdict.must == {"TP-003"}
    group = verdict.one("TP-003")
    assert group.found == "k = 64 in groups of 16, --tp 8"
    assert group.expected == "works --tp 1, 2, 4"


def test_rows_in_pairs_stay_whole(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC")
    verdict = judge(draft, tp=64, select=("TP-003",))
    found = {group.found for group in verdict.results["TP-003"].groups}
    assert found == {"n = 64 in pairs, --tp 64", "n = 32 in pairs, --tp 64"}
    assert judge(draft, tp=16, select=("TP-003",)).ids == set()


def test_attention_scales_are_cut_by_heads(lowbit, judge):
    draft = lowbit.make("A1", "W4A8_DYNAMIC", fa=True)  # 4 and 2 heads
    assert judge(draft, tp=4, select=("TP-*", "FA-005")).ids == set()
    verdict = judge(draft, tp=8, select=("TP-004", "FA-005"))
    assert verdict.ids == {"TP-004", "FA-005"}  # the same of config.json
    assert {group.found for group in verdict.results["TP-004"].groups} == {
        "4 heads in fa_q, --tp 8"
    }
    groups = judge(draft, tp=3, select=("TP-004",)).results["TP-004"].groups
    assert "2 heads in fa_k, --tp 3" in {group.found for group in groups}


def ids(directory, **options):
    results = run_judge(open_checkpoint(directory), Options(**options))
    return {
        r.requirement.id for r in results if r.groups and r.requirement.id[:3] in ("TP-", "DIR")
    }


def test_parts_are_served_with_their_number(builders, tmp_path):
    directory = builders.make("SC", "W8A8SC").write(tmp_path / "x")
    assert ids(directory, tp=1) == set()
    assert ids(directory, tp=2) == {"DIR-016"}
    assert ids(directory) == set()


def test_part_by_itself_tells_its_number(builders, tmp_path):
    part = builders.make("SC", "W8A8SC").write(tmp_path / "x") / "part0-of-1"
    alone = {"DIR-011", "DIR-012"}  # config.json and the tokenizer lie in the parent
    assert ids(part, tp=1) == alone
    assert ids(part, tp=2) == alone | {"TP-005"}


def test_sharded_state_is_served_with_its_number(builders, tmp_path):
    directory = builders.make("A1", "W8A8").write(tmp_path / "x")
    (directory / "quant_model_weights.safetensors").rename(
        directory / "model-rank-0-part-0.safetensors"
    )
    assert ids(directory, tp=1) == set()
    assert ids(directory, tp=2) == {"TP-005"}


def test_offline_shards_are_served_with_their_number(builders, tmp_path):
    directory = builders.make("A1", "W8A8").write(tmp_path / "x")
    option = {"dp": 1, "tp": 2, "moe_tp": 1, "moe_ep": 1}
    stated = {"world_size": 2, "parallel_option": option, "model_sharded": {}}
    (directory / "model_sharded_metadata.json").write_text(json.dumps(stated))
    assert "TP-005" not in ids(directory, tp=2)
    assert "TP-005" in ids(directory, tp=4)
    stated["parallel_option"] = {"tp": "2"}
    (directory / "model_sharded_metadata.json").write_text(json.dumps(stated))
    assert "TP-005" not in ids(directory, tp=4)


@pytest.mark.parametrize("ranks", [2, 8])
def test_bias_that_was_divided_is_recognised(builders, judge, ranks):
    draft = builders.make("A0", "W8A8")
    whole = draft.tensors[f"{DOWN0}.quant_bias"]
    draft.put("quant_bias", np.rint(whole / ranks).astype(np.int32), DOWN0)
    verdict = judge(draft)
    assert verdict.ids == {"W8A8-012", "TP-006"}  # it no longer follows its formula
    assert verdict.one("TP-006").found.startswith(f"1/{ranks} of ")


def test_wrong_bias_is_not_a_divided_one(builders, judge):
    draft = builders.make("A0", "W8A8")
    draft.edit("quant_bias", 5, 12345, DOWN0)
    assert judge(draft).ids == {"W8A8-012"}
    column_parallel = builders.make("A0", "W8A8")
    column_parallel.tensors[f"{Q0}.quant_bias"] //= 2
    assert judge(column_parallel).ids == {"W8A8-012"}


def two_parts(builders, tmp_path, change):
    for rank in range(2):
        draft = builders.make("SC", "W8A8SC")
        draft.rank, draft.world = rank, 2
        draft.config["hidden_size"] = 32
        change(draft, rank)
        draft.write(tmp_path / "parts")
    return ids(tmp_path / "parts")


def cut_differently(draft, rank):
    """The second part has fewer rows of q_proj."""
    if rank:
        for suffix in ("weight", "index", "info", "quant_bias", "deq_scale"):
            name = Q0.replace("q_proj", "k_proj")
            draft.put(suffix, draft.tensors[f"{name}.{suffix}"])
        draft.put("bias", np.zeros(16, np.float16))


def of_another_model(draft, rank):
    draft.config["hidden_size"] = 64


def fused_names(draft, rank):
    """q_proj of layer 0 under the name of the engine; what it reads is the hidden size."""
    of_another_model(draft, rank)
    kept = {n for n in draft.tensors if n.startswith(Q0 + ".")}
    for name in list(draft.tensors):
        if name in kept:
            engine = name.replace(Q0, "transformer.h.0.attn.c_attn")
            draft.add(engine, draft.tensors[name], draft.description[name])
        draft.drop(name)


def test_parts_of_one_cut_are_valid(builders, tmp_path):
    assert two_parts(builders, tmp_path, lambda draft, rank: None) == set()


def test_info_that_is_stored_twice_is_read_once(builders, tmp_path):
    two_parts(builders, tmp_path, lambda draft, rank: None)
    part = sorted(path for path in (tmp_path / "parts").iterdir() if path.is_dir())[0]
    save_file({f"{Q0}.info": np.zeros((5, 2), np.int8)}, part / "a.safetensors")
    assert "DIR-009" in ids(tmp_path / "parts")


@pytest.mark.parametrize("change", [cut_differently, of_another_model, fused_names])
def test_parts_that_do_not_go_together(builders, tmp_path, change):
    assert two_parts(builders, tmp_path, change) == {"TP-007"}


@pytest.mark.parametrize("tp", [0, -1, 10**9])
def test_number_of_ranks_is_a_number(builders, tmp_path, tp):
    directory = builders.make("A1", "W8A8").write(tmp_path / "x")
    with pytest.raises(RunError, match=f"--tp {tp}: expected a number of ranks"):
        run(directory, tp=tp)
