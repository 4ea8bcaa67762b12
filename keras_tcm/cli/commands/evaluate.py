"""`keras-tcm evaluate`."""

import argparse

from keras_tcm.cli.array_files import read_models
from keras_tcm.cli.messages import legible, mistakes, title_of
from keras_tcm.cli.options import evaluation_options, make_folder
from keras_tcm.evaluation import evaluate_embeddings
from keras_tcm.study.report import comparison_table, show, write_report


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    (file,), (arrays,) = args.files, read_models(args)
    make_folder(args.out)
    with mistakes(ValueError, TypeError, of=f"{legible(file)}: "):
        result = evaluate_embeddings(
            arrays["embeddings"],
            arrays["labels"],
            gallery_embeddings=arrays.get("gallery_embeddings"),
            gallery_labels=arrays.get("gallery_labels"),
            far_targets=args.far_targets,
            at_thresholds=args.at_threshold or (),
            **evaluation_options(args),
        )
    evaluations = {title_of(file): result}
    try:
        # Before anything is printed: whoever reads that may stop to.
        write_report(args.out, evaluations, args.far_targets)
    finally:
        print(result.summary())
        show(comparison_table(evaluations, args.far_targets))
    print(f"Written to {legible(args.out)}")
