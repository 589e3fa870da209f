"""Operations on the tensors of a safetensors file, as a patch lists them.

* `tensor` {name, dtype, shape, fill | values | diagonal}: add or replace;
* `tensor-remove` {name}; `tensor-rename` {name, to | replace}, `replace` a pair of old and new
  text within the names; `tensor-copy` {name, to};
* `tensor-values` {name, at, value}: one element by flat position; with `stop` or `step` every
  step-th from there on ("NaN" and "Infinity" as text: JSON has no such numbers);
* `tensor-cast` {name, dtype}: the numbers in another dtype;
* `tensor-multiply` {name, by}: every element; products of integers are rounded half to even;
* `tensor-crop` {name, shape}: the first rows, columns, …; null keeps all of a dimension.

A `name` with `*` stands for every stored name that it matches, at least one. The file's header is
rewritten, and the index kept in step unless `"index": false`.
"""

import json
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.golden.shard import Shard

Operation = dict[str, Any]


def matching(known: Iterable[str], name: str) -> list[str]:
    """Return `name`, or for a name with `*` every known name that it matches.

    Raises:
        ValueError: it matches none.
    """
    if not isinstance(name, str) or "*" not in name:
        return [name]
    found = [other for other in known if fnmatchcase(other, name)]
    if not found:
        raise ValueError(f"{name!r} matches nothing")
    return found


def _tensor(directory: Path, op: Operation) -> None:
    dtype = whole_dtype(op["dtype"])
    shape = tuple(op["shape"])
    if "values" in op:
        array = np.array(op["values"]).astype(dtype).reshape(shape)
    elif "diagonal" in op:
        array = (np.eye(*shape) * op["diagonal"]).astype(dtype)
    else:
        array = np.full(shape, op["fill"]).astype(dtype)
    shard = Shard.load(directory / op["file"])
    shard.put(op["name"], op["dtype"], shape, array.tobytes())
    _save(directory, shard, op)


def _remove(directory: Path, op: Operation) -> None:
    shard = Shard.load(directory / op["file"])
    for name in matching(shard.tensors, op["name"]):
        del shard.tensors[name]
    _save(directory, shard, op)


def _rename(directory: Path, op: Operation) -> None:
    shard = Shard.load(directory / op["file"])
    old, new = op.get("replace", (op["name"], op.get("to")))
    chosen = set(matching(shard.tensors, op["name"]))
    shard.tensors = {
        name.replace(old, new) if name in chosen else name: value
        for name, value in shard.tensors.items()
    }
    _save(directory, shard, op)


def _copy(directory: Path, op: Operation) -> None:
    shard = Shard.load(directory / op["file"])
    shard.tensors[op["to"]] = shard.tensors[op["name"]]
    _save(directory, shard, op)


def _values(directory: Path, op: Operation) -> None:
    value = op["value"]

    def change(array: NDArray[Any]) -> NDArray[Any]:
        flat = array.reshape(-1)
        many = "stop" in op or "step" in op
        where = slice(op["at"], op.get("stop"), op.get("step")) if many else op["at"]
        flat[where] = float(value) if isinstance(value, str) else value
        return array

    _edit(directory, op, change)


def _cast(directory: Path, op: Operation) -> None:
    _edit(directory, op, lambda array: array.astype(whole_dtype(op["dtype"])), op["dtype"])


def _multiply(directory: Path, op: Operation) -> None:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        product = array.astype(np.float64) * op["by"]
        whole = np.issubdtype(array.dtype, np.integer)
        return (np.rint(product) if whole else product).astype(array.dtype)

    _edit(directory, op, change)


def _crop(directory: Path, op: Operation) -> None:
    _edit(directory, op, lambda array: array[tuple(slice(size) for size in op["shape"])])


def _edit(
    directory: Path,
    op: Operation,
    change: Callable[[NDArray[Any]], NDArray[Any]],
    tag: str | None = None,
) -> None:
    """Replace tensors by what `change` makes of them; `tag` names the new dtype, if any."""
    shard = Shard.load(directory / op["file"])
    for name in matching(shard.tensors, op["name"]):
        old, shape, data = shard.tensors[name]
        array = change(np.frombuffer(bytearray(data), whole_dtype(old)).reshape(shape))
        shard.put(name, tag or old, array.shape, array.tobytes())
    _save(directory, shard, op)


def _save(directory: Path, shard: Shard, op: Operation) -> None:
    shard.path.parent.mkdir(exist_ok=True)
    shard.save()
    if op.get("index", True):
        for index in directory.glob("*.safetensors.index.json"):
            _sync_index(directory, index)


def _sync_index(directory: Path, index: Path) -> None:
    """Rewrite an index so that it says what the files hold."""
    files = sorted(directory.glob("*.safetensors"))
    shards = {file.name: Shard.load(file) for file in files}
    size = sum(len(data) for s in shards.values() for _, _, data in s.tensors.values())
    weight_map = {name: file for file, s in shards.items() for name in s.tensors}
    content = {"metadata": {"total_size": size}, "weight_map": weight_map}
    index.write_text(json.dumps(content, indent=2), encoding="utf-8")


TENSOR_ACTIONS: dict[str, Callable[[Path, Operation], None]] = {
    "tensor": _tensor,
    "tensor-remove": _remove,
    "tensor-rename": _rename,
    "tensor-copy": _copy,
    "tensor-values": _values,
    "tensor-cast": _cast,
    "tensor-multiply": _multiply,
    "tensor-crop": _crop,
}
