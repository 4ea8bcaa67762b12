"""Tables and files that describe one evaluation, or compare two."""

import pathlib
import re
from collections.abc import Mapping

from keras_tcm.evaluation import Evaluation, OperatingPoint
from keras_tcm.study.document import Table, to_markdown

# The FAR at which the tables quote a threshold.
FAR_TARGET = 0.01


def comparison_table(evaluations: Mapping[str, Evaluation]) -> Table:
    """Make the table of measures, a column for each evaluation.

    The relative change, from the first to the last evaluation, is there only if there
    are several.

    Args:
        evaluations: What to describe, by name, at least one.
    """
    results = list(evaluations.values())
    first = results[0]
    points = [_point(evaluation) for evaluation in results]
    rows: list[list[str]] = []

    def add(name: str, values: list[float], form: str, compare: bool = True) -> None:
        row = [name, *(format(value, form) for value in values)]
        if len(values) > 1:
            has_change = compare and values[0] > 0
            row.append(f"{values[-1] / values[0] - 1:+.1%}" if has_change else "")
        rows.append(row)

    if 1 in first.recall:
        add("R@1 (higher is better)", [r.recall[1] for r in results], ".4f")
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
    header = ["", *evaluations, *(["change"] if len(results) > 1 else [])]
    return Table(header, rows)


def _point(evaluation: Evaluation) -> OperatingPoint:
    for point in evaluation.operating_points:
        if point.far_target == FAR_TARGET:
            return point
    raise ValueError(
        f"`evaluations` must have an operating point at FAR {FAR_TARGET}. Received: "
        f"{[point.far_target for point in evaluation.operating_points]}"
    )


def write_report(out: pathlib.Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Write `table.md`, `utility.png`, and a JSON file and a page per evaluation.

    The page of a single evaluation is `report.html`; those of several have the names of
    their JSON files.

    Args:
        out: Folder to write to; made if missing.
        evaluations: What to report, by name.
    """
    from keras_tcm.visualization import plot_utility_comparison

    out.mkdir(parents=True, exist_ok=True)
    for name, evaluation in evaluations.items():
        stem = re.sub(r"\W+", "_", name.lower()).strip("_")
        evaluation.save(out / f"{stem}.json")
        page = stem if len(evaluations) > 1 else "report"
        evaluation.to_html(out / f"{page}.html", title=name)
    (out / "table.md").write_text(
        to_markdown([comparison_table(evaluations)], out), encoding="utf-8"
    )
    figure = plot_utility_comparison(evaluations)
    figure.savefig(out / "utility.png", dpi=120)
