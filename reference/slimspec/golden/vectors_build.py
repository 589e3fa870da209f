"""Write the vectors: `python -m slimspec.golden.vectors_build` makes all that are generated.

An id stands for its inputs for ever: `vectors/ids.txt` keeps a fingerprint of each, and writing
refuses an id that is gone or stands for other inputs.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import tag_of
from slimspec.golden.compare import compare
from slimspec.golden.contents import Definition, definitions
from slimspec.golden.operations import operation
from slimspec.golden.shard import Shard
from slimspec.golden.target import target
from slimspec.golden.vectors import PARTS, case_files, fingerprint, load_cases, read_ids

FORMAT = 1
COMMAND = "python -m slimspec.golden.vectors_build"
RECORDED = "recorded from the producer; not generated"


def write_cases(path: Path, definitions: Iterable[Definition], made_by: str = COMMAND) -> list[str]:
    """Write `path` (.json) and its tensors; return the lines `id fingerprint`.

    Raises:
        ValueError: an output differs from what the reference computes, or an id is used twice.
    """
    op = operation(path.stem)
    tensor_file = path.with_suffix(".safetensors")
    shard, lines = Shard(tensor_file, {}), []
    rows: list[dict[str, Any]] = []
    for definition in sorted(definitions, key=lambda d: d.id):
        if rows and rows[-1]["id"] == definition.id:
            raise ValueError(f"vector id {definition.id} is used twice")
        rows.append(_row(definition, op, shard))
        lines.append(f"{definition.id} {fingerprint(definition)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"format": FORMAT, "op": op.name, "formula": op.formula, "generated": made_by,
            "tensors": tensor_file.name}  # fmt: skip
    path.write_text(_layout(head, rows), encoding="utf-8")
    shard.save()
    return lines


def _row(definition: Definition, op: Any, shard: Shard) -> dict[str, Any]:
    given = definition.outputs
    more = {} if definition.numerics == "canonical" else {"numerics": definition.numerics}
    made, intermediates = op.split(op.run(definition.inputs, dict(definition.attributes) | more))
    outputs = made if given is None else {n: given[n] for n in op.outputs if n in given}
    if outputs.keys() != made.keys():
        raise ValueError(f"{definition.id}: outputs {sorted(outputs)}, expected {sorted(made)}")
    if given is None and definition.origin != "reference":
        raise ValueError(f"{definition.id}: origin {definition.origin} without outputs")
    row: dict[str, Any] = {
        "id": definition.id,
        "comment": definition.comment,
        "origin": definition.origin,
        "source": definition.source,
        "flags": list(definition.flags),
        "requirements": list(definition.requirements),
        "numerics": definition.numerics,
        "attributes": dict(definition.attributes),
    }
    arrays = {"inputs": definition.inputs, "intermediates": intermediates, "outputs": outputs}
    for part, short in PARTS.items():
        named = arrays[part].items()
        row[part] = {n: _put(shard, f"{definition.id}/{short}/{n}", a) for n, a in named}
    for name, entry in row["outputs"].items():
        bound = definition.tolerance.get(name)
        entry["tolerance"] = (
            {"class": "bit-exact"}
            if bound is None
            else {"class": bound.kind, "bound": bound.bound, "why": bound.why}
        )
    _agree(row, made, outputs)
    return row


def _agree(row: dict[str, Any], made: dict[str, NDArray], outputs: Mapping[str, NDArray]) -> None:
    tolerance = {name: entry["tolerance"] for name, entry in row["outputs"].items()}
    wrong = compare(outputs, made, tolerance)
    if wrong:
        raise ValueError(f"{row['id']}: the reference disagrees: {wrong[0].text()}")


def _put(shard: Shard, name: str, array: NDArray) -> dict[str, Any]:
    tag = tag_of(array.dtype)
    if tag is None:
        raise ValueError(f"{name}: safetensors has no dtype for {array.dtype}")
    data = np.ascontiguousarray(array)
    shard.put(name, tag, array.shape, data.astype(data.dtype.newbyteorder("<")).tobytes())
    return {"dtype": tag, "shape": list(array.shape)}


def _layout(head: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """JSON with one line per field of a case."""

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def block(row: dict[str, Any]) -> str:
        return "  {\n" + ",\n".join(f"   {text(k)}: {text(v)}" for k, v in row.items()) + "\n  }"

    lines = [f" {text(key)}: {text(value)}," for key, value in head.items()]
    body = ",\n".join(block(row) for row in rows)
    return "\n".join(["{", *lines, ' "cases": [', body, " ]", "}", ""])


def keep_ids(root: Path, lines: Iterable[str]) -> None:
    """Add new ids to `vectors/ids.txt`.

    Raises:
        ValueError: a known id is gone or stands for other inputs.
    """
    path = root / "vectors" / "ids.txt"
    known = dict(read_ids(path))
    now = dict(line.split(" ") for line in lines)
    for name, digest in known.items():
        if now.get(name) != digest:
            problem = "stands for other inputs" if name in now else "is gone"
            raise ValueError(f"vector id {name} {problem}; ids are never reused or removed")
    new = [f"{name} {digest}" for name, digest in sorted(now.items()) if name not in known]
    old = [f"{name} {digest}" for name, digest in known.items()]
    path.write_text("\n".join([*old, *new]) + "\n", encoding="utf-8")


def write_vectors(root: Path) -> None:
    """Write every generated vector file below `root`/vectors; recorded files stay."""
    by_op: dict[str, list[Definition]] = {}
    for definition in definitions():
        by_op.setdefault(definition.op, []).append(definition)
    for path in case_files(root):
        if path.parent.name == "vectors" and path.stem not in by_op:
            path.unlink()
            path.with_suffix(".safetensors").unlink()
    for op, group in by_op.items():
        write_cases(root / "vectors" / f"{op}.json", group)


def issued(root: Path) -> list[str]:
    """Return `id fingerprint` of every stored case."""
    return [f"{c.id} {fingerprint(c)}" for path in case_files(root) for c in load_cases(path)]


def finish(root: Path) -> None:
    """Keep the ids and renew the manifest after vectors were written."""
    from slimspec.golden.build import write_manifest

    load_cases.cache_clear()
    keep_ids(root, issued(root))
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    write_manifest(root, manifest["checkpoints"]["valid"])


if __name__ == "__main__":
    chosen = target(__doc__)
    write_vectors(chosen)
    finish(chosen)
