"""Operations that break a checkpoint directory in one way.

Each operation is a JSON object with `op` and, mostly, `file`:

* `write` {text | hex}, `delete` (an empty folder too), `rename` {to}, `copy` {to},
  `chmod` {mode}: whole files;
* `truncate` {bytes}: drop the last bytes; `append` {hex}; `bytes` {at, hex}: overwrite in place;
* `replace` {old, new, times}: in the text, which has it so often (1 unless said);
* `json` {path, value}, `json-remove` {path}: one member, `path` a list of keys; a last key with
  `*` stands for every key that it matches; `json-merge` {path, value}: several members at once;
* operations on tensors: see `patch_tensors`.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from slimspec.golden.patch_tensors import TENSOR_ACTIONS, matching

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


def operations() -> set[str]:
    """Return the name of every operation."""
    return set(_ACTIONS)


def _write(directory: Path, op: Operation) -> None:
    path = directory / op["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    if "text" in op:
        path.write_text(op["text"], encoding="utf-8")
    else:
        path.write_bytes(bytes.fromhex(op["hex"]))


def _delete(directory: Path, op: Operation) -> None:
    path = directory / op["file"]
    path.rmdir() if path.is_dir() else path.unlink()


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
    if text.count(op["old"]) != op.get("times", 1):
        raise ValueError(f"{op['file']}: {op['old']!r} occurs {text.count(op['old'])} times")
    path.write_text(text.replace(op["old"], op["new"]), encoding="utf-8")


def _json(directory: Path, op: Operation) -> None:
    def change(parent: Any, key: Any) -> None:
        parent[key] = op["value"]

    _edit_json(directory / op["file"], op["path"], change)


def _json_merge(directory: Path, op: Operation) -> None:
    def change(parent: Any, key: Any) -> None:
        parent[key] |= op["value"]

    _edit_json(directory / op["file"], op["path"], change)


def _json_remove(directory: Path, op: Operation) -> None:
    def change(parent: Any, key: Any) -> None:
        del parent[key]

    _edit_json(directory / op["file"], op["path"], change)


def _edit_json(path: Path, keys: list[Any], change: Callable[[Any, Any], None]) -> None:
    value = {"": json.loads(path.read_text(encoding="utf-8"))}  # [] is the path of the whole
    parent: Any = value
    *parents, last = ["", *keys]
    for key in parents:
        parent = parent[key]
    for key in matching(list(parent), last):
        change(parent, key)
    path.write_text(json.dumps(value[""], indent=2, ensure_ascii=False), encoding="utf-8")


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
    "json-merge": _json_merge,
    "json-remove": _json_remove,
    **TENSOR_ACTIONS,
}
