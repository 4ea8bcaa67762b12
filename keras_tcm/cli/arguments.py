"""The arguments of the command `keras-tcm`."""

import argparse
import pathlib
import re
from typing import Any

_FILES = (
    "a NumPy .npz archive with the arrays `embeddings` (n, d) and `labels` (n,), "
    "optionally `gallery_embeddings` and `gallery_labels`; or an .npy file of the "
    "embeddings. Those of two towers may be stacked: (n, 2, d), queries and gallery "
    "items of the same labels"
)
_FILE: dict[str, Any] = {"type": pathlib.Path, "metavar": "FILE"}
_FOLDER: dict[str, Any] = {"type": pathlib.Path, "metavar": "DIR"}


class _Parser(argparse.ArgumentParser):
    """A parser whose help says what happens without an option."""

    def option(
        self, name: str, summary: str, otherwise: str | None = None, **options: Any
    ) -> None:
        """Add an option.

        Args:
            name: Name of the option.
            summary: What it is.
            otherwise: What happens without it, in words. Defaults to the default.
            options: Further arguments of `add_argument`.
        """
        if otherwise is None:
            default = options["default"]
            values = default if isinstance(default, tuple) else (default,)
            otherwise = " ".join(map(str, values))
        self.add_argument(name, help=f"{summary} (default: {otherwise})", **options)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = _Parser(
        prog="keras-tcm",
        description="Threshold-consistent embeddings: train, measure, compare.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {_version()}",
        help="show the version of the package and exit",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_demo(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_threshold(commands)
    _add_check(commands)
    _add_study(commands)
    _add_report(commands)
    _add_toy(commands)
    return parser


def _version() -> str:
    """The version, without importing the package."""
    package = pathlib.Path(__file__).parents[1] / "__init__.py"
    text = package.read_text(encoding="utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return version


# ---------------------------------------------------------------------------- commands


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="train with and without TCM on embedded data",
        description="Train a small network on rendered characters with and without "
        "TCM, from the same seed, and compare both on unseen scripts. Writes "
        "results.json, table.md, utility.png, and both evaluations as JSON and HTML. "
        "A model that is finished is kept: a demo that was stopped goes on where it "
        "was.",
    )
    default = pathlib.Path("demo-results")
    parser.option(
        "--out", "folder to write to, made if missing", default=default, **_FOLDER
    )
    losses = ("multi_similarity", "smooth_ap", "recall_at_k", "supervised_contrastive")
    parser.option(
        "--loss",
        "the base loss",
        choices=(*losses, "contrastive", "triplet_margin", "circle"),
        default="multi_similarity",
    )
    _add_tcm(parser, "AutoTCM, which sets them itself")
    otherwise = "2000, or as many as both can do in 20 minutes"
    parser.option("--steps", "training steps of each model", otherwise, type=int)
    parser.option("--seed", "seed of both models", type=int, default=0)
    _add_data_dir(parser, "where to cache the rendered images")


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="evaluate embeddings from files",
        description=f"Evaluate embeddings of any origin. FILE is {_FILES}. Writes the "
        "evaluation as JSON, report.html (interactive), table.md and utility.png.",
    )
    _add_samples(parser, "FILE")
    _add_evaluation_options(parser)
    parser.option(
        "--far-targets",
        "global false acceptance rates for which to find the threshold",
        type=float,
        nargs="+",
        default=(0.001, 0.01, 0.1),
        metavar="FAR",
    )
    parser.option(
        "--at-threshold",
        "distances at which to measure the global FAR and FRR",
        "none",
        type=float,
        nargs="+",
        action="extend",
        metavar="D",
    )


def _add_compare(commands: Any) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare two models by their embeddings of the same samples",
        description="Compare two models by their embeddings of the same samples, with "
        "95% intervals by a bootstrap over classes. A and B hold the same samples in "
        f"the same order; each is {_FILES}. Writes compare.json, table.md and "
        "utility.png.",
    )
    _add_samples(parser, "A", "B")
    _add_evaluation_options(parser)


def _add_threshold(commands: Any) -> None:
    parser = commands.add_parser(
        "threshold",
        help="choose a threshold that keeps its FAR on classes not seen",
        description="Choose the distance up to which pairs are accepted, so that its "
        "FAR, or its FRR, holds for other classes of the same kind, and write it with "
        f"what it promises and costs as JSON. FILE is {_FILES}. The classes should be "
        "none that the model was trained on.",
    )
    _add_files(parser, "FILE")
    summary = "file to write, replaced if it exists"
    parser.add_argument(
        "--out", required=True, type=pathlib.Path, metavar="JSON", help=summary
    )
    _add_sources(parser, "FILE")
    parser.option("--far", "promised false acceptance rate", "none", type=float)
    parser.option("--frr", "promised false rejection rate", "none", type=float)
    parser.option(
        "--confidence",
        "probability with which the promise is kept",
        type=float,
        default=0.95,
    )
    parser.option(
        "--promise",
        "for whom: other classes in all, or for each of a share of them",
        choices=("population", "class"),
        default="population",
    )
    parser.option(
        "--class-share",
        "share of other classes that keep the rate, with --promise class",
        type=float,
        default=0.95,
    )
    _add_includes_queries(parser)
    _add_distance(parser)


def _add_check(commands: Any) -> None:
    parser = commands.add_parser(
        "check",
        help="check a threshold on other data",
        description="Measure FAR and FRR of a threshold on other labelled data, with "
        "intervals, and tell whether its promise holds, is broken, or the classes are "
        f"too few to tell. FILE is {_FILES}.",
    )
    parser.add_argument(
        "threshold",
        type=pathlib.Path,
        metavar="JSON",
        help="file that `keras-tcm threshold` wrote",
    )
    parser.add_argument("file", help=".npz or .npy, see above", **_FILE)
    _add_sources(parser, "FILE", several=False)
    _add_includes_queries(parser)


