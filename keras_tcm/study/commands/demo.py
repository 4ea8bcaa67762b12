"""`keras-tcm demo`."""

import argparse

from keras_tcm.study.commands.common import (
    UsageError,
    legible,
    make_folder,
    tcm_setting,
)
from keras_tcm.study.demo import STEPS, DemoSettings, run_demo
from keras_tcm.study.document import Heading, Paragraph, print_block
from keras_tcm.study.evaluation_report import comparison_table
from keras_tcm.validation import check_integer


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    tcm = tcm_setting(args)
    try:
        if args.steps is not None:
            check_integer("--steps", args.steps, 1)
        check_integer("--seed", args.seed, 0)
    except ValueError as error:
        raise UsageError(error) from None
    make_folder(args.out)
    settings = DemoSettings(args.loss, tcm, args.steps, args.seed)
    evaluations, steps = run_demo(args.out, settings, args.data_dir)
    tested = next(iter(evaluations.values()))
    print()
    print_block(
        Heading(
            f"{steps:,} training steps each, tested on {tested.num_samples:,} images "
            f"of {len(tested.classes)} unseen characters"
        )
    )
    print_block(comparison_table(evaluations))
    print_block(
        Paragraph(
            "OPIS: how far the characters are from agreeing on one distance threshold. "
            "FAR and FRR: the shares of the pairs of different characters that it "
            "accepts, and of the pairs of the same one that it rejects."
            + (
                f" The README's tables are of {STEPS:,} steps (--steps {STEPS})."
                if steps != STEPS
                else ""
            )
        )
    )
    print(f"Written to {legible(args.out)}")
