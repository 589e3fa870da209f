"""Weights by GPTQ in the one-click service: Hessians while texts pass, integers behind them.

A linear computes with its float weight until all texts have passed; its Hessian is that of the
inputs as it reads them, quantized and brought back where its type quantizes inputs. Then the
integers are made, and from there the linear computes with them.

Source: msmodelslim core/quantizer/linear.py (forward: first the quantizer of the input, then that
of the weight), core/quantizer/impl/gptq.py:122-170.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec import schemes
from slimspec.checkpoint import CheckpointError
from slimspec.pipeline.recipe import Rule
from slimspec.quantize.affine import dequantize_rows
from slimspec.quantize.gptq import BLOCK, PERCDAMP, GptqOptions, RunningHessian, solve_gptq
from slimspec.quantize.minmax import IntegerWeight

METHOD = "gptq"


def by_gptq(options: Mapping[str, Any]) -> bool:
    """True for a weight that GPTQ makes. Args: options of a rule or step."""
    return options.get("method") == METHOD


class GptqWeights:
    """The weights of one model; Hessians are those of the layer at hand.

    Attributes:
        made: integers by linear, of all layers so far.
    """

    def __init__(self) -> None:
        self.made: dict[str, IntegerWeight] = {}
        self._open: dict[str, tuple[NDArray, Rule, RunningHessian]] = {}

    def see(self, name: str, x: NDArray, w: NDArray, rule: Rule) -> None:
        """Take note of an input. Args: x (t, k) as the linear reads it; w (n, k)."""
        if name not in self._open:
            self._open[name] = (w, rule, RunningHessian(w.shape[1]))
        self._open[name][2].add(x)

    def solve(self) -> None:
        """Make the integers of the linears that were seen.

        Raises: CheckpointError: a weight or a group size that does not suit.
        """
        for name, (w, rule, hessian) in self._open.items():
            try:
                self.made[name] = solve_gptq(w, hessian.h, _options(rule), f"{name}.weight")
            except (TypeError, ValueError) as error:
                raise CheckpointError(str(error)) from None
        self._open.clear()

    def seen_by_run(self, name: str) -> NDArray[np.float32]:
        """The weight as a later run sees it, [n, k]."""
        made = self.made[name]
        return dequantize_rows(made.q, made.scale, made.offset)


def _options(rule: Rule) -> GptqOptions:
    given: dict[str, Any] = dict(rule.options)
    group_size = given.get("group_size", 0)
    return GptqOptions(
        "v1",
        bits=schemes.get(rule.type).bits,
        symmetric=given.get("symmetric", True),
        granularity="group" if group_size else "channel",
        group_size=group_size,
        percdamp=given.get("percdamp", PERCDAMP),
        block_size=given.get("block_size", BLOCK),
    )


__all__ = ["GptqWeights", "by_gptq"]
