"""`keras-tcm toy`."""

import argparse

from keras_tcm.study.commands.common import UsageError, legible, make_folder
from keras_tcm.study.toy import run_toy


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    make_folder(args.out)
    try:
        run_toy(args.out, args.data, args.seed)
    except (ImportError, ValueError) as error:
        raise UsageError(error) from None
    print(f"Written to {legible(args.out)}")
