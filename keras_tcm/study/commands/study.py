"""`keras-tcm study`."""

import argparse
import pathlib

from keras_tcm.study.commands.common import (
    Commands,
    UsageError,
    add_command,
    make_folder,
)
from keras_tcm.study.commands.report import write_and_print
from keras_tcm.study.grid import PRESETS, TCMSetting
from keras_tcm.validation import check_number


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "study",
        "train a grid of models with and without TCM, and report",
        "Train models with and without TCM on a grid of data sets, networks and base "
        "losses, and write the report. What is finished is kept: a study that was "
        "stopped goes on where it was.",
    )
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder")
    parser.add_argument(
        "--data-dir", help="folder of the data sets, or where to cache embedded ones"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=argparse.SUPPRESS,
        help="seeds of the comparison (default: those of the preset)",
    )
    parser.add_argument(
        "--tcm",
        type=float,
        nargs=3,
        metavar=("POSITIVE_MARGIN", "NEGATIVE_MARGIN", "WEIGHT"),
        default=argparse.SUPPRESS,
        help="margins and weight of TCM for all comparisons (default: chosen for each, "
        "on held-out training classes)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=argparse.SUPPRESS,
        help="processes to train in (default: one a processor, or one on a GPU)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from keras_tcm.study.runner import run_study

    seeds = getattr(args, "seeds", None)
    if seeds is not None and len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds must differ. Received: {seeds}")
    tcm = getattr(args, "tcm", None)
    if tcm is not None:
        try:
            check_number("POSITIVE_MARGIN", tcm[0], -1, 1)
            check_number("NEGATIVE_MARGIN", tcm[1], -1, tcm[0])
            check_number("WEIGHT", tcm[2], 0, open_low=True)
        except ValueError as error:
            raise UsageError(error) from None
    make_folder(args.out)
    try:
        run_study(
            args.out,
            args.preset,
            data_dir=args.data_dir,
            seeds=seeds,
            workers=getattr(args, "workers", None),
            tcm=None if tcm is None else TCMSetting(*tcm),
        )
    except (ValueError, OSError) as error:
        raise UsageError(error) from None
    write_and_print(args.out, args.out)
