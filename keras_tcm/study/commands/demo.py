"""`keras-tcm demo`."""

import argparse
import pathlib

from keras_tcm.study.commands.common import (
    Commands,
    UsageError,
    add_command,
    make_folder,
)
from keras_tcm.study.demo import BASE_LOSSES, DemoSettings, run_demo
from keras_tcm.study.report import print_table
from keras_tcm.validation import check_integer, check_number


def add_parser(commands: Commands) -> None:
    """Add the command."""
    defaults = DemoSettings()
    parser = add_command(
        commands,
        "demo",
        "train with and without TCM on embedded data",
        "Train a small network on rendered characters with and without "
        "TCM, from the same seed, and compare both on unseen scripts. Writes "
        "results.json, table.md, utility.png and both evaluations.",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("demo-results")
    )
    parser.add_argument("--loss", choices=BASE_LOSSES, default=defaults.loss)
    parser.add_argument(
        "--positive-margin", type=float, default=defaults.positive_margin
    )
    parser.add_argument(
        "--negative-margin", type=float, default=defaults.negative_margin
    )
    parser.add_argument(
        "--tcm-weight",
        type=float,
        default=defaults.tcm_weight,
        help="weight of TCM beside the base loss",
    )
    parser.add_argument(
        "--steps", type=int, default=defaults.steps, help="training steps of each model"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--data-dir", help="where to cache the rendered images")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    try:
        check_number("--positive-margin", args.positive_margin, -1, 1)
        check_number(
            "--negative-margin", args.negative_margin, -1, args.positive_margin
        )
        check_number("--tcm-weight", args.tcm_weight, 0)
        check_integer("--steps", args.steps, 1)
        check_integer("--seed", args.seed, 0)
    except ValueError as error:
        raise UsageError(error) from None
    make_folder(args.out)
    settings = DemoSettings(
        loss=args.loss,
        positive_margin=args.positive_margin,
        negative_margin=args.negative_margin,
        tcm_weight=args.tcm_weight,
        steps=args.steps,
        seed=args.seed,
    )
    try:
        evaluations = run_demo(args.out, settings, args.data_dir)
    except OSError as error:
        raise UsageError(error) from None
    print()
    print_table(evaluations)
    print(f"Written to {args.out}")
