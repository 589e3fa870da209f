"""The options of `slimspec quantize` that carry the field's own parameter names."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from slimspec.checkpoint import CheckpointError
from slimspec.cli.numbers import count
from slimspec.model.numerics import CPUS
from slimspec.pipeline.config import (
    MIN_MAX,
    W_METHODS,
    parameters,
    parse_config,
)

CALIBRATED = {  # options that only a calibrated run has, with their defaults
    "pdmix": False,
    "w_method": MIN_MAX,
    "per_device": False,
    "exact_sums": False,
    "flex_config": {},
    "mix_cfg": {},
    "kv_sym": True,
    "load_dtype": None,
    "attention": None,
    "cpu": "amx",
    "max_tokens": 0,
    "sensitivity": False,
}
UNDERSCORED = ("w_method", "flex_config", "mix_cfg", "kv_sym")  # names of the field
_PREFIX = "parameter_"  # of the names in the namespace: --group-size and --group_size are two


def add_parameters(parser: argparse.ArgumentParser) -> None:
    """Add --w_bit, --a_bit, ...: one option for each parameter of the schema."""
    group = parser.add_argument_group(
        "calibrated quantization", "parameters as in the field's quantization scripts"
    )
    group.add_argument(
        "--config", metavar="FILE", help="YAML or JSON file of these parameters, or of steps"
    )
    for name, schema in parameters().items():
        _add(group, name, schema)
    add = group.add_argument
    add("--pdmix", action="store_true", help="W8A8_MIX: W8A8 and W8A8_DYNAMIC in one")
    add("--w_method", choices=W_METHODS, default=MIN_MAX,
        help="how weights of W8A16 and W4A16 are found (default: %(default)s)")  # fmt: skip
    add("--flex_config", type=_object, default={}, metavar="OBJECT",
        help='anti_method m6: {"alpha": 0.75, "beta": 0.1} instead of a search')  # fmt: skip
    add("--mix_cfg", type=_object, default={}, metavar="OBJECT",
        help='types of single linears: {"*.down_proj": "w8a8_dynamic", ..}')  # fmt: skip
    add("--kv_sym", type=_bool, default=True, metavar="BOOLEAN",
        help="use_kvcache_quant: a cache without an offset (default: %(default)s)")  # fmt: skip
    add("--per-device", action="store_true",
        help="use_reduce_quant: a reduce_scale for each rank (default: one for all)")  # fmt: skip
    add("--exact-sums", action="store_true",
        help="use_reduce_quant: cut the linears only, do not quantize what ranks send")  # fmt: skip
    add("--load-dtype", choices=("float32", "float16", "bfloat16"),
        help="load the model in this dtype (the field's script: float32)")  # fmt: skip
    add("--attention", choices=("eager", "fused"),
        help="how attention runs (default: as the producer's)")  # fmt: skip
    add("--cpu", choices=CPUS, default=CPUS[0],
        help="whose order of bfloat16 sums (default: %(default)s)")  # fmt: skip
    add(
        "--max-tokens", type=count, default=0, metavar="N", help="tokens used of each text (0: all)"
    )
    add("--sensitivity", action="store_true", help="print how sensitive every linear is")


def _add(group: Any, name: str, schema: Mapping[str, Any]) -> None:
    kinds = schema["type"]
    kind = next(k for k in ([kinds] if isinstance(kinds, str) else kinds) if k != "null")
    default = schema["default"]
    text = f"{schema['title']} (default: {default!r})".replace("%", "%%")
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text, "dest": _PREFIX + name}
    if name == "trust_remote_code":
        options |= {"action": "store_true"}
    elif kind == "array":
        options |= {"nargs": "+", "metavar": "TEXT"}
    else:
        options |= {"type": _KINDS[kind], "metavar": kind.upper()}
    group.add_argument(f"--{name}", **options)


def given_parameters(args: argparse.Namespace, content: Any) -> dict[str, Any]:
    """Return the parameters of the command line, and of the `content` of --config behind them.

    Raises: CheckpointError: a file that holds no parameters.
    """
    members: dict[str, Any] = {}
    if args.config and content != {}:
        if not isinstance(content, dict):
            raise CheckpointError(f"{args.config}: expected parameters by name")
        parse_config(content, args.config)
        members = content
    read = {name: f"{_PREFIX}{name}" for name in parameters()}
    return members | {name: getattr(args, d) for name, d in read.items() if hasattr(args, d)}


def _bool(text: str) -> bool:
    if text not in ("True", "False", "true", "false"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected True or False")
    return text.lower() == "true"


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a JSON object")
    return value


_KINDS = {"integer": int, "number": float, "string": str, "boolean": _bool, "object": _object}
