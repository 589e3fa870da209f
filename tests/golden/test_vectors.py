"""The vectors: schema, ids that stay, traceability, and what a kernel author gets from `cases`."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slimspec.data import folder
from slimspec.golden import cases
from slimspec.golden.compare import compare, ordinals, within
from slimspec.golden.contents import Definition
from slimspec.golden.contents.model import f32, i8
from slimspec.golden.exact import BF16, F16, F32, add, cast, clipped, div, fp19, integers, mul
from slimspec.golden.generate import generate, write_generated
from slimspec.golden.operations import operations
from slimspec.golden.vectors import flags, names, read_directory, read_ids
from slimspec.golden.vectors_build import keep_ids, write_cases
from slimspec.golden.verify import CHECKS
from slimspec.jsonschemas import validator
from slimspec.requirements import load

ROOT = Path(__file__).resolve().parents[2]
IDS = folder("golden") / "vectors" / "ids.txt"


@pytest.mark.parametrize("name", [n for n in CHECKS if not n.startswith("checkpoints")])
def test_corpus_passes_every_check(name: str) -> None:
    assert list(CHECKS[name]()) == []


def test_ids_of_the_previous_commit_are_kept() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no version control here")
    command = ["git", "show", "HEAD:golden/vectors/ids.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("the previous commit has no vectors")
    before = done.stdout.splitlines()
    assert IDS.read_text(encoding="utf-8").splitlines()[: len(before)] == before


def test_ids_are_issued_once() -> None:
    issued = [name for name, _ in read_ids(IDS)]
    assert len(issued) == len(set(issued)) == len(cases())


def test_id_cannot_be_removed_or_used_for_other_inputs(tmp_path: Path) -> None:
    (tmp_path / "vectors").mkdir()
    keep_ids(tmp_path, ["a-001 11", "b-001 22"])
    keep_ids(tmp_path, ["a-001 11", "b-001 22", "a-000 33"])
    assert list(read_ids(tmp_path / "vectors" / "ids.txt"))[-1] == ("a-000", "33")
    with pytest.raises(ValueError, match="b-001 is gone"):
        keep_ids(tmp_path, ["a-001 11", "a-000 33"])
    with pytest.raises(ValueError, match="a-001 stands for other inputs"):
        keep_ids(tmp_path, ["a-001 12", "b-001 22", "a-000 33"])


def test_every_operation_but_none_of_chance_has_vectors() -> None:
    assert set(names()) == set(operations())


def test_no_vector_rests_on_the_reference_alone() -> None:
    assert {case.origin for case in cases()} == {"hand", "producer"}
    named = {requirement for case in cases() for requirement in case.requirements}
    assert named <= set(load())
    assert len(named) > 50


def test_every_flag_says_what_breaks() -> None:
    assert all(note["wrong"] and note["breaks"] for note in flags().values())


def test_schema_refuses_what_is_unknown() -> None:
    content = json.loads((folder("golden") / "vectors" / "requantize.json").read_text())
    check = validator("vector")
    assert check.is_valid(content)
    for key, value in (("extra", 1), ("origin", "guess"), ("flags", ["lower"]), ("id", "A_1")):
        wrong = {**content, "cases": [{**content["cases"][0], key: value}]}
        assert not check.is_valid(wrong), key


def test_disagreeing_output_is_refused(tmp_path: Path) -> None:
    wrong = Definition("split_int8", "999", "x", {"x": i8([17])}, {"hi": i8([1]), "lo": i8([1])})
    with pytest.raises(ValueError, match=r"split-int8-999: the reference disagrees: 1 of 1"):
        write_cases(tmp_path / "split_int8.json", [wrong])


def test_loaded_arrays_cannot_be_changed() -> None:
    x = cases("split_int8")[0].inputs["x"]
    with pytest.raises(ValueError, match="read-only"):
        x[0] = 1


def test_unknown_operation_is_named() -> None:
    with pytest.raises(ValueError, match="no vector of operation 'nope': expected one of"):
        cases("nope")


@pytest.mark.parametrize("case", cases("pack_int4", origin="hand"), ids=str)
def test_python_kernel_is_checked_in_one_line(case: Any) -> None:
    axis = case.attributes["axis"]
    q = np.moveaxis(case.inputs["q"], axis, -1)
    even, odd = q[..., 0::2], q[..., 1::2]
    case.check(np.moveaxis((even & 15 | odd << 4).astype(np.int8), -1, axis))
    swapped = np.moveaxis((odd & 15 | even << 4).astype(np.int8), -1, axis)
    with pytest.raises(AssertionError, match='all elements equal "nibbles swapped"') as failed:
        case.check({"packed": swapped})
    assert "NibbleOrder: Garbage" in str(failed.value)


def test_exact_arithmetic_agrees_with_ieee_hardware() -> None:
    random = np.random.RandomState(0)
    x = (random.standard_normal(300) * 2.0 ** random.randint(-40, 40, 300)).astype(np.float32)
    y = np.roll(x, 1)
    for ours, theirs in ((add(x, y), x + y), (mul(x, y), x * y), (div(x, y), x / y)):
        assert ours.tobytes() == theirs.tobytes()
    small = np.concatenate([x * np.float32(2.0**-10), f32(65519, 65520, 2.0**-25, -0.0)])
    with np.errstate(over="ignore"):
        assert cast(small, F16).tobytes() == small.astype(np.float16).tobytes()
    assert cast(x, BF16).tobytes() == x.astype(BF16.dtype).tobytes()
    assert cast(x, F32).tobytes() == x.tobytes()
    assert fp19(x).tobytes() == (x.view(np.uint32) & np.uint32(0xFFFFE000)).tobytes()
    assert integers(f32(0.5, 1.5, -2.5)) == [0, 2, -2]
    assert clipped([300, float("inf"), float("nan"), -4], -8, 7).tolist() == [7, 7, 0, -4]


def test_tolerances_are_exact_about_their_bound() -> None:
    one = f32(1, -1, 0.0)
    far = np.nextafter(np.nextafter(one, f32(9, 9, 9)), f32(9, 9, 9))
    assert within(one, far, {"class": "ulp", "bound": 2}).all()
    assert not within(one, far, {"class": "ulp", "bound": 1}).any()
    assert not within(f32([np.nan]), f32([1]), {"class": "ulp", "bound": 9}).any()
    assert within(i8(-128, 5), i8(-127, 7), {"class": "codes", "bound": 1}).tolist() == [
        True,
        False,
    ]
    assert ordinals(f32(-0.0, 0.0)).tolist() == [0, 0]
    steps = np.array([-5e-324, -0.0, 5e-324, 1.0, np.nextafter(1.0, 2.0)])
    assert np.diff(ordinals(steps)).tolist() == [1, 1, 0x3FF0000000000000 - 1, 1]
    assert not within(f32([-0.0]), f32([0.0]), {"class": "bit-exact"}).any()


def test_difference_names_element_expected_and_found() -> None:
    (found,) = compare({"y": i8([[1, 2]])}, {"y": i8([[1, 3]])}, {})
    assert found.text() == "1 of 2 elements differ, first y[0, 1]: expected 2, found 3"
    (found,) = compare({"y": i8([1])}, {"y": f32([1])}, {})
    assert found.text() == "y: expected int8 [1], found float32 [1]"
    (found,) = compare({"y": i8([1])}, {}, {})
    assert found.text() == "y: expected int8 [1], found no output"


SAMPLED = sorted(name for name, op in operations().items() if op.sample)


@pytest.mark.parametrize("op", SAMPLED)
def test_generated_vectors_are_reproducible_and_readable(op: str, tmp_path: Path) -> None:
    sizes = {"m": 3, "n": 32, "k": 64, "g": 32}
    for name in ("one", "two"):
        write_generated(tmp_path / name, generate(op, sizes, 5, {}, 2))
    one, two = ((tmp_path / n / f"{op}.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two
    found = read_directory(tmp_path / "one")
    assert [case.origin for case in found] == ["reference"] * 2
    for case in found:
        case.check(operations()[op].run(case.inputs, case.settings))
    with pytest.raises(ValueError, match="nothing is overwritten"):
        write_generated(tmp_path / "one", generate(op, sizes, 6, {}))


def test_directory_without_or_with_broken_case_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no case file"):
        read_directory(tmp_path)
    (tmp_path / "x.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.json"):
        read_directory(tmp_path)
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="required property"):
        read_directory(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("dequantize.json", b"[" * 100_000),
        ("dequantize.json", None),
        ("dequantize.safetensors", b""),
        ("dequantize.safetensors", b"\xff" * 100),
        ("dequantize.safetensors", None),
        ("dequantize.safetensors", b"\2\0\0\0\0\0\0\0{}"),
    ],
)
def test_directory_of_others_is_read_with_care(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    write_generated(tmp_path, generate("dequantize", {}, 1, {}))
    (tmp_path / name).unlink()
    if content is None:
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        read_directory(tmp_path)


def test_generated_files_replace_nothing(tmp_path: Path) -> None:
    (tmp_path / "dequantize.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match="nothing is overwritten"):
        write_generated(tmp_path, generate("dequantize", {}, 1, {}))
    assert [path.name for path in tmp_path.iterdir()] == ["dequantize.safetensors"]
