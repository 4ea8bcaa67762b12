"""`keras-tcm study`."""

import argparse
import pathlib

from keras_tcm.study.commands.common import (
    Commands,
    UsageError,
    add_command,
    add_tcm_option,
    make_folder,
    tcm_setting,
)
from keras_tcm.study.commands.report import write_and_print
from keras_tcm.study.grid import PRESETS


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
    add_tcm_option(parser, "chosen for each comparison, on held-out training classes")
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
    tcm = tcm_setting(args)
    make_folder(args.out)
    try:
        run_study(
            args.out,
            args.preset,
            data_dir=args.data_dir,
            seeds=seeds,
            workers=getattr(args, "workers", None),
            tcm=tcm,
        )
    except (ValueError, OSError) as error:
        raise UsageError(error) from None
    write_and_print(args.out, args.out)
