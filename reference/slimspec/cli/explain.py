"""`slimspec explain [TYPE]`: one small linear worked through a quantization type."""

import argparse
import sys

from slimspec.checkpoint import CheckpointError
from slimspec.figures import figure_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("type", metavar="TYPE", nargs="?", help="such as W8A8_DYNAMIC; without it: list them")
    add("--profile", default="", help="producer that writes it (default: the newest)")
    add("--dtype", default="", help="of the float model: float32 (default), float16, bfloat16")
    add("-o", "--out", metavar="FILE", help="also draw it, .svg, .png or .pdf")
    add("--overwrite", action="store_true", help="replace an existing FILE")


def run(args: argparse.Namespace) -> None:
    """Print the page of a type, or the types.

    Raises:
        CheckpointError: no such type, profile or dtype, or the picture cannot be written.
    """
    from slimspec import layout
    from slimspec.teach import render, types, work

    if args.type is None:
        for label in types():
            print(f"{label:<22}{layout.load(label).title}")
        return
    file = figure_file(args.out, args.overwrite) if args.out else None
    try:
        label = args.type.upper() if args.type.upper() in types() else args.type
        example = work(label, args.profile, args.dtype)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    sys.stdout.write(render(example))
    if file is not None:
        from slimspec.teach.picture import draw

        draw(example, file)
