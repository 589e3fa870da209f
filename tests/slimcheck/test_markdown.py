"""Markdown that shows every finding, and in which no name becomes markup."""

import json
import shutil
from pathlib import Path

import pytest

from slimcheck.report.markdown import code, document, text
from slimcheck.run import run
from slimspec.data import folder

HOSTILE = "a|b`c``d<script>*x*_y_[z](http://e)@u#1.weight"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-bf16", target)
    path = target / "quant_model_description.json"
    description = json.loads(path.read_text())
    description[HOSTILE] = "FLOAT"
    path.write_text(json.dumps(description))
    return target


def test_every_finding_and_verdict_is_there(directory: Path) -> None:
    report = run(directory)
    lines = document(report).decode().splitlines()
    for result in report.failed:
        heads = [
            line for line in lines if line.startswith("### ") and result.requirement.id in line
        ]
        assert len(heads) == len(result.groups)
    assert lines[0] == "# slimcheck: NOT CONFORMANT"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(report.verdicts)


def test_chinese_report_has_chinese_titles(directory: Path) -> None:
    report = run(directory)
    said = document(report, "zh").decode()
    assert said.startswith("# slimcheck: 不符合规范")
    assert "- **位置** " in said


def test_name_stays_a_name(directory: Path) -> None:
    said = document(run(directory)).decode()
    assert f"```{HOSTILE}" in said
    for line in said.replace(f"```{HOSTILE}", "").splitlines():
        assert "<script>" not in line.replace("\\<script\\>", "")


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("`a", "`` `a ``"),
        ("a``b`", "``` a``b` ```"),
        ("a\nb", "`a\\nb`"),
        (" ", "`   `"),
    ],
)
def test_code_span_cannot_be_ended_from_within(name: str, span: str) -> None:
    assert code(name) == span


def test_plain_text_has_no_markup() -> None:
    assert text("*a* <b> [c] `d` x|y") == r"\*a\* \<b\> \[c\] \`d\` x\|y"
    assert text("a\n# b") == "a\\\\n\\# b"
