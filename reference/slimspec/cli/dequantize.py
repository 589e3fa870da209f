"""`slimspec dequantize Q_DIR OUT_DIR`."""

import argparse

from slimspec.checkpoint import open_checkpoint
from slimspec.cli.numbers import size_in_gib
from slimspec.cli.progress import progress_bar
from slimspec.pipeline.dequantize import FLOAT_DTYPES, dequantize_directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="Q_DIR", help="a quantized directory")
    add("out", metavar="OUT_DIR", help="the directory to create")
    add("--dtype", choices=FLOAT_DTYPES, help="of the float weights (default: the model's)")
    add("--part-file-size", type=size_in_gib, default=4, metavar="GIB",
        help="shard size in GiB, 0 for one file (default: 4)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace an existing OUT_DIR")


def run(args: argparse.Namespace) -> None:
    """Dequantize the directory.

    Raises:
        CheckpointError: unusable source or output.
    """
    total = open_checkpoint(args.source).table.nbytes
    with progress_bar("dequantize", total) as advance:
        count = dequantize_directory(
            args.source,
            args.out,
            dtype=FLOAT_DTYPES.get(args.dtype),
            part_file_size=args.part_file_size,
            overwrite=args.overwrite,
            progress=advance,
        )
    print(f"{args.out}: {count} linears dequantized")
