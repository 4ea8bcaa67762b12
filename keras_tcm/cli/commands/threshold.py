"""`keras-tcm threshold`."""

import argparse

from keras_tcm.cli.array_files import read_models
from keras_tcm.cli.messages import UsageError, in_words, legible
from keras_tcm.threshold import choose_threshold


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    (file,), (arrays,) = args.files, read_models(args)
    try:
        threshold = choose_threshold(
            arrays["embeddings"],
            arrays["labels"],
            gallery_embeddings=arrays.get("gallery_embeddings"),
            gallery_labels=arrays.get("gallery_labels"),
            far=args.far,
            frr=args.frr,
            confidence=args.confidence,
            promise=args.promise,
            class_share=args.class_share,
            distance=args.distance,
            gallery_includes_queries=args.gallery_includes_queries,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"{legible(file)}: {in_words(error)}") from None
    threshold.save(args.out)
    print(threshold.summary())
    print(f"Written to {legible(args.out)}")
