"""Directories that no tool writes: each has one clear verdict and one exit code, at once."""

import json
import os
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slimcheck.cli import main
from slimspec.data import folder

VALID = folder("golden") / "checkpoints" / "valid" / "w8a8-dynamic-a1-fp16"
SHARD = "quant_model_weights-00001-of-00001.safetensors"
DESCRIPTION = "quant_model_description.json"
CONFIG = "config.json"

Make = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    """A verdict that does not come within a minute never comes: of a pipe, of /dev/zero."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)


def header(members: Any, data: bytes = b"") -> Make:
    text = members if isinstance(members, bytes) else json.dumps(members).encode()
    return lambda d: (d / SHARD).write_bytes(struct.pack("<Q", len(text)) + text + data)


def write(name: str, content: str | bytes | list[Any] | dict[str, Any]) -> Make:
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    raw = content.encode() if isinstance(content, str) else content
    return lambda d: (d / name).write_bytes(raw)


def instead(name: str, make: Callable[[Path], object]) -> Make:
    """Something else under the name of a file."""
    return lambda d: ((d / name).unlink(missing_ok=True), make(d / name))


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def change(name: str, **members: Any) -> Make:
    return lambda d: (d / name).write_text(json.dumps(json.loads((d / name).read_text()) | members))


def tensor(dtype: Any, shape: Any, offsets: Any) -> dict[str, Any]:
    return {"model.layers.0.x.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


BROKEN: list[tuple[str, Make, str]] = [
    ("shard of eight zeros", write(SHARD, bytes(8)), "IDX-001"),
    ("shard of metadata only", header({"__metadata__": {"format": "pt"}}), "IDX-003"),
    ("shard without tensors", header({}), "DESC-021"),
    ("scalar in place of a matrix", header(tensor("I8", [], [0, 1]), b"1"), "DESC-021"),
    ("no rows", header(tensor("I8", [0, 5], [0, 0])), "DESC-021"),
    ("unknown dtype", header(tensor("COMPLEX", [2], [0, 2]), b"ab"), "IDX-001"),
    ("dtype a list", header(tensor(["I8"], [2], [0, 2]), b"ab"), "IDX-001"),
    ("negative sizes", header(tensor("I8", [-1, -1], [0, 1]), b"a"), "IDX-001"),
    ("sizes of another type", header(tensor("I8", [True], [0.0, 1]), b"a"), "IDX-001"),
    ("product past 2^63", header(tensor("I8", [1 << 62, 1 << 62], [0, 0])), "IDX-001"),
    ("many dimensions", header(tensor("I8", [1] * 64, [0, 1]), b"a"), "DESC-021"),
    ("deep header", header(b'{"a":' * 5000 + b"1" + b"}" * 5000), "IDX-001"),
    ("header of 200 MB", write(SHARD, struct.pack("<Q", 200 << 20)), "IDX-001"),
    ("shard a loop", instead(SHARD, link(SHARD)), "IDX-001"),
    ("shard a dangling link", instead(SHARD, link("nowhere")), "IDX-001"),
    ("shard a pipe", instead(SHARD, os.mkfifo), "IDX-001"),
    ("shard a directory", instead(SHARD, Path.mkdir), "DIR-003"),
    ("shard an endless device", instead(SHARD, link("/dev/zero")), "IDX-001"),
    ("shard as a .bin", lambda d: (d / SHARD).rename(d / "pytorch_model.bin"), "DIR-003"),
    ("description a list", write(DESCRIPTION, ["a"]), "DESC-001"),
    ("description null", write(DESCRIPTION, "null"), "DESC-001"),
    ("description empty", write(DESCRIPTION, ""), "DESC-001"),
    ("description not UTF-8", write(DESCRIPTION, b'{"a": "\xff"}'), "DESC-001"),
    ("description in UTF-16", write(DESCRIPTION, "{}".encode("utf-16")), "DESC-001"),
    ("description with a mark", write(DESCRIPTION, b"\xef\xbb\xbf{}"), "DESC-001"),
    ("description with NaN", write(DESCRIPTION, '{"group_size": NaN}'), "DESC-032"),
    ("description a pipe", instead(DESCRIPTION, os.mkfifo), "DESC-001"),
    ("description endless", instead(DESCRIPTION, link("/dev/zero")), "DESC-001"),
    ("description a directory", instead(DESCRIPTION, Path.mkdir), "DIR-001"),
    ("members of odd types", change(DESCRIPTION, model_quant_type=["W8A8"]), "DESC-002"),
    ("optional no object", change(DESCRIPTION, optional="no"), "DESC-007"),
    ("unknown type", change(DESCRIPTION, model_quant_type="W3A5_MAGIC"), "DESC-002"),
    ("a part that is no directory", write("part1-of-2", "x"), ""),
    ("a part that is the directory", instead("part0-of-1", link(".")), "SC-018"),
    ("name with a control character", write("bad\n\x1b[31m.safetensors", b""), "IDX-001"),
    ("name that is not UTF-8", lambda d: (d / os.fsdecode(b"\xff.safetensors")).touch(), "IDX-001"),
]
ODD_CONFIG = {
    "model_type": ["qwen2"], "num_hidden_layers": "two", "num_attention_heads": 0,
    "num_key_value_heads": {}, "hidden_size": -5, "quantize": {"a": 1}, "torch_dtype": 7,
    "vocab_size": [], "text_config": {"text_config": {"text_config": 1}}, "auto_map": [1],
    "architectures": "x", "eos_token_id": {"a": 1}, "head_dim": 1.5, "quantization_config": 7,
}  # fmt: skip
NOTED: list[tuple[str, Make]] = [
    ("description with CRLF", lambda d: _crlf(d / DESCRIPTION)),
    ("config a list", write(CONFIG, [1])),
    ("config not UTF-8", write(CONFIG, b'{"model_type": "\xff"}')),
    ("config with a doubled member", write(CONFIG, '{"model_type": "a", "model_type": "b"}')),
    ("config with huge numbers", write(CONFIG, f'{{"hidden_size": {"9" * 6000}}}')),
    ("config of odd types", write(CONFIG, ODD_CONFIG)),
    ("config a pipe", instead(CONFIG, os.mkfifo)),
    ("config a loop", instead(CONFIG, link(CONFIG))),
    ("tokenizer of odd types", write("tokenizer.json", {"model": {"vocab": [1, {"a": 2}]}})),
    ("tokenizer a pipe", instead("tokenizer.json", os.mkfifo)),
    ("end tokens of odd types", write("generation_config.json", {"eos_token_id": [[1], -1, {}]})),
    ("list of digests a pipe", instead("SHA256SUMS", os.mkfifo)),
]


def _crlf(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(VALID, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.mark.parametrize(("make", "requirement"), [row[1:] for row in BROKEN],
                         ids=[row[0] for row in BROKEN])  # fmt: skip
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_no_tool_writes_is_a_finding(
    directory: Path, make: Make, requirement: str, lang: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(directory)
    code = main([str(directory), "--lang", lang])
    out, err = capsys.readouterr()
    assert code == (1 if requirement else 0)
    assert requirement in out
    assert err == ""
    assert "\x1b" not in out


@pytest.mark.parametrize("make", [row[1] for row in NOTED], ids=[row[0] for row in NOTED])
def test_what_only_an_engine_needs_stops_nothing(
    directory: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    make(directory)
    assert main([str(directory)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("method", ["awq", "gptq", "fp8", "bitsandbytes", "compressed-tensors"])
def test_other_families_are_named(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "other"
    directory.mkdir()
    write(CONFIG, {"quantization_config": {"quant_method": method}})(directory)
    assert main([str(directory)]) == 4
    assert f"of the {method} family" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("model.gguf", "of the gguf family"),
                                            ("pytorch_model.bin", "no checkpoint")])  # fmt: skip
def test_files_of_other_formats_are_not_judged(
    name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"GGUF")
    assert main([str(tmp_path)]) == 4
    assert said in capsys.readouterr().err
