"""`slimspec evaluate FLOAT_DIR Q_DIR --calib_file FILE [--plot FILE]`."""

import argparse
from pathlib import Path
from typing import Any

from slimspec.checkpoint import CheckpointError, open_checkpoint
from slimspec.cli.progress import progress_bar
from slimspec.figures import figure_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("float_dir", metavar="FLOAT_DIR", help="the float model, with its tokenizer")
    add("quantized_dir", metavar="Q_DIR", help="what was made of it")
    add("--calib_file", metavar="FILE", help="JSONL file of texts")
    add("--calib_texts", metavar="TEXT", nargs="+", help="texts")
    add("--max-tokens", type=int, default=0, metavar="N", help="tokens used of each text (0: all)")
    add("--plot", metavar="FILE", help="draw SQNR and cosine by layer, .svg, .png or .pdf")
    add("--overwrite", action="store_true", help="replace an existing FILE")


def run(args: argparse.Namespace) -> None:
    """Compare the two models and print what quantization cost.

    Raises:
        CheckpointError: unusable directories or texts.
    """
    from slimspec.pipeline.calibration.samples import encode_texts, read_texts
    from slimspec.pipeline.evaluate import evaluate, format_evaluation

    if bool(args.calib_file) == bool(args.calib_texts):
        raise CheckpointError("texts: give one of --calib_file and --calib_texts")
    plot = figure_file(args.plot, args.overwrite) if args.plot else None
    texts = args.calib_texts or read_texts(args.calib_file)
    tokens = encode_texts(texts, args.float_dir, longest=args.max_tokens)
    with progress_bar("evaluate", _layers(args.float_dir)) as advance:
        found = evaluate(args.float_dir, args.quantized_dir, tokens, progress=advance)
    print(format_evaluation(found))
    if plot:
        from slimspec.pipeline.evaluate_plot import plot_evaluation

        title = f"{Path(args.quantized_dir).name} against {Path(args.float_dir).name}"
        plot_evaluation(found, plot, title)
        print(f"{plot}: drawn")


def _layers(directory: str) -> int:
    config = open_checkpoint(directory).config
    members: dict[str, Any] = config.value if config else {}
    count = members.get("num_hidden_layers")
    return count if type(count) is int else 1
