"""What options that several commands have ask for."""

import argparse
import pathlib
from typing import Any

from keras_tcm.cli.messages import UsageError, legible, mistakes
from keras_tcm.study import TCMSetting
from keras_tcm.validation import check_number
from keras_tcm.visualization.pyplot import pyplot


def evaluation_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `evaluate_embeddings` that the user gave."""
    return {
        "far_range": args.far_range,
        "distance": args.distance,
        "beta": args.beta,
        "epsilon": args.epsilon,
        "gallery_includes_queries": args.gallery_includes_queries,
    }


def tcm_setting(args: argparse.Namespace) -> TCMSetting | None:
    """Margins and weight that the user gave, if any."""
    if args.tcm is None:
        return None
    positive_margin, negative_margin, weight = args.tcm
    with mistakes(ValueError):
        check_number("POSITIVE_MARGIN", positive_margin, -1, 1)
        check_number("NEGATIVE_MARGIN", negative_margin, -1, positive_margin)
        check_number("WEIGHT", weight, 0, open_low=True)
    return TCMSetting(positive_margin, negative_margin, weight)


def make_folder(path: pathlib.Path) -> None:
    """Make the folder to write to, before any work is done."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"cannot write to {legible(path)}: it is a file, not a folder")
    with mistakes(OSError, of=f"cannot write to {legible(path)}: "):
        path.mkdir(parents=True, exist_ok=True)


def check_figures() -> None:
    """Raise `UsageError` if figures cannot be drawn, before any work is done."""
    with mistakes(ImportError):
        pyplot()
