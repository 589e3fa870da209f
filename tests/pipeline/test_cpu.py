"""`--cpu` says whose order of sums a run in bfloat16 has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slimspec.cli import main
from slimspec.model import numerics

Build = Callable[..., Path]
STEPS = {"steps": [{"step": "quantize", "type": "W8A8"}]}


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the orders of bfloat16 sums that were taken."""
    taken: set[str] = set()
    for name in ("tiled", "paired"):
        original = getattr(numerics, name)

        def order(x: np.ndarray, w: np.ndarray, name=name, original=original) -> np.ndarray:  # type: ignore[no-untyped-def]
            taken.add(name)
            return original(x, w)

        monkeypatch.setattr(numerics, name, order)
    return taken


@pytest.mark.parametrize("by_steps", [True, False])
@pytest.mark.parametrize(
    ("options", "order"),
    [([], "tiled"), (["--cpu", "amx"], "tiled"), (["--cpu", "avx512"], "paired")],
)
def test_cpu_chooses_the_order_of_a_whole_run(
    build: Build,
    calib_file: Path,
    tmp_path: Path,
    orders: set[str],
    by_steps: bool,
    options: list[str],
    order: str,
) -> None:
    (tmp_path / "c.json").write_text(json.dumps(STEPS), encoding="utf-8")
    given = ["--config", str(tmp_path / "c.json")] if by_steps else ["--w_bit", "8", "--a_bit", "8"]
    text = ["--calib_file", str(calib_file)]
    source = str(build("llama", "bfloat16"))
    assert main(["quantize", source, str(tmp_path / "q"), *given, *text, *options]) == 0
    assert orders == {order}


def test_cpu_does_not_go_without_calibration(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ["--scheme", "W8A8_DYNAMIC", "--cpu", "avx512"]
    assert main(["quantize", str(build()), str(tmp_path / "q"), *options]) == 4
    assert "--cpu goes with parameters like --w_bit" in capsys.readouterr().err
