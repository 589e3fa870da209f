"""The command `slimspec`: one module per subcommand, imported when it runs."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

import slimspec
from slimspec.output import run_program
from slimspec.patterns import visible

_COMMANDS = {
    "quantize": "quantize a float directory into a conforming directory",
    "evaluate": "tell what quantization cost: SQNR, cosine, KL, perplexity",
    "dequantize": "turn a quantized directory back into a float directory",
    "compress": "split a sparse directory over ranks and compress it into parts",
    "decompress": "rebuild the sparse directory from compressed parts",
    "inspect": "print what is in a checkpoint directory",
    "explain": "one small linear worked through a quantization type",
    "golden": "vectors and checkpoints: verify, show, export; run kernels and checkers on them",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 something differs, 2 interrupted, 3 our bug,
    4 wrong usage or unusable input, 5 nothing was checked."""
    return run_program("slimspec", lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="slimspec",
        description="Reference tools for quantized LLM checkpoints.",
        epilog=_command_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {slimspec.__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help="see below")
    rest = parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    rest.required = False  # else an error names it
    try:
        if not argv:
            parser.print_help(sys.stderr)
            return 4
        args = parser.parse_args(argv)
        with _termination_as_interrupt():
            return _run(args.command, args.arguments)
    except SystemExit as stop:
        return 4 if stop.code else 0
    except KeyboardInterrupt:
        print("slimspec: interrupted, nothing was written", file=sys.stderr)
        return 2
    except Exception as error:
        print(f"slimspec: internal error, please report: {error!r}", file=sys.stderr)
        return 3


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM cleans up as Ctrl-C does; signals belong to the main thread only."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _command_help() -> str:
    rows = (f"  {name:<12}{text}" for name, text in _COMMANDS.items())
    return "commands:\n" + "\n".join(rows) + "\n\n`slimspec COMMAND --help` tells its options"


def _run(command: str, arguments: Sequence[str]) -> int:
    from slimspec.checkpoint import CheckpointError

    module = import_module(f"slimspec.cli.{command}")
    parser = argparse.ArgumentParser(prog=f"slimspec {command}", description=_COMMANDS[command])
    module.add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        code: int | None = module.run(args)
    except CheckpointError as error:
        print(visible(f"slimspec {command}: {error}"), file=sys.stderr)
        return 4
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
