"""`keras-tcm toy`."""

import argparse

from keras_tcm.cli.messages import legible, mistakes
from keras_tcm.cli.options import make_folder
from keras_tcm.study import run_toy


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    make_folder(args.out)
    with mistakes(ImportError, ValueError):
        run_toy(args.out, args.data, args.seed)
    print(f"Written to {legible(args.out)}")
