"""Run every linear of the recorded checkpoints; print equal bits and signal-to-noise.

    python -m benchmarks.matmul_forward [--layers] [--markdown FILE]

Per run, type and path: how many linears, how many outputs equal the plain form in every bit
(`benchmarks.forward_plain`, written a second time without the package), and the SQNR against the
float linear in float64, in dB, smallest and median over the linears. Path "scheme" is `forward` of
`slimspec.schemes`; the others are functions of `slimspec.matmul` as an engine calls them. Inputs
are the recorded calibration activations; where none were kept they are normal ("drawn"). Linears
whose float weight was not kept (smoothed or rotated runs) count without SQNR.

--layers prints one row per linear instead, --markdown writes the table as a page of the docs. The
oracle is $SLIMSPEC_ORACLE or ../shared/oracle. Exit code 1 if a bit differs, 5 if nothing ran.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from benchmarks import forward_plain as plain
from benchmarks.forward_plain import F16, F32, F64, Form, Tensors
from numpy.typing import NDArray

from slimspec import layout, schemes
from slimspec.checkpoint import open_checkpoint
from slimspec.matmul import (
    linear_w8a8,
    linear_w8a8_dynamic,
    loaded_scale,
    matmul_w4a8,
    quantize_dynamic,
)
from slimspec.pack import unpack_int4
from slimspec.schemes.flatquant import inverse

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle"))
from oracle_replay import Case, find_cases, oracle_root
from oracle_replay.plan import KEEPS_WEIGHTS
from oracle_replay.replay import linears

DRAWN = 16  # tokens where none were recorded
STEPS = KEEPS_WEIGHTS | {"flatquant", "svd_res", "autoround_quant"}  # x·w stays what it was
COMMAND = "python -m benchmarks.matmul_forward --markdown docs/forward.md"
HEADER = ("run", "type", "path", "inputs", "linears", "equal", "min dB", "median dB")
LAYER = ("run", "linear", "type", "path", "inputs", "equal", "dB")


class Layer(NamedTuple):
    """One linear by one path; `ratio` None where the float weight is unknown."""

    run: str
    name: str
    label: str
    path: str
    inputs: str
    equal: bool
    ratio: float | None


def static(x: NDArray, t: Tensors) -> NDArray:
    return linear_w8a8(
        x, t["weight"], t["input_scale"], t["input_offset"], t["deq_scale"], t["quant_bias"]
    )


def dynamic(x: NDArray, t: Tensors) -> NDArray:
    scale = loaded_scale(t["weight_scale"], x.dtype)
    return linear_w8a8_dynamic(x, t["weight"], scale, t.get("bias"))


def w4a8(x: NDArray, t: Tensors) -> NDArray:
    q, w = quantize_dynamic(x), unpack_int4(t["weight"], axis=0)
    second = t.get("weight_scale_second", np.ones((1, 1), F32))
    scale = t["weight_scale"].astype(F32) * second.astype(F32)
    return matmul_w4a8(q.q, w, scale, t["scale_bias"], q.scale, out_dtype=x.dtype)


Paths = list[tuple[str, Form, Form]]
ENGINE: dict[str, Paths] = {  # path, ours, plain
    "W8A8": [("engine", static, plain.static)],
    "W8A8S": [("engine", static, plain.static)],
    "W8A8_MIX": [
        ("decode", static, plain.static),
        ("prefill", dynamic, plain.dynamic),
    ],
    "W8A8_DYNAMIC": [("engine", dynamic, plain.dynamic)],
    "W4A8_DYNAMIC": [("device", w4a8, plain.two_level)],
}
UNROUNDED: dict[str, Form] = {  # a scheme takes the stored scales, an engine what it loads
    "W8A8_DYNAMIC": partial(plain.dynamic, loaded=False)
}


def paths(label: str, profile: str) -> Paths:
    """Every way to run a type; [] if it has no plain form."""
    found = layout.resolve(label)
    derived = found[1].name if found and found[1] else None
    base = layout.base_label(label, profile) or label
    form = UNROUNDED.get(base) or plain.PLAIN.get(base)
    if form is None:
        return ENGINE.get(label, [])
    if derived is not None:
        if derived not in plain.WRAPPERS:
            return []
        form = partial(plain.WRAPPERS[derived], inner=form)
    if base in ("W8A8", "W8A8S") and derived is None:
        return ENGINE[base]
    return [("scheme", _scheme(label, profile), form), *ENGINE.get(label, [])]


def _scheme(label: str, profile: str) -> Form:
    scheme = schemes.get(label)
    return lambda x, t: scheme.forward(scheme.from_tensors(t, profile), x)


def layers(path: Path) -> Iterator[Layer]:
    """Run the linears of one recorded run."""
    case = Case(path)
    for output in case.outputs[:1]:
        profile = open_checkpoint(output.path).profile.name
        for name, label in linears(output).items():
            ways = paths(label, profile or "")
            if not profile or not ways or "embed_tokens" in name:
                continue
            stored = [k for k in output.tensors if k.startswith(f"{name}.")]
            t = {k.removeprefix(f"{name}."): output.tensors[k] for k in stored}
            x, source = inputs(case, name, label, t)
            exact = reference(case, name, t, x)
            for way, ours, form in ways:
                y = ours(x, t)
                same = y.tobytes() == form(x, t).tobytes()
                ratio = None if exact is None else sqnr(exact, y)
                yield Layer(path.name, name, label, way, source, same, ratio)


def inputs(case: Case, name: str, label: str, t: Tensors) -> tuple[NDArray, str]:
    """(m, k) activations of a linear, and whether they were recorded.

    Behind a FlatQuant transform they were recorded transformed: its inverse turns them back.
    """
    kept = [case.resolve(ref) for ref in case.linear(name).get("inputs", [])]
    kept = [x.reshape(-1, x.shape[-1]) for x in kept if x is not None]
    if kept:
        x = np.concatenate(kept)
        return (turned_back(x, t) if "left_trans" in t else x), "recorded"
    k = columns(label, t)
    return np.random.default_rng(k).normal(size=(DRAWN, k)).astype(model_dtype(case, name, t)), (
        "drawn"
    )


def turned_back(x: NDArray, t: Tensors) -> NDArray:
    """left⁻ᵀ·x·right⁻¹ of each row, in T."""
    left = inverse(t["left_trans"], "left_trans").T
    y = x.astype(F64).reshape(x.shape[0], left.shape[0], -1)
    if "right_trans" in t:
        y = y @ inverse(t["right_trans"], "right_trans")
    return (left @ y).reshape(x.shape).astype(x.dtype)


def columns(label: str, t: Tensors) -> int:
    """k of a stored weight; int4 per channel and FP4 have two columns in a byte."""
    k = t["weight"].shape[1]
    if label.startswith("W4") and "MXFP" in label:
        return 2 * k
    per_channel = label == "W4A16" and t["weight_scale"].shape[-1] == 1
    return 2 * k if per_channel else k


def model_dtype(case: Case, name: str, t: Tensors) -> np.dtype:
    """Dtype of the float model; an int64 deq_scale means fp16."""
    weight = case.resolve(case.linear(name).get("float_weight"))
    if weight is None:
        weight = case.model.get(f"{name}.weight")
    if weight is not None:
        return weight.dtype
    fp16 = "deq_scale" in t and t["deq_scale"].dtype == np.int64
    return np.dtype(F16 if fp16 else ml_dtypes.bfloat16)


def reference(case: Case, name: str, t: Tensors, x: NDArray) -> NDArray | None:
    """x·w + bias of the float model in float64; None if the recipe changed the weight.

    A FlatQuant linear without right_trans gets its input half transformed by the attention.
    """
    if "left_trans" in t and "right_trans" not in t:
        return None
    seen = case.linear(name)
    weight, bias = (case.resolve(seen.get(key)) for key in ("float_weight", "float_bias"))
    wrapped = {"flatquant", "svd_res"} & set(case.processes)
    if weight is None or wrapped:
        if case.recipe.get("anti") or set(case.processes) - STEPS:
            return None
        weight, bias = case.model.get(f"{name}.weight"), case.model.get(f"{name}.bias")
    if weight is None or weight.shape[1] != x.shape[1]:
        return None
    exact = x.astype(F64) @ weight.astype(F64).T
    return exact if bias is None else exact + bias.astype(F64)


def sqnr(exact: NDArray, y: NDArray) -> float:
    """10·log10(Σ exact² / Σ (exact - y)²)."""
    noise = np.square(exact - y.astype(F64)).sum()
    return float(10 * np.log10(np.square(exact).sum() / noise)) if noise else float("inf")


def summary(found: Sequence[Layer]) -> Iterator[tuple[str, ...]]:
    """One row per run, type, path and kind of input."""
    groups: dict[tuple[str, str, str, str], list[Layer]] = defaultdict(list)
    for one in found:
        groups[one.run, one.label, one.path, one.inputs].append(one)
    for key, cells in sorted(groups.items()):
        known = [c.ratio for c in cells if c.ratio is not None]
        decibels = [f"{f(known):.1f}" for f in (min, statistics.median)] if known else ["-", "-"]
        yield (*key, str(len(cells)), str(sum(c.equal for c in cells)), *decibels)


def per_layer(found: Sequence[Layer]) -> Iterator[tuple[str, ...]]:
    """One row per linear and path."""
    for one in found:
        ratio = "-" if one.ratio is None else f"{one.ratio:.1f}"
        yield (*one[:5], "yes" if one.equal else "no", ratio)


def total(found: Sequence[Layer]) -> str:
    """One sentence, with the types that have recorded linears."""
    same = sum(one.equal for one in found)
    types = Counter(one.label for one in found)
    return (
        f"{same} of {len(found)} forward passes equal the plain form in every bit; "
        f"{len(types)} types: {', '.join(sorted(types))}"
    )


def page(found: Sequence[Layer]) -> str:
    """The page of the docs."""
    about = (__doc__ or "").split("\n\n")[2]
    rows = "\n".join(f"| {' | '.join(cells)} |" for cells in summary(found))
    return (
        f"<!-- Generated by `{COMMAND}`; do not edit. -->\n\n# Forward passes\n\n{about}\n\n"
        f"The distance per linear: `python -m benchmarks.matmul_forward --layers`.\n\n"
        f"| {' | '.join(HEADER)} |\n|---|---|---|---|--:|--:|--:|--:|\n{rows}\n\n{total(found)}.\n"
    )


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table for a terminal."""
    widths = [max(len(r[i]) for r in (header, *rows)) for i in range(len(header))]
    for cells in (header, *rows):
        print("  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--layers", action="store_true", help="one row per linear")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the page of the docs")
    options = parser.parse_args(arguments)
    found = [one for path in find_cases(oracle_root()) for one in layers(path)]
    table: Callable[[Sequence[Layer]], Iterator[tuple[str, ...]]]
    table, header = (per_layer, LAYER) if options.layers else (summary, HEADER)
    print_columns(header, list(table(found)))
    print(total(found))
    if options.markdown and found:
        options.markdown.write_text(page(found), encoding="utf-8")
    return 5 if not found else int(not all(one.equal for one in found))


if __name__ == "__main__":
    raise SystemExit(main())
