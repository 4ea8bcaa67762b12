"""Tables and files that describe evaluations."""

import math
import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from keras_tcm.evaluation import Evaluation
from keras_tcm.files import write_text
from keras_tcm.study.report.document import Markdown, table
from keras_tcm.study.report.figures import save_figure
from keras_tcm.visualization import plot_utility_comparison
from keras_tcm.visualization.pyplot import pyplot

# The FAR at which the tables quote a threshold.
FAR_TARGET = 0.01


def comparison_table(
    evaluations: Mapping[str, Evaluation], far_targets: Sequence[float] = (FAR_TARGET,)
) -> Markdown:
    """Make the table of measures, a column for each evaluation.

    The relative change, from the first to the last evaluation, is there only if there
    are several.

    Args:
        evaluations: What to describe, by name, at least one.
        far_targets: The FARs at which to quote a threshold: the evaluations must have
            operating points for them. Defaults to 1%.
    """
    results = list(evaluations.values())
    first = results[0]
    rows: list[list[str]] = []

    def add(name: str, values: list[float], form: str, compare: bool = True) -> None:
        row = [
            name,
            *("not resolved" if math.isnan(v) else format(v, form) for v in values),
        ]
        if len(values) > 1:
            has_change = compare and values[0] > 0 and not math.isnan(values[-1])
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
    for target in far_targets:
        points = [evaluation.operating_point(target) for evaluation in results]
        threshold = f"threshold at FAR {100 * target:g}%"
        add(threshold, [point.threshold for point in points], ".4f", compare=False)
        add("- achieved FAR", [point.far for point in points], ".4%", compare=False)
        add("- FRR (lower is better)", [point.frr for point in points], ".2%")
    for number, at in enumerate(first.at_thresholds):
        points = [result.at_thresholds[number] for result in results]
        threshold = f"at threshold {at.threshold:g}"
        add(f"FAR {threshold}", [point.far for point in points], ".4%", compare=False)
        add(f"FRR {threshold}", [point.frr for point in points], ".2%", compare=False)
    header = ["", *evaluations, *(["change"] if len(results) > 1 else [])]
    return table(header, rows)


def write_report(
    out: pathlib.Path,
    evaluations: Mapping[str, Evaluation],
    far_targets: Sequence[float] = (FAR_TARGET,),
    **of_page: Any,
) -> None:
    """Write `table.md`, `utility.png`, and a JSON file and a page per evaluation.

    The page of a single evaluation is `report.html`; those of several have the names of
    their JSON files.

    Args:
        out: Folder to write to; made if missing.
        evaluations: What to report, by name.
        far_targets: See `comparison_table`.
        of_page: Names and images of the classes: see `Evaluation.to_html`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, evaluation in evaluations.items():
        # No longer than a file system allows, in any alphabet.
        stem = re.sub(r"\W+", "_", name.lower())[:48].strip("_") or "evaluation"
        evaluation.save(out / f"{stem}.json")
        page = stem if len(evaluations) > 1 else "report"
        evaluation.to_html(out / f"{page}.html", title=name, **of_page)
    write_text(out / "table.md", comparison_table(evaluations, far_targets))
    write_utility(out, evaluations)


def write_utility(out: pathlib.Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Write `utility.png`, or warn that it cannot be drawn without matplotlib.

    Args:
        out: Folder to write to.
        evaluations: What to draw, by name.
    """
    path = out / "utility.png"
    try:
        pyplot()
    except ImportError as error:
        # An older figure would show other results than the files beside it.
        path.unlink(missing_ok=True)
        warnings.warn(f"{path.name} is not written. {error}", stacklevel=2)
        return
    save_figure(plot_utility_comparison(evaluations), path)
