"""The decoder sees what the producer's float model saw: inputs of linears, keys and values.

Bound on the distance in norm: both are the same chain of roundings, and each may come out one unit
(2u) apart where an exponential or a sum differs in its last place. About 20 roundings lie on the
way through a layer, and layers that add to a normalised residual pass distances on without growth:
20 · layers · 2u. In 16-bit dtypes such a difference shows only at a tie, so nearly all bits agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from oracle_replay.case import Case

from slimspec.model import Decoder, open_tokenizer
from slimspec.numeric import as_float32

UNITS = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
REWRITES = {"quarot", "flatquant", "adapt_rotation"}  # v1 steps that change the float model
FIRST = ("q_proj", "k_proj", "v_proj", "q_a_proj", "kv_a_proj_with_mqa")
STATES = {"key_states": 1, "value_states": 2}  # place among q, k, v


def float_model(case: Case) -> Path:
    readme = case.path / "README.txt"
    named = readme.is_file() and re.search(r"^float model:\s*(\S+)", readme.read_text(), re.M)
    if not named or not (case.path / named[1] / "config.json").is_file():
        pytest.skip("no float model beside it")
    return case.path / named[1]


def texts(case: Case, folder: Path) -> Iterator[NDArray[np.int64]]:
    """Token ids of every calibration call: as captured, or from the text."""
    ids = [name for name in case.captured if name.startswith("input_ids/")]
    if ids:
        yield from (case.captured[f"input_ids/{i}"].reshape(-1) for i in range(len(ids)))
        return
    pytest.importorskip("tokenizers")
    tokenizer = open_tokenizer(folder)
    for path in sorted((case.path / "calib").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield tokenizer.encode(json.loads(line)["inputs_pretokenized"])


def float_inputs(case: Case) -> dict[str, list[str]]:
    """Captured inputs of linears that no quantized or smoothed linear comes before."""
    found = dict(case.capture.get("anti_float_inputs", {}))
    changed = case.capture.get("smooth") or case.capture.get("anti_calls")
    if not changed and not REWRITES & set(case.processes):
        for name, linear in case.capture.get("linears", {}).items():
            if ".layers.0." in name and name.endswith(FIRST):
                found[name] = linear.get("inputs", [])
    return found


def float_states(case: Case) -> dict[tuple[str, int], list[str]]:
    """Captured keys and values of the first layer, where no linear is quantized."""
    if case.capture.get("linears") or REWRITES & set(case.processes):
        return {}
    return {
        ("model.layers.0.self_attn", STATES[kind]): captured["inputs"]
        for name, captured in case.capture.get("kv", {}).items()
        for layer, _, kind in [name.partition(".")]
        if layer == "layer0" and kind in STATES
    }


class Tally:
    """How far ours is from theirs."""

    def __init__(self) -> None:
        self.elements = self.equal = 0
        self.worst = (0.0, "nothing")

    def add(self, name: str, ours: NDArray, theirs: NDArray) -> None:
        assert ours.dtype == theirs.dtype, name
        assert ours.size == theirs.size, name
        a, b = as_float32(ours).reshape(-1), as_float32(theirs).reshape(-1)
        self.elements += a.size
        self.equal += int((a == b).sum())
        far = float(np.linalg.norm(a - b) / np.linalg.norm(b))
        self.worst = max(self.worst, (far, name))


def test_the_float_model_is_seen_as_the_producer_saw_it(checkpoint: Path) -> None:
    case = Case(checkpoint)
    inputs, states = float_inputs(case), float_states(case)
    kept = [r for refs in (*inputs.values(), *states.values()) for r in refs if r in case.captured]
    if not kept:
        pytest.skip("nothing kept of the float model")
    dtype = case.captured[kept[0]].dtype
    folder, tally = float_model(case), Tally()
    seen: dict[str, NDArray] = {}
    attention: dict[str, tuple[NDArray, NDArray, NDArray]] = {}
    decoder = Decoder.open(
        folder, dtype, states=lambda n, q, k, v: attention.setdefault(n, (q, k, v))
    )
    for i, tokens in enumerate(texts(case, folder)):
        attention.clear()
        decoder.forward(tokens, lambda name, x: seen.__setitem__(name, x))
        for name, refs in inputs.items():
            if i < len(refs) and refs[i] in case.captured:
                tally.add(f"{name} call {i}", seen[name], case.captured[refs[i]])
        for (name, place), refs in states.items():
            if refs[i] in case.captured:
                tally.add(f"{name} call {i}", attention[name][place], case.captured[refs[i]])
    far, where = tally.worst
    print(f"{tally.equal} of {tally.elements} values equal in bits, worst {far:.3g} {where}")
    assert tally.elements
    assert far <= 20 * decoder.architecture.layers * 2 * UNITS[dtype.name], where
    if dtype in (np.float16, ml_dtypes.bfloat16):
        assert tally.equal >= 0.99 * tally.elements
