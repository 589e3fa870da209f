"""Sparse directories to parts and back: identity, and what a part holds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_model import BF16, MLP, SHAPES, Model, assert_same

from slimcheck.run import run
from slimspec import sparse
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.decompress import decompress_directory
from slimspec.pipeline.shard_split import kv_blocks, query_blocks


@pytest.mark.parametrize("names", ["hf", "mindie"])
@pytest.mark.parametrize("tp", [1, 2, 4])
@pytest.mark.parametrize(
    ("quant_type", "profile"), [("W8A8S", "A0"), ("W8A8S", "L0"), ("W16A16S", "A1")]
)
def test_parts_conform_and_give_the_directory_back(tmp_path, quant_type, profile, tp, names):
    source = Model(quant_type, profile).write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=tp, names=names))
    report = run(tmp_path / "p")
    assert report.conformant, [r.requirement.id for r in report.failed if r.counts]
    decompress_directory(tmp_path / "p", tmp_path / "b")
    assert_same(source, tmp_path / "b")


def can_split(heads, kv, tp):
    try:
        return bool(query_blocks(heads, kv, tp, pad=True) and kv_blocks(heads, kv, tp, pad=True))
    except ValueError:
        return False


@settings(derandomize=True, deadline=None, max_examples=25)
@given(data=st.data())
def test_any_model_comes_back(tmp_path_factory, data):
    """Random sizes (k not a multiple of 32, n below 16), biases, float linears, heads, ranks."""
    draw = data.draw
    kv = draw(st.sampled_from([1, 2, 4]))
    heads = kv * draw(st.sampled_from([1, 2, 3]))
    size, inner = draw(st.integers(1, 6)), draw(st.integers(1, 5)) * 4
    tp = draw(st.sampled_from([1, 2, 4]))
    model = Model(*draw(st.sampled_from([("W8A8S", "A0"), ("W8A8S", "L0"), ("W16A16S", "A1")])))
    model.bias = draw(st.sampled_from([(), ("q", "k", "v"), ("q",), ("o", "d", "g", "u")]))
    floats = [(), ("down_proj",), ("q_proj", "k_proj", "v_proj"), ("up_proj",)]
    model.floats = draw(st.sampled_from(floats))
    model.twice = model.profile == "L0"
    model.config |= {"num_attention_heads": heads, "num_key_value_heads": kv}
    model.attention = {
        "q_proj": (heads * size, 48),
        "k_proj": (kv * size, 48),
        "v_proj": (kv * size, 48),
        "o_proj": (48, heads * size),
    }
    model.mlp = {"gate_proj": (inner, 48), "up_proj": (inner, 48), "down_proj": (48, inner)}
    root = tmp_path_factory.mktemp("any")
    source = model.write(root / "s")
    options = Options(tp=tp, names=draw(st.sampled_from(["hf", "mindie"])), pad_heads=True)
    if not can_split(heads, kv, tp):
        with pytest.raises(CheckpointError, match=r"attention heads|key/value heads"):
            compress_directory(source, root / "p", options)
        return
    compress_directory(source, root / "p", options)
    decompress_directory(root / "p", root / "b")
    assert_same(source, root / "b")


def test_bytes_do_not_depend_on_the_number_of_threads(tmp_path):
    source = Model().write(tmp_path / "s")
    made = []
    for threads in (1, 3):
        out = tmp_path / f"p{threads}"
        compress_directory(source, out, Options(tp=2, threads=threads))
        decompress_directory(out, tmp_path / f"b{threads}", threads=threads)
        files = [*sorted(out.rglob("*")), *sorted((tmp_path / f"b{threads}").rglob("*"))]
        made.append([path.read_bytes() for path in files if path.is_file()])
    assert made[0] == made[1]


def test_part_holds_what_the_rank_needs(tmp_path):
    """Decoded with the codec alone: fused rows in the order q, k, v; columns; zero biases."""
    source = open_checkpoint(Model(bias=("q", "k", "v", "o")).write(tmp_path / "s"))
    compress_directory(source.path, tmp_path / "p", Options(tp=2, names="mindie"))
    layer, attn = "model.layers.0", "transformer.h.0.attn"
    for rank in (0, 1):
        part = open_checkpoint(tmp_path / "p" / f"part{rank}-of-2")
        assert part.description.name == "quant_model_description.json"
        labels = part.description.labels

        def weight(module, part=part):
            return sparse.decompress(
                *(part.tensor(f"{module}.{s}") for s in ("weight", "index", "info"))
            )

        def rows(name, count, rank=rank):
            full = source.tensor(f"{layer}.self_attn.{name}")
            return full[rank * count : (rank + 1) * count]

        expected = np.concatenate(
            [rows("q_proj.weight", 24), rows("k_proj.weight", 12), rows("v_proj.weight", 12)]
        )
        np.testing.assert_array_equal(weight(f"{attn}.c_attn"), expected)
        columns = source.tensor(f"{layer}.self_attn.o_proj.weight")[:, rank * 24 : rank * 24 + 24]
        np.testing.assert_array_equal(weight(f"{attn}.c_proj"), columns)
        bias = source.tensor(f"{layer}.self_attn.o_proj.quant_bias")
        np.testing.assert_array_equal(part.tensor(f"{attn}.c_proj.quant_bias"), bias * (rank == 0))
        assert not rank or not part.tensor(f"{attn}.c_proj.bias").any()
        deq = source.tensor(f"{layer}.self_attn.o_proj.deq_scale")
        np.testing.assert_array_equal(part.tensor(f"{attn}.c_proj.deq_scale"), deq)
        assert part.tensor(f"{attn}.c_attn.input_scale").dtype == np.float16
        assert part.tensor(f"{attn}.c_attn.input_offset").tolist() == [-5]
        assert part.tensor(f"{attn}.c_attn.input_offset").dtype == np.int8
        assert labels[f"{attn}.c_attn.info"] == "W8A8SC"
        assert labels[f"{attn}.c_attn.deq_scale"] == "W8A8S"
        assert labels[f"{attn}.c_attn.bias"] == "FLOAT"
        assert part.tensor("transformer.wte.weight").shape == (32, 24)
        assert part.tensor("lm_head.weight").shape == (16, 48)


def test_root_says_what_the_engine_needs(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options())
    config = json.loads((tmp_path / "p" / "config.json").read_text())
    assert config["quantize"] == "w8a8sc"
    assert config["torch_dtype"] == "float16"
    assert "quantization_config" not in config
    assert (tmp_path / "p" / "tokenizer.json").is_file()
    assert sorted(p.name for p in (tmp_path / "p" / "part0-of-1").iterdir()) == [
        "quant_model_description.json",
        "quant_model_weight_w8a8sc.safetensors",
    ]
    decompress_directory(tmp_path / "p", tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["quantize"] == "w8a8s"


def test_description_has_the_typed_name_where_there_is_no_version(tmp_path):
    compress_directory(Model(profile="L0").write(tmp_path / "s"), tmp_path / "p", Options())
    part = tmp_path / "p" / "part0-of-1"
    assert (part / "quant_model_description_w8a8sc.json").is_file()


def test_float_sparse_part_states_the_rows_of_weights_and_biases(tmp_path):
    source = Model("W16A16S", "A1").write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=2, names="mindie"))
    part = open_checkpoint(tmp_path / "p" / "part1-of-2")
    other = part.description.other
    module = "transformer.h.0.attn.c_attn"
    assert other[f"{module}.weight.outdim"] == 48
    assert other[f"{module}.bias.outdim"] == 48
    assert part.tensor(f"{module}.info").tolist() == [8, 8, 96, 48, 1]
    assert part.description.labels[f"{module}.bias"] == "W16A16S"


def test_group_with_a_float_member_stays_apart(tmp_path):
    model = Model()
    model.floats = ("v_proj",)
    compress_directory(model.write(tmp_path / "s"), tmp_path / "p", Options(names="mindie"))
    names = open_checkpoint(tmp_path / "p" / "part0-of-1").table.names
    assert "transformer.h.0.attn.q_proj.index" in names
    assert "transformer.h.0.attn.v_proj.weight" in names
    assert not any("c_attn" in name for name in names)


def test_scales_that_fused_linears_do_not_share_are_refused(tmp_path):
    model = Model()
    model.scale = {"k_proj": 0.5}
    source = model.write(tmp_path / "s")
    with pytest.raises(CheckpointError, match=r"k_proj\.input_scale.*found 0\.5, expected 0\.125"):
        compress_directory(source, tmp_path / "p", Options(names="mindie"))
    compress_directory(source, tmp_path / "p", Options())


def test_float32_scale_is_rounded_and_counted(tmp_path):
    model = Model()
    model.input_dtype = np.dtype(np.float32)
    model.scale = dict.fromkeys((*SHAPES, *MLP), 0.1)
    source = model.write(tmp_path / "s")
    summary = compress_directory(source, tmp_path / "p", Options())
    assert summary.input_scales.values == summary.input_scales.tensors == 7
    assert 0 < summary.input_scales.largest < 2**-11
    decompress_directory(tmp_path / "p", tmp_path / "b", input_dtype="F32")
    assert_same(source, tmp_path / "b", but=("input_scale",))
    kept = compress_directory(source, tmp_path / "p2", Options(keep_inputs=True))
    assert kept.input_scales.values == 0
    decompress_directory(tmp_path / "p2", tmp_path / "b2")
    assert_same(source, tmp_path / "b2")


def test_kept_input_scales_are_not_converted_with_the_model(tmp_path):
    model = Model(dtype=np.dtype(np.float32))
    model.config["torch_dtype"] = "float32"
    model.input_dtype = np.dtype(np.float32)
    model.scale = dict.fromkeys((*SHAPES, *MLP), 0.1)
    source = model.write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(to_float16=True, keep_inputs=True))
    part = open_checkpoint(tmp_path / "p" / "part0-of-1")
    scales = [name for name in part.table.names if name.endswith(".input_scale")]
    assert scales
    for name in scales:
        assert part.tensor(name).tobytes() == np.float32([0.1]).tobytes()


@pytest.mark.parametrize("dtype", [BF16, np.dtype(np.float32)])
def test_other_model_dtypes_are_converted_only_when_asked(tmp_path, dtype):
    model = Model("W16A16S", "A1", dtype)
    model.config["torch_dtype"] = "bfloat16" if dtype == BF16 else "float32"
    source = model.write(tmp_path / "s")
    with pytest.raises(CheckpointError, match="expected F16; --to-float16 converts it"):
        compress_directory(source, tmp_path / "p", Options(tp=2))
    summary = compress_directory(source, tmp_path / "p", Options(tp=2, to_float16=True))
    part = open_checkpoint(tmp_path / "p" / "part1-of-2")
    assert {t.dtype for t in part.table} == {"F16", "I8", "I64"}
    tag = "BF16" if dtype == BF16 else "F32"
    decompress_directory(tmp_path / "p", tmp_path / "b", dtype=tag)
    first, second = open_checkpoint(source), open_checkpoint(tmp_path / "b")
    changed = 0
    for name in first.table.names:
        before = first.tensor(name).astype(np.float32)
        expected = before.astype(np.float16).astype(dtype)
        assert second.tensor(name).tobytes() == expected.tobytes()
        changed += int((before.astype(np.float16).astype(np.float32) != before).sum())
    assert summary.floats.values == changed


def test_bfloat16_integers_are_refused(tmp_path):
    source = Model(dtype=BF16)
    source.config["torch_dtype"] = "bfloat16"
    with pytest.raises(CheckpointError, match="a bfloat16 model has no W8A8SC form"):
        compress_directory(source.write(tmp_path / "s"), tmp_path / "p", Options(to_float16=True))


def test_heads_that_do_not_divide_are_padded_when_asked(tmp_path):
    model = Model()
    model.config |= {"num_attention_heads": 3, "num_key_value_heads": 1}
    for module, rows in (("k_proj", 16), ("v_proj", 16)):
        name = f"model.layers.0.self_attn.{module}"
        model.extra |= model._linear(name, rows, 48)
    source = model.write(tmp_path / "s")
    with pytest.raises(CheckpointError, match=r"q_proj\.weight': rows of 48: 3 attention heads do"):
        compress_directory(source, tmp_path / "p", Options(tp=2))
    assert not (tmp_path / "p").exists()
    compress_directory(source, tmp_path / "p", Options(tp=2, pad_heads=True))
    part = open_checkpoint(tmp_path / "p" / "part0-of-2")
    assert part.tensor("model.layers.0.self_attn.q_proj.info")[3] == 32
    assert part.tensor("model.layers.0.self_attn.k_proj.info")[3] == 16
    decompress_directory(tmp_path / "p", tmp_path / "b")
    assert_same(source, tmp_path / "b")


def test_without_a_config_rows_are_split_evenly_and_a_note_says_so(tmp_path):
    model = Model()
    model.config = None
    source = model.write(tmp_path / "s")
    summary = compress_directory(source, tmp_path / "p", Options(tp=4))
    assert any("no config.json" in note for note in summary.notes)
    decompress_directory(tmp_path / "p", tmp_path / "b")
    assert_same(source, tmp_path / "b")
    with pytest.raises(CheckpointError, match=r"config\.json states none"):
        compress_directory(source, tmp_path / "q", Options(names="mindie"))