def _add_study(commands: Any) -> None:
    parser = commands.add_parser(
        "study",
        help="train a grid of models with and without TCM, and report",
        description="Train models with and without TCM on a grid of data sets, "
        "networks and base losses, and write the report. What is finished is kept: a "
        "study that was stopped goes on where it was.",
    )
    presets = ("embedded", "smoke", "found", "paper")
    parser.add_argument("--preset", choices=presets, required=True, help="the grid")
    _add_out(parser)
    _add_data_dir(parser, "folder of the data sets, or where to cache embedded ones")
    parser.option(
        "--seeds",
        "seeds of the comparison",
        "those of the preset",
        type=int,
        nargs="+",
        metavar="SEED",
    )
    _add_tcm(parser, "chosen for each comparison, on held-out training classes")
    otherwise = "one a processor, or one on a GPU"
    parser.option("--workers", "processes to train in", otherwise, type=int)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="write the report of a study anew",
        description="Write the report of a study from its runs: study.md, study.html "
        "and figures.",
    )
    parser.add_argument("directory", help="folder of the study", **_FOLDER)
    parser.option("--out", "folder to write to", "DIR", **_FOLDER)


def _add_toy(commands: Any) -> None:
    parser = commands.add_parser(
        "toy",
        help="draw two-dimensional embeddings of digits with and without TCM",
        description="Train two-dimensional ArcFace embeddings of digits with and "
        "without TCM, and draw their densities around the unit circle. Writes "
        "toy.json and toy.png.",
    )
    _add_out(parser)
    parser.option(
        "--data",
        "MNIST, the digits of the package, or the first that can be had",
        choices=("auto", "mnist", "digits"),
        default="auto",
    )
    parser.option("--seed", "seed of both models", type=int, default=0)


# ------------------------------------------------------ arguments that commands share


def _add_out(parser: _Parser) -> None:
    summary = "folder to write to, made if missing"
    parser.add_argument("--out", required=True, help=summary, **_FOLDER)


def _add_data_dir(parser: _Parser, summary: str) -> None:
    otherwise = "the folder of Keras, ~/.keras"
    parser.option("--data-dir", summary, otherwise, metavar="DIR")


def _add_tcm(parser: _Parser, otherwise: str) -> None:
    parser.option(
        "--tcm",
        "margins of TCM, and its weight beside the base loss",
        otherwise,
        type=float,
        nargs=3,
        metavar=("POSITIVE_MARGIN", "NEGATIVE_MARGIN", "WEIGHT"),
    )


def _add_samples(parser: _Parser, *models: str) -> None:
    """Add the files of a model's embeddings or of several models', and of the labels.

    Args:
        parser: The parser of the command.
        models: What stands for the file of each model.
    """
    _add_files(parser, *models)
    _add_out(parser)
    _add_sources(parser, *models)


def _add_files(parser: _Parser, *models: str) -> None:
    for model in models:
        which = "" if len(models) == 1 else f" of model {model}"
        parser.add_argument(
            "files",
            action="append",
            type=pathlib.Path,
            metavar=model,
            help=f".npz or .npy{which}, see above",
        )


def _add_sources(parser: _Parser, *models: str, several: bool = True) -> None:
    """Add the files that stand beside those of the models.

    Args:
        parser: The parser of the command.
        models: What stands for the file of each model.
        several: Whether there is a list of galleries, one for each model.
    """
    named, is_one = " and ".join(models), len(models) == 1
    parser.option(
        "--labels",
        "labels of the samples: an .npy file, or an .npz archive with `labels`",
        f"those in {named}",
        **_FILE,
    )
    parser.option(
        "--gallery",
        "samples to compare with: an .npz archive with `embeddings` and `labels`, or "
        f"an .npy file of the embeddings{'' if is_one else '; one for each model'}",
        f"the gallery in {named}, or else all other samples",
        type=pathlib.Path,
        nargs=len(models) if several else None,
        metavar="FILE"
        if not several
        else ("FILE",)
        if is_one
        else tuple(f"GALLERY_{model}" for model in models),
    )
    parser.option(
        "--gallery-labels",
        "labels of the gallery: an .npy file, or an .npz archive with `labels`",
        "those beside the embeddings of the gallery",
        **_FILE,
    )


def _add_includes_queries(parser: _Parser) -> None:
    parser.option(
        "--gallery-includes-queries",
        "the samples are in the gallery too: none is compared with itself",
        "no",
        action="store_true",
    )


def _add_distance(parser: _Parser) -> None:
    parser.option(
        "--distance",
        "distance between embeddings: 1 - s or sqrt(2 - 2 s), with s the cosine "
        "similarity",
        choices=("cosine", "euclidean"),
        default="cosine",
    )


def _add_evaluation_options(parser: _Parser) -> None:
    _add_includes_queries(parser)
    parser.option(
        "--far-range",
        "global false acceptance rates that bound the calibration range, over which "
        "OPIS is taken",
        type=float,
        nargs=2,
        default=(0.01, 0.1),
        metavar=("LOW", "HIGH"),
    )
    _add_distance(parser)
    parser.option(
        "--beta",
        "weight of the sensitivity in the utility of a class; above 1 favours it",
        type=float,
        default=1.0,
    )
    parser.option(
        "--epsilon",
        "share of the classes that count as worst",
        type=float,
        default=0.1,
    )
