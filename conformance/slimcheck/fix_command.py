"""The command `slimcheck fix DIR`."""

import argparse
import sys
from collections.abc import Sequence

from slimcheck.fix import Plan, plan
from slimcheck.fix_output import write
from slimcheck.report.lang import visible
from slimcheck.report.terminal import terminal
from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.layout import profiles

_EPILOG = """\
repairs: a stale quantization_config in config.json; missing FLOAT entries of float tensors; an
index that is missing or wrong; an index that belongs to other weights. No tensor is touched, and
DIR stays as it is.

exit codes: 0 written (dry run: nothing to repair), 1 dry run: there are repairs,
4 wrong usage or unusable input, 5 nothing to repair, so nothing was written"""


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    args = _arguments(argv)
    if isinstance(args, int):
        return args
    try:
        checkpoint = open_checkpoint(args.directory)
        if checkpoint.foreign and not (checkpoint.kind == "unknown" and checkpoint.shards):
            raise CheckpointError(f"{checkpoint.path}: {checkpoint.foreign}")
        repairs = plan(checkpoint, args.producer)
        _print(repairs)
        if args.dry_run:
            return 1 if repairs.edits else 0
        if not repairs.edits:
            return 5
        write(args.directory, repairs, args.out, args.producer)
    except CheckpointError as error:
        print(f"slimcheck fix: {error}", file=sys.stderr)
        return 4
    print(f"written to {visible(args.out)}; run slimcheck on it before you use it")
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace | int:
    parser = argparse.ArgumentParser(
        prog="slimcheck fix",
        description="Repair what can be repaired mechanically, into a new directory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", metavar="DIR")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("-o", "--out", metavar="OUT", help="the directory to create")
    where.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.add_argument("--producer", metavar="PROFILE", choices=profiles.names(),
                        help="judge as this producer profile (default: detected)")  # fmt: skip
    try:
        return parser.parse_args(argv)
    except SystemExit as stop:
        return 4 if stop.code else 0


def _print(repairs: Plan) -> None:
    from rich.text import Text

    console = terminal()
    for edit in repairs.edits:
        ids = f"  ({', '.join(edit.ids)})" if edit.ids else ""
        console.print(Text(visible(f"{edit.file}: {edit.what}{ids}")), soft_wrap=True)
    if not repairs.edits:
        console.print("nothing to repair")
    if repairs.left:
        console.print(Text(f"left to you: {', '.join(repairs.left)}"), soft_wrap=True)
