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
from keras_tcm.study.demo import MINUTES, STEPS, TUNED, DemoSettings, run_demo
from keras_tcm.study.document import Heading, Paragraph, print_block
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
        "results.json, table.md, utility.png, and both evaluations as JSON and HTML. "
        "A model that is finished is kept: a demo that was stopped goes on where it "
        "was.",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("demo-results"),
        help="folder to write to",
    )
    parser.add_argument(
        "--loss", choices=TUNED, default=defaults.loss, help="the base loss"
    )
    add_tcm_option(parser, "for each base loss as a study chose them")
    parser.add_argument(
        "--steps",
        type=int,
        default=argparse.SUPPRESS,
        help="training steps of each model, rounded up to a multiple of 8 "
        f"(default: {STEPS}, or as many as both can do in {MINUTES} minutes)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=defaults.seed,
        help="seed of the weights and batches of both models",
    )
    parser.add_argument(
        "--data-dir",
        default=argparse.SUPPRESS,
        help="where to cache the rendered images (default: keras_tcm in the Keras "
        "home, ~/.keras)",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    tcm = tcm_setting(args)
    steps = getattr(args, "steps", None)
    try:
        if steps is not None:
            check_integer("--steps", steps, 1)
        check_integer("--seed", args.seed, 0)
    except ValueError as error:
        raise UsageError(error) from None
    make_folder(args.out)
    settings = DemoSettings(args.loss, tcm, steps, args.seed)
    try:
        evaluations, steps = run_demo(
            args.out, settings, getattr(args, "data_dir", None)
        )
    except OSError as error:
        raise UsageError(error) from None
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
    print(f"Written to {args.out}")
