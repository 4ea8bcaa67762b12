"""What programs share that train models, and then measure their embeddings."""

import argparse
import csv
import dataclasses
import io
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from keras_tcm.files import write_text
from keras_tcm.study.workers import worker_processes

# Options of `AutoTCM` by which published models were trained: both terms of TCM, as its
# paper weighs them.
BOTH_TERMS = {"strength": 0.7, "negative_weight": 1.0}


def write_results(
    path: pathlib.Path,
    header: Sequence[str],
    results: Iterable[tuple[Sequence[Any], Any]],
) -> None:
    """Write results as CSV, whole or not at all.

    Args:
        path: The file.
        header: Names of the columns.
        results: For each row the first cells, and a dataclass of numbers for the rest.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for cells, measured in results:
        numbers = (f"{x:.6g}" for x in dataclasses.astuple(measured))
        writer.writerow([*cells, *numbers])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def run_program(
    doc: str,
    results: pathlib.Path,
    *,
    models: Iterable[Any],
    train: Callable[[Any, pathlib.Path], None],
    plan: Iterable[tuple[Any, Any]],
    measure: Callable[[Any, pathlib.Path], Any],
    read: Callable[[pathlib.Path], dict[Any, Any]],
    write: Callable[[pathlib.Path, dict[Any, Any]], None],
    report: Callable[[dict[Any, Any]], str],
) -> None:
    """Train or measure what is missing, or print the report.

    Args:
        doc: Docstring of the program.
        results: File of the results, unless another is given.
        models: What is trained, each with a `name`.
        train: Trains a model and writes `<name>.npz` into a folder.
        plan: What is measured, each with its model.
        measure: Measures it, given the folder.
        read: Reads results.
        write: Writes results.
        report: Makes text of them.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("train", help="train what is missing")
    command.add_argument("folder", type=pathlib.Path, help="for the embeddings")
    command = commands.add_parser("measure", help="measure what is missing")
    command.add_argument("folder", type=pathlib.Path, help="embeddings of the models")
    command.add_argument("--out", type=pathlib.Path, default=results)
    command = commands.add_parser("report", help="print the tables")
    command.add_argument("file", type=pathlib.Path, nargs="?", default=results)
    args = parser.parse_args()
    if args.command == "report":
        print(report(read(args.file)))
        return

    def is_trained(model: Any) -> bool:
        return (args.folder / f"{model.name}.npz").exists()

    if args.command == "train":
        with worker_processes(1) as submit:
            for model in models:
                if not is_trained(model):
                    submit(train, model, args.folder).result()
                    print(model.name, flush=True)
        return
    found = read(args.out) if args.out.exists() else {}
    for item, model in plan:
        if item not in found and is_trained(model):
            found[item] = measure(item, args.folder)
            write(args.out, found)
    print(f"{len(found)} results")
