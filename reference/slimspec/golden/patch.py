"""Operations that break a checkpoint directory in one way.

Each operation is a JSON object with `op` and, mostly, `file`:

* `write` {text | hex}, `delete`, `rename` {to}, `copy` {to}, `chmod` {mode}: whole files;
* `truncate` {bytes}: drop the last bytes; `append` {hex}; `bytes` {at, hex}: overwrite in place;
* `replace` {old, new}: in the text, exactly one occurrence;
* `json` {path, value}, `json-remove` {path}: one member, `path` a list of keys;
* `tensor` {name, dtype, shape, fill | values}: add or replace; `tensor-remove` {name};
  `tensor-rename` {name, to}; `tensor-values` {name, at, value}: one element by flat position
  ("NaN" and "Infinity" as text: JSON has no such numbers).
  The file's header is rewritten, and the index kept in step unless `"index": false`.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from slimspec.checkpoint.dtypes import whole_dtype
from slimspec.golden.shard import Shard

Operation = dict[str, Any]


def apply(operations: Iterable[Operation], directory: Path) -> None:
    """Apply the operations in order to the files of `directory`.

    Raises:
        ValueError: an unknown operation, or a target that does not exist.
    """
    for operation in operations:
        action = _ACTIONS.get(operation["op"])
        if action is None:
            raise ValueError(f"unknown patch operation {operation['op']!r}")
        action(directory, operation)


def _write(directory: Path, op: Operation) -> None:
    path = directory / op["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if "text" in op:
        path.write_text(op["text"], encoding="utf-8")
    else:
        path.write_bytes(bytes.fromhex(op["hex"]))


def _delete(directory: Path, op: Operation) -> None:
    (directory / op["file"]).unlink()


def _rename(directory: Path, op: Operation) -> None:
    target = directory / op["to"]
    target.parent.mkdir(parents=True, exist_ok=True)
    (directory / op["file"]).rename(target)


def _copy(directory: Path, op: Operation) -> None:
    shutil.copyfile(directory / op["file"], directory / op["to"])


def _chmod(directory: Path, op: Operation) -> None:
    (directory / op["file"]).chmod(int(op["mode"], 8))


def _truncate(directory: Path, op: Operation) -> None:
    path = directory / op["file"]
    path.write_bytes(path.read_bytes()[: -op["bytes"]])


def _append(directory: Path, op: Operation) -> None:
    path = directory / op["file"]
    path.write_bytes(path.read_bytes() + bytes.fromhex(op["hex"]))


def _bytes(directory: Path, op: Operation) -> None:
    path = directory / op["file"]
    content = bytearray(path.read_bytes())
    new = bytes.fromhex(op["hex"])
    content[op["at"] : op["at"] + len(new)] = new
    path.write_bytes(content)


def _replace(directory: Path, op: Operation) -> None:
    path = directory / op["file"]
    text = path.read_text(encoding="utf-8")
    if text.count(op["old"]) != 1:
        raise ValueError(f"{op['file']}: {op['old']!r} occurs {text.count(op['old'])} times")
    path.write_text(text.replace(op["old"], op["new"]), encoding="utf-8")


def _json(directory: Path, op: Operation) -> None:
    def change(parent: Any, key: Any) -> None:
        parent[key] = op["value"]

    _edit_json(directory / op["file"], op["path"], change)


def _json_remove(directory: Path, op: Operation) -> None:
    def change(parent: Any, key: Any) -> None:
        del parent[key]

    _edit_json(directory / op["file"], op["path"], change)


def _edit_json(path: Path, keys: list[Any], change: Callable[[Any, Any], None]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    parent = value
    for key in keys[:-1]:
        parent = parent[key]
    change(parent, keys[-1])
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")


def _tensor(directory: Path, op: Operation) -> None:
    dtype = whole_dtype(op["dtype"])
    shape = tuple(op["shape"])
    if "values" in op:
        array = np.array(op["values"]).astype(dtype).reshape(shape)
    else:
        array = np.full(shape, op["fill"]).astype(dtype)
    shard = Shard.load(directory / op["file"])
    shard.put(op["name"], op["dtype"], shape, array.tobytes())
    _save(directory, shard, op)


def _tensor_remove(directory: Path, op: Operation) -> None:
    shard = Shard.load(directory / op["file"])
    del shard.tensors[op["name"]]
    _save(directory, shard, op)


def _tensor_rename(directory: Path, op: Operation) -> None:
    shard = Shard.load(directory / op["file"])
    shard.tensors = {
        op["to"] if name == op["name"] else name: value for name, value in shard.tensors.items()
    }
    _save(directory, shard, op)


def _tensor_values(directory: Path, op: Operation) -> None:
    shard = Shard.load(directory / op["file"])
    dtype, shape, data = shard.tensors[op["name"]]
    array = np.frombuffer(bytearray(data), whole_dtype(dtype))
    value = op["value"]
    array[op["at"]] = float(value) if isinstance(value, str) else value
    shard.put(op["name"], dtype, shape, array.tobytes())
    _save(directory, shard, op)


def _save(directory: Path, shard: Shard, op: Operation) -> None:
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


_ACTIONS: dict[str, Callable[[Path, Operation], None]] = {
    "write": _write,
    "delete": _delete,
    "rename": _rename,
    "copy": _copy,
    "chmod": _chmod,
    "truncate": _truncate,
    "append": _append,
    "bytes": _bytes,
    "replace": _replace,
    "json": _json,
    "json-remove": _json_remove,
    "tensor": _tensor,
    "tensor-remove": _tensor_remove,
    "tensor-rename": _tensor_rename,
    "tensor-values": _tensor_values,
}
