"""The words of the `keras-tcm` command.

What each command does is in `keras_tcm.study.commands`. This module lies outside the
package and imports nothing from it until a command is to be carried out, because
importing any part of the package imports Keras: help and version need no backend.
"""

import argparse
import contextlib
import importlib
import io
import os
import pathlib
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

# Exit codes, as argparse and shells have them: see docs/command_line.md.
_MISTAKE = 2
_BY_SIGNAL = 128

_FILES = (
    "a NumPy .npz archive with the arrays `embeddings` (n, d) and `labels` (n,), "
    "optionally `gallery_embeddings` and `gallery_labels`; or an .npy file of the "
    "embeddings"
)


def main() -> int:
    """Run `keras-tcm` as a process of its own.

    Returns:
        Exit code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal cannot show is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Figures go to files, whatever a notebook that started this process draws with.
    os.environ["MPLBACKEND"] = "agg"
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            code = run()
        except SystemExit as stop:  # From argparse.
            code = int(stop.code or 0)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on, as in `keras-tcm ... | head`; nor is the rest for anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BY_SIGNAL + 13
    except OSError as error:
        code = _fail(error)
    except KeyboardInterrupt as stop:
        _leave(stop.args[0] if stop.args else signal.SIGINT)
    return code


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command.

    Args:
        arguments: Words of the command line. Defaults to those of the process.

    Returns:
        Exit code: 0, or 2 for a mistake of the user's.
    """
    args = make_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            with _interrupts_end_at_once():
                commands = "keras_tcm.study.commands"
                common = importlib.import_module(f"{commands}.common")
                command = importlib.import_module(f"{commands}.{args.command}")
        except ImportError as error:
            return _fail(error)
        warnings.showwarning = lambda message, *_, **__: _show_warning(
            common.in_words(message)
        )
        try:
            command.run(args)
        except BrokenPipeError:
            raise
        except (common.UsageError, OSError) as error:
            return _fail(error)
    return 0


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)


@contextlib.contextmanager
def _interrupts_end_at_once() -> Iterator[None]:
    """End the process when a signal says so.

    What backends call while they are imported may swallow exceptions, and nothing has
    been begun that would have to be ended well.
    """
    numbers = signal.SIGINT, signal.SIGTERM
    before = [signal.signal(number, lambda n, _: _leave(n)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _leave(number: int) -> None:
    """End the process for a signal, with a line.

    At once: backends that are taken down in the middle of their work may crash.
    """
    print("keras-tcm: interrupted", file=sys.stderr, flush=True)
    os._exit(_BY_SIGNAL + number)


def _show_warning(message: Warning | str, *where: Any, **rest: Any) -> None:
    print(f"keras-tcm: warning: {message}", file=sys.stderr)


def _fail(message: object) -> int:
    print(f"keras-tcm: error: {message}", file=sys.stderr)
    return _MISTAKE


# ------------------------------------------------------------------------------- words


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
        package = pathlib.Path(__file__).with_name("keras_tcm") / "__init__.py"
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
    parser.add_argument(
        "file", type=pathlib.Path, metavar="FILE", help=".npz or .npy, see above"
    )
    _add_out(parser)
    _add_option(
        parser,
        "--labels",
        "labels of the samples: an .npy file, or an .npz archive with `labels`",
        otherwise="those in FILE",
        type=pathlib.Path,
        metavar="FILE",
    )
    _add_option(
        parser,
        "--gallery",
        "samples to compare with: an .npz archive with `embeddings` and `labels`, or "
        "an .npy file of the embeddings",
        otherwise="the gallery in FILE, or else all other samples",
        type=pathlib.Path,
        metavar="FILE",
    )
    _add_gallery_labels(parser)
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
    for name, metavar, which in ("first", "A", "first"), ("second", "B", "second"):
        parser.add_argument(
            name,
            type=pathlib.Path,
            metavar=metavar,
            help=f".npz or .npy of the {which} model, see above",
        )
    _add_out(parser)
    _add_option(
        parser,
        "--labels",
        "labels of the samples, for both models: an .npy file, or an .npz archive "
        "with `labels`",
        otherwise="those in A and B",
        type=pathlib.Path,
        metavar="FILE",
    )
    _add_option(
        parser,
        "--gallery",
        "samples to compare with, embedded by the first model and by the second: .npz "
        "archives with `embeddings` and `labels`, or .npy files of the embeddings",
        otherwise="the galleries in A and B, or else all other samples",
        type=pathlib.Path,
        nargs=2,
        default=(None, None),
        metavar=("GALLERY_A", "GALLERY_B"),
    )
    _add_gallery_labels(parser)
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


# --------------------------------------------------------- words that commands share


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


def _add_gallery_labels(parser: argparse.ArgumentParser) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
