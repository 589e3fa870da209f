"""Tiny valid directories, written with the safetensors library and json alone.

A `Draft` holds what will be written; a test breaks it in one way and asks the judge. Names,
dtypes and formulas are written out once more, from the formats, not taken from slimspec.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

H, INNER, VOCAB = 32, 64, 8
LINEARS = {
    "self_attn.q_proj": (H, H),
    "self_attn.k_proj": (16, H),
    "self_attn.v_proj": (16, H),
    "mlp.gate_proj": (INNER, H),
    "mlp.up_proj": (INNER, H),
    "mlp.down_proj": (H, INNER),
}
Q0 = "model.layers.0.self_attn.q_proj"
DOWN0 = "model.layers.0.mlp.down_proj"

_DTYPES = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}
_CONFIG = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


@dataclass
class Draft:
    """One directory in memory."""

    profile: str
    type: str
    tensors: dict[str, np.ndarray]
    description: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    text: str | None = None  # the description as raw text, instead of `description`
    rank: int = 0  # of the part, in profile SC
    world: int = 1

    def put(self, suffix: str, array: Any, module: str = Q0) -> None:
        """Replace a tensor, the entry stays."""
        self.tensors[f"{module}.{suffix}"] = np.asarray(array)

    def cast(self, suffix: str, dtype: Any, module: str = Q0) -> None:
        """Store a tensor in another dtype."""
        name = f"{module}.{suffix}"
        self.tensors[name] = self.tensors[name].astype(dtype)

    def edit(self, suffix: str, at: Any, value: Any, module: str = Q0) -> None:
        """Set one element, by flat position, or several."""
        self.tensors[f"{module}.{suffix}"].reshape(-1)[at] = value

    def encode(self, at: int, value: float, module: str = Q0) -> None:
        """Set one element of an I64 deq_scale to the bits of a float32."""
        self.edit("deq_scale", at, int(np.array(value, np.float32).view(np.int32)), module)

    def relabel(self, module: str, label: str) -> None:
        """Give every quantized tensor of a module another label."""
        for name in list(self.description):
            if name.startswith(module + ".") and not name.endswith(".bias"):
                self.description[name] = label

    def drop(self, *names: str) -> None:
        """Take tensors away, entries included."""
        for name in names:
            del self.tensors[name], self.description[name]

    def add(self, name: str, array: Any, label: str) -> None:
        """Add a tensor and its entry."""
        self.tensors[name] = np.asarray(array)
        self.description[name] = label

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        target = directory
        if self.profile == "SC":
            target = directory / f"part{self.rank}-of-{self.world}"
            target.mkdir(exist_ok=True)
        weights, description = self._names()
        contiguous = {
            name: np.require(array, requirements="C") for name, array in self.tensors.items()
        }
        save_file(contiguous, target / weights)
        text = json.dumps(self.description) if self.text is None else self.text
        (target / description).write_text(text)
        (directory / "config.json").write_text(json.dumps(self.config))
        (directory / "tokenizer.json").write_text("{}")
        return directory

    def _names(self) -> tuple[str, str]:
        kind = self.description.get("model_quant_type") or "w8a8"
        kind = kind.lower() if isinstance(kind, str) else "w8a8"
        weights = f"quant_model_weight_{kind}.safetensors"
        if self.profile == "A1":
            return "quant_model_weights.safetensors", "quant_model_description.json"
        if self.profile == "A0":
            return weights, "quant_model_description.json"
        return weights, f"quant_model_description_{kind}.json"


def make(
    profile: str = "A1",
    type_: str = "W8A8",
    dtype: str = "F16",
    *,
    group: int = 0,
    asymmetric: bool = False,
    per_tensor: bool = False,
    experts: int = 0,
    seed: int = 0,
) -> Draft:
    """A valid directory of one type: two layers, a bias on every q_proj."""
    rng = np.random.default_rng(seed)
    d = _DTYPES[dtype]
    draft = Draft(profile, type_, {}, _metadata(profile, type_, group))
    draft.config = {"model_type": "qwen2", "num_hidden_layers": 2, "torch_dtype": _CONFIG[dtype]}

    def floats(name: str, *shape: int) -> None:
        draft.add(name, rng.normal(size=shape).astype(d), "FLOAT")

    inputs: dict[tuple[int, str], _Linear] = {}  # one per input
    floats("model.embed_tokens.weight", VOCAB, H)
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        linears = dict(LINEARS)
        if experts and layer == 1:
            linears = {k: v for k, v in LINEARS.items() if "mlp" not in k}
            floats(prefix + "mlp.gate.weight", experts, H)
            for e in range(experts):
                for leaf in ("gate_proj", "up_proj", "down_proj"):
                    linears[f"mlp.experts.{e}.{leaf}"] = LINEARS[f"mlp.{leaf}"]
        for leaf, (n, k) in linears.items():
            linear = _Linear(rng, n, k, d, group, asymmetric, per_tensor)
            linear.share_input(inputs.setdefault((layer, _input_of(leaf)), linear))
            bias = rng.normal(size=n).astype(d) if leaf.endswith("q_proj") else None
            tensors = _TYPES[type_](linear, profile, d, bias)
            for suffix, array in tensors.items():
                draft.add(f"{prefix}{leaf}.{suffix}", array, _label(type_, suffix))
            if type_ == "W16A16SC":
                for suffix in ("weight", "bias") if bias is not None else ("weight",):
                    draft.description[f"{prefix}{leaf}.{suffix}.outdim"] = n
            if bias is not None:
                float_type = type_ == "W16A16S"
                narrow = float_type or profile in ("L0", "A0", "SC")
                stored = bias if narrow else bias.astype(np.float32)
                draft.add(f"{prefix}{leaf}.bias", stored, type_ if float_type else "FLOAT")
        floats(prefix + "input_layernorm.weight", H)
    floats("model.norm.weight", H)
    floats("lm_head.weight", VOCAB, H)
    return draft


def _metadata(profile: str, type_: str, group: int) -> dict[str, Any]:
    found: dict[str, Any] = {"model_quant_type": type_}
    if profile in ("A0", "A1"):
        found["version"] = "1.0.0"
    if profile == "A1":
        found |= {"metadata": {}, "group_size": group, "optional": {}}
    elif profile == "A0" and group:
        found["group_size"] = group
    return found


def _label(type_: str, suffix: str) -> str:
    return "W8A8S" if type_ == "W8A8SC" and suffix not in ("weight", "index", "info") else type_


def _input_of(leaf: str) -> str:
    """What q, k and v, or gate and up, read; down_proj reads its own."""
    return leaf if leaf.endswith("down_proj") else leaf.rpartition(".")[0]


class _Linear:
    """Integers with full rows, scales that are normal in float16, and offsets that fit."""

    def __init__(self, rng, n, k, d, group, asymmetric, per_tensor) -> None:
        self.n, self.k, self.d = n, k, d
        self.q = rng.integers(-126, 127, size=(n, k)).astype(np.int8)
        self.q[:, 0] = 127
        columns = k // group if group else 1
        shape = (1,) if per_tensor else (n, columns)
        self.scale = rng.uniform(0.005, 0.02, size=shape).astype(d)
        self.offset = np.zeros(shape, d)
        if asymmetric:
            self.q[:, 1] = -128
            self.offset = rng.integers(-9, 10, size=shape).astype(d)
        self.input_scale = rng.uniform(0.04, 0.06, size=1).astype(d)
        self.input_offset = rng.integers(1, 6, size=1).astype(d)

    def share_input(self, other: "_Linear") -> None:
        self.input_scale, self.input_offset = other.input_scale, other.input_offset


def _static(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    product = (linear.input_scale * linear.scale.reshape(-1)).astype(d)  # rounded in d
    deq = product.astype(np.float32)
    sums = linear.q.sum(axis=1, dtype=np.int64).astype(np.float32)
    fold = sums * linear.input_offset.astype(np.float32)
    ratio = np.zeros(linear.n, np.float32)
    if bias is not None and profile in ("L0", "A0", "SC"):
        ratio = bias.astype(np.float32) / deq
    elif bias is not None:
        ratio = (bias / product).astype(np.float32)  # divided in d
    word = (
        deq if profile == "MF" or d == ml_dtypes.bfloat16 else deq.view(np.int32).astype(np.int64)
    )
    wide = np.float32 if profile in ("A1", "MF") else d
    return {
        "weight": linear.q,
        "input_scale": linear.input_scale.astype(wide),
        "input_offset": linear.input_offset.astype(wide),
        "quant_bias": np.rint(ratio - fold).astype(np.int32),
        "deq_scale": word,
    }


def _w8a8(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    found = _static(linear, profile, d, bias)
    if profile in ("L0", "A0"):
        found |= {"weight_scale": linear.scale, "weight_offset": linear.offset}
    return found


def _mix(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    return _static(linear, profile, d, bias) | _weight_only(linear, profile, d, bias)


def _sparse(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    linear.q = np.where(linear.q % 4, 0, linear.q // 32).astype(np.int8)  # most of them 0
    return _static(linear, profile, d, bias)


def _sparse_float(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    return {"weight": np.where(linear.q % 4, 0, linear.q / 64).astype(d)}


def _weight_only(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    wide = np.float32 if profile in ("A1", "MF") else d
    return {
        "weight": linear.q,
        "weight_scale": linear.scale.astype(wide),
        "weight_offset": linear.offset.astype(wide),
    }


def _timestep(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    found = _w8a8(linear, profile, d, bias)
    steps = {s: np.stack([found[s]] * 3) for s in ("quant_bias", "deq_scale")}
    inputs = {s: np.tile(found[s], 3) for s in ("input_scale", "input_offset")}
    return found | steps | inputs


def _compressed(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    found = _sparse(linear, profile, d, bias)
    return found | {
        **_stream(found["weight"], "low"),
        "input_scale": found["input_scale"].astype(np.float16),
        "input_offset": found["input_offset"].astype(np.int8),
    }


def _compressed_float(linear: _Linear, profile: str, d: Any, bias: np.ndarray | None) -> dict:
    return _stream(_sparse_float(linear, profile, np.float16, bias)["weight"], "high")


def _stream(weight: np.ndarray, mode: str) -> dict:
    """The one thing taken from slimspec: public vectors judge its codec on their own."""
    from slimspec.sparse import compress

    stream = compress(weight, mode, threads=1)
    return {"weight": stream.weight, "index": stream.index, "info": stream.info}


_TYPES = {
    "W8A8": _w8a8,
    "W8A8_MIX": _mix,
    "W8A8_TIMESTEP": _timestep,
    "W8A8S": _sparse,
    "W8A8SC": _compressed,
    "W16A16S": _sparse_float,
    "W16A16SC": _compressed_float,
    "W8A8_DYNAMIC": _weight_only,
    "W8A16": _weight_only,
}
