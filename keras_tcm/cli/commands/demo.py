"""`keras-tcm demo`."""

import argparse

from keras_tcm.cli.messages import legible, mistakes
from keras_tcm.cli.options import make_folder, tcm_setting
from keras_tcm.evaluation import Evaluation
from keras_tcm.study import DEMO_STEPS, DemoSettings, run_demo
from keras_tcm.study.report import (
    comparison_table,
    document,
    heading,
    paragraph,
    show,
)
from keras_tcm.validation import check_integer

# The FAR at which the demo tells what to do.
FAR_TARGET = 0.01


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    tcm = tcm_setting(args)
    with mistakes(ValueError):
        if args.steps is not None:
            check_integer("--steps", args.steps, 1)
        check_integer("--seed", args.seed, 0)
    make_folder(args.out)
    settings = DemoSettings(args.loss, tcm, args.steps, args.seed)
    evaluations, steps = run_demo(args.out, settings, args.data_dir)
    tested = next(iter(evaluations.values()))
    others = f" The README's tables are of {DEMO_STEPS:,} steps (--steps {DEMO_STEPS})."
    print()
    show(
        document(
            [
                heading(
                    f"{steps:,} training steps each, tested on "
                    f"{tested.num_samples:,} images of {len(tested.classes)} unseen "
                    "characters"
                ),
                comparison_table(evaluations),
                paragraph(
                    "OPIS: how far the characters are from agreeing on one distance "
                    "threshold. FAR and FRR: the shares of the pairs of different "
                    "characters that it accepts, and of the pairs of the same one that "
                    f"it rejects.{'' if steps == DEMO_STEPS else others}"
                ),
            ]
        )
    )
    print(f"Written to {legible(args.out)}")
    show(paragraph(advice(evaluations)))


def advice(evaluations: dict[str, Evaluation]) -> str:
    """Say in a sentence what to do with the last of some models."""
    name, evaluation = list(evaluations.items())[-1]
    point = evaluation.operating_point(FAR_TARGET)
    if not point.resolved or point.intervals is None:
        return f"There are too few characters for a FAR of {FAR_TARGET:.0%}."
    (far_low, far_high), (frr_low, frr_high) = (
        point.intervals[rate] for rate in ("far", "frr")
    )
    return (
        f"To use {name}: accept a pair up to the distance {point.threshold:.4f}. On "
        f"other characters of the same kind, that accepts {far_low:.2%} to "
        f"{far_high:.2%} of the pairs of different ones, and rejects {frr_low:.1%} to "
        f"{frr_high:.1%} of those of the same."
    )
