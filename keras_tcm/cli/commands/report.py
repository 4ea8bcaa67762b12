"""`keras-tcm report`."""

import argparse
import pathlib

from keras_tcm.cli.messages import legible, mistakes
from keras_tcm.cli.options import check_figures
from keras_tcm.study.report import show, write_study_report


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    check_figures()
    write_and_print(args.directory, args.out or args.directory)


def write_and_print(directory: pathlib.Path, out: pathlib.Path) -> None:
    """Write the report of a study, and print its main result."""
    with mistakes(ValueError):
        text = write_study_report(directory, out)
    show(text)
    print(f"Written to {legible(out)}")
