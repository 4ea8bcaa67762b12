"""`keras-tcm compare`."""

import argparse
import pathlib

import numpy as np

from keras_tcm.labels import check_labels, encode_labels
from keras_tcm.study.commands.common import (
    Commands,
    UsageError,
    add_command,
    add_evaluation_options,
    evaluation_options,
    make_folder,
    read_arrays,
)
from keras_tcm.study.compare import compare_embeddings, write_comparison
from keras_tcm.study.document import print_block


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "compare",
        "compare two models by their embeddings of the same samples",
        "Compare two models by their embeddings of the same samples, with 95% "
        "intervals by a bootstrap over classes. A and B are archives as for "
        "`evaluate`, with the same labels in the same order. Writes compare.json, "
        "table.md and utility.png.",
    )
    parser.add_argument("first", type=pathlib.Path, metavar="A.npz")
    parser.add_argument("second", type=pathlib.Path, metavar="B.npz")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder")
    add_evaluation_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    paths = args.first, args.second
    first, second = map(read_arrays, paths)
    for name in "gallery_embeddings", "gallery_labels":
        if (name in first) != (name in second):
            raise UsageError(
                f"{paths[0]} and {paths[1]} must both hold `{name}`, or neither of them"
            )
    for name in "labels", "gallery_labels":
        if name in first:
            _check_same_labels(name, paths, (first[name], second[name]))
    make_folder(args.out)
    try:
        comparison = compare_embeddings(
            first["embeddings"],
            second["embeddings"],
            first["labels"],
            first_gallery=first.get("gallery_embeddings"),
            second_gallery=second.get("gallery_embeddings"),
            gallery_labels=first.get("gallery_labels"),
            # The files may have the same name.
            names=(f"A: {paths[0].stem}", f"B: {paths[1].stem}"),
            **evaluation_options(args),
        )
        write_comparison(args.out, comparison)
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(error) from None
    for block in comparison.blocks():
        print_block(block)
    print(f"Written to {args.out}")


def _check_same_labels(
    name: str,
    paths: tuple[pathlib.Path, pathlib.Path],
    labels: tuple[np.ndarray, np.ndarray],
) -> None:
    try:
        known = [check_labels(name, one, len(one)) for one in labels]
    except (ValueError, TypeError) as error:
        raise UsageError(f"{paths[0]} or {paths[1]}: {error}") from None
    sizes = [len(one) for one in known]
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"{paths[0]} and {paths[1]} must hold the same samples. "
            f"Received: {sizes[0]} and {sizes[1]} `{name}`"
        )
    _, (first, second) = encode_labels(*known)
    if (first != second).any():
        index = int(np.argmax(first != second))
        raise UsageError(
            f"{paths[0]} and {paths[1]} must hold the same samples in the same order. "
            f"Received: `{name}` {known[0][index]} and {known[1][index]} at index "
            f"{index}"
        )
