"""Reports in Chinese leave no English but names; the templates of `schemas/phrases` are sound."""

import ast
import json
import re
from collections.abc import Iterator
from html import unescape
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from slimcheck import rules
from slimcheck.cli import main
from slimcheck.consumers import consumers
from slimcheck.golden import report_of
from slimcheck.report import Report, html, markdown
from slimcheck.report.lang import EN, ZH, said
from slimcheck.report.phrases import english, in_chinese, phrase
from slimcheck.report.terminal import print_report
from slimcheck.report.view import blocks, reasons, serve
from slimspec.data import folder
from slimspec.golden import checkpoint_cases

CHINESE = re.compile(r"[\u4e00-\u9fff]")
PLACE = re.compile(r"\{(\w+)\}")
MARKUP = re.compile(r"<(style|script)>.*?</\1>|<code>.*?</code>|<[^>]+>", re.DOTALL)
# what stays in Chinese texts as it is: tensors, members of JSON, tools and terms of the trade
_TENSORS = "weight bias offset index info scale scales outdim indexer"
_MEMBERS = "optional version metadata quantize null mtp tp rank id token dtype shape begin end"
_TERMS = "safetensors zip pickle rint ceil div minmax half-even nan main llama mistral diffusers"
_SOURCES = "spec user"
NAMES = frozenset(" ".join((_TENSORS, _MEMBERS, _TERMS, _SOURCES)).split()) | consumers().keys()
RULES = Path(rules.__path__[0])
FRAGMENTS = frozenset(  # not said as they are
    ("model_quant_type in lower case", "with a gate", "group size", "k and n above 0")
)
INVALID = [case for case in checkpoint_cases() if not case.valid]
FIRST = {case.id.partition("-")[0]: case for case in reversed(INVALID)}  # of each chapter


def sentences(report: Report) -> Iterator[str]:
    """Everything that rules, engines and readers said, in Chinese."""
    for block in blocks(report, ZH):
        fields = dict(block.fields)
        yield fields["实际"]
        yield fields["期望"]
    for verdict in report.verdicts:
        yield reasons(verdict, ZH)
        yield from (said(note, ZH) for note in verdict.notes)
    yield from (said(each, ZH) for each in report.evidence)


def left_in_english(report: Report) -> set[str]:
    return {text for text in sentences(report) if not NAMES.issuperset(english(text))}


def lines(report: Report) -> Iterator[str]:
    """Lines of the terminal, of Markdown and of the page, without markup and commands."""
    stream = StringIO()
    print_report(report, Console(file=stream, width=100, color_system=None), lang=ZH)
    forms = (
        stream.getvalue(),
        re.sub(r"[*#|`\\]", "", markdown.document(report, ZH).decode()),
        MARKUP.sub("\n", html.document(report, ZH).decode()),
    )
    for line in "\n".join(forms).splitlines():
        named = any(text in line for text in ("启动命令", "slimcheck", report.directory))
        if line.strip() and not named:
            yield unescape(line.strip())


@pytest.mark.parametrize("chapter", FIRST)
def test_no_sentence_stays_english(chapter: str, tmp_path: Path) -> None:
    report = report_of(FIRST[chapter].materialize(tmp_path / "checkpoint"), FIRST[chapter])
    assert left_in_english(report) == set()
    for line in lines(report):
        if not CHINESE.search(line):
            words = english(re.sub(r"\S*[._]\S*", "", line))  # without names
            assert NAMES.issuperset(words), line


def test_command_is_not_translated_whatever_its_path_says(tmp_path: Path) -> None:
    case = next(case for case in checkpoint_cases() if case.id == "dyn-001")
    report = report_of(case.materialize(tmp_path / "W8A8 and W4A8: shape of 8 or 16"), case)
    given = {v.consumer.partition("@")[0]: v for v in report.verdicts if v.serve}
    assert serve(given["vllm-ascend"], ZH) == given["vllm-ascend"].serve
    assert "or 16" in given["vllm-ascend"].serve


