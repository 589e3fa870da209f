"""No edit of a directory makes the judge raise: it reports, or refuses in one line."""

import json
import struct
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slimcheck.engine import Options
from slimcheck.engine import judge as run_judge
from slimspec.checkpoint import CheckpointError, open_checkpoint

KINDS = [
    ("A1", "W8A8"), ("A0", "W8A8"), ("L0", "W8A8"), ("MF", "W8A8"), ("A0", "W8A8_TIMESTEP"),
    ("A1", "W8A8_MIX"), ("A0", "W8A8S"), ("SC", "W8A8SC"), ("A1", "W8A8_DYNAMIC"), ("A0", "W8A16"),
    ("A1", "W16A16S"), ("SC", "W16A16SC"),
]  # fmt: skip
LOWBIT = [  # arguments of builders_lowbit.make
    {"profile": "A0", "type_": "W4A16", "group": 32},
    {"profile": "L0", "type_": "W4A16", "fa": True},
    {"profile": "A0", "type_": "W4A8_DYNAMIC", "group": 32, "kv": True},
    {"profile": "A1", "type_": "W4A8_DYNAMIC", "rename": "kv_b_proj"},
    {"profile": "A1", "type_": "W4A4_DYNAMIC", "wrapper": "FLATQUANT", "kv": True},
    {"profile": "A1", "type_": "W4A4_MXFP4", "wrapper": "FLATQUANT"},
    {"profile": "MF", "type_": "W4A4_MXFP4", "wrapper": "SVD", "fa": True},
    {"profile": "A1", "type_": "W4A4_MXFP4_DUALSCALE"},
    {"profile": "A1", "type_": "W8A8_MXFP8", "fa": True},
    {"profile": "A1", "type_": "WFP8AFP8_DYNAMIC"},
]
TAGS = [
    "BOOL", "U8", "I8", "F8_E4M3", "F8_E8M0", "F4", "I16", "F16", "BF16", "I32", "F32", "C64",
    "F64", "I64", "U64",
]  # fmt: skip
PROFILES = ["L0", "A0", "A1", "MF", "SC", "SH310", "OFF", "CTS", None]

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4
)
labels = st.sampled_from(
    ["FLOAT", "W8A8", "W8A8_DYNAMIC", "W8A8_MIX", "W8A16", "W4A16", "W8A8S", "W8A8SC", "NF4", "C8",
     "W4A8_DYNAMIC", "W8A8_MXFP8", "FAQuant", "norm", "reduce", "FLOAT_FLATQUANT", "W8A8_SVD", "",
     "W4A4_MXFP4_FLATQUANT", "W4A4_FLATQUANT_DYNAMIC", "W4A4_MXFP4_DUALSCALE"]
)  # fmt: skip
shapes = st.lists(st.sampled_from([0, 1, 2, 3, 16, 32, 64, 100]), max_size=3)
keys = st.sampled_from(
    ["model_quant_type", "version", "group_size", "kv_cache_type", "kv_quant_type", "metadata",
     "fa_quant_type", "reduce_quant_type", "max_supported_tp", "optional", "thinker.version",
     "a.quant_type", "", "x", "q_proj.kv_cache_scale",
     "model.layers.0.mlp.experts.7.up_proj.weight"]
)  # fmt: skip
edits = st.lists(
    st.tuples(
        st.sampled_from(
            ["drop", "label", "value", "metadata", "cast", "reshape", "fill", "poke", "rename",
             "config", "tag", "shape", "offsets", "cut", "swap", "twice"]
        ),
        st.integers(0, 10**6),
        st.tuples(values, labels, keys, shapes, st.sampled_from(TAGS)),
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip


def apply(draft, edit):
    """One edit in memory; those of the file's header come after writing."""
    kind, seed, (value, label, key, shape, _) = edit
    rng = np.random.default_rng(seed)
    names = sorted(draft.tensors)
    name = names[seed % len(names)] if names else "x.weight"
    if kind == "drop" and names:
        draft.tensors.pop(name)
    elif kind == "label":
        draft.description[name] = label
    elif kind == "value":
        draft.description[name] = value
    elif kind == "metadata":
        draft.description[key] = value
    elif kind == "config":
        draft.config[key or "num_hidden_layers"] = value
        draft.config["torch_dtype"] = value
    elif kind == "cast" and names:
        dtype = rng.choice(["int8", "int64", "float16", "float32", "float64", "uint8", "bool"])
        with np.errstate(all="ignore"):
            draft.tensors[name] = draft.tensors[name].astype(str(dtype))
    elif kind == "reshape":
        with np.errstate(all="ignore"):
            draft.tensors[name] = rng.integers(-128, 127, size=shape).astype(np.int8)
    elif kind == "fill" and names:
        special = [np.nan, np.inf, -np.inf, 0, -1, 1e30]
        array = draft.tensors[name]
        if array.dtype.kind not in "iub" and array.size:
            with np.errstate(all="ignore"):
                array.reshape(-1)[seed % array.size] = special[seed % len(special)]
    elif kind == "poke" and names:
        array = draft.tensors[name]
        if array.dtype.kind in "iu" and array.size:
            limits = np.iinfo(array.dtype)
            extreme = [limits.min, limits.max, 0, 1, 8, 1 << 6][seed % 6]
            array.reshape(-1)[seed % array.size] = extreme
    elif kind == "rename" and names:
        draft.tensors[key or "y"] = draft.tensors.pop(name)


def damage(file: Path, edit) -> None:
    """Change the header of a written file, or cut it."""
    kind, seed, (_, _, _, shape, tag) = edit
    content = file.read_bytes()
    if kind == "cut":
        file.write_bytes(content[: seed % (len(content) + 1)])
        return
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:  # cut before
        return
    if not header:
        return
    names = sorted(name for name in header if name != "__metadata__")
    name, other = names[seed % len(names)], names[seed // 97 % len(names)]
    entry = header[name]
    if kind == "tag":
        entry["dtype"] = tag
    elif kind == "shape":
        entry["shape"] = shape
    elif kind == "offsets":
        entry["data_offsets"] = [seed % 97, seed]
    elif kind == "swap":
        header[name], header[other] = header[other], entry
    elif kind == "twice":
        twice(file.with_name(f"{'az'[seed % 2]}.safetensors"), name, header[other], content)
        return
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def twice(file: Path, name: str, entry, content: bytes) -> None:
    """Write a second tensor of that name, which looks like another, into a file of its own."""
    begin, end = entry["data_offsets"]
    first = 8 + int.from_bytes(content[:8], "little")
    text = json.dumps({name: {**entry, "data_offsets": [0, end - begin]}}).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[first + begin : first + end])


@pytest.mark.parametrize(("profile", "type_"), KINDS)
@settings(
    derandomize=True,
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=edits, forced=st.sampled_from(PROFILES), dtype=st.sampled_from(["F16", "BF16"]))
def test_no_edit_makes_the_judge_raise(builders, profile, type_, changes, forced, dtype):
    judge_edited(builders.make(profile, type_, dtype), changes, forced)


@pytest.mark.parametrize("kwargs", LOWBIT, ids=lambda k: f"{k['profile']}-{k['type_']}")
@settings(
    derandomize=True,
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=edits, forced=st.sampled_from(PROFILES), dtype=st.sampled_from(["F16", "BF16"]))
def test_no_edit_of_a_low_bit_type_makes_the_judge_raise(lowbit, kwargs, changes, forced, dtype):
    judge_edited(lowbit.make(dtype=dtype, **kwargs), changes, forced)


def crowd(draft):
    """Everything that may stand beside a linear or a norm, whether the profile has it or not."""
    attention, down = "model.layers.0.self_attn", "model.layers.0.mlp.down_proj"
    rotation, row = np.eye(4, dtype=np.float32), np.ones(32, np.float32)
    draft.tensors |= {
        f"{down}.kronecker_rotation_m": rotation,
        f"{down}.kronecker_rotation_n": np.eye(16, dtype=np.float32),
        f"{attention}.q_proj.heads_rotation": rotation,
        "rot.weight": rotation,
    }
    for name, array in {
        f"{down}.gather_scale": row,
        f"{down}.reduce_scale.0": row,
        f"{down}.tp_list.0.weight": np.ones((32, 64), np.int8),
        "model.layers.0.input_layernorm.module.weight": row,
        "model.layers.0.input_layernorm.bias": row,
        "model.layers.0.mlp.x.div.mul_scale": row,
        f"{attention}.q_a_proj.weight": rotation,
        f"{attention}.fa_q.scale": row.reshape(32, 1),
    }.items():
        draft.add(name, array, "FLOAT" if "layernorm.b" in name else draft.type)
    draft.description |= {
        "is_rot_used": True,
        "metadata": {"quarot": {"heads_rotation": {"layers": [f"{attention}.q_proj", 3]}}},
        "optional": {"quarot": {"rotation_map": {"global_rotation": "optional/q.safetensors"}}},
    }
    draft.config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}


@pytest.mark.parametrize(("profile", "type_"), [("A0", "W8A8"), ("A1", "W8A8_DYNAMIC")])
@settings(
    derandomize=True,
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=edits, forced=st.sampled_from(PROFILES))
def test_no_edit_of_a_crowded_directory_makes_the_judge_raise(
    builders, profile, type_, changes, forced
):
    draft = builders.make(profile, type_, experts=2 if type_ == "W8A8_DYNAMIC" else 0)
    crowd(draft)
    judge_edited(draft, changes, forced)


def judge_edited(draft, changes, forced):
    for edit in changes:
        apply(draft, edit)
    with TemporaryDirectory() as place:
        directory = draft.write(Path(place) / "checkpoint")
        for edit in changes:
            if edit[0] in ("tag", "shape", "offsets", "cut", "swap", "twice"):
                damage(next(directory.rglob("*.safetensors")), edit)
        with suppress(CheckpointError):  # its one line is the command's answer
            run_judge(open_checkpoint(directory), Options(producer=forced, tp=3))
