"""The report as Markdown, for a pull request or a model card."""

from collections.abc import Iterator, Sequence

import slimspec
from slimcheck.report.lang import EN, WORDS, visible
from slimcheck.report.model import Report
from slimcheck.report.view import Block, blocks, conclusion, heading, reasons, unmatched

_SPECIAL = str.maketrans({c: "\\" + c for c in "\\`*_[]<>#|~&@"})


def document(report: Report, lang: str = EN) -> bytes:
    """Return the Markdown text."""
    return ("\n".join(_lines(report, lang)) + "\n").encode()


def _lines(report: Report, lang: str) -> Iterator[str]:
    words = WORDS[lang]
    verdict, counts = conclusion(report, lang)
    yield f"# slimcheck: {text(verdict)}"
    yield ""
    yield f"{code(report.directory)} — {text(counts)}"
    for line in heading(report, lang):
        yield ""
        yield text(line)
    for line in unmatched(report, lang):
        yield ""
        yield f"**{text(line)}**"
    yield ""
    yield f"## {words['consumers']}"
    yield ""
    yield from table(
        [words["engine"], words["verdict"], words["because"]],
        [
            [text(v.consumer), text(words[v.verdict]), text(reasons(v, lang))]
            for v in report.verdicts
        ],
    )
    yield ""
    yield f"## {words['findings']}"
    found = list(blocks(report, lang))
    if not found:
        yield ""
        yield words["no findings"]
    for each in found:
        yield from _block(each, lang)
    if report.options.level == "numeric":
        yield from _numeric(report, lang)
    yield ""
    yield f"slimcheck {slimspec.__version__}"


def _numeric(report: Report, lang: str) -> Iterator[str]:
    """What became of each linear beside the float model."""
    from slimcheck.numeric.table import header, notes, summary

    yield ""
    yield f"## {WORDS[lang]['numeric']}"
    yield ""
    rows = [[text(cell) for cell in row] for row in summary(report.comparisons)]
    yield from table([text(cell) for cell in header(lang)], rows)
    for line in notes(report.comparisons, lang):
        yield ""
        yield text(line)


def _block(each: Block, lang: str) -> Iterator[str]:
    words = WORDS[lang]
    yield ""
    yield f"### {words[each.severity]} {text(each.id)}: {text(each.title)}"
    yield ""
    as_code = (words["where"], words["found"])
    for name, said in each.fields:
        yield f"- **{name}** {code(said) if name in as_code else text(said)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table whose cells are Markdown already."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def text(said: str) -> str:
    """Plain text: no character of it means anything in Markdown or HTML."""
    return visible(said).translate(_SPECIAL)


def code(said: str) -> str:
    """A code span that no run of backticks in `said` can end."""
    said = visible(said)
    runs = "".join(c if c == "`" else " " for c in said).split()
    fence = "`" * (1 + max(map(len, runs), default=0))
    pad = " " if said.startswith("`") or said.endswith("`") or not said.strip() else ""
    return f"{fence}{pad}{said}{pad}{fence}"
