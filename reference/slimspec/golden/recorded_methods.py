"""The named recordings of weight solvers, searches, transforms, head ranges and dual scales.

Their cases are too large, or too many, to keep a few of every parameter set as `recorded` does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import tag_of
from slimspec.golden.contents.model import Tolerance

Tensors = Mapping[str, NDArray]
Part = tuple[str, dict[str, NDArray], dict[str, NDArray], dict[str, Any]]

_BITS = {"int8": 8, "int4": 4}
_LIBRARY = (
    "the Hessian and its inverse are sums in the order of a library: an entry near a rounding"
    " boundary turns single codes"
)
_ORDER = "float32 sums in another order move the float16 result by one digit at most"
BOUNDS: Mapping[str, Mapping[str, Tolerance]] = {
    "quantize_gptq": {"q": Tolerance("codes", 1, _LIBRARY)},
    "optimize_hqq": {
        "scale_out": Tolerance("ulp", 1, _ORDER),
        "offset_out": Tolerance("ulp", 1, _ORDER),
    },
    "flex_search": {
        "loss": Tolerance(
            "ulp",
            1 << 44,
            "the loss is a float16, of which one step is 2^42 of float64: products"
            " summed in another order move it by up to four",
        )
    },
    "w16a16s_weight": {"weight": Tolerance("ulp", 1, _LIBRARY)},
}


@dataclass(frozen=True)
class Method:
    """A folder of recordings: the part of the id, how a case becomes a vector, which ones."""

    folder: str
    short: str
    convert: Callable[[Any, Tensors, Tensors], Part]
    cases: tuple[str, ...]
    requirements: tuple[str, ...] = ()


def _xs(i: Tensors) -> dict[str, NDArray]:
    return {name.replace("xs.", "x"): x for name, x in i.items() if name.startswith("xs.")}


def _gptq(p: Any, i: Tensors, o: Tensors) -> Part:
    rows = p["scope"] == "per_channel"
    scale, offset = (o[n].reshape(-1, 1) if rows else o[n] for n in ("scale", "offset"))
    given = {"bits": _BITS[p["q_dtype"]], "symmetric": p["symmetric"], "variant": "v1"}
    if not rows:
        given |= {"granularity": "group", "group_size": p["ext"]["group_size"]}
    out = {"q": o["q"], "scale": scale, "offset": offset}
    return "quantize_gptq", {"w": i["w"], **_xs(i)}, out, given


def _ssz(p: Any, i: Tensors, o: Tensors) -> Part:
    given = {"bits": _BITS[p["q_dtype"]], "error_dtype": tag_of(i["w"].dtype)}
    given |= {"steps": p["ext"]["step"]} if "step" in p["ext"] else {}
    out = {"q": o["q"], "scale": o["scale"].reshape(-1, 1), "offset": o["offset"].reshape(-1, 1)}
    return "quantize_ssz", {"w": i["w"]}, out, given


def _hqq(p: Any, i: Tensors, o: Tensors) -> Part:
    inputs = {"w": i["weight"], "scale": o["scale0"], "offset": o["zero0"]}
    given = {"bits": p["bit"], "solve_scale": p["is_scale"], "solve_offset": p["is_zero"],
             "per_tensor": p["mm_tensor"]}  # fmt: skip
    return "optimize_hqq", inputs, {"scale_out": o["o0"], "offset_out": o["o1"]}, given


def _lowbit(p: Any, i: Tensors, o: Tensors) -> Part:
    given = {name: value for name, value in p["kwargs"].items() if name != "num_bits"}
    return "quantize_lowbit", {"w": i["weight"]}, {"q": o["o2"], "scale": o["o1"]}, given


def _range(p: Any, i: Tensors, o: Tensors) -> Part:
    last = len(_xs(i)) - 1
    out = {"low": o[f"min{last}"].reshape(1), "high": o[f"max{last}"].reshape(1)}
    return "observe_range", _xs(i), out, {"method": "mean"}


def _admm(p: Any, i: Tensors, o: Tensors) -> Part:
    return "w16a16s_weight", {"w": i["w"], **_xs(i)}, {"weight": o["weight"]}, {"ratio": p["ratio"]}


def _mantissa(p: Any, i: Tensors, o: Tensors) -> Part:
    inputs = {"w": i["w"]} | ({"keep": i["mask"]} if "mask" in i else {})
    return "reduce_mantissa", inputs, {"y": o["out"]}, {"bits": p["threshold"], "nearest": p["rtn"]}


def _flex(p: Any, i: Tensors, o: Tensors) -> Part:
    out = {"alpha": o["alpha"], "beta": o["beta"], "loss": o["mse"]}
    return "flex_search", {"x": i["act"], "w": i["w"]}, out, {"variant": "v1"}


def _fake(p: Any, i: Tensors, o: Tensors) -> Part:
    scope = "row" if p["fn"] == "quant_int8sym" else "tensor"
    return "fake_quantize", {"x": i["x"]}, {"y": o["out"]}, {"scope": scope}


def _shared_heads(p: Any, i: Tensors, o: Tensors) -> Part:
    kv_heads = i["a"].size // (p["groups"] * p["head_dim"])
    given = {"alpha": p["alpha"], "beta": p["beta"], "heads": kv_heads * p["groups"],
             "kv_heads": kv_heads, "method": "max"}  # fmt: skip
    out = {"o": o["o0"].reshape(-1), "v": o["o1"].reshape(-1)}
    return "grouped_smooth_scale", {"a": i["a"], "w": i["w"]}, out, given


def _identity(p: Any, i: Tensors, o: Tensors) -> Part:
    return "hadamard_transform", {"x": np.eye(p["n"])}, {"y": o["out"]}, {}


def _head_ranges(p: Any, i: Tensors, o: Tensors) -> Part:
    out = {"low": o["min"], "high": o["max"], "scale": o["scale"]}
    return "observe_heads", _xs(i), out, {"ratio": p["ratio"], "element": p["q_dtype"]}


def _dualscale(p: Any, i: Tensors, o: Tensors) -> Part:
    exponent, dual_scale = o["scale"][..., 0], o["dual_scale"][..., 0]
    out = {"elements": o["q"], "exponent": exponent, "dual_scale": dual_scale}
    given = {"dual_block": p["ext"]["dual_block_size"]}
    return "quantize_mx_dualscale", {"w": i["w"]}, out, given


def _flat(p: Any, i: Tensors, o: Tensors) -> Part:
    given = {"bits": p["bits"], "signed": p["is_signed"]}
    return "quantize_flat", {"x": i["x"]}, {"q": o["o0"], "scale": o["o1"]}, given


METHODS = (
    Method("v1_WeightGptq", "v1", _gptq, ("c0009",)),
    Method("v1_WeightPerChannelSsz", "v1", _ssz, ("c0005",)),
    Method("legacy_optimize_weights_proximal_hqq", "v0", _hqq, ("c0034",)),
    Method("lowbit_quant_one_weight_by_outliers", "v0", _lowbit, ("c0004",), ("SP-003",)),
    Method("legacy_observers", "v0", _range, ("c0033",), ("W8A8-004", "W8A8-006")),
    Method("v1_admm_pruner", "v1", _admm, ("c0024",), ("SP-006",)),
    Method("v1_admm_quantize_l2", "v1", _mantissa, ("c0017",), ("SP-006",)),
    Method("v1_flex_alpha_beta_search", "v1", _flex, ("c0030",)),
    Method("anti_flex_smooth_so", "v0", _fake, ("c0161",)),
    Method("anti_flex_smooth_so", "v0", _shared_heads, ("c0202",)),
    Method("v1_hadamard", "v1", _identity, ("c0012",), ("ROT-002",)),
    Method("v1_fa3_per_head", "v1", _head_ranges, ("c0054",), ("FA-002", "FA-003")),
    Method("v1_MXWeight_dualscale", "v1", _dualscale, ("c0041",), ("MX-010",)),
    Method("flatquant_asym_quant", "v0", _flat, ("c0041",)),
)
