"""`slimspec quantize FLOAT_DIR OUT_DIR --config FILE` where FILE consists of steps."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slimspec.checkpoint import CheckpointError
from slimspec.cli.progress import progress_bar
from slimspec.pipeline.quantize_steps import quantize_by_steps
from slimspec.pipeline.steps import parse_steps

_TYPES = ("scheme", "recipe", "producer", "activation_ranges", "group_size", "asymmetric")
_OTHER = (*_TYPES, "include", "exclude", "pdmix", "load_dtype", "attention", "sensitivity")
_ALLOWED = ("calib_file",)


def run_steps(args: argparse.Namespace, content: Any, given: Mapping[str, Any]) -> None:
    """Quantize by the steps of a file.

    Args: content: of the file; given: parameters of the command line, only calib_file may be there.
    Raises: CheckpointError: bad steps, unusable source or output.
    """
    for name in (*_OTHER, *given):
        if name not in _ALLOWED and (name in given or getattr(args, name)):
            option = name if name in given else name.replace("_", "-")
            raise CheckpointError(f"--{option} does not go with steps; write it in {args.config}")
    if args.out is None:
        raise CheckpointError("OUT_DIR: give the directory to create")
    steps = parse_steps(content, args.config)
    if "calib_file" in given:
        steps = replace(steps, texts_from=given["calib_file"], texts=())
    done = quantize_by_steps(
        args.source,
        args.out,
        steps,
        longest=args.max_tokens,
        cpu=args.cpu,
        overwrite=args.overwrite,
        bar=progress_bar,
    )
    print(f"{args.out}: {done.linears} linears as {done.label}, profile {steps.producer}")
    if done.smoothed:
        print(f"smoothed: {done.smoothed} subgraphs")
