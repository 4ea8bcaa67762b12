"""`keras-tcm evaluate`."""

import argparse
import pathlib

from keras_tcm.evaluation import evaluate_embeddings
from keras_tcm.study.commands.common import (
    Commands,
    UsageError,
    add_command,
    add_evaluation_options,
    evaluation_options,
    make_folder,
    read_arrays,
)
from keras_tcm.study.document import print_block
from keras_tcm.study.evaluation_report import FAR_TARGET, comparison_table, write_report


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "evaluate",
        "evaluate embeddings from a file",
        "Evaluate embeddings of any origin. FILE is a NumPy .npz archive "
        "with the arrays `embeddings` (n, d) and `labels` (n,), optionally "
        "`gallery_embeddings` and `gallery_labels`. Writes the evaluation as JSON, "
        "report.html (interactive), table.md and utility.png.",
    )
    parser.add_argument("file", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder")
    add_evaluation_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    arrays = read_arrays(args.file)
    make_folder(args.out)
    try:
        result = evaluate_embeddings(
            arrays["embeddings"],
            arrays["labels"],
            gallery_embeddings=arrays.get("gallery_embeddings"),
            gallery_labels=arrays.get("gallery_labels"),
            far_targets=(0.001, FAR_TARGET, 0.1),
            **evaluation_options(args),
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"{args.file}: {error}") from None
    print(result.summary())
    name = args.file.stem
    print_block(comparison_table({name: result}))
    try:
        write_report(args.out, {name: result})
    except OSError as error:
        raise UsageError(error) from None
    print(f"Written to {args.out}")
