"""Tables and files that describe one evaluation, or compare two."""

import pathlib
import re
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_tcm.evaluation import Evaluation, OperatingPoint

# The FAR at which the tables quote a threshold.
FAR_TARGET = 0.01


def table_rows(evaluations: Mapping[str, Evaluation]) -> list[list[str]]:
    """Rows of the comparison table: measure, one value each, relative change.

    The change, from the first to the last evaluation, is there only if there are
    several.
    """
    first, *_ = evaluations.values()
    points = [_point(evaluation) for evaluation in evaluations.values()]
    rows: list[list[str]] = []

    def add(name: str, values: list[float], form: str, compare: bool = True) -> None:
        row = [name, *(format(value, form) for value in values)]
        if len(values) > 1:
            has_change = compare and values[0] > 0
            row.append(f"{values[-1] / values[0] - 1:+.1%}" if has_change else "")
        rows.append(row)

    results = list(evaluations.values())
    for k in first.recall:
        if k == 1:
            add("R@1 (higher is better)", [r.recall[k] for r in results], ".4f")
    add("mAP@R (higher is better)", [r.map_at_r for r in results], ".4f")
    add("OPIS (lower is better)", [r.opis for r in results], ".6f")
    add(
        f"{first.epsilon:.0%}-OPIS (lower is better)",
        [r.epsilon_opis for r in results],
        ".5f",
    )
    threshold = f"threshold at FAR {FAR_TARGET:.0%}"
    add(threshold, [point.threshold for point in points], ".4f", compare=False)
    add("- achieved FAR", [point.far for point in points], ".4%", compare=False)
    add("- FRR (lower is better)", [point.frr for point in points], ".2%")
    return rows


def _point(evaluation: Evaluation) -> OperatingPoint:
    for point in evaluation.operating_points:
        if point.far_target == FAR_TARGET:
            return point
    raise ValueError(
        f"`evaluations` must have an operating point at FAR {FAR_TARGET}. Received: "
        f"{[point.far_target for point in evaluation.operating_points]}"
    )


def _header(evaluations: Mapping[str, Evaluation]) -> list[str]:
    return ["", *evaluations, *(["change"] if len(evaluations) > 1 else [])]


def print_table(evaluations: Mapping[str, Evaluation]) -> None:
    """Print the comparison table to the terminal."""
    table = Table()
    for column in _header(evaluations):
        table.add_column(escape(column), justify="right" if column else "left")
    for row in table_rows(evaluations):
        table.add_row(*row)
    Console().print(table)


def markdown_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return the comparison table in Markdown."""
    header = _header(evaluations)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *table_rows(evaluations)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_report(out: pathlib.Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Write `table.md`, `utility.png` and one JSON file per evaluation.

    Args:
        out: Folder to write to; made if missing.
        evaluations: What to report, by name.
    """
    from keras_tcm.visualization import plot_utility_comparison

    out.mkdir(parents=True, exist_ok=True)
    for name, evaluation in evaluations.items():
        stem = re.sub(r"\W+", "_", name.lower()).strip("_")
        evaluation.save(out / f"{stem}.json")
    (out / "table.md").write_text(markdown_table(evaluations), encoding="utf-8")
    figure = plot_utility_comparison(evaluations)
    figure.savefig(out / "utility.png", dpi=120)
