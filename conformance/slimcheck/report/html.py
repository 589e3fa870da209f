"""The report as one self-contained page: no request to anywhere, readable without JavaScript.

Every text of the checkpoint is escaped, and a Content-Security-Policy lets only the page's own
style and script run, so that a hostile tensor name stays a name.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html import escape
from pathlib import Path

import slimspec
from slimcheck import verdicts
from slimcheck.report.html_figures import heat_table, numeric_table, plots, size_table
from slimcheck.report.lang import EN, WORDS, ZH, said, title, visible
from slimcheck.report.model import Report
from slimcheck.report.view import (
    SEVERITIES,
    Block,
    blocks,
    conclusion,
    heading,
    reasons,
    serve,
    unmatched,
)

NAMES = 100  # shown per finding
OPEN = 20  # findings that are unfolded from the start
_VERDICT_STYLE = {
    verdicts.OK: "fine",
    verdicts.WRONG: "wrong",
    verdicts.FAILS: "fails",
    verdicts.UNKNOWN: "unsure",
}


def document(report: Report, lang: str = EN) -> bytes:
    """Return the page."""
    return ("\n".join(_page(report, lang)) + "\n").encode()


def _page(report: Report, lang: str) -> Iterator[str]:
    style, script = _asset("html.css"), _asset("html.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    yield "<!DOCTYPE html>"
    yield f'<html lang="{"zh-CN" if lang == ZH else "en"}">'
    yield '<head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>slimcheck: {text(Path(report.directory).name)}</title>"
    yield f"<style>{style}</style></head><body><main>"
    yield from _header(report, lang)
    yield from _engines(report, lang)
    found = list(blocks(report, lang))
    yield from _findings(found, lang)
    yield from heat_table(report, _anchors(found), lang)
    if report.options.level == "numeric":
        yield from numeric_table(report, lang)
    yield from plots(report, lang)
    yield from size_table(report, lang)
    yield from _requirements(report, lang)
    yield f'<footer class="soft">slimcheck {slimspec.__version__}</footer>'
    yield f"</main><script>{script}</script></body></html>"


def text(any_text: str) -> str:
    """Any text, as HTML; also fit for a quoted attribute."""
    return escape(visible(any_text), quote=True)


@cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(asset: str) -> str:
    digest = hashlib.sha256(asset.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _header(report: Report, lang: str) -> Iterator[str]:
    words, counts = WORDS[lang], report.counts
    verdict, _ = conclusion(report, lang)
    yield f'<header class="card head{"" if report.exit_code else " ok"}">'
    yield f'<h1>{text(report.directory)}</h1><p class="verdict">{text(verdict)}</p>'
    for line in heading(report, lang):
        yield f'<p class="soft">{text(line)}</p>'
    for line in unmatched(report, lang):
        yield f'<p class="odd">{text(line)}</p>'
    yield '<div class="tiles">'
    for key, count in (
        ("violated", counts["must"]),
        ("to note", counts["notes"]),
        ("waived", counts["waived"]),
        ("passed", counts.get("passed", 0)),
    ):
        bad = " bad" if key == "violated" and count else ""
        name = words[key].format("").strip().removesuffix("项").strip()
        yield f'<div class="tile{bad}"><b>{count}</b>{text(name)}</div>'
    yield "</div></header>"


def _engines(report: Report, lang: str) -> Iterator[str]:
    words = WORDS[lang]
    yield f'<h2>{text(words["consumers"])}</h2><div class="engines">'
    for v in report.verdicts:
        badge = f'<span class="badge {_VERDICT_STYLE[v.verdict]}">{text(words[v.verdict])}</span>'
        name = f'<b>{text(v.consumer)}</b> <span class="soft">{text(v.version)}</span>'
        yield f'<div class="card">{name} {badge}'
        yield f'<p class="soft">{text(reasons(v, lang))}</p>'
        for note in v.notes:
            yield f'<p class="soft">{text(words["note"])}: {text(said(note, lang))}</p>'
        if v.serve:
            start = f"<code>{text(serve(v, lang))}</code>"
            yield f'<p class="soft">{text(words["serve with"])}: {start}</p>'
        yield "</div>"
    yield "</div>"


def _findings(found: list[Block], lang: str) -> Iterator[str]:
    words = WORDS[lang]
    yield f"<h2>{text(words['findings'])}</h2>"
    if not found:
        yield f'<p class="card">{text(words["no findings"])}</p>'
        return
    yield '<div class="tools">'
    search = text(words["search"])
    yield f'<input type="search" id="search" placeholder="{search}" aria-label="{search}">'
    for severity in SEVERITIES:
        count = sum(each.severity == severity for each in found)
        if count:
            box = f'<input type="checkbox" value="{severity}" checked>'
            badge = f'<span class="badge {severity}">{text(words[severity])} {count}</span>'
            yield f"<label>{box}{badge}</label>"
    yield '<span class="soft" id="shown"></span></div>'
    for number, each in enumerate(found):
        yield from _finding(number, each, lang)


def _finding(number: int, each: Block, lang: str) -> Iterator[str]:
    words, names = WORDS[lang], each.group.tensors
    unfolded = " open" if each.severity == "ERROR" and number < OPEN else ""
    yield f'<details class="finding" id="f{number}" data-severity="{each.severity}"{unfolded}>'
    badge = f'<span class="badge {each.severity}">{text(words[each.severity])}</span>'
    yield f'<summary>{badge}<b class="mono">{text(each.id)}</b>{text(each.title)}</summary>'
    yield '<div class="body"><dl>'
    as_code = (words["where"], words["found"])
    for name, value in each.fields:
        shown = f"<code>{text(value)}</code>" if name in as_code else text(value)
        yield f"<dt>{text(name)}</dt><dd>{shown}</dd>"
    yield "</dl>"
    if len(names) > 1:
        shown_names = names[:NAMES]
        head = words["all tensors"].format(shown=len(shown_names), count=len(names))
        yield f'<details><summary class="soft">{text(head)}</summary><ul class="names mono">'
        yield "".join(f"<li>{text(name)}</li>" for name in shown_names)
        yield "</ul></details>"
    yield "</div></details>"


def _anchors(found: list[Block]) -> dict[str, str]:
    """Requirement id -> fragment of its first finding."""
    anchors: dict[str, str] = {}
    for number, each in enumerate(found):
        anchors.setdefault(each.id, f"f{number}")
    return anchors


def _requirements(report: Report, lang: str) -> Iterator[str]:
    words = WORDS[lang]
    heads = "".join(f"<th>{text(words[key])}</th>" for key in ("requirement", "status", "title"))
    yield f'<h2>{text(words["checked"])}</h2><details class="card"><summary>'
    tally = Counter(str(result.status) for result in report.results)
    counts = [f"{words[f'status {status}']} {count}" for status, count in tally.most_common()]
    yield f"{text(' · '.join(counts))}</summary>"
    yield f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>'
    for result in report.results:
        row = result.requirement
        status = words[f"status {result.status}"]
        yield (
            f'<tr><td class="mono">{text(row.id)}</td><td>{text(status)}</td>'
            f"<td>{text(title(row, lang))}</td></tr>"
        )
    yield "</tbody></table></div></details>"
