"""`keras-tcm evaluate`."""

import argparse

from keras_tcm.evaluation import evaluate_embeddings
from keras_tcm.study.commands.array_files import read_samples
from keras_tcm.study.commands.common import (
    UsageError,
    evaluation_options,
    in_words,
    legible,
    make_folder,
    title_of,
    warn_of_zeros,
)
from keras_tcm.study.document import print_block
from keras_tcm.study.evaluation_report import comparison_table, write_report


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    arrays = read_samples(args.file, args.labels, args.gallery, args.gallery_labels)
    warn_of_zeros(args.file, arrays, args.distance)
    make_folder(args.out)
    try:
        result = evaluate_embeddings(
            arrays["embeddings"],
            arrays["labels"],
            gallery_embeddings=arrays.get("gallery_embeddings"),
            gallery_labels=arrays.get("gallery_labels"),
            far_targets=args.far_targets,
            at_thresholds=args.at_threshold or (),
            **evaluation_options(args),
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"{legible(args.file)}: {in_words(error)}") from None
    evaluations = {title_of(args.file): result}
    try:
        # Before anything is printed: whoever reads that may stop to.
        write_report(args.out, evaluations, args.far_targets)
    finally:
        print(result.summary())
        print_block(comparison_table(evaluations, args.far_targets))
    print(f"Written to {legible(args.out)}")
