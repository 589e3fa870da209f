"""`slimspec golden`, the part about checkpoints: list, show, write them, run checkers on them."""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slimspec.cli.numbers import seconds

Say = Callable[[str], None]


def add_arguments(parts: Any) -> None:
    """Add the actions `checkpoints` and `check` to the subparsers of `slimspec golden`."""
    one = parts.add_parser("checkpoints", help="write checkpoints and the verdict on each")
    one.add_argument("directory", type=Path, help="is created")
    _add_choice(one)
    one = parts.add_parser("check", help="run a loader or checker on checkpoints")
    one.add_argument("--cmd", required=True, help="command with {checkpoint}; 0 accepts it")
    one.add_argument("--timeout", type=seconds, default=60.0, help="seconds per case (default 60)")
    _add_choice(one)


def _add_choice(one: argparse.ArgumentParser) -> None:
    add_kind(one)
    one.add_argument("--id", action="append", default=[], metavar="GLOB",
                     help="only these ids (repeatable)")  # fmt: skip


def add_kind(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--kind",
        action="append",
        default=[],
        choices=("valid", "generated", "malformed", "invalid", "wrong-value"),
        help="only checkpoints of this kind (repeatable)",
    )


def counts() -> Iterator[str]:
    """Yield a line per kind."""
    from slimspec.golden.checkers import GROUPS, group_of, select

    tally = Counter(group_of(case) for case in select(GROUPS))
    yield from (f"{f'checkpoints: {group}':30} {tally[group]:4}" for group in GROUPS)


def rows(kinds: list[str]) -> Iterator[str]:
    """Yield a line per checkpoint of these kinds."""
    from slimspec.golden.checkers import group_of, select

    for case in select(kinds):
        yield f"{case.id}  {group_of(case)}  {case.comment}"


def explanation(name: str) -> Iterator[str]:
    """Yield the lines that explain one checkpoint; none if there is no such id."""
    from slimspec.golden.checkers import expectation, group_of, select
    from slimspec.golden.checkpoints import KINDS
    from slimspec.golden.grid import recorded

    found = [case for case in select(globs=["*"]) if case.id == name]
    for case in found:
        meaning = f": {KINDS[case.kind]}" if case.kind else ""
        yield f"{case.id}  ({group_of(case)}{meaning})"
        yield f"  {case.comment}"
        if case.cell is not None:
            yield f"  made on demand, digest {recorded()[case.cell]}"
        else:
            yield f"  base golden/{case.base}"
        yield from (f"  patch {json.dumps(op, ensure_ascii=False)}" for op in case.patch)
        row = expectation(case)
        yield f"  verdict {row['verdict']}"
        yield from (
            f"  finding {json.dumps(found, ensure_ascii=False)}" for found in row["findings"]
        )
        yield f"  slimspec golden checkpoints DIR --id {case.id}"


def write(args: argparse.Namespace, say: Say) -> int:
    from slimspec.golden.checkers import select
    from slimspec.golden.checkers import write as write_all

    count = write_all(select(args.kind, args.id), args.directory)
    say(f"{count} checkpoints and expect.json written to {args.directory}")
    return 0


def check(args: argparse.Namespace, say: Say) -> int:
    from slimspec.golden.checkers import GROUPS, group_of, select
    from slimspec.golden.checkers import check as check_all

    done: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for answer in check_all(select(args.kind, args.id), args.cmd, args.timeout):
        group = group_of(answer.case)
        done[group] += 1
        passed[group] += answer.passed
        say(f"{'pass' if answer.passed else 'FAIL'} {answer.case.id} ({group}): {answer.did}")
        if answer.problem:
            say(f"     {answer.problem}")
    for group in GROUPS:
        if done[group]:
            say(f"{group}: {passed[group]} of {done[group]} passed")
    return 0 if passed == done else 1
