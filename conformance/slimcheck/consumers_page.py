"""The page docs/consumers.md: `python -m slimcheck.consumers_page DIR > docs/consumers.md`.

DIR holds checkpoints of a producer, one folder each (`checkpoints` of the oracle); their verdicts
become a table. Without one, the embedded golden checkpoints do.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from slimcheck.consumers import Consumer, choose, consumers
from slimcheck.consumers_facts import FLAT, OFFLINE, PARTS, RANKS, When
from slimcheck.run import RunError, run
from slimcheck.verdicts import Verdict
from slimcheck.verdicts_words import FAILS, OK, UNKNOWN, WRONG
from slimspec import requirements
from slimspec.data import folder

_SHORT = {OK: "ok", FAILS: "no", WRONG: "**wrong**", UNKNOWN: "?"}
_CONTAINERS = {
    FLAT: "in the directory itself",
    PARTS: "in partR-of-N",
    RANKS: "as model-rank-R-part-P.safetensors",
    OFFLINE: "as model_sharded_metadata.json says",
}
_HEAD = """\
# Which engine loads what

Written by `python -m slimcheck.consumers_page ORACLE/checkpoints > docs/consumers.md`; do not edit.
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
            window = f" ({_when(fate.when)})" if fate.when != When() else ""
            yield f"- any other label{about}{window}: {fate.verdict}; {fate.effect}"
        names = ", ".join(f"`{name}`" for name in engine.descriptions)
        lack = engine.no_description
        yield f"- description: {names}; without: {lack.verdict}, {lack.effect}"
        yield from _model(engine)
        yield from _facts(engine)
        yield f"- start: `{' '.join(filter(None, (engine.serve, engine.serve_tp)))}`"
        yield f"  (files by rank: `{engine.serve_ranks}`)\n" if engine.serve_ranks else ""


def _dtype(engine: Consumer) -> str:
    return "config.json" if engine.dtype == "config.json" else "an option of its command"


def _model(engine: Consumer) -> Iterator[str]:
    for models in engine.models:
        types = "; ".join(
            f"{', '.join(known.types)} ({_when(known.when)})" for known in models.known
        )
        about = _about((*models.labels, *models.layers))
        yield f"- model types{about}: {types}. Any other: {models.verdict}, {models.effect}"
    for lies in engine.containers:
        where = " or ".join(_CONTAINERS[name] for name in lies.containers)
        about = _about(lies.labels)
        yield f"- files{about} ({_when(lies.when)}): {where}; else {lies.verdict}: {lies.effect}"
    for names in engine.names:
        about = _about(names.labels)
        whose = f"as in `schemas/tp_maps` for {names.tp_map}" if names.tp_map else "its own"
        yield f"- names{about} ({_when(names.when)}): {whose}; else {names.verdict}: {names.effect}"
    for feature in engine.features:
        about = f"`{', '.join(feature.modules)}` where config.json has `{feature.config}`"
        wanted = f"{' or '.join(feature.labels)} ({_when(feature.when)})"
        yield f"- {about}: {wanted}; else {feature.verdict}: {feature.effect}"
    for biases in engine.biases:
        without = f"{', '.join(biases.types)}: {', '.join(biases.without)}"
        unless = "; ".join(f"`{key}`: {', '.join(m)}" for key, m in biases.unless.items())
        but = f" (unless {unless})" if unless else ""
        yield f"- no bias in {without}{but}; a stored one: {biases.verdict}, {biases.effect}"


def _about(words: Sequence[str]) -> str:
    return f" of {', '.join(words)}" if words else ""


def _facts(engine: Consumer) -> Iterator[str]:
    for meta in engine.metadata:
        values = ", ".join(map(str, meta.values)) or "nothing"
        about = f" of {meta.label}" if meta.label else ""
        yield (
            f"- `{meta.key}`{about} may be {values} ({_when(meta.when)}); else {meta.verdict}: "
            + (meta.effect)
        )
    for tensor in engine.tensors:
        kinds = ", ".join((*tensor.labels, *tensor.layers, *tensor.modules)) or "any"
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
    parser = argparse.ArgumentParser(description="Print the page of the engines.")
    valid = folder("golden") / "checkpoints" / "valid"
    parser.add_argument("directory", metavar="DIR", nargs="?", type=Path, default=valid,
                        help="the checkpoints below it are judged")  # fmt: skip
    print(page(parser.parse_args(argv).directory), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
