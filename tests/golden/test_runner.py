"""Running executables on vectors, exporting them, and the command line."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from slimspec.checkpoint import CheckpointError
from slimspec.cli import main
from slimspec.golden import cases
from slimspec.golden.command import fill, run, split
from slimspec.golden.export import FORMATS, export, write_case
from slimspec.golden.runner import judge, run_cases

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "matmul_int8.c"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    binary = tmp_path_factory.mktemp("c") / "matmul_int8"
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined"]
    command = [compiler, *flags, "-o", str(binary), str(EXAMPLE)]
    plain = [part for part in command if not part.startswith("-fsanitize")]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        subprocess.run(plain, check=True, capture_output=True)
    return binary


def script(tmp_path: Path, body: str) -> str:
    """A command that runs a Python kernel."""
    path = tmp_path / "kernel.py"
    path.write_text(f"import sys\ninputs, outputs = sys.argv[1:]\n{body}\n", encoding="utf-8")
    return f"{sys.executable} {path} {{inputs}} {{outputs}}"


def test_c_program_of_sixty_lines_passes(program: Path) -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 60
    found = list(run_cases(cases("matmul_int8"), f"{program} {{inputs}} {{outputs}}"))
    assert [(r.case.id, r.problems) for r in found if not r.passed] == []
    assert len(found) == len(cases("matmul_int8"))


def test_c_program_reads_exported_vectors(program: Path, tmp_path: Path) -> None:
    export(cases("matmul_int8"), tmp_path / "all", "bin")
    for case in cases("matmul_int8"):
        made = tmp_path / "made" / case.id
        made.mkdir(parents=True)
        place = tmp_path / "all" / case.id
        subprocess.run([program, place / "inputs", made], check=True)
        expected = (place / "outputs" / "acc.bin").read_bytes()
        assert (made / "acc.bin").read_bytes() == expected


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("sys.exit('cannot do it')", "crash: exit code 1: cannot do it"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash: signal 11"),
        ("import time; time.sleep(60)", "timeout: no answer within 1 s"),
        ("pass", "hi: No such file or directory"),
        ("open(outputs + '/hi.bin', 'wb').write(b'123')", "expected 8 bytes in hi.bin, found 3"),
        ("import os; os.mkfifo(outputs + '/hi.bin')", "expected a file hi.bin"),
        ("while True: sys.stderr.write('sleep' * 9999)", "timeout: no answer within 1 s"),
        ("while True: print('sleep' * 9999)", "timeout: no answer within 1 s"),
        ("import os; os.fork() or __import__('time').sleep(9); sys.exit(7)", "exit code 7"),
    ],
    ids=["exit", "signal", "timeout", "no-output", "size", "pipe", "complains", "prints", "child"],
)
def test_misbehaving_command_fails_its_case(tmp_path: Path, body: str, problem: str) -> None:
    chosen = [case for case in cases("split_int8") if case.id == "split-int8-002"]
    (found,) = run_cases(chosen, script(tmp_path, body), timeout=1 if "sleep" in body else 30)
    assert not found.passed
    assert problem in found.problems[0]


def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    body = """
import os, time
if os.fork() == 0:
    open(outputs + "/../child", "w").write(str(os.getpid()))
