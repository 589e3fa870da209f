"""Standard output that decides no exit code: a closed pipe, no stream at all, a narrow encoding."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

_ASCII = str.maketrans(
    {"×": "x", "·": "*", "−": "-", "–": "-", "…": "...", "≥": ">=", "≤": "<=", "→": "->",
     "Σ": "sum ", "“": '"', "”": '"', "‘": "'", "’": "'"}
)  # fmt: skip
_UNWRITABLE = 4


def carried(text: str, encoding: str) -> str:
    """Text that an encoding has: symbols by their look, the rest as escapes."""
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)


class Output:
    """A text stream that goes on, unheard, once its reader is gone.

    Attributes:
        failure: why the stream cannot be written, "" while it can; a closed pipe is none.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._deaf = False
        self.failure = ""

    def write(self, text: str) -> int:
        if not self._deaf:
            self._try(lambda: self._stream.write(carried(text, self.encoding)))
        return len(text)

    def flush(self) -> None:
        if not self._deaf:
            self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BrokenPipeError:
            self._drop()
        except OSError as error:
            self.failure = error.strerror or str(error)
            self._drop()

    def _drop(self) -> None:
        """Lead what is still buffered nowhere, so that the flush at exit cannot fail."""
        self._deaf = True
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    @property
    def encoding(self) -> str:
        return self._stream.encoding or "utf-8"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def run_program(name: str, main: Callable[[], int]) -> int:
    """Run a program with such an output; return its exit code, 4 where its output was lost."""
    with _streams() as output:
        code = main()
        output.flush()
    if output.failure:
        print(f"{name}: standard output cannot be written: {output.failure}", file=sys.stderr)
        return _UNWRITABLE
    return code


@contextmanager
def _streams() -> Iterator[Output]:
    """Put an `Output` before standard output, and the null device where a stream is closed."""
    with ExitStack() as stack:
        if sys.stdout is None:
            null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(null))
        if sys.stderr is None:
            null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stderr(null))
        output = Output(sys.stdout)
        stack.enter_context(redirect_stdout(output))
        yield output
