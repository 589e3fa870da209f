"""Vectors as files for kernel test harnesses: raw .bin, .npy, JSON, or ATB's CSV.

`bin` and `npy` write one directory per case: `inputs/` with `case.txt` and one file per input
tensor, `outputs/` with the expected tensors, `intermediates/`. `case.txt` is plain text, one fact
per line:

    case ID
    op NAME
    numerics PROFILE
    attribute NAME VALUE
    input NAME DTYPE RANK DIM... FILE
    output NAME DTYPE RANK DIM... FILE CLASS BOUND

Raw files hold the elements in row-major order, little endian. DTYPE is the tag of safetensors.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import tag_of
from slimspec.checkpoint.partial import NewDirectory
from slimspec.golden.compare import element_text
from slimspec.golden.vectors import VectorCase

FORMATS = ("bin", "npy", "json", "atb-csv")
# ATB's numbers for dtypes; it has none for the 8-bit floats
_ATB = {"F32": 0, "F16": 1, "I8": 2, "I32": 3, "I64": 9, "BOOL": 12, "BF16": 27}
_ATB_NAMES = {"F32": "float", "F16": "float16", "I8": "int8", "I32": "int32", "I64": "int64",
              "BOOL": "bool", "BF16": "bf16"}  # fmt: skip
_ND = 2


def export(cases: Iterable[VectorCase], directory: Path, form: str) -> int:
    """Write the cases below `directory`, which is created; return how many were written.

    Raises:
        ValueError: an unknown format.
        CheckpointError: a directory that holds something, or that cannot be written.
    """
    if form not in FORMATS:
        raise ValueError(f"format {form!r}: expected one of {', '.join(FORMATS)}")
    chosen = list(cases)
    with NewDirectory(directory) as made:
        if form == "atb-csv":
            return len(_write_atb(chosen, made.root))
        for case in chosen:
            if form == "json":
                _write_json(case, made.root)
            else:
                write_case(case, made.root / case.id, form)
    return len(chosen)


def write_case(
    case: VectorCase, directory: Path, form: str = "bin", *, answers: bool = True
) -> None:
    """Write one case as raw or .npy files; without `answers` only what a kernel may see."""
    inputs = directory / "inputs"
    inputs.mkdir(parents=True)
    (directory / "outputs").mkdir()
    (inputs / "case.txt").write_text("\n".join(case_lines(case, form)) + "\n", encoding="utf-8")
    for name, array in case.inputs.items():
        save(inputs / f"{name}.{form}", array)
    if not answers:
        return
    for name, array in case.outputs.items():
        save(directory / "outputs" / f"{name}.{form}", array)
    if case.intermediates:
        (directory / "intermediates").mkdir()
    for name, array in case.intermediates.items():
        save(directory / "intermediates" / f"{name}.{form}", array)


def case_lines(case: VectorCase, form: str) -> list[str]:
    """Return the lines of `case.txt`."""

    def tensor(kind: str, name: str, array: NDArray) -> str:
        sizes = " ".join(map(str, (array.ndim, *array.shape)))
        return f"{kind} {name} {tag_of(array.dtype)} {sizes} {name}.{form}"

    return [
        f"case {case.id}",
        f"op {case.op}",
        f"numerics {case.numerics}",
        *(f"attribute {name} {_text(value)}" for name, value in case.attributes.items()),
        *(tensor("input", name, array) for name, array in case.inputs.items()),
        *(
            f"{tensor('output', name, array)} {_bound(case.tolerance[name])}"
            for name, array in case.outputs.items()
        ),
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _bound(tolerance: Mapping[str, Any]) -> str:
    return f"{tolerance['class']} {tolerance.get('bound', 0)}"


def save(path: Path, array: NDArray) -> None:
    """Write one array as raw elements or .npy (16-bit and 8-bit floats there as their bits)."""
    data = np.ascontiguousarray(array)
    if path.suffix == ".bin":
        path.write_bytes(data.astype(data.dtype.newbyteorder("<")).tobytes())
        return
    if data.dtype.kind not in "iubf" or data.dtype.name.startswith("float8"):
        data = data.view(f"u{data.dtype.itemsize}")
    np.save(path, data, allow_pickle=False)


def _write_json(case: VectorCase, directory: Path) -> None:
    content = {
        "id": case.id, "op": case.op, "comment": case.comment, "origin": case.origin,
        "source": case.source, "numerics": case.numerics, "flags": list(case.flags),
        "requirements": list(case.requirements), "attributes": dict(case.attributes),
        "inputs": {name: json_tensor(array) for name, array in case.inputs.items()},
        "intermediates": {name: json_tensor(array) for name, array in case.intermediates.items()},
        "outputs": {
            name: json_tensor(array) | {"tolerance": dict(case.tolerance[name])}
            for name, array in case.outputs.items()
        },
    }  # fmt: skip
    text = json.dumps(content, ensure_ascii=False)
    (directory / f"{case.id}.json").write_text(text + "\n", encoding="utf-8")


def json_tensor(array: NDArray) -> dict[str, Any]:
    """A tensor as flat values; floats as text `value (0xbits)`, which JSON numbers cannot hold."""
    flat = array.ravel()
    plain = array.dtype.kind in "iub"
    values = flat.tolist() if plain else [element_text(value) for value in flat]
    return {"dtype": tag_of(array.dtype), "shape": list(array.shape), "values": values}


def _write_atb(cases: list[VectorCase], directory: Path) -> list[VectorCase]:
    """One CSV and one tensor file per tensor; cases with other dtypes than ATB has are left out."""
    rows = ["|".join(_COLUMNS)]
    written = []
    for case in cases:
        tensors = {**case.inputs, **case.outputs}
        if not all(tag_of(a.dtype) in _ATB for a in tensors.values()):
            continue
        written.append(case)
        for part, group in (("in", case.inputs), ("out", case.outputs)):
            for name, array in group.items():
                _atb_tensor(directory / _atb_name(case, part, name), array)
        rows.append("|".join(_atb_row(len(written), case)))
    (directory / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return written


_COLUMNS = (
    "CaseNum", "CaseName", "OpName", "OpParam", "InNum", "InDType", "InFormat", "InShape",
    "OutNum", "OutDType", "OutFormat", "OutShape", "InTensorFile", "OutTensorFile",
)  # fmt: skip


def _atb_name(case: VectorCase, part: str, name: str) -> str:
    return f"{case.id}.{part}.{name}.bin"


def _atb_row(number: int, case: VectorCase) -> list[str]:
    row = [str(number), case.id, case.op, json.dumps(case.settings)]
    files = []
    for part, group in (("in", case.inputs), ("out", case.outputs)):
        arrays = group.values()
        row.append(str(len(group)))
        row.append(";".join(_ATB_NAMES[str(tag_of(a.dtype))] for a in arrays))
        row.append(";".join("nd" for _ in arrays))
        row.append(";".join(",".join(map(str, a.shape)) for a in arrays))
        files.append(";".join(_atb_name(case, part, name) for name in group))
    return row + files


def _atb_tensor(path: Path, array: NDArray) -> None:
    data = np.ascontiguousarray(array)
    raw = data.astype(data.dtype.newbyteorder("<")).tobytes()
    head = (
        f"$Version=1.0\n$Object.Count=1\n$Object.Length={len(raw)}\n"
        f"dtype={_ATB[str(tag_of(array.dtype))]}\nformat={_ND}\n"
        f"dims={','.join(map(str, array.shape))}\n$Object.data=0,{len(raw)}\n$End=1\n"
    )
    path.write_bytes(head.encode() + raw)
