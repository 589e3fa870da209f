"""Chinese texts, narrow terminals, no colour, plain ASCII, and control characters."""

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from slimcheck.explain import explanation
from slimcheck.findings import Group
from slimcheck.report import Report
from slimcheck.report.lang import EN, WORDS, ZH, visible
from slimcheck.report.terminal import AsciiStream, is_posix_locale, print_report
from slimcheck.report.view import SEVERITIES
from slimcheck.run import run
from slimspec import requirements
from slimspec.golden import checkpoint_cases

CHINESE = re.compile(r"[\u4e00-\u9fff]")
PLACE = re.compile(r"\{\w*\}")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (case,) = (case for case in checkpoint_cases() if case.id == "w8a8-002")
    return case.materialize(tmp_path_factory.mktemp("lang") / "checkpoint")


@pytest.fixture(scope="module")
def report(broken: Path) -> Report:
    return run(broken)


def printed(report: Report, lang: str = EN, **options: object) -> str:
    text = StringIO()
    console = Console(file=text, highlight=False, color_system=None, **options)  # type: ignore[arg-type]
    print_report(report, console, lang=lang)
    return text.getvalue()


def test_both_languages_have_the_same_words_and_places() -> None:
    assert WORDS[EN].keys() == WORDS[ZH].keys()
    for key, word in WORDS[EN].items():
        assert sorted(PLACE.findall(word)) == sorted(PLACE.findall(WORDS[ZH][key])), key
        assert WORDS[ZH][key].strip()


def test_every_requirement_has_chinese_texts() -> None:
    for row in requirements.load().values():
        names = [f.name for f in fields(row) if f.name.endswith("_zh")]
        assert len(names) == 3
        for name in names:
            assert CHINESE.search(getattr(row, name)), f"{row.id} {name}"


def test_report_in_chinese_names_fields_titles_and_verdicts(report: Report) -> None:
    text = printed(report, ZH)
    (result,) = (r for r in report.failed if r.counts)
    row = result.requirement
    for said in (row.title_zh, row.why_zh, row.fix_zh, "位置", "实际", "期望", "影响", "修复"):
        assert said in text
    assert row.title not in text
    assert "不符合规范" in text
    assert not re.search(r"\b(where|effect|violated|passed)\b", text)


def test_explain_speaks_chinese() -> None:
    row = requirements.load()["W8A8-012"]
    text = explanation(row, ZH)
    assert row.title_zh in text
    assert "原因" in text
    assert row.why not in text
    for line in explanation(row).splitlines()[2:]:
        assert len(line) <= 96


@pytest.mark.parametrize("lang", [EN, ZH])
@pytest.mark.parametrize("width", [40, 72, 120])
def test_terminal_lines_fit_the_width(report: Report, lang: str, width: int) -> None:
    text = printed(report, lang, width=width, force_terminal=True)
    assert all(Text(line).cell_len <= width for line in text.splitlines())
    assert "W8A8-012" in text


def test_continued_lines_stand_under_their_field(report: Report) -> None:
    text = printed(report, width=60, force_terminal=True)
    block = text.split("W8A8-012")[1].split("\n\n")[0].splitlines()
    start = next(i for i, line in enumerate(block) if line.startswith("  expected"))
    assert block[start + 1].startswith(" " * 12)


def test_redirected_output_is_not_wrapped(report: Report) -> None:
    text = printed(report, width=20)
    assert any(len(line) > 100 for line in text.splitlines())


@pytest.mark.parametrize("lang", [EN, ZH])
def test_of_many_findings_a_terminal_shows_the_worst_of_each_requirement(
    report: Report, lang: str
) -> None:
    ids = [result.requirement.id for result in report.failed]
    wide = replace(report, results=[*report.results])
    bad, note = report.failed[0], next(r for r in report.results if r not in report.failed)
    many = [Group(bad.requirement.id, "x", f"found {i}", "none", [f"a.{i}"]) for i in range(3000)]
    wide.results[wide.results.index(bad)] = replace(bad, groups=[*bad.groups, *many])
    wide.results[wide.results.index(note)] = replace(
        note, status=bad.status, groups=many[:50], counts=False
    )
    total = sum(len(result.groups) for result in wide.failed)
    shown = printed(wide, lang, force_terminal=True, width=100)
    assert WORDS[lang]["left"].format(total - 200) in shown
    severities = tuple(WORDS[lang][name] for name in SEVERITIES)
    heads = [line for line in shown.splitlines() if line.startswith(severities)]
    assert len(heads) == 200
    assert {line.split()[1] for line in heads} == set(ids)
    assert "found 100" in shown
    assert "found 2999" not in shown
    redirected = printed(wide, lang)
    assert "found 2999" in redirected
    assert WORDS[lang]["left"].split("{}")[0] not in redirected
    assert shown.splitlines()[-1] == redirected.splitlines()[-1]


def slimcheck(
    directory: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[bytes]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    keep.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "slimcheck.cli", str(directory), *arguments]
    return subprocess.run(command, capture_output=True, env=keep | environ, check=False)


def test_posix_locale_gets_ascii_only(broken: Path) -> None:
    for environ in ({"LC_ALL": "C"}, {"LANG": "POSIX"}, {}):
        result = slimcheck(broken, **environ)
        assert result.returncode == 1
        assert result.stdout.isascii(), environ
        assert b"rint(bias / deq_scale - sum  weight * input_offset)" in result.stdout
    assert "Σ" in slimcheck(broken, LANG="C.UTF-8").stdout.decode()


def test_chinese_needs_an_encoding_that_has_it(broken: Path) -> None:
    strict = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = slimcheck(broken, "--lang", "zh", **strict)
    assert result.returncode == 4
    assert result.stderr.count(b"\n") == 1
    assert b"set LC_ALL=C.UTF-8" in result.stderr
    utf8 = slimcheck(broken, "--lang", "zh", LC_ALL="C.UTF-8")
    assert "不符合规范" in utf8.stdout.decode("utf-8")


@pytest.mark.parametrize(
    ("environ", "posix"),
    [
        ({}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, True),  # Python's own doing where there is no locale
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C.UTF-8"}, False),
        ({"LC_ALL": "POSIX", "LANG": "zh_CN.UTF-8"}, True),
        ({"LC_ALL": "", "LANG": "zh_CN.UTF-8"}, False),
    ],
)
def test_locale_is_read_as_the_c_library_does(environ: dict[str, str], posix: bool) -> None:
    assert is_posix_locale(environ) is posix


def test_ascii_stream_drops_nothing() -> None:
    text = StringIO()
    AsciiStream(text).write("a × b … ≥ 中")
    assert text.getvalue() == "a x b ... >= \\u4e2d"


def test_no_color_means_no_escape_codes(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    from slimcheck.report.terminal import terminal

    class Screen(StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable in ("LC_ALL", "LC_CTYPE", "NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(variable, raising=False)
    coloured = Screen()
    print_report(report, terminal(stream=coloured))
    assert "\x1b[" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Screen()
    print_report(report, terminal(stream=plain))
    assert "\x1b" not in plain.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("right\u202eleft", "right\\u202eleft"),
        ("lone \udc80", "lone \\udc80"),
        ("中文", "中文"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown
