"""`keras-tcm toy`."""

import argparse
import pathlib

from keras_tcm.study.commands.common import (
    Commands,
    UsageError,
    add_command,
    make_folder,
)
from keras_tcm.study.toy import DATA, run_toy


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "toy",
        "draw two-dimensional embeddings of digits with and without TCM",
        "Train two-dimensional ArcFace embeddings of digits with and without TCM, and "
        "draw their densities around the unit circle. Writes toy.json and toy.png.",
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder")
    parser.add_argument(
        "--data",
        choices=DATA,
        default="auto",
        help="MNIST, the digits of the package, or the first that can be had",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    make_folder(args.out)
    try:
        run_toy(args.out, args.data, args.seed)
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(error) from None
    print(f"Written to {args.out}")
