"""`keras-tcm toy`."""

import argparse

from keras_tcm.cli.messages import UsageError, legible
from keras_tcm.cli.options import make_folder
from keras_tcm.study import run_toy


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    make_folder(args.out)
    try:
        run_toy(args.out, args.data, args.seed)
    except (ImportError, ValueError) as error:
        raise UsageError(error) from None
    print(f"Written to {legible(args.out)}")
