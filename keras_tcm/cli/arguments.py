"""The arguments of the command `keras-tcm`."""

import argparse
import pathlib
import re
from typing import Any

_FILES = (
    "a NumPy .npz archive with the arrays `embeddings` (n, d) and `labels` (n,), "
    "optionally `gallery_embeddings` and `gallery_labels`; or an .npy file of the "
    "embeddings"
)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="keras-tcm",
        description="Threshold-consistent embeddings: train, measure, compare.",
    )
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="show the version of the package and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for add in (
        _add_demo,
        _add_evaluate,
        _add_compare,
        _add_study,
        _add_report,
        _add_toy,
    ):
        add(commands)
    return parser


class _Version(argparse.Action):
    """Prints the version, without importing the package."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        package = pathlib.Path(__file__).parents[1] / "__init__.py"
        text = package.read_text(encoding="utf-8")
        version = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
        assert version is not None
        print(f"{parser.prog} {version[1]}")
        parser.exit()


def _add_demo(commands: Any) -> None:
    parser = _add_command(
        commands,
        "demo",
        "train with and without TCM on embedded data",
        "Train a small network on rendered characters with and without "
        "TCM, from the same seed, and compare both on unseen scripts. Writes "
        "results.json, table.md, utility.png, and both evaluations as JSON and HTML. "
        "A model that is finished is kept: a demo that was stopped goes on where it "
        "was.",
    )
    _add_out(parser, default=pathlib.Path("demo-results"))
    _add_option(
        parser,
        "--loss",
        "the base loss",
        choices=(
            *("smooth_ap", "multi_similarity", "recall_at_k"),
            *("supervised_contrastive", "triplet_margin"),
        ),
        default="smooth_ap",
    )
    _add_tcm(parser, "for each base loss as a study chose them")
    _add_option(
        parser,
        "--steps",
        "training steps of each model",
        otherwise="2000, or as many as both can do in 20 minutes",
        type=int,
    )
    _add_option(parser, "--seed", "seed of both models", type=int, default=0)
    _add_option(
        parser,
        "--data-dir",
        "where to cache the rendered images",
        otherwise="the folder of Keras, ~/.keras",
        metavar="DIR",
    )


def _add_evaluate(commands: Any) -> None:
    parser = _add_command(
        commands,
        "evaluate",
        "evaluate embeddings from files",
        f"Evaluate embeddings of any origin. FILE is {_FILES}. Writes the evaluation "
        "as JSON, report.html (interactive), table.md and utility.png.",
    )
    _add_samples(parser, "FILE")
    _add_evaluation_options(parser)
    _add_option(
        parser,
        "--far-targets",
        "global false acceptance rates for which to find the threshold",
        type=float,
        nargs="+",
        default=(0.001, 0.01, 0.1),
        metavar="FAR",
    )
    _add_option(
        parser,
        "--at-threshold",
        "distances at which to measure the global FAR and FRR",
        otherwise="none",
        type=float,
        nargs="+",
        action="extend",
        metavar="D",
    )


def _add_compare(commands: Any) -> None:
    parser = _add_command(
        commands,
        "compare",
        "compare two models by their embeddings of the same samples",
        "Compare two models by their embeddings of the same samples, with 95% "
        "intervals by a bootstrap over classes. A and B hold the same samples in the "
        f"same order; each is {_FILES}. Writes compare.json, table.md and "
        "utility.png.",
    )
    _add_samples(parser, "A", "B")
    _add_evaluation_options(parser)


def _add_study(commands: Any) -> None:
    parser = _add_command(
        commands,
        "study",
        "train a grid of models with and without TCM, and report",
        "Train models with and without TCM on a grid of data sets, networks and base "
        "losses, and write the report. What is finished is kept: a study that was "
        "stopped goes on where it was.",
    )
    parser.add_argument(
        "--preset",
        choices=("embedded", "smoke", "paper"),
        required=True,
        help="the grid",
    )
    _add_out(parser)
    _add_option(
        parser,
        "--data-dir",
        "folder of the data sets, or where to cache embedded ones",
        otherwise="the folder of Keras, ~/.keras",
        metavar="DIR",
    )
    _add_option(
        parser,
        "--seeds",
        "seeds of the comparison",
        otherwise="those of the preset",
        type=int,
        nargs="+",
        metavar="SEED",
    )
    _add_tcm(parser, "chosen for each comparison, on held-out training classes")
    _add_option(
        parser,
        "--workers",
        "processes to train in",
        otherwise="one a processor, or one on a GPU",
        type=int,
    )


def _add_report(commands: Any) -> None:
    parser = _add_command(
        commands,
        "report",
        "write the report of a study anew",
        "Write the report of a study from its runs: study.md, study.html and figures.",
    )
    parser.add_argument(
        "directory", type=pathlib.Path, metavar="DIR", help="folder of the study"
    )
    _add_option(
        parser,
        "--out",
        "folder to write to",
        otherwise="DIR",
        type=pathlib.Path,
        metavar="DIR",
    )


def _add_toy(commands: Any) -> None:
    parser = _add_command(
        commands,
        "toy",
        "draw two-dimensional embeddings of digits with and without TCM",
        "Train two-dimensional ArcFace embeddings of digits with and without TCM, and "
        "draw their densities around the unit circle. Writes toy.json and toy.png.",
    )
    _add_out(parser)
    _add_option(
        parser,
        "--data",
        "MNIST, the digits of the package, or the first that can be had",
        choices=("auto", "mnist", "digits"),
        default="auto",
    )
    _add_option(parser, "--seed", "seed of both models", type=int, default=0)


# ----------------------------------------------------- arguments that commands share


def _add_command(
    commands: Any, name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=description)


def _add_option(
    parser: argparse.ArgumentParser,
    name: str,
    summary: str,
    *,
    otherwise: str | None = None,
    **options: Any,
) -> None:
    """Add an option whose help says what happens without it.

    Args:
        parser: The parser of the command.
        name: Name of the option.
        summary: What it is.
        otherwise: What happens without it, in words. Defaults to the default.
        options: Further arguments of `add_argument`.
    """
    if otherwise is None:
        default = options["default"]
        values = default if isinstance(default, tuple) else (default,)
        otherwise = " ".join(map(str, values))
    parser.add_argument(name, help=f"{summary} (default: {otherwise})", **options)


def _add_out(
    parser: argparse.ArgumentParser, default: pathlib.Path | None = None
) -> None:
    summary = "folder to write to, made if missing"
    if default is None:
        parser.add_argument(
            "--out", type=pathlib.Path, required=True, metavar="DIR", help=summary
        )
    else:
        _add_option(
            parser,
            "--out",
            summary,
            type=pathlib.Path,
            default=default,
            metavar="DIR",
        )


def _add_tcm(parser: argparse.ArgumentParser, otherwise: str) -> None:
    _add_option(
        parser,
        "--tcm",
        "margins of TCM, and its weight beside the base loss",
        otherwise=otherwise,
        type=float,
        nargs=3,
        metavar=("POSITIVE_MARGIN", "NEGATIVE_MARGIN", "WEIGHT"),
    )


def _add_samples(parser: argparse.ArgumentParser, *models: str) -> None:
    """Add what names the files of a model's embeddings, or of two models', and labels.

    Args:
        parser: The parser of the command.
        models: What stands for the file of each model.
    """
    is_one = len(models) == 1
    for model in models:
        which = "" if is_one else f" of model {model}"
        parser.add_argument(
            "files",
            action="append",
            type=pathlib.Path,
            metavar=model,
            help=f".npz or .npy{which}, see above",
        )
    _add_out(parser)
    _add_option(
        parser,
        "--labels",
        "labels of the samples: an .npy file, or an .npz archive with `labels`",
        otherwise=f"those in {' and '.join(models)}",
        type=pathlib.Path,
        metavar="FILE",
    )
    _add_option(
        parser,
        "--gallery",
        "samples to compare with: an .npz archive with `embeddings` and `labels`, or "
        f"an .npy file of the embeddings{'' if is_one else '; one for each model'}",
        otherwise=f"the gallery in {' and '.join(models)}, or else all other samples",
        type=pathlib.Path,
        nargs=len(models),
        metavar=("FILE",) if is_one else tuple(f"GALLERY_{model}" for model in models),
    )
    _add_option(
        parser,
        "--gallery-labels",
        "labels of the gallery: an .npy file, or an .npz archive with `labels`",
        otherwise="those beside the embeddings of the gallery",
        type=pathlib.Path,
        metavar="FILE",
    )


def _add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    _add_option(
        parser,
        "--gallery-includes-queries",
        "the samples are in the gallery too: none is compared with itself",
        otherwise="no",
        action="store_const",
        const=True,
        default=False,
    )
    _add_option(
        parser,
        "--far-range",
        "global false acceptance rates that bound the calibration range, over which "
        "OPIS is taken",
        type=float,
        nargs=2,
        default=(0.01, 0.1),
        metavar=("LOW", "HIGH"),
    )
    _add_option(
        parser,
        "--distance",
        "distance between embeddings: 1 - s or sqrt(2 - 2 s), with s the cosine "
        "similarity",
        choices=("cosine", "euclidean"),
        default="cosine",
    )
    _add_option(
        parser,
        "--beta",
        "weight of the sensitivity in the utility of a class; above 1 favours it",
        type=float,
        default=1.0,
    )
    _add_option(
        parser,
        "--epsilon",
        "share of the classes that count as worst",
        type=float,
        default=0.1,
    )
