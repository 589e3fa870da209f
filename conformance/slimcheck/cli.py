"""The command `slimcheck`: judge a directory, explain a requirement, list the rules."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import slimspec
from slimspec.output import run_program
from slimspec.patterns import visible

if TYPE_CHECKING:
    from slimcheck.report import Report

_EPILOG = """\
exit codes: 0 conformant, 1 not conformant, 2 interrupted, 3 a bug in slimcheck,
4 wrong usage or a directory that cannot be judged, 5 nothing was checked,
6 conformant, but a waiver met no finding, 7 a truncated report

other commands: slimcheck explain ID         what a requirement asks, why, and how to mend it
                slimcheck rules              every requirement, a line each
                slimcheck diff A B           what changed between two checkpoints
                slimcheck fix DIR -o OUT     mechanical repairs, into a new directory
                slimcheck report-check FILE  whether a JSONL report is whole, and its verdict"""

_NO_CHINESE = "--lang zh: the encoding of the output has no Chinese; set LC_ALL=C.UTF-8"
_COMMANDS = {
    "diff": "slimcheck.diff_command",
    "fix": "slimcheck.fix_command",
    "report-check": "slimcheck.report.check",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    return run_program("slimcheck", lambda: _main(argv))


def _main(argv: list[str]) -> int:
    try:
        if argv[:1] == ["explain"]:
            return _explain(argv[1:])
        if argv[:1] == ["rules"]:
            return _rules(argv[1:])
        if argv[:1] and argv[0] in _COMMANDS:
            return int(import_module(_COMMANDS[argv[0]]).main(argv[1:]))
        return _check(argv)
    except KeyboardInterrupt:
        print("slimcheck: interrupted", file=sys.stderr)
        return 2
    except UnicodeEncodeError:
        print(f"slimcheck: {_NO_CHINESE}", file=sys.stderr)
        return 4
    except Exception as error:
        print(f"slimcheck: internal error, please report: {error!r}", file=sys.stderr)
        return 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a run."""
    add = parser.add_argument
    add("--level", choices=("layout", "values", "numeric"), default="values",
        help="layout: headers and JSON only; values: also read the tensors (default); "
        "numeric: also compare with --float-model")  # fmt: skip
    add("--float-model", metavar="DIR", help="the float model, for level numeric")
    add("--sample", metavar="N", default="all",
        help="linears to compare: all (default), 5%% of each layer, or a number")  # fmt: skip
    add("--only-shards", metavar="GLOB", action="append", default=[],
        help="read only the weights in matching files (repeatable)")  # fmt: skip
    add("--threads", metavar="N", type=_count, default=0,
        help="threads of the value scan (default: one per processor)")  # fmt: skip
    add("--producer", metavar="PROFILE", help="judge as this producer profile (default: detected)")
    add("--consumer", metavar="NAME[@VERSION]", action="append", default=[],
        help="also hold the directory to what this engine needs (repeatable)")  # fmt: skip
    add("--dask", metavar="ADDRESS", default="",
        help="scan the values on the workers of this Dask scheduler")  # fmt: skip
    add("--soc", metavar="NAME", default="", help="chip that will serve it: 910B, 910C, 310P, 950")
    add("--tp", metavar="N", type=int, help="number of tensor-parallel ranks that will serve it")
    add("--select", metavar="GLOB", action="append", default=[],
        help="only requirements whose id matches (repeatable)")  # fmt: skip
    add("--ignore", metavar="GLOB", action="append", default=[],
        help="not the requirements whose id matches (repeatable)")  # fmt: skip
    add("--tensor", metavar="GLOB", help="only findings about tensors whose name matches")
    add("--strict", action="store_true", help="a violated SHOULD fails too")
    add("--report", metavar="FORM=FILE", action="append", default=[],
        help="also write jsonl, junit, sarif, markdown, html or numeric (repeatable)")  # fmt: skip
    add("--waive", metavar="FILE", action="append", default=[],
        help="accept findings: lines `ID PATTERN REASON` (repeatable)")  # fmt: skip
    add("--lang", choices=("en", "zh"), default="en", help="language of what people read")
    add("-q", "--quiet", action="store_true", help="print the verdict only")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads")
    return int(text)


def collect_seldom() -> None:
    """Let the garbage collector look for cycles seldom, and no more when the process ends.

    Headers make a million objects without cycles: looking for some takes a third of the time.
    """
    import atexit
    import gc

    gc.set_threshold(1_000_000, 50, 1000)
    atexit.register(gc.freeze)


def _check(argv: Sequence[str]) -> int:
    try:
        args = _parser().parse_args(argv)
    except SystemExit as stop:
        return 4 if stop.code else 0

    from slimcheck.report.lang import said
    from slimcheck.report.terminal import print_report, terminal
    from slimcheck.run import RunError, check_requests, write_reports

    collect_seldom()
    console = terminal(args.lang)
    try:
        check_requests(args.report, *filter(None, (args.directory, args.float_model)))
        report = _judged(args)
        print_report(report, console, quiet=args.quiet, lang=args.lang)
        write_reports(report, args.report, args.lang)
    except RunError as error:
        print(visible(f"slimcheck: {said(str(error), args.lang)}"), file=sys.stderr)
        return 4
    return int(report.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slimcheck",
        description="Judge a quantized checkpoint directory against the specification.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--version", action="version", version=f"%(prog)s {slimspec.__version__}")
    add_options(parser)
    return parser


def _judged(args: argparse.Namespace) -> "Report":
    """Judge the directory, with a bar while its values are read."""
    from slimcheck.progress import scan_bar
    from slimcheck.run import run

    for_others = {"directory", "consumer", "report", "lang", "quiet"}
    options = {name: value for name, value in vars(args).items() if name not in for_others}
    with scan_bar() as progress:
        return run(args.directory, consumers=args.consumer, progress=progress, **options)


def _explain(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="slimcheck explain")
    parser.add_argument("id", nargs="+")
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return 4 if stop.code else 0

    from difflib import get_close_matches

    from slimcheck.explain import check_encoding, explanation
    from slimspec import requirements

    check_encoding(args.lang)
    catalogue = requirements.load()
    for key in args.id:
        requirement = catalogue.get(key.upper())
        if requirement is None:
            near = get_close_matches(key.upper(), catalogue, n=3)
            hint = f"; near: {', '.join(near)}" if near else ""
            print(f"slimcheck: no requirement {key!r}{hint}", file=sys.stderr)
            return 4
        print(explanation(requirement, args.lang))
    return 0


def _rules(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="slimcheck rules")
    parser.add_argument("--lang", choices=("en", "zh"), default="en")
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return 4 if stop.code else 0

    from slimcheck.explain import check_encoding, scope_text
    from slimcheck.report.lang import title
    from slimspec import requirements

    check_encoding(args.lang)
    for requirement in requirements.load().values():
        print(
            f"{requirement.id:<12}{requirement.level:<8}{requirement.phase:<8}"
            f"{scope_text(requirement):<30}{title(requirement, args.lang)}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
