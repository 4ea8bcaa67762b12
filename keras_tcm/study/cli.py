"""The `keras-tcm` command."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from keras_tcm.study.commands import compare, demo, evaluate, report, study, toy
from keras_tcm.study.commands.common import UsageError

# Exit code for a mistake of the user's, as argparse has it.
_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words of the command line. Defaults to those of the process.

    Returns:
        Exit code: 0, or 2 for a mistake of the user's.
    """
    args = _parser().parse_args(arguments)
    try:
        _check_matplotlib()
        args.run(args)
    except UsageError as error:
        print(f"keras-tcm: error: {error}", file=sys.stderr)
        return _USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-tcm",
        description="Threshold-consistent embeddings: train, measure, compare.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in demo, evaluate, compare, study, report, toy:
        command.add_parser(commands)
    return parser


def _check_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError('the figure needs matplotlib: pip install "keras-tcm[viz]"')
