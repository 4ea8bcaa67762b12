"""The `keras-tcm` command."""

import argparse
import importlib.util
import pathlib
import sys
from collections.abc import Sequence

import numpy as np

from keras_tcm.evaluation import evaluate_embeddings
from keras_tcm.evaluation.distance import DISTANCES
from keras_tcm.study.demo import BASE_LOSSES, DemoSettings, run_demo
from keras_tcm.study.report import FAR_TARGET, print_table, write_report
from keras_tcm.validation import check_integer, check_number

# Exit code for a mistake of the user's, as argparse has it.
_USAGE = 2


class _UsageError(Exception):
    """A mistake of the user's, told without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Words of the command line. Defaults to those of the process.

    Returns:
        Exit code: 0, or 2 for a mistake of the user's.
    """
    args = _parser().parse_args(arguments)
    try:
        _check_matplotlib()
        args.run(args)
    except _UsageError as error:
        print(f"keras-tcm: error: {error}", file=sys.stderr)
        return _USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="keras-tcm",
        description="Threshold-consistent embeddings: train, measure, compare.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    defaults = DemoSettings()
    demo = commands.add_parser(
        "demo",
        help="train with and without TCM on embedded data",
        description="Train a small network on rendered characters with and without "
        "TCM, from the same seed, and compare both on unseen scripts. Writes "
        "results.json, table.md, utility.png and both evaluations.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--out", type=pathlib.Path, default=pathlib.Path("demo-results"))
    demo.add_argument("--loss", choices=BASE_LOSSES, default=defaults.loss)
    demo.add_argument("--positive-margin", type=float, default=defaults.positive_margin)
    demo.add_argument("--negative-margin", type=float, default=defaults.negative_margin)
    demo.add_argument(
        "--tcm-weight",
        type=float,
        default=defaults.tcm_weight,
        help="weight of TCM beside the base loss",
    )
    demo.add_argument(
        "--steps", type=int, default=defaults.steps, help="training steps of each model"
    )
    demo.add_argument("--seed", type=int, default=defaults.seed)
    demo.add_argument("--data-dir", help="where to cache the rendered images")
    demo.set_defaults(run=_demo)

    evaluate = commands.add_parser(
        "evaluate",
        help="evaluate embeddings from a file",
        description="Evaluate embeddings of any origin. FILE is a NumPy .npz archive "
        "with the arrays `embeddings` (n, d) and `labels` (n,), optionally "
        "`gallery_embeddings` and `gallery_labels`. Writes the evaluation as JSON, "
        "table.md and utility.png.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.add_argument("file", type=pathlib.Path, metavar="FILE")
    evaluate.add_argument("--out", type=pathlib.Path, required=True, help="folder")
    evaluate.add_argument(
        "--far-range", type=float, nargs=2, default=(0.01, 0.1), metavar=("LOW", "HIGH")
    )
    evaluate.add_argument("--distance", choices=DISTANCES, default="cosine")
    evaluate.add_argument("--beta", type=float, default=1.0)
    evaluate.add_argument("--epsilon", type=float, default=0.1)
    evaluate.set_defaults(run=_evaluate)
    return parser


def _check_matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        raise _UsageError('the figure needs matplotlib: pip install "keras-tcm[viz]"')


def _demo(args: argparse.Namespace) -> None:
    try:
        check_number("--positive-margin", args.positive_margin, -1, 1)
        check_number(
            "--negative-margin", args.negative_margin, -1, args.positive_margin
        )
        check_number("--tcm-weight", args.tcm_weight, 0)
        check_integer("--steps", args.steps, 1)
        check_integer("--seed", args.seed, 0)
    except ValueError as error:
        raise _UsageError(error) from None
    _check_out(args.out)
    settings = DemoSettings(
        loss=args.loss,
        positive_margin=args.positive_margin,
        negative_margin=args.negative_margin,
        tcm_weight=args.tcm_weight,
        steps=args.steps,
        seed=args.seed,
    )
    try:
        evaluations = run_demo(args.out, settings, args.data_dir)
    except OSError as error:
        raise _UsageError(error) from None
    print()
    print_table(evaluations)
    print(f"Written to {args.out}")


def _evaluate(args: argparse.Namespace) -> None:
    arrays = _read_arrays(args.file)
    _check_out(args.out)
    try:
        result = evaluate_embeddings(
            arrays["embeddings"],
            arrays["labels"],
            gallery_embeddings=arrays.get("gallery_embeddings"),
            gallery_labels=arrays.get("gallery_labels"),
            far_range=args.far_range,
            distance=args.distance,
            beta=args.beta,
            epsilon=args.epsilon,
            far_targets=(0.001, FAR_TARGET, 0.1),
        )
    except (ValueError, TypeError) as error:
        raise _UsageError(f"{args.file}: {error}") from None
    print(result.summary())
    name = args.file.stem
    print_table({name: result})
    try:
        write_report(args.out, {name: result})
    except OSError as error:
        raise _UsageError(error) from None
    print(f"Written to {args.out}")


def _read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    names = ("embeddings", "labels", "gallery_embeddings", "gallery_labels")
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise _UsageError(f"{path} is a single array, not an .npz archive")
        with archive:
            arrays = {name: archive[name] for name in names if name in archive.files}
            found = ", ".join(archive.files) or "no arrays"
    except _UsageError:
        raise
    except Exception as error:  # A damaged file fails in many ways.
        raise _UsageError(f"cannot read {path}: {error}") from None
    if not {"embeddings", "labels"} <= arrays.keys():
        raise _UsageError(
            f"{path} must hold the arrays `embeddings` and `labels`. Received: {found}"
        )
    return arrays


def _check_out(path: pathlib.Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _UsageError(f"cannot write to {path}: {error}") from None
