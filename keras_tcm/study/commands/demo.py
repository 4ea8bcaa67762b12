"""`keras-tcm demo`."""

import argparse

from keras_tcm.study.commands.common import (
    UsageError,
    legible,
    make_folder,
    tcm_setting,
)
from keras_tcm.study.demo import DemoSettings, run_demo
from keras_tcm.study.document import print_block
from keras_tcm.study.evaluation_report import comparison_table
from keras_tcm.validation import check_integer


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    tcm = tcm_setting(args)
    try:
        check_integer("--steps", args.steps, 1)
        check_integer("--seed", args.seed, 0)
    except ValueError as error:
        raise UsageError(error) from None
    make_folder(args.out)
    settings = DemoSettings(args.loss, tcm, args.steps, args.seed)
    evaluations = run_demo(args.out, settings, args.data_dir)
    print()
    print_block(comparison_table(evaluations))
    print(f"Written to {legible(args.out)}")
