"""The page docs/consumers.md: `python -m slimcheck.consumers_page [DIRECTORY] > docs/consumers.md`.

DIRECTORY holds checkpoints of a producer, one folder each; their verdicts become a table. Without
one, the embedded golden checkpoints do.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from slimcheck.consumers import Consumer, When, choose, consumers
from slimcheck.run import RunError, run
from slimcheck.verdicts import FAILS, OK, UNKNOWN, WRONG, Verdict
from slimspec import requirements
from slimspec.data import folder

_SHORT = {OK: "ok", FAILS: "no", WRONG: "**wrong**", UNKNOWN: "?"}
_HEAD = """\
# Which engine loads what

Written by `python -m slimcheck.consumers_page DIRECTORY > docs/consumers.md`; do not edit.
The facts are data: `schemas/consumers/*.json`, one file an engine, each fact with its source and
the versions and SoCs that it holds for.
`slimcheck DIR --consumer NAME[@VERSION] --soc NAME --tp N` gives one verdict an engine:

- **ok**: loads, and computes what the format says;
- **will not load**: stops with an error;
- **loads with wrong results**: serves, and nobody says that the numbers are wrong;
- **unknown**: the format itself is violated, or no source says what happens.

Without `--consumer` every engine is judged at its newest version whose source was read. A
requirement counts for the exit code only when its engine is named.
"""


def page(root: Path) -> str:
    """The whole page as Markdown."""
    return "\n".join([_HEAD, *_engines(), *_table(root)]) + "\n"


def _engines() -> Iterator[str]:
    yield "## Engines\n"
    for engine in consumers().values():
        yield f"### {engine.name}: {engine.title}\n"
        yield f"Versions {engine.versions[0]} to {engine.versions[-1]}; {', '.join(engine.socs)}; "
        yield f"the dtype is taken from {_dtype(engine)}.\n"
        yield "| label | layers | versions | SoC |\n|---|---|---|---|"
        for fact in engine.labels:
            where = ", ".join(fact.when.socs) or "all"
            layers = ", ".join(fact.layers)
            yield f"| {', '.join(fact.labels)} | {layers} | {_when(fact.when)} | {where} |"
        yield ""
        for fate in engine.otherwise:
            about = f" ({', '.join(fate.layers)})" if fate.layers else ""
            yield f"- any other label{about}: {fate.verdict}; {fate.effect}"
        names = ", ".join(f"`{name}`" for name in engine.descriptions)
        lack = engine.no_description
        yield f"- description: {names}; without: {lack.verdict}, {lack.effect}"
        yield from _facts(engine)
        yield f"- start: `{' '.join(filter(None, (engine.serve, engine.serve_tp)))}`\n"


def _dtype(engine: Consumer) -> str:
    return "config.json" if engine.dtype == "config.json" else "an option of its command"


def _facts(engine: Consumer) -> Iterator[str]:
    for meta in engine.metadata:
        values = ", ".join(map(str, meta.values)) or "nothing"
        about = f" of {meta.label}" if meta.label else ""
        yield (
            f"- `{meta.key}`{about} may be {values} ({_when(meta.when)}); else {meta.verdict}: "
            + (meta.effect)
        )
    for tensor in engine.tensors:
        kinds = ", ".join((*tensor.labels, *tensor.layers)) or "any"
        must = (
            tensor.must if isinstance(tensor.must, str) else f"[{', '.join(map(str, tensor.must))}]"
        )
        fate = f"else {tensor.verdict}: {tensor.effect}"
        yield f"- `{tensor.tensor}` ({kinds}) must be {must}; {fate}"
    for row in engine.requirements:
        verb = "binds" if row.binding else "does not bind"
        yield f"- {verb}: {', '.join(row.ids)} ({_when(row.when)}). {row.because}"
    bound = [
        key for key, req in requirements.load().items()
        if req.scope.consumers and engine.binds(key, req.scope.consumers, engine.versions[-1])
    ]  # fmt: skip
    yield f"- requirements that bind {engine.versions[-1]}: {', '.join(bound)}"


def _when(when: When) -> str:
    if when.since and when.until:
        return f"{when.since} to {when.until}"
    if when.since:
        return f"since {when.since}"
    return f"until {when.until}" if when.until else "all versions"


def _table(root: Path) -> Iterator[str]:
    chosen = choose(())
    names = " | ".join(choice.asked for choice in chosen)
    yield "## Verdicts on recorded checkpoints\n"
    yield "What producers wrote, judged at level values. Whether config.json is there (DIR-011) is"
    yield "left out: some were written without.\n"
    yield f"| checkpoint | {names} |\n|---|{'---|' * len(chosen)}"
    why: dict[str, list[str]] = {}
    for directory in directories(root):
        row = verdict_row(root, directory)
        if row is None:
            continue
        name, line, said = row
        yield line
        for verdict in said:
            for reason in verdict.reasons:
                why.setdefault(f"{verdict.consumer}: {reason}", []).append(name)
    yield "\n### Why\n"
    for reason in sorted(why):
        yield f"- {reason}  ({len(why[reason])}×, as {why[reason][0]})"


def verdict_row(root: Path, directory: Path) -> tuple[str, str, list[Verdict]] | None:
    """Name, table row and verdicts of one checkpoint; None if it cannot be judged."""
    try:
        said = run(directory, ignore=["DIR-011"]).verdicts
    except RunError:
        return None
    name = directory.relative_to(root).as_posix().replace("/quant", "")
    return name, f"| {name} | {' | '.join(_SHORT[v.verdict] for v in said)} |", said


def directories(root: Path) -> list[Path]:
    """Every directory at most three levels below `root` that holds a description or parts."""
    marks = ("quant_model_description*.json", "part*-of-*")
    found = {
        path.parent
        for depth in ("", "*/", "*/*/", "*/*/*/")
        for mark in marks
        for path in root.glob(depth + mark)
    }
    return sorted(d for d in found if not any(p in found for p in d.parents))


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    root = Path(argv[0]) if argv else folder("golden") / "checkpoints" / "valid"
    print(page(root), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