@pytest.mark.slow
def test_no_sentence_of_any_broken_golden_stays_english(tmp_path: Path) -> None:
    left: dict[str, set[str]] = {}
    for case in INVALID:
        report = report_of(case.materialize(tmp_path / case.id), case)
        if found := left_in_english(report):
            left[case.id] = found
    assert left == {}


def spoken() -> Iterator[tuple[str, str]]:
    """(file, sentence) of everything that a rule may say, with X1 in its places."""
    for file in sorted(RULES.glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) for part in _parts(node)}
        for node in ast.walk(tree):
            if id(node) not in inside and (text := _text(node)) and " " in text.strip():
                yield file.name, text


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """Strings within a string with places, and docstrings."""
    if isinstance(node, ast.JoinedStr):
        yield from (part for value in node.values for part in ast.walk(value))
    elif isinstance(node, ast.Expr):
        yield node.value


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "\0" for p in node.values]
        return re.sub(r"(?<=[a-z])\0", "", "".join(map(str, parts))).replace("\0", "X1")
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_every_sentence_of_a_rule_has_chinese() -> None:
    left = {}
    for file, text in spoken():
        fragment = text[0] in " ,;" or "(?" in text or text in FRAGMENTS
        if not fragment and not NAMES.issuperset(english(in_chinese(text))):
            left[text] = f"{file}: add it to schemas/phrases"
    assert left == {}


def test_every_template_has_chinese_and_the_same_places() -> None:
    seen: set[str] = set()
    for file in (folder("schemas") / "phrases").glob("*.json"):
        members = dict(json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=list))
        for template, chinese in members["phrases"]:
            assert template not in seen
            seen.add(template)
            words = english(PLACE.sub("", template))
            assert CHINESE.search(chinese) or NAMES.issuperset(words), template
            assert set(PLACE.findall(template)) == set(PLACE.findall(chinese)), template


def test_effects_of_engines_are_found_within_their_sentences() -> None:
    for file in (folder("schemas") / "consumers").glob("*.json"):
        effects = re.findall(r'"effect": ("(?:[^"\\]|\\.)*")', file.read_text(encoding="utf-8"))
        assert effects
        for effect in map(json.loads, effects):
            name = " other.name" if effect.endswith("asks for") else ""
            chinese = in_chinese(f"W8A8 (linear): {effect}{name}")
            assert CHINESE.search(chinese), effect
            assert NAMES.issuperset(english(chinese)), effect


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("no tokenizer file", "没有分词器文件"),
        ("shape [64, 2]", "形状 [64, 2]"),
        ("F32 or I64", "F32 或 I64"),
        (
            "W8A16 (moe): has no such linear type; 310P has",
            "W8A16（专家）：没有这种线性层类型；310P 支持",
        ),
        ("label 'no such file'", "标签 'no such file'"),
        ("model.layers.0.mlp.weight", "model.layers.0.mlp.weight"),
        ("bias, weight", "bias, weight"),
        ("a sentence that nobody foresaw", "a sentence that nobody foresaw"),
        ("", ""),
    ],
)
def test_phrases_are_found_within_phrases(text: str, chinese: str) -> None:
    assert in_chinese(text) == chinese
    assert said(text, EN) == text
    assert said(text, ZH) == chinese


def test_place_that_is_named_twice_says_one_thing() -> None:
    twice = phrase("{a} is {a}", "{a} 即 {a}")
    assert twice.match("x is x") == {"a": "x"}
    assert twice.match("x is y") is None
    assert phrase("no {what}", "").match("no ") is None
    assert phrase("{a}, {b}", "").match("1, 2, 3") == {"a": "1", "b": "2, 3"}


def test_request_that_fails_says_so_in_chinese(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), "--lang", "zh"]) == 4
    assert capsys.readouterr().err == f"slimcheck: {tmp_path}/nowhere：没有此目录\n"
