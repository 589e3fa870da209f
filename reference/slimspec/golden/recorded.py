"""Take vectors from recordings of the real producer: `python -m slimspec.golden.recorded DIR`.

DIR has one folder per recorded function, each with `manifest.json` (parameters, names of input and
output tensors) and `cases.safetensors`. Per parameter set a few small cases are kept, of
`recorded_methods` the named ones; the id is that of the recording, so it never changes. The
reference must reproduce every one.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.data import folder
from slimspec.golden.contents.model import Definition
from slimspec.golden.recorded_methods import BOUNDS, METHODS, Part, Tensors
from slimspec.golden.shard import Shard
from slimspec.golden.vectors import stored_array
from slimspec.golden.vectors_build import RECORDED, finish, write_cases

LARGEST = 6000  # bytes of one case
PER_SET = 2  # cases per set of parameters
FLAGS: dict[str, tuple[str, ...]] = {
    "pack_int4": ("NibbleOrder", "PackAxis"),
    "encode_deq_scale": ("DeqScaleWord",),
    "nd_to_nz": ("TilePadding",),
    "scale_bias": ("ScaleBias",),
    "fold_w8a8": ("BiasFold", "ModelDtype"),
    "quantize_two_level": ("TwoLevelBound",),
    "quantize_gptq": ("ErrorPush",),
    "quantize_lowbit": ("ScaleSearch",),
    "observe_range": ("ScaleSearch", "ModelDtype"),
    "quantize_ssz": ("ScaleSearch", "ModelDtype"),
    "optimize_hqq": ("ScaleSearch", "ModelDtype"),
    "flex_search": ("ScaleSearch", "ModelDtype"),
    "w16a16s_weight": ("MantissaBits",),
    "reduce_mantissa": ("MantissaBits", "Subnormal"),
    "hadamard_transform": ("RotationSide",),
    "observe_heads": ("HeadIndex", "ModelDtype"),
    "quantize_mx_dualscale": ("BlockExponent", "ZeroRange"),
}


def _bits(p: Mapping[str, Any]) -> int:
    return {"int8": 8, "int4": 4}[p["q_dtype"]] if "q_dtype" in p else p["bit"]


def _v0_qparams(p: Any, i: Tensors, o: Tensors) -> Part | None:
    lo, hi = (np.atleast_1d(i[n]) for n in ("x_min", "x_max"))
    if o["zero_point"].shape != o["scale"].shape or lo.shape != o["scale"].shape:
        return None  # a symmetric offset is one 0 for all
    given = {"bits": p["bit"], "symmetric": p["sym"], "variant": "v0", "signed": p["q_signed"],
             "round_offset": p["integral_zero_point"]}  # fmt: skip
    out = {"scale": o["scale"], "offset": o["zero_point"]}
    return "qparams", {"lo": lo, "hi": hi}, out, given


def _v1_qparams(p: Any, i: Tensors, o: Tensors) -> Part | None:
    lo, hi = (np.atleast_1d(i[n]) for n in ("min_val", "max_val"))
    given = {"bits": _bits(p), "symmetric": p["symmetric"], "variant": "v1"}
    options = p.get("kwargs", {})
    renamed = {
        "max_bound": "max_bound",
        "q_signed": "signed",
        "integral_zero_point": "round_offset",
    }
    given |= {renamed[key]: value for key, value in options.items()}
    return "qparams", {"lo": lo, "hi": hi}, {"scale": o["scale"], "offset": o["offset"]}, given


def _codes(p: Any, i: Tensors, o: Tensors) -> Part | None:
    inputs = {"x": i["x"], "scale": o["scale"], "offset": o["offset"]}
    return "quantize", inputs, {"q": o["q"]}, {"bits": _bits(p)}


def _v0_codes(p: Any, i: Tensors, o: Tensors) -> Part | None:
    q = o["q"].astype(np.float32)
    inputs = {"x": i["x"], "scale": o["scale"], "offset": o["zero_point"]}
    given = {"bits": p["bit"]}
    if p["kwargs"].get("max_bound") is not None:
        given["max_bound"] = p["kwargs"]["max_bound"]
    return "quantize", inputs, {"q": q.astype(np.int8)}, given


def _weight(p: Any, i: Tensors, o: Tensors) -> Part | None:
    out = {"q": o["q"], "scale": o["scale"].reshape(-1, 1), "offset": o["offset"].reshape(-1, 1)}
    given = {"bits": _bits(p), "symmetric": True, "variant": "v1"}
    return "quantize_weight", {"w": i["w"]}, out, given


def _grouped_weight(p: Any, i: Tensors, o: Tensors) -> Part | None:
    w, g = np.ascontiguousarray(i["x"].T), p["group_size"]
    if w.shape[1] % g:
        return None
    shape = (w.shape[0], w.shape[1] // g)
    out = {"q": np.ascontiguousarray(o["q"].T), "scale": o["scale"].reshape(shape),
           "offset": o["offset"].reshape(shape)}  # fmt: skip
    given = {"bits": _bits(p), "symmetric": p["symmetric"], "variant": "v1"}
    return "quantize_weight", {"w": w}, out, given | {"granularity": "group", "group_size": g}


def _word(p: Any, i: Tensors, o: Tensors) -> Part | None:
    return "encode_deq_scale", {"scale": i["scale"]}, {"word": o["v1"]}, {}


def _v1_int4(p: Any, i: Tensors, o: Tensors) -> Part | None:
    return "pack_int4", {"q": i["w"]}, {"packed": o["out"]}, {"axis": -2}


def _v0_int4(p: Any, i: Tensors, o: Tensors) -> Part | None:
    rows = p["fn"] == "_w4a8_pack_int4" or p.get("trans_flag") is False
    return "pack_int4", {"q": i["w"]}, {"packed": o["out"]}, {"axis": -2 if rows else -1}


def _scale_bias(p: Any, i: Tensors, o: Tensors) -> Part | None:
    given = {"name": p["name"], "variant": "v1"}
    return "scale_bias", {"terms": i["bias"]}, {"scale_bias": o["v1"]}, given


def _saved_scale_bias(p: Any, i: Tensors, o: Tensors) -> Part | None:
    given = {"name": p["name"], "variant": "v1"}
    inputs = {"q": i["W"], "scale": i["ws"].reshape(-1, 1)}
    return "scale_bias", inputs, {"scale_bias": o["scale_bias"]}, given


def _two_level(p: Any, i: Tensors, o: Tensors) -> Part | None:
    if p["variant"] != "w4a8_progressive32":
        return None
    w, g = i["weight"], p["kwargs"]["group_size"]
    q, second = o["o2"].astype(np.float32), o["o1.1"].reshape(w.shape[0], -1)
    # recorded before the saver, which clips to [-8, 7] instead of ±7: differs for small scales only
    if ((q == -7) & (np.repeat(second, g, axis=1) <= 6)).any():
        return None
    out = {"q": q.astype(np.int8), "scale": o["o1.0"], "second": second}
    return "quantize_two_level", {"w": w}, out, {"group_size": g}


def _fold(p: Any, i: Tensors, o: Tensors) -> Part | None:
    inputs = {"q": i["W"], "weight_scale": i["ws"].reshape(-1, 1),
              "input_scale": i["isc"].reshape(1), "input_offset": i["io"].reshape(1)}  # fmt: skip
    if p["bias"]:
        inputs["bias"] = i["b"]
    stored = o["deq_scale"]
    deq = stored if stored.dtype == np.float32 else stored.astype(np.int32).view(np.float32)
    out = {"deq_scale": deq, "quant_bias": o["quant_bias"],
           "word": deq.view(np.int32).astype(np.int64)}  # fmt: skip
    return "fold_w8a8", inputs, out, {"variant": "v1"}


def _mx(p: Any, i: Tensors, o: Tensors) -> Part | None:
    given = {"format": p["q_dtype"], "method": p["method"]}
    out = {"elements": o["q"], "exponent": o["scale"][..., 0]}
    return "quantize_mx", {"w": i["w"]}, out, given


def _fp8(p: Any, i: Tensors, o: Tensors) -> Part | None:
    if p["scope"] != "per_token" or not o["saved_bits"].any():
        return None
    out = {"q": o["saved_bits"], "scale": o["scale"].astype(np.float32)}
    return "quantize_fp8", {"w": i["x"]}, out, {}


def _smooth(p: Any, i: Tensors, o: Tensors) -> Part | None:
    if p["fn"] == "flex.compute_smooth_scale":
        given = {"alpha": p["alpha"], "beta": p.get("beta")}
        return "smooth_scale", {"a": i["a"], "w": i["ws"]}, {"scale": o["out"]}, given
    if p["fn"] != "flex.compute_ov_scales":
        return None
    keys = ("alpha", "beta", "heads", "kv_heads")
    given = {key: p[key] for key in keys} | {"method": p["group_method"]}
    out = {"o": o["o"], "v": o["v"]}
    return "grouped_smooth_scale", {"a": i["a"], "w": i["ws"]}, out, given


def _nz(p: Any, i: Tensors, o: Tensors) -> Part | None:
    if p.get("fn") == "round_up" or i["w"].dtype != np.int8:
        return None
    return "nd_to_nz", {"weight": i["w"]}, {"nz": o["out"]}, {"block": list(p["block_size"])}


# folder -> (part of the id, conversion, requirements)
SOURCES: dict[str, tuple[str, Callable[[Any, Tensors, Tensors], Part | None], tuple[str, ...]]] = {
    "legacy_linear_quantization_params": ("v0", _v0_qparams, ("W8A8-004", "W8A8-006")),
    "v1_calculate_qparam_int": ("v1", _v1_qparams, ("W8A8-004", "W8A8-006")),
    "v1_calculate_qparam_int_maxbound": ("v1m", _v1_qparams, ("W4A8-003",)),
    "legacy_fake_quantize": ("v0", _v0_codes, ("W8A16-004",)),
    "v1_quantize_dequantize_int": ("v1", _codes, ("W8A16-004",)),
    "v1_WeightPerChannelMinmax": ("v1", _weight, ("DYN-001", "DYN-007", "W8A8-015")),
    "v1_quantize_dequantize_int_group": ("v1g", _grouped_weight, ("DYN-008", "W8A16-008")),
    "deqscale2int64": ("v1", _word, ("DEQ-001", "W8A8-010")),
    "pack_w4a8_pack_int4": ("v1", _v1_int4, ("W4A8-001",)),
    "pack_legacy_int4": ("v0", _v0_int4, ("W4A8-001", "W4A16-002", "W4A16-003")),
    "process_scale_bias": ("v1", _scale_bias, ("W4A8-009", "W4A8-010")),
    "v1_saver_on_w4a8_dynamic": ("v1s", _saved_scale_bias, ("W4A8-009", "W4A8-010")),
    "lowbit_quant_one_weight_by_outliers": (
        *("v0", _two_level),
        ("W4A8-003", "W4A8-004", "W4A8-007"),
    ),
    "v1_saver_on_w8a8_static": ("v1", _fold, ("W8A8-011", "W8A8-012", "DEQ-001")),
    "v1_MXWeight_minmax": ("minmax", _mx, ("MX-001", "MX-006")),
    "v1_MXWeight_mse_round": ("mse", _mx, ("MX-001",)),
    "v1_MXWeight_ceil_x": ("ceil", _mx, ("MX-004",)),
    "v1_MXWeight_fouroversix": ("four", _mx, ("MX-004",)),
    "v1_fp8_e4m3": ("v1", _fp8, ("MX-008", "MX-003")),
    "v1_smooth_scale_functions": ("v1", _smooth, ()),
    "transform_nd2nz": ("v0", _nz, ()),
}


def record(directory: Path) -> Iterator[Definition]:
    """Yield the vectors to keep of every known folder of recordings."""
    for name, (short, convert, requirements) in SOURCES.items():
        manifest = json.loads((directory / name / "manifest.json").read_text(encoding="utf-8"))
        tensors = Shard.load(directory / name / "cases.safetensors").tensors
        kept: Counter[str] = Counter()
        for case in manifest["cases"]:
            if "error" in case:
                continue
            inputs, outputs = (_tensors(case[part], tensors) for part in ("in", "out"))
            part = convert(case["params"], inputs, outputs)
            told = {key: value for key, value in case["params"].items() if key != "kind"}
            key = json.dumps([part and part[0], told], sort_keys=True)
            if part is None or kept[key] == PER_SET or _size(part) > LARGEST:
                continue
            kept[key] += 1
            yield _definition(part, f"{short}-{case['id']}", name, case, requirements)
    for method in METHODS:
        manifest = json.loads((directory / method.folder / "manifest.json").read_text("utf-8"))
        tensors = Shard.load(directory / method.folder / "cases.safetensors").tensors
        found = {case["id"]: case for case in manifest["cases"]}
        for key in method.cases:
            inputs, outputs = (_tensors(found[key][part], tensors) for part in ("in", "out"))
            part = method.convert(found[key]["params"], inputs, outputs)
            id_ = f"{method.short}-{key}"
            yield _definition(part, id_, method.folder, found[key], method.requirements)


def _definition(
    part: Part, key: str, name: str, case: dict[str, Any], requirements: tuple[str, ...]
) -> Definition:
    op, inputs, outputs, attributes = part
    kind = case["params"].get("kind")
    comment = "as the producer computed it" + (f" for {kind} data" if kind else "")
    source = f"msModelSlim 26.1.0, recorded {name}/{case['id']}"
    attributes = {k: v for k, v in attributes.items() if v is not None}
    return Definition(op, key, comment, inputs, outputs, attributes,
                      FLAGS.get(op, ("ModelDtype",)), requirements, source, origin="producer",
                      tolerance=BOUNDS.get(op, {}))  # fmt: skip


def _tensors(part: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, NDArray]:
    """Arrays by name; members of a list are NAME.0, NAME.1, ...; a number is one float64."""
    flat = dict(part)
    for name, entry in part.items():
        flat |= {f"{name}.{i}": member for i, member in enumerate(entry.get("list", ()))}
    found = {n: stored_array(stored[e["tensor"]]) for n, e in flat.items() if "tensor" in e}
    numbers = {n: e["value"] for n, e in flat.items() if isinstance(e.get("value"), float)}
    return found | {n: np.array([value], np.float64) for n, value in numbers.items()}


def _size(part: Part) -> int:
    return sum(a.nbytes for group in part[1:3] for a in group.values())


def write_recorded(root: Path, directory: Path) -> None:
    """Write `vectors/recorded` below `root` from a directory of recordings."""
    by_op: dict[str, list[Definition]] = {}
    for definition in record(directory):
        by_op.setdefault(definition.op, []).append(definition)
    for op, group in by_op.items():
        write_cases(root / "vectors" / "recorded" / f"{op}.json", group, RECORDED)


if __name__ == "__main__":
    write_recorded(folder("golden"), Path(sys.argv[1]))
    finish(folder("golden"))
