"""`keras-tcm check`."""

import argparse

from keras_tcm.cli.array_files import read_samples
from keras_tcm.cli.messages import UsageError, in_words, legible
from keras_tcm.threshold import BROKEN, Threshold

# Exit code: see docs/command_line.md.
_BROKEN = 3


def run(args: argparse.Namespace) -> int:
    """Carry out the command.

    Returns:
        Exit code.
    """
    try:
        threshold = Threshold.load(args.threshold)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {legible(args.threshold)}: {error}") from None
    if threshold.normalization_digest is not None:
        raise UsageError(
            f"{legible(args.threshold)} was chosen with a score normalisation, which "
            "this command does not know: call `Threshold.check` in Python"
        )
    file = args.file
    arrays = read_samples(file, args.labels, args.gallery, args.gallery_labels)
    try:
        check = threshold.check(
            **arrays, gallery_includes_queries=args.gallery_includes_queries
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"{legible(file)}: {in_words(error)}") from None
    print(check.summary())
    return _BROKEN if check.verdict == BROKEN else 0
