"""`slimspec golden`: vectors and checkpoints, and the kernels and checkers that run on them."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from slimspec.cli import golden_checkpoints
from slimspec.cli.numbers import count, seconds
from slimspec.patterns import visible

_EXIT_DIFFERS = 1
_EXIT_NOTHING = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = parts.add_parser("verify", help="check bytes, schemas, ids; make again what is generated")
    one.add_argument("--fast", action="store_true", help="do not make the files again")
    one = parts.add_parser("list", help="count the vectors of each operation, and the checkpoints")
    one.add_argument("--op", help="list the vectors of this operation")
    golden_checkpoints.add_kind(one)
    one = parts.add_parser("show", help="explain one vector or checkpoint")
    one.add_argument("id")
    one.add_argument("--elements", type=count, default=16, help="elements per tensor (default 16)")
    one = parts.add_parser("export", help="write vectors for another test harness")
    one.add_argument("directory", type=Path, help="is created")
    one.add_argument("--format", default="bin", choices=("bin", "npy", "json", "atb-csv"))
    _add_choice(one)
    _add_generate(parts.add_parser("generate", help="make bigger random vectors"))
    one = parts.add_parser("run", help="feed vectors to an executable and judge its outputs")
    _add_choice(one)
    one.add_argument("--cmd", required=True, help="command with {inputs} and {outputs}")
    one.add_argument("--timeout", type=seconds, default=60.0, help="seconds per case (default 60)")
    one.add_argument("--format", default="bin", choices=("bin", "npy"))
    golden_checkpoints.add_arguments(parts)


def _add_choice(one: argparse.ArgumentParser) -> None:
    one.add_argument("--op", action="append", help="only this operation (repeatable)")
    one.add_argument("--case", action="append", metavar="ID", help="only this id (repeatable)")
    one.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only cases with this attribute or numerics profile (repeatable)",
    )
    one.add_argument("--from", type=Path, dest="source", metavar="DIR",
                     help="vectors made by `generate` instead of the embedded ones")  # fmt: skip


def _add_generate(one: argparse.ArgumentParser) -> None:
    one.add_argument("directory", type=Path, help="where the files go")
    one.add_argument("--op", required=True)
    one.add_argument("--shape", default="", help="sizes, as m=64,n=4096,k=4096,g=128")
    one.add_argument("--seed", type=count, default=0)
    one.add_argument("--count", type=count, default=1)
    one.add_argument("--numerics", default="canonical", help="numerics profile")
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                     help="attribute, VALUE as JSON or a word (repeatable)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run one action; return 0, 1 (something differs) or 5 (nothing was checked)."""
    from slimspec.checkpoint import CheckpointError

    try:
        return _ACTIONS[args.action](args)
    except MemoryError:
        raise CheckpointError("the vectors do not fit in memory; ask for smaller sizes") from None
    except (ValueError, OSError) as error:
        raise CheckpointError(str(error)) from error


def _say(text: str) -> None:
    """Print one line; names and comments may come from files of others."""
    print(visible(text), flush=True)


def _verify(args: argparse.Namespace) -> int:
    from slimspec.golden.verify import verify

    failed = 0
    for name, wrong in verify(args.fast):
        _say(f"{'FAIL' if wrong else 'ok  '} {name}")
        for text in wrong[:20]:
            _say(f"     {text}")
        if len(wrong) > 20:
            _say(f"     ... and {len(wrong) - 20} more")
        failed += bool(wrong)
    for line in golden_checkpoints.counts():
        _say(line)
    return _EXIT_DIFFERS if failed else 0


def _list(args: argparse.Namespace) -> int:
    from slimspec.golden.vectors import cases

    if args.op or args.kind:
        for case in cases(args.op) if args.op else ():
            _say(f"{case.id}  {case.origin}  {case.comment}")
        for line in golden_checkpoints.rows(args.kind) if args.kind else ():
            _say(line)
        return 0
    counts: dict[str, Counter[str]] = {}
    for case in cases():
        counts.setdefault(case.op, Counter())[case.origin] += 1
    for op, origins in sorted(counts.items()):
        told = ", ".join(f"{count} {origin}" for origin, count in sorted(origins.items()))
        _say(f"{op:30} {sum(origins.values()):4}  ({told})")
    for line in golden_checkpoints.counts():
        _say(line)
    return 0


