"""Which linears stay float: by name, by how sensitive their inputs are, or because they come last.

    range_parm  max(|max|, |min|) / std, first five texts; larger is more sensitive (disable_level)
    std         the same with the shift halved;  quantile, kurtosis of samples of the input
    mse         mean (x - Q(x))², Q the static int8 quantizer of the observed range

Source: math.md 10 (quant_tools.py:477-516; processor/analysis/unary_operator/metrics); seeds 003
(no more than a fifth of the layers).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint import CheckpointError
from slimspec.checkpoint.errors import clip
from slimspec.numeric import add, as_float32, div, sub
from slimspec.observe.minmax import mean_of_extrema
from slimspec.observe.sensitivity import range_parm
from slimspec.quantize.activation import activation_qparams
from slimspec.quantize.affine import codes, dequantize

LEVEL = re.compile(r"L(0|[1-9][0-9]*)")
ADVISED_SHARE = 0.2
METRICS = ("range_parm", "std", "quantile", "kurtosis", "mse")


@dataclass(frozen=True)
class Sensitivity:
    """How hard the input of one linear is to quantize; larger is harder in every column."""

    name: str
    range_parm: float
    std: float
    quantile: float
    kurtosis: float
    mse: float


def measure(name: str, batches: Sequence[NDArray]) -> Sensitivity:
    """Return every metric of one linear. Args: batches (t, k) of its input, one per text."""
    sample = _sample(batches)
    return Sensitivity(
        name,
        range_parm(batches),
        _halved_std_score(batches),
        _quantile_score(batches, sample),
        _kurtosis(sample),
        _mse(batches),
    )


def _halved_std_score(batches: Sequence[NDArray]) -> float:
    peak, spread = 0.0, 0.0
    for x in batches:
        shift = div(add(x.max(axis=0), x.min(axis=0), x.dtype), 2, x.dtype)
        moved = as_float32(sub(x, shift, x.dtype)).astype(np.float64)
        spread = max(spread, float(moved.std(ddof=1)) if moved.size > 1 else 0.0)
        peak = max(peak, float(np.abs(as_float32(x)).max()))
    return peak / spread if spread else peak


def _sample(batches: Sequence[NDArray]) -> NDArray[np.float64]:
    """Every hundredth of the sorted values of each batch, from the 50th; small batches whole."""
    taken = []
    for x in batches:
        ordered = np.sort(as_float32(x).reshape(-1)).astype(np.float64)
        taken.append(ordered[50::100] if ordered.size >= 100 else ordered)
    return np.concatenate(taken)


def _quantile_score(batches: Sequence[NDArray], sample: NDArray[np.float64]) -> float:
    """2·max|x| / 254 over the distance of the quartiles."""
    ordered, quarter = np.sort(sample), sample.size // 4
    peak = max(float(np.abs(as_float32(x)).max()) for x in batches)
    return float(2 * peak / 254 / (ordered[3 * quarter] - ordered[quarter] + 1e-10))


def _kurtosis(sample: NDArray[np.float64]) -> float:
    centred = (sample - sample.mean()) / (sample.std() + 1e-10)
    return float((centred**4).mean() - 3)


def _mse(batches: Sequence[NDArray]) -> float:
    lo, hi = mean_of_extrema(batches)
    scale, offset = activation_qparams(as_float32(lo), as_float32(hi), variant="v0")
    total, count = 0.0, 0
    for x in batches:
        wide = as_float32(x)
        error = (dequantize(codes(wide, scale, offset), scale, offset) - wide).astype(np.float64)
        total, count = total + float((error**2).sum()), count + error.size
    return total / count


def match_names(patterns: Iterable[str], linears: Sequence[str]) -> list[str]:
    """Return the linears that exact names or globs choose, in the order of the model.

    Raises: CheckpointError for a pattern that matches nothing.
    """
    chosen = set()
    for pattern in patterns:
        found = [name for name in linears if name == pattern or fnmatchcase(name, pattern)]
        if not found:
            example = linears[-1] if linears else "none"
            raise CheckpointError(
                f"disable_names: {clip(pattern, 120)!r} matches no linear, expected names like "
                f"{example}"
            )
        chosen.update(found)
    return [name for name in linears if name in chosen]


def level(text: str) -> int:
    """Return k of "Lk". Raises: CheckpointError for anything else."""
    match = LEVEL.fullmatch(text)
    if match is None:
        raise CheckpointError(
            f"disable_level: found {clip(text, 40)!r}, expected L0, L1, L2, .. (number of linears "
            "that stay float)"
        )
    return int(match[1])


def most_sensitive(
    table: Iterable[Sensitivity], count: int, *, without: Iterable[str] = (), by: str = "range_parm"
) -> list[str]:
    """Return the names of the `count` most sensitive linears; of equal ones the first.

    Args: without: linears that stay float anyway; by: one of METRICS.
    """
    skipped = set(without)
    rows = [row for row in table if row.name not in skipped]
    return [row.name for row in sorted(rows, key=lambda row: -getattr(row, by))[:count]]


def last_linear(linears: Sequence[str]) -> str | None:
    """Return the linear that `disable_last_linear` keeps float: the head, else the last one."""
    heads = [name for name in linears if name == "lm_head" or name.endswith(".lm_head")]
    found = heads or list(linears)
    return found[-1] if found else None


def split_groups(kept: Iterable[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what is also kept float so that linears an engine fuses are not of mixed types."""
    chosen = set(kept)
    return sorted({other for name in chosen for other in groups.get(name, ())} - chosen)


def format_table(table: Sequence[Sensitivity], kept: Iterable[str] = ()) -> str:
    """Return the metrics as text, most sensitive first; a star marks what stays float."""
    marked = set(kept)
    width = max([len(row.name) for row in table], default=4)
    head = "  ".join([f"{'linear':<{width + 2}}", *(f"{metric:>11}" for metric in METRICS)])
    lines = [head]
    for row in sorted(table, key=lambda row: -row.range_parm):
        values = asdict(row)
        cells = "  ".join(f"{values[metric]:11.4g}" for metric in METRICS)
        lines.append(f"{'* ' if row.name in marked else '  '}{row.name:<{width}}  {cells}")
    return "\n".join(lines)
