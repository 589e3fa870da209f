"""Sparse directories to parts and back: identity, refusals, atomic output."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcheck.run import run
from slimspec import sparse
from slimspec.checkpoint import CheckpointError, CheckpointWriter, open_checkpoint
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.decompress import decompress_directory
from slimspec.pipeline.shard_split import kv_blocks, query_blocks

BF16 = np.dtype(ml_dtypes.bfloat16)
CONFIG = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 32,
    "torch_dtype": "float16",
    "quantize": "w8a8s",
    "quantization_config": {"group_size": 0},
}
SHAPES = {"q_proj": (48, 48), "k_proj": (24, 48), "v_proj": (24, 48), "o_proj": (48, 48)}
MLP = {"gate_proj": (40, 48), "up_proj": (40, 48), "down_proj": (48, 40)}


class Model:
    """Writes a sparse checkpoint of one layer; attributes may be changed before `write`."""

    def __init__(self, quant_type="W8A8S", profile="A0", dtype=np.float16, bias=("q", "k", "v")):
        self.quant_type = quant_type
        self.profile = profile
        self.dtype = np.dtype(dtype)
        self.bias = bias
        self.config = dict(CONFIG)
        self.floats = ()  # modules left FLOAT
        self.scale = {}  # input_scale by module
        self.input_dtype = self.dtype
        self.twice = False  # norms stored twice, as L0 does
        self.extra = {}  # name -> (array, label)
        self.drop = ()
        self.attention, self.mlp = SHAPES, MLP
        self.rng = np.random.default_rng(7)

    def write(self, path: Path) -> Path:
        with CheckpointWriter(
            path, profile=self.profile, model_quant_type=self.quant_type, overwrite=True
        ) as writer:
            for name, (array, label) in self.tensors().items():
                if name not in self.drop:
                    writer.write(name, array, label)
        if self.config is not None:
            (path / "config.json").write_text(json.dumps(self.config))
        (path / "tokenizer.json").write_text("{}")
        return path

    def tensors(self):
        found = {"model.embed_tokens.weight": (self._float(32, 48), "FLOAT")}
        for parent, shapes in (("self_attn", self.attention), ("mlp", self.mlp)):
            for module, shape in shapes.items():
                found |= self._linear(f"model.layers.0.{parent}.{module}", *shape)
        for norm in ("layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"):
            found[f"model.{norm}.weight"] = (self._float(48), "FLOAT")
            if self.twice:
                for suffix in ("weight", "bias"):
                    found[f"model.{norm}.module.{suffix}"] = (self._float(48), self.quant_type)
        found["lm_head.weight"] = (self._float(32, 48), "FLOAT")
        return found | self.extra

    def _float(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def _words(self, n):
        scales = self.rng.uniform(1e-4, 1e-3, n).astype(np.float32)
        return scales.view(np.int32).astype(np.int64)

    def _linear(self, name, n, k):
        module = name.rpartition(".")[2]
        label = "FLOAT" if module in self.floats else self.quant_type
        if label == "W8A8S":
            q = np.clip(np.rint(self.rng.standard_normal((n, k)) * 4), -127, 127)
            shared = 0.125 if module in ("q_proj", "k_proj", "v_proj") else 0.25
            tensors = {
                "weight": q.astype(np.int8),
                "input_scale": np.array([self.scale.get(module, shared)], self.input_dtype),
                "input_offset": np.array([-5], self.input_dtype),
                "quant_bias": self.rng.integers(-9999, 9999, n).astype(np.int32),
                "deq_scale": self._words(n),
            }
        else:
            tensors = {"weight": self._float(n, k)}
            tensors["weight"][self.rng.random((n, k)) < 0.5] = 0
        found = {f"{name}.{suffix}": (array, label) for suffix, array in tensors.items()}
        if module[0] in self.bias:
            kept = label if label == "W16A16S" else "FLOAT"
            found[f"{name}.bias"] = (self._float(n), kept)
        return found


def assert_same(a: Path, b: Path, but: tuple[str, ...] = ()) -> None:
    first, second = open_checkpoint(a), open_checkpoint(b)
    assert sorted(first.table.names) == sorted(second.table.names)
    for tensor in first.table:
        if not tensor.name.endswith(but) or not but:
            again = second.table.row(second.table.index(tensor.name))
            assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape), tensor.name
            assert first.raw(tensor.name).tobytes() == second.raw(tensor.name).tobytes(), (
                tensor.name
            )
    assert first.description.labels == second.description.labels
    assert first.profile.name == second.profile.name


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


LINEAR = "model.layers.0.mlp.up_proj"


def put(model, suffix, array, label="W8A8S"):
    """Give the up projection another tensor."""
    model.extra[f"{LINEAR}.{suffix}"] = (array, label)


REFUSED = {
    "no rule for a sparse linear": (
        lambda m: m.extra.update(m._linear("model.layers.0.mlp.odd_proj", 8, 8)),
        r"odd_proj\.weight': names of hf have no tensor-parallel rule",
    ),
    "foreign label": (
        lambda m: put(m, "weight", np.zeros((40, 48), np.int8), "W8A16"),
        r"up_proj\.weight': found label W8A16, expected one of W8A8S, FLOAT",
    ),
    "missing tensor": (
        lambda m: setattr(m, "drop", (f"{LINEAR}.deq_scale",)),
        r"up_proj\.deq_scale' is missing",
    ),
    "float deq_scale": (
        lambda m: put(m, "deq_scale", np.ones(40, np.float32)),
        r"up_proj\.deq_scale': found F32, expected I64",
    ),
    "one deq_scale for the matrix": (
        lambda m: put(m, "deq_scale", np.ones(1, np.int64)),
        r"up_proj\.deq_scale': found \[1\], expected \[n\] = \[40\]",
    ),
    "wrong length": (
        lambda m: put(m, "quant_bias", np.ones(39, np.int32)),
        r"up_proj\.quant_bias': found \[39\], expected \[n\] = \[40\]",
    ),
    "offset out of range": (
        lambda m: put(m, "input_offset", np.array([128], np.float16)),
        r"up_proj\.input_offset': found 128\.0, expected an integer in \[-128, 127\]",
    ),
    "offset not integral": (
        lambda m: put(m, "input_offset", np.array([0.5], np.float16)),
        r"up_proj\.input_offset': found 0\.5, expected an integer",
    ),
    "scale below float16": (
        lambda m: put(m, "input_scale", np.array([1e-9], np.float32)),
        r"up_proj\.input_scale': found .*, expected a scale that float16 can hold",
    ),
    "heads without a number": (
        lambda m: m.config.update({"num_attention_heads": "four"}),
        r"num_attention_heads: found four, expected a count",
    ),
    "heads in no groups": (
        lambda m: m.config.update({"num_attention_heads": 3, "num_key_value_heads": 2}),
        r"found 3 and 2, expected a multiple",
    ),
    "rows that are no heads": (
        lambda m: m.config.update({"num_attention_heads": 5, "num_key_value_heads": 5}),
        r"q_proj\.weight': rows of 48: it is no multiple of num_attention_heads = 5",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_source_that_cannot_be_compressed_is_refused_in_one_line(tmp_path, case):
    change, text = REFUSED[case]
    model = Model()
    change(model)
    source = model.write(tmp_path / "s")
    with pytest.raises(CheckpointError, match=text) as refused:
        compress_directory(source, tmp_path / "p", Options())
    assert "\n" not in str(refused.value)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_rows_that_do_not_divide_are_refused(tmp_path):
    model = Model()
    model.config |= {"num_attention_heads": 16, "num_key_value_heads": 8}
    source = model.write(tmp_path / "s")
    with pytest.raises(CheckpointError, match=r"gate_proj\.weight': rows of 40: 40 do not divide"):
        compress_directory(source, tmp_path / "p", Options(tp=16))


def test_other_directories_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="expected a directory of type W8A8S or W16A16S"):
        compress_directory(tmp_path / "empty", tmp_path / "p", Options())
    source = Model().write(tmp_path / "s")
    with pytest.raises(CheckpointError, match="expected part directories"):
        decompress_directory(source, tmp_path / "b")
    compress_directory(source, tmp_path / "p", Options())
    with pytest.raises(CheckpointError, match="found part directories"):
        compress_directory(tmp_path / "p", tmp_path / "q", Options())
    for tp in (0, -1, 1 << 20):
        with pytest.raises(CheckpointError, match=r"tp .*: expected 1 to 1024"):
            compress_directory(source, tmp_path / "q", Options(tp=tp))


def test_output_is_replaced_only_when_asked(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=2))
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        compress_directory(source, tmp_path / "p", Options())
    assert (tmp_path / "p" / "part1-of-2").is_dir()
    compress_directory(source, tmp_path / "p", Options(), overwrite=True)
    assert [p.name for p in (tmp_path / "p").glob("part*")] == ["part0-of-1"]
    with pytest.raises(CheckpointError, match="the output would replace its source"):
        compress_directory(source, source, Options(), overwrite=True)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, CheckpointError("x")])
def test_interrupt_leaves_nothing_behind(tmp_path, stop):
    def progress(nbytes):
        raise stop

    source = Model().write(tmp_path / "s")
    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        compress_directory(source, tmp_path / "p", Options(tp=2), progress=progress)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    compress_directory(source, tmp_path / "p", Options(tp=2))
    with pytest.raises((KeyboardInterrupt, CheckpointError)):
        decompress_directory(tmp_path / "p", tmp_path / "b", progress=progress)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p", "s"]


def test_progress_counts_every_byte(tmp_path):
    source = Model().write(tmp_path / "s")
    seen = []
    compress_directory(source, tmp_path / "p", Options(tp=4, names="mindie"), progress=seen.append)
    assert sum(seen) == open_checkpoint(source).table.nbytes
    seen.clear()
    decompress_directory(tmp_path / "p", tmp_path / "b", progress=seen.append)
    parts = open_checkpoint(tmp_path / "p").parts
    assert sum(seen) == sum(part.checkpoint.table.nbytes for part in parts)


@pytest.fixture
def parts(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=2))
    shutil.rmtree(source)
    return tmp_path / "p"


def rewrite(part: Path, name: str, change) -> None:
    """Change the bytes of one tensor in place."""
    tensor = open_checkpoint(part)
    row = tensor.table.row(tensor.table.index(name))
    file = part / row.file
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[row.begin : row.end] = change(bytes(data[row.begin : row.end]))
    file.write_bytes(data)


def refused(parts: Path, text: str) -> None:
    with pytest.raises(CheckpointError, match=text) as error:
        decompress_directory(parts, parts.parent / "b")
    assert "\n" not in str(error.value)
    assert [p.name for p in parts.parent.iterdir()] == ["p"]


def test_missing_part_is_refused(parts):
    shutil.rmtree(parts / "part0-of-2")
    refused(parts, r"found part1-of-2, expected part0-of-N to part.N-1.-of-N")


def test_parts_of_two_splits_are_refused(parts):
    (parts / "part1-of-2").rename(parts / "part1-of-3")
    refused(parts, "found part0-of-2, part1-of-3, expected")


def test_part_with_other_labels_is_refused(parts):
    path = parts / "part1-of-2" / "quant_model_description.json"
    text = path.read_text().replace(f'"{LINEAR}.weight": "W8A8SC"', f'"{LINEAR}.weight": "FLOAT"')
    path.write_text(text)
    refused(parts, "part1-of-2: 'a label' differs from")


def test_broken_stream_is_named_with_its_part_and_tile(parts):
    def flip(data):
        return bytes([data[0] ^ 0xFF]) + data[1:]

    rewrite(parts / "part1-of-2", f"{LINEAR}.weight", flip)
    refused(parts, rf"part1-of-2: .*tensor '{LINEAR}\.weight': tile 0, engine 0, bit 0: marker")


def test_bias_on_a_later_rank_is_refused(parts):
    name = "model.layers.0.mlp.down_proj.quant_bias"
    rewrite(parts / "part1-of-2", name, lambda data: b"\1" + data[1:])
    refused(parts, r"down_proj\.quant_bias': rank 1 is not zero, so that it would be added again")


def test_tensor_that_must_be_equal_in_all_parts_is_compared(parts):
    rewrite(parts / "part1-of-2", "model.norm.weight", lambda data: b"\1" + data[1:])
    refused(parts, r"model\.norm\.weight': rank 1 differs from rank 0, expected the same in all")


def test_rows_that_are_no_heads_are_refused(parts):
    config = json.loads((parts / "config.json").read_text())
    (parts / "config.json").write_text(json.dumps(config | {"num_attention_heads": 10}))
    refused(parts, "ranks hold 24, 24, expected whole heads: 5, 5")


def test_one_part_opened_by_itself_comes_back(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options())
    decompress_directory(tmp_path / "p" / "part0-of-1", tmp_path / "b")
    assert_same(source, tmp_path / "b")


def test_names_are_found_out_or_stated(tmp_path):
    source = Model().write(tmp_path / "s")
    compress_directory(source, tmp_path / "p", Options(tp=2, names="mindie"))
    decompress_directory(tmp_path / "p", tmp_path / "b", names="mindie")
    assert_same(source, tmp_path / "b")
    with pytest.raises(CheckpointError, match="rank 1 differs from rank 0"):
        decompress_directory(tmp_path / "p", tmp_path / "c", names="hf")


def test_options_default_to_one_plain_part():
    assert replace(Options(), tp=1) == Options() == Options(names="hf")
