"""Golden checkpoints for the tests of others: written with their verdicts, or fed to a command."""

import json
import sys
from pathlib import Path

import pytest

from slimcheck.run import run
from slimspec.cli import main
from slimspec.golden.checkers import GROUPS, check, expectation, group_of, select, write
from slimspec.golden.grid import digest, recorded
from slimspec.requirements import load

SAMPLE = [
    "idx-001-pickle", "dir-026-lfs", "w8a8-001", "w8a8-009", "num-001", "llama-a1-bf16", "val-101",
    "c8-a0-fp16-moe",
]  # fmt: skip
LOADER = f"""{sys.executable} -c "
import json, pathlib, sys
for path in pathlib.Path(sys.argv[1]).rglob('*.json'):
    json.loads(path.read_bytes())
" {{checkpoint}}"""


def lines(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[str]:
    assert main(["golden", *arguments]) == code
    return capsys.readouterr().out.splitlines()


def test_selection_is_all_but_what_is_made_on_demand() -> None:
    assert {group_of(case) for case in select()} == set(GROUPS) - {"generated"}
    assert {group_of(case) for case in select(["generated"])} == {"generated"}
    assert len(select(["generated"])) == len(recorded())
    assert [case.id for case in select(globs=SAMPLE)] != []
    assert {case.id for case in select(globs=SAMPLE)} == set(SAMPLE)
    with pytest.raises(ValueError, match="no checkpoint 'w9'"):
        select(["valid"], ["w9"])


def test_directory_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("link", "no/parent"):
        lines(capsys, "checkpoints", str(tmp_path / name), "--id", SAMPLE[0], code=4)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_written_checkpoints_carry_their_verdicts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write(select(globs=SAMPLE), out) == len(SAMPLE)
    content = json.loads((out / "expect.json").read_text(encoding="utf-8"))
    rows = {row["id"]: row for row in content["checkpoints"]}
    assert rows.keys() == set(SAMPLE)
    assert {p.name for p in out.iterdir()} == {*SAMPLE, "expect.json", "float-dense-fp16"}
    for row in rows.values():
        if "float_model" in row:
            assert list((out / row["float_model"]).glob("*.safetensors"))
        else:
            accepted = run(out / row["path"], tp=row.get("tp")).conformant
            assert row["verdict"] in ("either", "accept" if accepted else "refuse"), row["id"]
    told = {cell.id: value for cell, value in recorded().items()}
    assert digest(out / "c8-a0-fp16-moe") == told["c8-a0-fp16-moe"]


def test_verdict_follows_level_and_scope() -> None:
    catalogue = load()
    for case in select():
        counting = {
            e.requirement for e in case.expected
            if catalogue[e.requirement].level == "MUST"
            and catalogue[e.requirement].scope.kind != "consumer"
        }  # fmt: skip
        assert (case.verdict == "refuse") == bool(counting), case.id
        assert (case.verdict == "accept") == (group_of(case) == "valid"), case.id
        assert {f["requirement"] for f in expectation(case)["findings"]} >= counting


def test_command_is_judged_by_its_exit_code() -> None:
    cases = select(globs=["desc-032", "w8a8-001", "llama-a1-bf16", "val-101"])
    answers = {answer.case.id: answer for answer in check(cases, LOADER)}
    assert answers["desc-032"].did == "refuse"
    assert answers["desc-032"].passed
    assert answers["llama-a1-bf16"].passed
    assert answers["val-101"].passed  # nobody sees it without the float model
    assert not answers["w8a8-001"].passed
    assert "expected to refuse, did accept" in str(answers["w8a8-001"].problem)


@pytest.mark.parametrize(
    ("program", "did"),
    [("import os; os.abort()", "crashed"), ("import time; time.sleep(9)", "hung")],
)
def test_crash_is_no_refusal(program: str, did: str) -> None:
    command = f"{sys.executable} -c '{program}' {{checkpoint}}"
    (answer,) = check(select(globs=["desc-032"]), command, timeout=0.5)
    assert answer.did == did
    assert not answer.passed


def test_command_needs_the_placeholder() -> None:
    with pytest.raises(ValueError, match=r"expected \{checkpoint\} in it"):
        next(check(select(), "true"))
    (answer,) = check(select(globs=["desc-032"]), "/nowhere/x {checkpoint}")
    assert not answer.passed


def test_commands_list_show_write_and_check(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    told = lines(capsys, "list")
    for group in GROUPS:
        count = len(select([group]))
        assert any(line.split() == ["checkpoints:", group, str(count)] for line in told), group
    malformed = lines(capsys, "list", "--kind", "malformed")
    assert len(malformed) == len(select(["malformed"]))
    shown = "\n".join(lines(capsys, "show", "num-001"))
    for part in ("(wrong-value: only the bytes", "verdict refuse", '"NUM-001"', "tensor-values"):
        assert part in shown
    assert "made on demand" in "\n".join(lines(capsys, "show", "w8a8-a1-bf16-llama"))
    assert lines(capsys, "show", "nothing", code=4) == []
    out = str(tmp_path / "out")
    lines(capsys, "checkpoints", out, "--kind", "malformed", "--id", "desc-*")
    chosen = [case.id for case in select(["malformed"], ["desc-*"])]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*chosen, "expect.json"}
    lines(capsys, "checkpoints", out, code=4)
    two = ("--id", "desc-032", "--id", "w8a8-001")
    told = lines(capsys, "check", "--cmd", LOADER, *two, code=1)
    assert told[-2:] == ["malformed: 1 of 1 passed", "invalid: 0 of 1 passed"]
