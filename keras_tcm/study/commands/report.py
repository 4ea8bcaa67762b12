"""`keras-tcm report`."""

import argparse
import pathlib

from keras_tcm.study.commands.common import UsageError, check_figures, legible
from keras_tcm.study.document import print_block
from keras_tcm.study.study_report import write_study_report


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    check_figures()
    write_and_print(args.directory, args.out or args.directory)


def write_and_print(directory: pathlib.Path, out: pathlib.Path) -> None:
    """Write the report of a study, and print its main result."""
    try:
        blocks = write_study_report(directory, out)
    except ValueError as error:
        raise UsageError(error) from None
    for block in blocks:
        print_block(block)
    print(f"Written to {legible(out)}")
