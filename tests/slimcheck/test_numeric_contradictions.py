"""Level numeric beside tensors with which no arithmetic is defined: not judged, and why."""

import json
import random
from pathlib import Path

import pytest

from slimcheck.numeric.records import Outcome
from slimcheck.run import run
from slimspec.checkpoint import open_checkpoint
from slimspec.data import folder
from slimspec.golden.recipes import recipes
from slimspec.golden.tiny_models import write_float

VALID = folder("golden") / "checkpoints" / "valid"
RECIPES = {r.id: r for r in recipes() if not r.tp}
Q0 = "model.layers.0.self_attn.q_proj"
DOWN0 = "model.layers.0.mlp.down_proj"


def swapped(case: str, directory: Path, *pairs: tuple[str, str]) -> Path:
    """A copy in which tensors of one file have the header's words on each other."""
    directory.mkdir()
    for path in (VALID / case).iterdir():
        content = path.read_bytes()
        if path.suffix == ".safetensors":
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            for one, other in pairs:
                if one in header and other in header:
                    header[one], header[other] = header[other], header[one]
            text = json.dumps(header).encode()
            content = len(text).to_bytes(8, "little") + text + content[8 + size :]
        (directory / path.name).write_bytes(content)
    return directory


def compared(directory: Path, case: str, place: Path):
    recipe = RECIPES[case]
    write_float(place, recipe.dtype, recipe.model)
    report = run(directory, level="numeric", float_model=place)
    return {row.name: row for row in report.comparisons}


@pytest.mark.parametrize("case", sorted(RECIPES))
def test_swapped_headers_leave_no_linear_without_a_word(tmp_path, case):
    names = sorted(open_checkpoint(VALID / case).table.names)
    rng = random.Random(case)
    pairs = [tuple(rng.sample(names, 2)) for _ in range(4)]
    rows = compared(swapped(case, tmp_path / "q", *pairs), case, tmp_path / "float")
    assert rows
    assert all(row.note for row in rows.values() if row.outcome is Outcome.NOT_JUDGED)


@pytest.mark.parametrize(("suffix", "note"), [
    ("weight", "weight: dtype BF16, expected I8"),
    ("weight_scale", "weight_scale: dtype I8, expected "),
])  # fmt: skip
def test_contradiction_is_named(tmp_path, suffix, note):
    """Another linear of its layer is judged without it."""
    other = "model.embed_tokens.weight" if suffix == "weight" else f"{Q0[:-6]}k_proj.weight"
    case = "w8a8-dynamic-a1-bf16"
    directory = swapped(case, tmp_path / "q", (f"{Q0}.{suffix}", other))
    rows = compared(directory, case, tmp_path / "float")
    assert rows[Q0].outcome is Outcome.NOT_JUDGED
    assert rows[Q0].note.startswith(note)
    assert rows[DOWN0].outcome is Outcome.EXACT
