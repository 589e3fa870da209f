"""`slimspec quantize FLOAT_DIR OUT_DIR --w_bit 8 --a_bit 8 --calib_file FILE ..`."""

import argparse
from typing import Any

from slimspec.checkpoint import CheckpointError
from slimspec.cli.progress import progress_bar
from slimspec.pipeline.config import parse_config
from slimspec.pipeline.fallback import ADVISED_SHARE, format_table
from slimspec.pipeline.quantize_config import Done, Extra, profile_of, quantize_by_config
from slimspec.pipeline.recipe import Recipe

_OTHER = ("activation_ranges", "asymmetric", "include", "exclude", "scheme")


def run_calibrated(args: argparse.Namespace, given: dict[str, Any], recipe: Recipe | None) -> None:
    """Quantize by parameters, and by a recipe's types if there is one.

    Raises: CheckpointError: bad parameters, unusable source or output.
    """
    for name in _OTHER:
        if getattr(args, name):
            option = name.replace("_", "-")
            raise CheckpointError(f"--{option} does not go with parameters like --w_bit")
    config = parse_config(given, "parameters")
    out = args.out or config.save_directory
    if not out:
        raise CheckpointError("save_directory: give OUT_DIR or --save_directory")
    extra = Extra(
        producer=args.producer or "A0",
        mix=args.pdmix,
        load_dtype=args.load_dtype,
        attend=args.attention,
        cpu=args.cpu,
        longest=args.max_tokens,
        table=args.sensitivity,
        recipe=recipe,
        w_method=args.w_method,
        per_device=args.per_device,
        exact_sums=args.exact_sums,
        flex_config=args.flex_config,
        mix_cfg=args.mix_cfg,
        kv_sym=args.kv_sym,
    )
    done = quantize_by_config(
        args.source, out, config, extra, overwrite=args.overwrite, bar=progress_bar
    )
    _report(done, str(out), extra)


def _report(done: Done, out: str, extra: Extra) -> None:
    if done.table:
        print(format_table(done.table, done.kept))
    print(f"{out}: {done.linears} linears as {done.label}, profile {profile_of(extra)}")
    if done.smoothed:
        print(f"smoothed: {done.smoothed} subgraphs")
    if done.kept:
        shown = ", ".join(done.kept[:6]) + (", .." if len(done.kept) > 6 else "")
        print(f"float by choice: {len(done.kept)} ({shown})")
    total = done.linears + len(done.kept)
    if len(done.kept) > ADVISED_SHARE * total:
        share = len(done.kept) / total
        print(f"note: {share:.0%} of the linears stay float; more than a fifth costs speed")