def _show(args: argparse.Namespace) -> int:
    from slimspec.golden.explain import show
    from slimspec.golden.vectors import cases

    vector = next((case for case in cases() if case.id == args.id), None)
    lines = golden_checkpoints.explanation(args.id)
    told = list(show(vector, args.elements) if vector else lines)
    if not told:
        raise ValueError(
            f"no vector or checkpoint {args.id!r}; `slimspec golden list --op OP` and "
            "`slimspec golden list --kind KIND` show the ids"
        )
    for line in told:
        _say(line)
    return 0


def _export(args: argparse.Namespace) -> int:
    from slimspec.golden.export import export

    chosen = _chosen(args)
    if not chosen:
        print("no vector was chosen", file=sys.stderr)
        return _EXIT_NOTHING
    written = export(chosen, args.directory, args.format)
    _say(f"{written} vectors written to {args.directory}")
    return 0


def _generate(args: argparse.Namespace) -> int:
    from slimspec.golden.generate import generate, write_generated

    sizes = {name: int(size) for name, size in _pairs(args.shape.split(","), "--shape")}
    attributes: dict[str, Any] = {name: _value(v) for name, v in _pairs(args.set, "--set")}
    if args.numerics != "canonical":
        attributes["numerics"] = args.numerics
    made = generate(args.op, sizes, args.seed, attributes, args.count)
    write_generated(args.directory, made)
    _say(f"{len(made)} vectors of {args.op} written to {args.directory}")
    return 0


def _pairs(items: list[str], option: str) -> list[tuple[str, str]]:
    found = []
    for item in filter(None, items):
        name, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"{option}: expected NAME=VALUE, found {item!r}")
        found.append((name, value))
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_not_json)
    except json.JSONDecodeError:
        return text


def _not_json(text: str) -> Any:
    raise ValueError(f"--set: {text} is no value of JSON, and a case file is JSON")


def _chosen(args: argparse.Namespace) -> list[Any]:
    from slimspec.golden.vectors import cases, read_directory

    if args.source:
        found = [c for c in read_directory(args.source) if not args.op or c.op in args.op]
    else:
        found = [case for op in args.op or [None] for case in cases(op)]
    wanted = {name: _value(value) for name, value in _pairs(args.where, "--where")}
    return [case for case in found if (not args.case or case.id in args.case) and case.has(wanted)]


def _run(args: argparse.Namespace) -> int:
    from slimspec.golden.runner import diagnosis, run_cases

    results = []
    for result in run_cases(_chosen(args), args.cmd, args.timeout, args.format):
        _say(f"{'pass' if result.passed else 'FAIL'} {result.case.id}")
        for problem in result.problems:
            _say(f"     {problem}")
        results.append(result)
    if not results:
        print("no vector was run", file=sys.stderr)
        return _EXIT_NOTHING
    failed = [result for result in results if not result.passed]
    for op, text in diagnosis(results).items():
        _say(f"diagnosis of {op}: {text}")
    for flag, breaks in _consequences(results, failed):
        _say(f"{flag}: {breaks}")
    _say(f"{len(results) - len(failed)} of {len(results)} passed")
    return _EXIT_DIFFERS if failed else 0


def _consequences(results: list[Any], failed: list[Any]) -> list[tuple[str, str]]:
    """Flags of failed cases that no passed case has: what those failures mean in service."""
    from slimspec.golden.vectors import flags

    passed = {flag for r in results if r.passed for flag in r.case.flags}
    told = sorted({flag for r in failed for flag in r.case.flags} - passed)
    notes = flags()
    return [(flag, notes[flag]["breaks"]) for flag in told]


_ACTIONS = {
    "verify": _verify, "list": _list, "show": _show, "export": _export, "generate": _generate,
    "run": _run, "checkpoints": lambda args: golden_checkpoints.write(args, _say),
    "check": lambda args: golden_checkpoints.check(args, _say),
}  # fmt: skip
