"""The marker `golden` and the argument `golden_vector`, for the tests of Python kernels."""

import subprocess
import sys

import pytest

from slimspec.golden import cases

pytest_plugins = ["pytester"]

KERNELS = """
import numpy as np
import pytest

def kernel(x, scale, offset, form):
    ratio = {division} + offset.astype(np.float32)
    return np.clip(np.nan_to_num(np.rint(ratio)), -128, 127).astype(np.int8)

@pytest.mark.golden("quantize_static", where={{"form": "div"}}, origin="hand")
@pytest.mark.filterwarnings("ignore")
def test_kernel(golden_vector):
    if "low" not in golden_vector.attributes:
        golden_vector.check(kernel(**golden_vector.inputs, **golden_vector.settings))
"""
RIGHT = "x.astype(np.float32) / scale.astype(np.float32)"
WRONG = "x.astype(np.float32) * (np.float32(1) / scale.astype(np.float32))"


PROBLEMS = {
    "": "golden_vector needs @pytest.mark.golden(op=...)",
    "@pytest.mark.golden('nope')": "no vector of operation 'nope': expected one of",
    "@pytest.mark.golden('round', where={'rule': 'up'})": (
        "none of the 8 vectors of round has {'rule': 'up'}"
    ),
    "@pytest.mark.golden('round', where=3)": "where=3: expected attributes by name",
    "@pytest.mark.golden('round', form=1)": "unexpected keyword argument 'form'",
}


def run(pytester: pytest.Pytester, *contents: str) -> pytest.RunResult:
    """Run test files outside of this project."""
    pytester.makepyfile(**{f"test_{number}": content for number, content in enumerate(contents)})
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-v", "--strict-markers")


def test_kernel_runs_once_for_each_vector_and_a_wrong_one_is_named(
    pytester: pytest.Pytester,
) -> None:
    told = run(pytester, KERNELS.format(division=RIGHT), KERNELS.format(division=WRONG))
    count = len(cases("quantize_static", origin="hand", where={"form": "div"}))
    passed = told.parseoutcomes()["passed"]
    assert count <= passed < 2 * count == passed + told.parseoutcomes()["failed"]
    told.stdout.fnmatch_lines("test_0.py::test_kernel[[]quantize-static-001] PASSED*")
    told.stdout.no_fnmatch_line("test_0.py::* FAILED*")
    told.stdout.fnmatch_lines('*all elements equal "reciprocal instead of division"*')
    told.stdout.fnmatch_lines("*ReciprocalScale: Values near ties move by one code*")


def test_mark_that_names_nothing_is_an_error(pytester: pytest.Pytester) -> None:
    body = "def test_it(golden_vector): pass\n"
    told = run(pytester, *(f"import pytest\n{mark}\n{body}" for mark in PROBLEMS))
    told.assert_outcomes(errors=len(PROBLEMS))
    for problem in PROBLEMS.values():
        assert problem in told.stdout.str()
    assert "Traceback" not in told.stdout.str()


def test_start_of_pytest_imports_no_numba(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\ndef pytest_unconfigure(): print('numba' in sys.modules)\n")
    pytester.makepyfile("def test_it(pytestconfig): pytestconfig.getini('markers')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert done.stdout.rstrip().endswith("False"), done.stdout + done.stderr
