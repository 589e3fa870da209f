"""`slimspec compress SPARSE_DIR OUT_DIR --tp N`."""

import argparse

from slimspec.checkpoint import open_checkpoint
from slimspec.cli.progress import progress_bar
from slimspec.pipeline.shard_map import PLAIN, consumers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SPARSE_DIR", help="a W8A8S or W16A16S directory")
    add("out", metavar="OUT_DIR", help="the directory to create")
    add("--tp", type=int, default=1, metavar="N",
        help="number of parts = tensor-parallel size at run time (default: 1)")  # fmt: skip
    add("--names", choices=consumers(), default=PLAIN,
        help="hf: names of the float model, nothing fused; else as that engine loads them "
        "(default: hf)")  # fmt: skip
    add("--pad-heads", action="store_true",
        help="where the attention heads do not divide, fill up with zero heads")  # fmt: skip
    add("--keep-inputs", action="store_true",
        help="leave the dtype of input_scale and input_offset "
        "(default: float16 and int8)")  # fmt: skip
    add("--to-float16", action="store_true", help="convert a bfloat16 or float32 model")
    add("--threads", type=int, metavar="N", help="workers (default: one per core)")
    add("--overwrite", action="store_true", help="replace an existing OUT_DIR")


def run(args: argparse.Namespace) -> None:
    """Compress the directory, and say what the parts cannot hold.

    Raises:
        CheckpointError: unusable source or output.
    """
    from slimspec.pipeline.compress import Options, Summary, compress_directory

    options = Options(
        tp=args.tp,
        names=args.names,
        pad_heads=args.pad_heads,
        keep_inputs=args.keep_inputs,
        to_float16=args.to_float16,
        threads=args.threads,
    )
    total = open_checkpoint(args.source).table.nbytes
    with progress_bar("compress", total) as advance:
        done: Summary = compress_directory(
            args.source, args.out, options, overwrite=args.overwrite, progress=advance
        )
    parts = f"{args.tp} part{'s' if args.tp > 1 else ''}"
    print(
        f"{args.out}: {done.linears} linears as {done.quant_type} in {parts}, names {done.names}; "
        f"weights {done.before:,} -> {done.after:,} bytes ({done.after / done.before:.1%})"
    )
    for what, loss in (("input_scale", done.input_scales), ("float", done.floats)):
        if loss.values:
            print(
                f"rounded to float16: {loss.values} values of {loss.tensors} {what} tensors, by at "
                f"most {loss.largest:.2g} of the value"
            )
    for note in done.notes:
        print(f"note: {note}")
