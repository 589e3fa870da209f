"""`slimspec decompress PARTS_DIR OUT_DIR`."""

import argparse

from slimspec.checkpoint import open_checkpoint
from slimspec.cli.progress import progress_bar
from slimspec.pipeline.dequantize import FLOAT_DTYPES
from slimspec.pipeline.shard_map import consumers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="PARTS_DIR", help="a directory of part{r}-of-{N} directories")
    add("out", metavar="OUT_DIR", help="the directory to create")
    add("--names", choices=consumers(), help="whose names the parts use (default: found out)")
    add("--dtype", choices=FLOAT_DTYPES,
        help="of the float tensors before they were converted (default: float16)")  # fmt: skip
    add("--input-dtype", choices=FLOAT_DTYPES,
        help="of input_scale and input_offset (default: as input_scale is stored)")  # fmt: skip
    add("--threads", type=int, metavar="N", help="workers (default: one per core)")
    add("--overwrite", action="store_true", help="replace an existing OUT_DIR")


def run(args: argparse.Namespace) -> None:
    """Decompress the directory.

    Raises:
        CheckpointError: unusable source or output.
    """
    from slimspec.pipeline.decompress import decompress_directory

    root = open_checkpoint(args.source)
    holders = [part.checkpoint for part in root.parts] or [root]
    with progress_bar("decompress", sum(holder.table.nbytes for holder in holders)) as advance:
        count = decompress_directory(
            args.source,
            args.out,
            names=args.names,
            dtype=FLOAT_DTYPES.get(args.dtype),
            input_dtype=FLOAT_DTYPES.get(args.input_dtype),
            threads=args.threads,
            overwrite=args.overwrite,
            progress=advance,
        )
    print(f"{args.out}: {count} linears from {len(holders)} parts")
