"""`keras-tcm demo`."""

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
from keras_tcm.study.demo import TUNED, DemoSettings, run_demo
from keras_tcm.study.document import print_block
from keras_tcm.study.evaluation_report import comparison_table
from keras_tcm.validation import check_integer


def add_parser(commands: Commands) -> None:
    """Add the command."""
    defaults = DemoSettings()
    parser = add_command(
        commands,
        "demo",
        "train with and without TCM on embedded data",
        "Train a small network on rendered characters with and without "
        "TCM, from the same seed, and compare both on unseen scripts. Writes "
        "results.json, table.md, utility.png, and both evaluations as JSON and HTML.",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("demo-results")
    )
    parser.add_argument("--loss", choices=TUNED, default=defaults.loss)
    add_tcm_option(parser, "for each base loss as a study chose them")
    parser.add_argument(
        "--steps", type=int, default=defaults.steps, help="training steps of each model"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--data-dir", help="where to cache the rendered images")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    tcm = tcm_setting(args)
    try:
        check_integer("--steps", args.steps, 1)
        check_integer("--seed", args.seed, 0)
    except ValueError as error:
        raise UsageError(error) from None
    make_folder(args.out)
    settings = DemoSettings(args.loss, tcm, args.steps, args.seed)
    try:
        evaluations = run_demo(args.out, settings, args.data_dir)
    except OSError as error:
        raise UsageError(error) from None
    print()
    print_block(comparison_table(evaluations))
    print(f"Written to {args.out}")
