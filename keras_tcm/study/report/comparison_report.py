"""Text and files that describe a comparison of two models."""

import json
import pathlib

from keras_tcm.evaluation import ModelComparison
from keras_tcm.files import write_text
from keras_tcm.study.report.document import (
    Markdown,
    document,
    paragraph,
    table,
    without_tones,
)
from keras_tcm.study.report.evaluation_report import FAR_TARGET, write_utility
from keras_tcm.study.report.measure import OPIS, RECALL, Measure, epsilon_opis_measure

_NOTE = (
    "Brackets are 95% intervals by a bootstrap over the {num_classes} classes, paired: "
    "each of {num_resamples} resamples draws the same classes for both models. They "
    "cover which classes were tested, and their samples. They take as fixed the "
    "trained models, the negatives that each class is compared with, and the distance "
    "range of OPIS; the thresholds of EER and FRR are found anew. With fewer than "
    "about 100 classes they are somewhat too narrow. * marks intervals that exclude "
    "zero."
)
_MAP_AT_R = Measure("map_at_r", "mAP@R", "%", 100, 2, is_higher_better=True)
_EER = Measure("eer", "EER", "%", 100, 2)
_FRR = Measure("frr", f"FRR at FAR {FAR_TARGET:.0%}", "%", 100, 2)


def comparison_text(comparison: ModelComparison) -> Markdown:
    """Write a table of the changes, and what their intervals mean."""
    worst = epsilon_opis_measure(comparison.first.epsilon)
    rows: list[tuple[str, ...]] = []
    for measure in (RECALL, _MAP_AT_R, OPIS, worst, _EER, _FRR):
        change = comparison.changes.get(measure.name)
        name = f"{measure.heading}, {measure.better} is better"
        if change is None:
            rows.append((name, "not resolved", "not resolved", "", ""))
            continue
        relative = change.relative
        rows.append(
            (
                name,
                measure.format(change.first),
                measure.format(change.second),
                measure.difference(change.difference),
                "" if relative is None else measure.relative(relative),
            )
        )
    note = _NOTE.format(
        num_classes=len(comparison.first.classes),
        num_resamples=comparison.num_resamples,
    )
    header = ("", *comparison.names, "difference", "relative change")
    return document([table(header, rows), paragraph(note)])


def write_comparison(out: pathlib.Path, comparison: ModelComparison) -> None:
    """Write `compare.json`, `table.md` and `utility.png`.

    Args:
        out: Folder to write to; made if missing.
        comparison: What to write.
    """
    out.mkdir(parents=True, exist_ok=True)
    values = json.dumps(comparison.to_dict(), indent=2, allow_nan=False)
    write_text(out / "compare.json", f"{values}\n")
    write_text(out / "table.md", without_tones(comparison_text(comparison)))
    evaluations = comparison.first, comparison.second
    write_utility(out, dict(zip(comparison.names, evaluations, strict=True)))
