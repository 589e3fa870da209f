"""A sparse checkpoint of one layer, and the comparison of two of them."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

from slimspec.checkpoint import CheckpointWriter, open_checkpoint

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
LINEAR = "model.layers.0.mlp.up_proj"
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
