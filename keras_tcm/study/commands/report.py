"""`keras-tcm report`."""

import argparse
import pathlib

from keras_tcm.study.commands.common import Commands, UsageError, add_command
from keras_tcm.study.document import print_block
from keras_tcm.study.study_report import write_study_report


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "report",
        "write the report of a study anew",
        "Write the report of a study from its runs: study.md, study.html and figures.",
    )
    parser.add_argument(
        "directory", type=pathlib.Path, metavar="DIR", help="folder of the study"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=argparse.SUPPRESS,
        help="folder to write to (default: DIR)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    write_and_print(args.directory, getattr(args, "out", args.directory))


def write_and_print(directory: pathlib.Path, out: pathlib.Path) -> None:
    """Write the report of a study, and print its main result."""
    try:
        blocks = write_study_report(directory, out)
    except (ValueError, OSError) as error:
        raise UsageError(error) from None
    for block in blocks:
        print_block(block)
    print(f"Written to {out}")
