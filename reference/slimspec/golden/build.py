"""Make the valid golden checkpoints and the manifest: `python -m slimspec.golden.build`.

Tiny float models with seeded weights (`tiny_models`) are quantized as `recipes` says. The same
command makes the same bytes.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from slimspec.golden.attention import add_attention
from slimspec.golden.checkpoints import PATCHES, patch_rows
from slimspec.golden.recipes import Recipe, recipes
from slimspec.golden.target import target
from slimspec.golden.tiny_models import DTYPES, write_float
from slimspec.golden.vectors import listing
from slimspec.pipeline.compress import Options, compress_directory
from slimspec.pipeline.quantize import quantize_directory


def build(golden: Path) -> None:
    """Write `checkpoints/valid` and `manifest.json` below `golden`, replacing what is there.

    What is there stays until all of it is made.
    """
    place = golden / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix=".build-", dir=place) as temporary:
        work, made, old = (Path(temporary, name) for name in ("work", "made", "old"))
        work.mkdir()
        made.mkdir()
        for recipe in recipes():
            _make(recipe, work, made / recipe.id)
            rows.append(_row(recipe))
        for path in made.rglob("*"):  # the producer's modes do not survive version control
            path.chmod(0o755 if path.is_dir() else 0o644)
        valid = place / "valid"
        if valid.exists():
            valid.rename(old)
        made.rename(valid)
    write_manifest(golden, rows)


def _make(recipe: Recipe, work: Path, out: Path) -> None:
    source = work / f"{recipe.model}-{recipe.dtype}"
    if not source.exists():
        write_float(source, recipe.dtype, recipe.model)
    if not recipe.tp and recipe.attention is None:
        quantize_directory(source, out, recipe.plan)
        return
    quantized = work / recipe.id
    quantize_directory(source, quantized, recipe.plan)
    if recipe.tp:
        compress_directory(quantized, out, Options(tp=recipe.tp))
    else:
        kind = recipe.attention or ""
        add_attention(quantized, out, kind, recipe.plan.producer, recipe.dtype)


def _row(recipe: Recipe) -> dict[str, Any]:
    return {
        "id": recipe.id,
        "path": f"checkpoints/valid/{recipe.id}",
        "comment": recipe.comment,
        "origin": "reference",
        "type": recipe.type,
        "profile": "SC" if recipe.tp else recipe.plan.profile,
        "model_dtype": DTYPES[recipe.dtype][0],
    }


def write_manifest(golden: Path, valid: list[dict[str, Any]]) -> None:
    """List every golden file with its sha256."""
    patches = {name: patch_rows(golden, name) for name in PATCHES}
    files = [
        {
            "path": path.relative_to(golden).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(golden.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    ]
    manifest = {
        "format": 1,
        "generated": "python -m slimspec.golden.build",
        "checkpoints": {"valid": valid, **patches},
        "vectors": listing(golden),
        "files": files,
    }
    (golden / "manifest.json").write_text(text(manifest) + "\n", encoding="utf-8")


def text(value: Any, indent: str = "") -> str:
    """JSON with one row of a list in a line: short, and a change is a line in version control."""
    if isinstance(value, dict):
        inner = indent + " "
        members = (f"{inner}{json.dumps(key)}: {text(v, inner)}" for key, v in value.items())
        return "{\n" + ",\n".join(members) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        rows = (f"{indent} {json.dumps(row)}" for row in value)
        return "[\n" + ",\n".join(rows) + f"\n{indent}]"
    return json.dumps(value)


if __name__ == "__main__":
    build(target(__doc__))
