"""The command as a process: exit codes, warnings and interruptions."""

import contextlib
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from keras_tcm.cli.arguments import make_parser
from keras_tcm.cli.messages import UsageError, in_words

_COMMANDS = "keras_tcm.cli.commands"
# Exit codes, as argparse and shells have them: see docs/command_line.md.
_MISTAKE = 2
_BY_SIGNAL = 128


def main() -> int:
    """Run `keras-tcm` as a process of its own.

    Returns:
        Exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Figures go to files, whatever a notebook that started this process draws with.
    os.environ["MPLBACKEND"] = "agg"
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            code = run()
        except SystemExit as stop:  # From argparse.
            code = int(stop.code or 0)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on, as in `keras-tcm ... | head`; nor is the rest for anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BY_SIGNAL + 13
    except OSError as error:
        code = _fail(error)
    except KeyboardInterrupt as stop:
        _leave(stop.args[0] if stop.args else signal.SIGINT)
    return code


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command.

    Args:
        arguments: Words of the command line. Defaults to those of the process.

    Returns:
        Exit code: 0, 2 for a mistake of the user's, or 3 for a broken promise.
    """
    args = make_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            with _interrupts_end_at_once():
                command = importlib.import_module(f"{_COMMANDS}.{args.command}")
        except ImportError as error:
            return _fail(error)
        try:
            return command.run(args) or 0
        except BrokenPipeError:
            raise
        except (UsageError, OSError) as error:
            return _fail(error)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


@contextlib.contextmanager
def _interrupts_end_at_once() -> Iterator[None]:
    """End the process when a signal says so.

    What backends call while they are imported may swallow exceptions, and nothing has
    been begun that would have to be ended well.
    """
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda n, _: _leave(n)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _leave(number: int) -> None:
    """End the process for a signal, with a line.

    At once: backends that are taken down in the middle of their work may crash.
    """
    print("keras-tcm: interrupted", file=sys.stderr, flush=True)
    os._exit(_BY_SIGNAL + number)


def _show_warning(message: Warning | str, *where: Any, **rest: Any) -> None:
    print(f"keras-tcm: warning: {in_words(message)}", file=sys.stderr)


def _fail(message: object) -> int:
    print(f"keras-tcm: error: {message}", file=sys.stderr)
    return _MISTAKE
