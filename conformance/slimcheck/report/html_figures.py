"""The figures of the page: heat map, histograms, sizes. Plain tables and SVG, no script."""

from collections.abc import Iterator, Mapping
from html import escape
from math import log10

from slimcheck.report.html_survey import REST, Scales, Size, heat_map, scales, sizes
from slimcheck.report.lang import WORDS, visible
from slimcheck.report.model import Report

_WIDTH, _HEIGHT, _FOOT = 360, 96, 16
_TICKS = 6


def heat_table(report: Report, anchors: Mapping[str, str], lang: str) -> Iterator[str]:
    """Requirement by layer; nothing where nothing was found."""
    heat, words = heat_map(report), WORDS[lang]
    if not heat.rows:
        return
    yield f'<h2>{_text(words["heat map"])}</h2><div class="card">'
    yield f'<p class="soft">{_text(words["heat map note"])}'
    if any(first != last for first, last in heat.columns):
        yield f"; {_text(words['wide'])}"
    yield '</p><div class="scroll"><table class="heat"><thead><tr><td></td>'
    yield "".join(f'<th scope="col">{_layers(*column)}</th>' for column in heat.columns)
    yield "</tr></thead><tbody>"
    for key, severity, counts in heat.rows:
        link = f'<a class="mono" href="#{anchors[key]}">{_text(key)}</a>'
        yield f'<tr><th scope="row">{link}</th>'
        for column, count in zip(heat.columns, counts, strict=True):
            yield _cell(key, severity, _layers(*column), count)
        yield "</tr>"
    yield "</tbody></table></div></div>"


def _layers(first: int, last: int) -> str:
    if first == REST:
        return "-"
    return str(first) if first == last else f"{first}…"


def _cell(key: str, severity: str, where: str, count: int) -> str:
    if not count:
        return "<td></td>"
    heat = 1 + (count > 1) + (count > 9)
    shown = str(count) if count < 1000 else f"{count // 1000}k"
    hint = f"{key} @ {where}: {count}"
    return f'<td class="hit {severity} h{heat}" title="{_text(hint)}">{shown}</td>'


def numeric_table(report: Report, lang: str) -> Iterator[str]:
    """What became of each linear beside the float model."""
    from slimcheck.numeric.table import header, notes, summary

    yield f'<h2>{_text(WORDS[lang]["numeric"])}</h2><div class="card scroll"><table><thead><tr>'
    yield "".join(f"<th>{_text(cell)}</th>" for cell in header(lang))
    yield "</tr></thead><tbody>"
    for row in summary(report.comparisons):
        yield f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
    yield "</tbody></table></div>"
    for line in notes(report.comparisons, lang):
        yield f'<p class="soft">{_text(line)}</p>'


def plots(report: Report, lang: str) -> Iterator[str]:
    """A histogram per type and suffix of scales."""
    words = WORDS[lang]
    yield f"<h2>{_text(words['scales'])}</h2>"
    if report.options.level == "layout":
        yield f'<p class="card">{_text(words["no scales"])}</p>'
        return
    yield f'<p class="soft">{_text(words["scales note"])}</p><div class="plots">'
    for entry in scales(report):
        yield from _plot(entry, lang)
    yield "</div>"


def _plot(entry: Scales, lang: str) -> Iterator[str]:
    words = WORDS[lang]
    yield '<figure class="card"><figcaption>'
    kind = entry.type or words["not described"]
    yield f'<b>{_text(kind)}</b> <span class="mono">{_text(entry.suffix)}</span>'
    said = [f"{words['elements']} {entry.elements:,}", f"{words['tensors']} {entry.tensors:,}"]
    if entry.largest:
        said += [
            f"{words['smallest']} {entry.smallest:.3g}",
            f"{words['largest']} {entry.largest:.3g}",
        ]
    yield f'<br><span class="soft">{_text(" · ".join(said))}</span>'
    if entry.zeros or entry.negative or entry.bad:
        odd = words["odd values"].format(
            zeros=f"{entry.zeros:,}", negative=f"{entry.negative:,}", bad=f"{entry.bad:,}"
        )
        yield f'<br><span class="odd">{_text(odd)}</span>'
    if entry.unreadable:
        yield f'<br><span class="odd">{_text(words["unreadable"].format(entry.unreadable))}</span>'
    yield "</figcaption>"
    yield from _bars(entry)
    yield "</figure>"


def _bars(entry: Scales) -> Iterator[str]:
    """Bars from the smallest to the largest power of two, in the middle of at least eight."""
    used = [i for i, count in enumerate(entry.powers) if count]
    if not used:
        return
    low = used[0] - max(0, 7 - (used[-1] - used[0])) // 2
    high = max(used[-1], low + 7)
    step = _WIDTH / (high - low + 1)
    top = log10(int(entry.powers.max()) + 1)
    room = _HEIGHT - _FOOT
    name = f"{entry.type} {entry.suffix}"
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_text(name)}">'
    for i in used:
        count = int(entry.powers[i])
        height = room * log10(count + 1) / top
        yield (
            f'<rect x="{(i - low) * step + 1:.1f}" y="{room - height:.1f}" '
            f'width="{max(step - 2, 1):.1f}" height="{height:.1f}" rx="1">'
            f"<title>2^{i - 127}: {count:,}</title></rect>"
        )
    yield f'<line x1="0" y1="{room}" x2="{_WIDTH}" y2="{room}"></line>'
    for i in range(low, high + 1, -(-(high - low + 1) // _TICKS)):
        yield f'<text x="{(i - low + 0.5) * step:.1f}" y="{_HEIGHT - 3}">2^{i - 127}</text>'
    yield "</svg>"


def size_table(report: Report, lang: str) -> Iterator[str]:
    """Tensors and bytes by type, and within a type by suffix and dtype."""
    words, rows = WORDS[lang], sizes(report)
    total = sum(row.nbytes for row in rows)
    yield f'<h2>{_text(words["sizes"])}</h2><div class="card scroll"><table><thead><tr>'
    for key in ("type", "tensors", "bytes", "share"):
        style = "" if key == "type" else ' class="number"'
        yield f"<th{style}>{_text(words[key])}</th>"
    yield "</tr></thead><tbody>"
    for row in rows:
        yield from _size_rows(row, total, words["not described"])
    count = sum(row.tensors for row in rows)
    yield _numbers(f"<b>{_text(words['total'])}</b>", count, total, total)
    yield "</tbody></table></div>"


def _size_rows(row: Size, total: int, undescribed: str) -> Iterator[str]:
    yield _numbers(f"<b>{_text(row.type or undescribed)}</b>", row.tensors, row.nbytes, total)
    for (suffix, dtype), (count, nbytes) in row.parts.items():
        said = f'<span class="mono">{_text(suffix)}</span> <span class="soft">{dtype}</span>'
        yield _numbers(said, count, nbytes, total, "part")


def _numbers(name: str, count: int, nbytes: int, total: int, style: str = "") -> str:
    share = f"{100 * nbytes / total:.1f} %" if total else "-"
    cells = "".join(f'<td class="number">{x}</td>' for x in (f"{count:,}", f"{nbytes:,}", share))
    return f'<tr class="{style}"><td>{name}</td>{cells}</tr>'


def _text(said: str) -> str:
    return escape(visible(said), quote=True)
