"""`slimspec quantize FLOAT_DIR OUT_DIR --scheme LABEL | --recipe NAME | --w_bit 8 --a_bit 8 ..`."""

import argparse

from slimspec import layout
from slimspec.checkpoint import CheckpointError, read_json
from slimspec.cli.numbers import count, size_in_gib
from slimspec.cli.progress import progress_bar
from slimspec.cli.quantize_options import CALIBRATED, UNDERSCORED, add_parameters, given_parameters
from slimspec.pipeline import recipe as recipes
from slimspec.pipeline.config import read_members
from slimspec.pipeline.quantize import DATA_FREE, STATIC, Plan, open_float, quantize_directory

_PRODUCERS = ("A1", "A0")  # newest first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="FLOAT_DIR", help="a float model: *.safetensors, config.json, tokenizer")
    add("out", metavar="OUT_DIR", nargs="?", help="the directory to create (or --save_directory)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--scheme", choices=(*DATA_FREE, *STATIC), help="one type for all linears")
    what.add_argument("--recipe", metavar="NAME|FILE",
        help=f"a type for each linear: {', '.join(recipes.names())}, or a JSON file")  # fmt: skip
    add("--activation-ranges", metavar="FILE",
        help="JSON: glob over module names -> [lowest, highest] input (static types)")  # fmt: skip
    add("--group-size", type=count, default=0, metavar="G",
        help="columns per group (default: none, or as the recipe says)")  # fmt: skip
    add("--asymmetric", action="store_true", help="weights with an offset (W8A16, W4A16)")
    add("--producer", choices=_PRODUCERS,
        help="profile to write (default: A1 if it has the type; a recipe has its own)")  # fmt: skip
    add("--include", metavar="GLOB", action="append", default=[],
        help="only modules whose name matches (repeatable)")  # fmt: skip
    add("--exclude", metavar="GLOB", action="append", default=[],
        help="not the modules whose name matches (repeatable)")  # fmt: skip
    add("--part-file-size", type=size_in_gib, default=4, metavar="GIB",
        help="shard size in GiB, 0 for one file (default: 4)")  # fmt: skip
    add("--overwrite", action="store_true", help="replace an existing OUT_DIR")
    add_parameters(parser)


def run(args: argparse.Namespace) -> None:
    """Quantize the directory.

    Raises:
        CheckpointError: unusable source or output.
    """
    content = read_members(args.config) if args.config else {}
    if isinstance(content, dict) and "steps" in content:
        from slimspec.cli.quantize_by_steps import run_steps

        run_steps(args, content, given_parameters(args, {}))
        return
    given = given_parameters(args, content)
    if given:
        from slimspec.cli.quantize_calibrated import run_calibrated

        run_calibrated(args, given, _recipe(args) if args.recipe else None)
        return
    for name, default in CALIBRATED.items():
        if getattr(args, name) != default:
            option = name if name in UNDERSCORED else name.replace("_", "-")
            raise CheckpointError(f"--{option} goes with parameters like --w_bit only")
    if not (args.scheme or args.recipe) or args.out is None:
        raise CheckpointError(
            "what to write: give OUT_DIR and one of --scheme, --recipe, --config, or parameters "
            "such as --w_bit 8 --a_bit 8 --calib_file FILE"
        )
    recipe = _recipe(args) if args.recipe else None
    static = args.scheme in STATIC or (recipe is not None and recipe.static)
    plan = Plan(
        scheme=args.scheme or "",
        producer=args.producer or _producer(args.scheme),
        recipe=recipe,
        group_size=args.group_size,
        symmetric=not args.asymmetric,
        include=args.include,
        exclude=args.exclude,
        part_file_size=args.part_file_size,
        ranges=_ranges(args.activation_ranges) if static else {},
    )
    total = open_float(args.source).table.nbytes
    with progress_bar("quantize", total) as advance:
        linears = quantize_directory(
            args.source, args.out, plan, overwrite=args.overwrite, progress=advance
        )
    what = args.scheme or f"recipe {args.recipe}"
    print(f"{args.out}: {linears} linears as {what}, profile {plan.profile}")


def _producer(scheme: str | None) -> str:
    """The newest of the producers that write the type."""
    known = layout.load(scheme).profiles if scheme else _PRODUCERS
    return next(name for name in _PRODUCERS if name in known)


def _recipe(args: argparse.Namespace) -> recipes.Recipe:
    if args.producer or args.asymmetric:
        raise CheckpointError("--recipe has its own producer and symmetry")
    recipe = recipes.load(args.recipe)
    return recipe.with_group_size(args.group_size) if args.group_size else recipe


def _ranges(file: str | None) -> dict[str, list[float]]:
    if file is None:
        raise CheckpointError("static types need --activation-ranges FILE")
    read = read_json(file)
    value = read.value
    for defect in read.defects:
        raise CheckpointError(defect.message)
    if not isinstance(value, dict) or not all(map(_is_range, value.values())):
        raise CheckpointError(f"{file}: expected an object of glob -> [lowest, highest]")
    return value


def _is_range(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(bound) in (int, float) for bound in value)
        and value[0] <= value[1]
    )
