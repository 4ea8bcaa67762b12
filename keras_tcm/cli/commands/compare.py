"""`keras-tcm compare`."""

import argparse

import numpy as np

from keras_tcm.cli.array_files import read_models
from keras_tcm.cli.messages import UsageError, legible, mistakes, title_of
from keras_tcm.cli.options import evaluation_options, make_folder
from keras_tcm.evaluation import compare_embeddings
from keras_tcm.labels import check_labels, encode_labels
from keras_tcm.study.report import comparison_text, show, write_comparison


def run(args: argparse.Namespace) -> None:
    """Carry out the command."""
    first, second = read_models(args)
    names = " and ".join(map(legible, args.files))
    for name in "gallery_embeddings", "gallery_labels":
        if (name in first) != (name in second):
            raise UsageError(f"{names} must both hold `{name}`, or neither of them")
    for name in "labels", "gallery_labels":
        if name in first:
            _check_same_labels(name, names, (first[name], second[name]))
    make_folder(args.out)
    with mistakes(ValueError, TypeError):
        comparison = compare_embeddings(
            first["embeddings"],
            second["embeddings"],
            first["labels"],
            first_gallery=first.get("gallery_embeddings"),
            second_gallery=second.get("gallery_embeddings"),
            gallery_labels=first.get("gallery_labels"),
            # The files may have the same name.
            names=(f"A: {title_of(args.files[0])}", f"B: {title_of(args.files[1])}"),
            **evaluation_options(args),
        )
    try:
        # Before anything is printed: whoever reads that may stop to.
        write_comparison(args.out, comparison)
    finally:
        show(comparison_text(comparison))
    print(f"Written to {legible(args.out)}")


def _check_same_labels(
    name: str, files: str, labels: tuple[np.ndarray, np.ndarray]
) -> None:
    with mistakes(ValueError, TypeError, of=f"{files}: "):
        # A label without a dimension has no length.
        known = [check_labels(name, one, one.size) for one in labels]
    sizes = [len(one) for one in known]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"{files} must hold the same samples. "
            f"Received: {sizes[0]} and {sizes[1]} `{name}`"
        )
    _, (first, second) = encode_labels(*known)
    if (first != second).any():
        index = int(np.argmax(first != second))
        differing = " and ".join(legible(one[index]) for one in known)
        raise UsageError(
            f"{files} must hold the same samples in the same order. "
            f"Received: `{name}` {differing} at index {index}"
        )