time.sleep(60)
"""
    words = split(script(tmp_path, body), ["{inputs}", "{outputs}"])
    (tmp_path / "out").mkdir()
    filled = fill(words, {"{inputs}": tmp_path, "{outputs}": tmp_path / "out"})
    assert run(filled, timeout=1).code is None
    child = int((tmp_path / "child").read_text())
    for _ in range(200):  # it dies a moment later, and whoever inherits it may not bury it
        with suppress(OSError):
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.05)
                continue
        return
    pytest.fail(f"process {child} lives on")


def test_missing_command_is_said() -> None:
    (found,) = run_cases(cases("split_int8")[:1], "/no/such/kernel {inputs} {outputs}")
    assert found.problems == ("cannot run /no/such/kernel: No such file or directory",)


@pytest.mark.parametrize("command", ["./kernel", "", "./kernel {inputs}", "'"])
def test_command_needs_both_places(command: str) -> None:
    with pytest.raises(ValueError):
        list(run_cases(cases("split_int8")[:1], command))


@pytest.mark.parametrize("form", ["bin", "npy"])
def test_expected_outputs_pass_in_both_forms(form: str, tmp_path: Path) -> None:
    chosen = {case.op: case for case in cases()}  # one of each operation
    for case in chosen.values():
        write_case(case, tmp_path / case.id, form)
        assert judge(case, tmp_path / case.id / "outputs", form).problems == ()


def test_kernel_never_sees_the_answer(tmp_path: Path) -> None:
    case = cases("split_int8")[0]
    write_case(case, tmp_path / "x", answers=False)
    assert list((tmp_path / "x" / "outputs").iterdir()) == []
    assert not (tmp_path / "x" / "intermediates").exists()


def test_case_text_names_every_tensor(tmp_path: Path) -> None:
    case = next(c for c in cases("quantize_static") if c.id == "quantize-static-011")
    write_case(case, tmp_path / "x")
    assert (tmp_path / "x" / "inputs" / "case.txt").read_text(encoding="utf-8").splitlines() == [
        "case quantize-static-011",
        "op quantize_static",
        "numerics canonical",
        "attribute form div",
        "attribute low -127",
        "input x F32 1 5 x.bin",
        "input scale F32 1 1 scale.bin",
        "input offset F32 1 1 offset.bin",
        "output q I8 1 5 q.bin bit-exact 0",
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_export_writes_every_case_and_overwrites_nothing(form: str, tmp_path: Path) -> None:
    chosen = cases("dequantize")
    assert export(chosen, tmp_path / "out", form) == len(chosen)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(CheckpointError, match="is not empty"):
        export(chosen, tmp_path / "out", form)


def test_json_export_holds_bits_of_floats(tmp_path: Path) -> None:
    export([c for c in cases("dequantize") if c.id == "dequantize-002"], tmp_path / "out", "json")
    content = json.loads((tmp_path / "out" / "dequantize-002.json").read_text(encoding="utf-8"))
    assert content["inputs"]["deq_scale"]["values"] == ["0.0122999996 (0x3c4985f0)"]
    assert content["inputs"]["acc"]["values"] == [12345, 7, 16777217, 2147483647]


def test_atb_tensor_file_has_header_and_raw_elements(tmp_path: Path) -> None:
    export(cases("requantize"), tmp_path / "out", "atb-csv")
    content = (tmp_path / "out" / "requantize-001.in.acc.bin").read_bytes()
    head, _, raw = content.partition(b"$End=1\n")
    assert b"dtype=3\n" in head
    assert b"dims=4,1\n" in head
    assert np.frombuffer(raw, "<i4").tolist() == [100, 30000, -30000, -4066]
    lines = (tmp_path / "out" / "cases.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split("|")[1] for line in lines[1:]] == [  # words have no dtype in ATB
        case.id for case in cases("requantize") if case.id != "requantize-004"
    ]
    assert Counter(line.count("|") for line in lines) == {13: len(lines)}


def test_command_line_names_what_a_kernel_follows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = """
import numpy as np
tensors = {}
for line in open(inputs + "/case.txt"):
    words = line.split()
    if words[0] == "input":
        shape = [int(n) for n in words[4 : 4 + int(words[3])]]
        tensors[words[1]] = np.fromfile(f"{inputs}/{words[-1]}", np.int8).reshape(shape)
acc = tensors["x"].astype(np.int64) @ tensors["w"].astype(np.int64).T
np.clip(acc, -2**31, 2**31 - 1).astype(np.int32).tofile(outputs + "/acc.bin")
"""
    command = ["golden", "run", "--op", "matmul_int8", "--cmd", script(tmp_path, body)]
    assert main([*command, "--case", "matmul-int8-007", "--case", "matmul-int8-002"]) == 1
    out = capsys.readouterr().out
    assert "FAIL matmul-int8-007" in out
    assert 'all elements equal "saturates instead of wrapping"' in out
    assert "1 of 2 passed" in out
    assert main([*command, "--case", "matmul-int8-002"]) == 0
    assert main([*command, "--case", "matmul-int8-999"]) == 5
    assert main(["golden", "run", "--op", "nope", "--cmd", "x {inputs} {outputs}"]) == 4


def test_command_line_lists_shows_exports_and_generates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["golden", "list"]) == 0
    assert "matmul_int8 " in capsys.readouterr().out
    assert main(["golden", "show", "requantize-001"]) == 0
    assert "mid/nine_bit int16 [4, 1]: 6, 255, -256, -254" in capsys.readouterr().out
    assert main(["golden", "show", "requantize-999"]) == 4
    target = str(tmp_path / "made")
    shape = ["--op", "matmul_int8", "--shape", "m=4,n=8,k=300", "--seed", "1"]
    assert main(["golden", "generate", target, *shape]) == 0
    assert main(["golden", "export", str(tmp_path / "out"), "--from", target]) == 0
    assert (tmp_path / "out" / "matmul-int8-s1-000" / "outputs" / "acc.bin").stat().st_size == 128
    assert main(["golden", "generate", target, "--op", "matmul_int8", "--shape", "q=1"]) == 4
    for wrong in (["--count", "0"], ["--count", "-1"], ["--seed", str(2**32)], ["--seed", "-1"]):
        assert main(["golden", "generate", str(tmp_path / "none"), *shape[:4], *wrong]) == 4
    capsys.readouterr()
    for wrong, told in (("x=NaN", "NaN is no value of JSON"), ("x=1", "attribute 'x' of matmul")):
        assert main(["golden", "generate", str(tmp_path / "x"), *shape[:4], "--set", wrong]) == 4
        assert told in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
    for wrong in ("nan", "inf", "-1", "0", "soon"):
        command = ["--cmd", "x {inputs} {outputs}", "--timeout", wrong]
        assert main(["golden", "run", "--op", "matmul_int8", *command]) == 4
    where = ["--op", "quantize_static", "--where", "form=mul"]
    assert main(["golden", "export", str(tmp_path / "mul"), *where]) == 0
    assert [p.name for p in (tmp_path / "mul").iterdir()] == ["quantize-static-002"]


@pytest.mark.slow
def test_verify_passes_on_an_unpacked_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "site", "zip")
    code = (
        "import sys, slimspec; from slimspec.cli import main;"
        "assert 'site' in slimspec.__file__; sys.exit(main(['golden', 'verify']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
