"""What several commands have in common."""

import argparse
import pathlib
import re
import warnings
from typing import Any

import numpy as np

from keras_tcm.evaluation import from_cosine
from keras_tcm.study.grid import TCMSetting
from keras_tcm.validation import check_number
from keras_tcm.visualization.pyplot import pyplot

# Arguments of an evaluation whose options have their names.
_ARGUMENTS = (
    "far_range",
    "distance",
    "beta",
    "epsilon",
    "far_targets",
    "gallery_includes_queries",
)


class UsageError(Exception):
    """A mistake of the user's, told without a traceback."""


def in_words(error: object) -> str:
    """Write a message with the options of the command in place of arguments."""
    text = str(error)
    for name, option in (
        ("at_thresholds", "at-threshold"),
        *((name, name.replace("_", "-")) for name in _ARGUMENTS),
    ):
        text = re.sub(rf"`{name}(=True)?`", f"`--{option}`", text)
        text = re.sub(rf"\b{name}=", f"--{option} ", text)
    return text


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
    try:
        check_number("POSITIVE_MARGIN", positive_margin, -1, 1)
        check_number("NEGATIVE_MARGIN", negative_margin, -1, positive_margin)
        check_number("WEIGHT", weight, 0, open_low=True)
    except ValueError as error:
        raise UsageError(error) from None
    return TCMSetting(positive_margin, negative_margin, weight)


def legible(name: object) -> str:
    """Write a name so that any terminal, page or figure can show it, on one line.

    Args:
        name: Whatever the system takes for the name of a file: with line breaks, codes
            that steer a terminal, or bytes that are no text.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def title_of(path: pathlib.Path) -> str:
    """Name of a file for a heading: without its folder and type, and not too long."""
    title = legible(path.stem)
    return title if len(title) <= 48 else f"{title[:31]}…{title[-16:]}"


def make_folder(path: pathlib.Path) -> None:
    """Make the folder to write to, before any work is done."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"cannot write to {legible(path)}: it is a file, not a folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {legible(path)}: {error}") from None


def check_figures() -> None:
    """Raise `UsageError` if figures cannot be drawn, before any work is done."""
    try:
        pyplot()
    except ImportError as error:
        raise UsageError(error) from None


def warn_of_zeros(
    path: pathlib.Path, arrays: dict[str, np.ndarray], distance: str
) -> None:
    """Warn of embeddings without a direction.

    Args:
        path: Where the samples come from.
        arrays: Their embeddings, and those of the gallery, beside other arrays.
        distance: The measure of distance.
    """
    for name in "embeddings", "gallery_embeddings":
        x = arrays.get(name)
        if x is None or x.ndim != 2 or x.dtype.kind not in "fiu":
            continue
        count = int(np.count_nonzero(~x.any(axis=1)))
        if count:
            warnings.warn(
                f"{legible(path)}: {count:,} of {len(x):,} rows of `{name}` are all "
                "zero: they are at distance "
                f"{from_cosine(1.0, distance):.4g} from everything",
                stacklevel=2,
            )
