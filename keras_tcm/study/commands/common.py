"""What several commands have in common."""

import argparse
import pathlib
from typing import Any

import numpy as np

from keras_tcm.evaluation.distance import DISTANCES
from keras_tcm.study.grid import TCMSetting
from keras_tcm.validation import check_number

# What `add_subparsers` returns; its class has no public name.
Commands = Any


class UsageError(Exception):
    """A mistake of the user's, told without a traceback."""


def add_command(
    commands: Commands, name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    """Add a command whose help shows defaults."""
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `evaluation_options` reads."""
    parser.add_argument(
        "--far-range", type=float, nargs=2, default=(0.01, 0.1), metavar=("LOW", "HIGH")
    )
    parser.add_argument("--distance", choices=DISTANCES, default="cosine")
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--epsilon", type=float, default=0.1)


def evaluation_options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `evaluate_embeddings` that the user gave."""
    return {
        "far_range": args.far_range,
        "distance": args.distance,
        "beta": args.beta,
        "epsilon": args.epsilon,
    }


def add_tcm_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that `tcm_setting` reads.

    Args:
        parser: The parser of the command.
        default: What happens without it, in words.
    """
    parser.add_argument(
        "--tcm",
        type=float,
        nargs=3,
        metavar=("POSITIVE_MARGIN", "NEGATIVE_MARGIN", "WEIGHT"),
        default=argparse.SUPPRESS,
        help="margins of TCM, and its weight beside the base loss "
        f"(default: {default})",
    )


def tcm_setting(args: argparse.Namespace) -> TCMSetting | None:
    """Margins and weight that the user gave, if any."""
    if not hasattr(args, "tcm"):
        return None
    positive_margin, negative_margin, weight = args.tcm
    try:
        check_number("POSITIVE_MARGIN", positive_margin, -1, 1)
        check_number("NEGATIVE_MARGIN", negative_margin, -1, positive_margin)
        check_number("WEIGHT", weight, 0, open_low=True)
    except ValueError as error:
        raise UsageError(error) from None
    return TCMSetting(positive_margin, negative_margin, weight)


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read embeddings and labels, and those of a gallery if there are any."""
    names = ("embeddings", "labels", "gallery_embeddings", "gallery_labels")
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise UsageError(f"{path} is a single array, not an .npz archive")
        with archive:
            arrays = {name: archive[name] for name in names if name in archive.files}
            found = ", ".join(archive.files) or "no arrays"
    except UsageError:
        raise
    except Exception as error:  # A damaged file fails in many ways.
        raise UsageError(f"cannot read {path}: {error}") from None
    if not {"embeddings", "labels"} <= arrays.keys():
        raise UsageError(
            f"{path} must hold the arrays `embeddings` and `labels`. Received: {found}"
        )
    return arrays


def make_folder(path: pathlib.Path) -> None:
    """Make the folder to write to, before any work is done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error}") from None
