"""The report of a study: `study.md`, `study.html` and figures."""

import collections
import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_tcm.files import write_text
from keras_tcm.study.estimate import Estimate, mean_estimate
from keras_tcm.study.grid import PARTS, AutoTCMSetting, TCMSetting
from keras_tcm.study.report.document import (
    Markdown,
    bullets,
    document,
    figure,
    heading,
    lines,
    paragraph,
    table,
    to_html,
    toned,
    without_tones,
)
from keras_tcm.study.report.figures import save_figure
from keras_tcm.study.report.measure import OPIS, RECALL, Measure, epsilon_opis_measure
from keras_tcm.study.report.trade_off import mean_change, plot_trade_off
from keras_tcm.study.run_record import RunRecord, read_runs
from keras_tcm.study.summary import (
    MEASURES,
    Comparison,
    Count,
    PartSummary,
    by_arm,
    by_base,
    count_changes,
    representative,
    summarize,
)
from keras_tcm.study.training import Recipe
from keras_tcm.visualization import (
    ConsistencyPoint,
    plot_consistency,
    plot_utility_comparison,
)

TITLE = "Models with and without TCM"
# A loss of R@1 up to it counts as none, in points.
_TOLERATED_LOSS = 0.5
_ORIGIN = (
    "Written by keras-tcm report from the files of keras-tcm study, one for each "
    "training."
)
_MEANINGS = {
    "opis": "how far apart the classes lie at one threshold",
    "epsilon_opis": "how far the worst of them fall behind",
    "recall_at_1": "how often the nearest neighbour is of the same class",
}
_ARMS = {
    TCMSetting.arm: "with margins and a weight given for each comparison",
    AutoTCMSetting.arm: "which sets its own margins and weight",
}
_COMPARISON = (
    "A comparison is a data set, a network and a base loss: models trained without and "
    "with TCM on the same data, from the same seeds, and tested on classes that none "
    "of them has seen."
)
_METHOD = (
    "Each line has the means over seeds without → with TCM and the change: of R@1 in "
    "points, of OPIS relative. Means of OPIS, whose scale differs between comparisons, "
    "are geometric. Brackets are 95% intervals of the mean over seeds by Student's t: "
    "for R@1 from the paired differences, for OPIS from the paired log ratios. They "
    "tell how far the result depends on the seed, not on the choice of the test "
    "classes. With one seed there is no interval. * marks intervals that exclude zero. "
    "Arrows point where the value goes."
)
_COUNT_NOTES = (
    "Better and worse go by the mean log ratio of OPIS and by the mean difference of "
    "R@1; * counts intervals that exclude zero. By chance alone, one interval in 40 "
    "would do so on either side.",
    "The last column is the mean over comparisons of their mean differences (R@1, in "
    "points) or log ratios (OPIS, as relative change), with a 95% interval over "
    "comparisons. Comparisons share data sets and networks, so that they are less "
    "independent than this interval takes them to be.",
)
_METHOD_IN_SHORT = (
    "Means over seeds without → with TCM (geometric for OPIS), and the change (of R@1 "
    "in points, of OPIS relative). * marks 95% intervals that exclude zero; the report "
    "gives all of them."
)


def write_study_report(directory: Path, out: Path) -> Markdown:
    """Write the report of a study.

    Writes `study.md`, `study.html` (one file that needs no other), and in `images` the
    figures `study_utility.png`, `study_trade_off.png` and `study_consistency.png` as
    far as there are runs for them.

    Args:
        directory: Folder of the study, with its runs in `runs`.
        out: Folder to write to; made if missing.

    Returns:
        The main result for the terminal, where it has to be brief.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If there are no runs, a file does not hold one, or runs contradict
            each other.
    """
    records = read_runs(directory)
    parts = {part: summarize(records, part) for part in PARTS}
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    measures = (OPIS, epsilon_opis_measure(records[0].epsilon), RECALL)
    comparison = parts["comparison"]
    text = document(
        (
            heading(TITLE, 1),
            *_findings(comparison.comparisons, measures, records),
            *_section(
                "Results on the test classes",
                comparison,
                lambda summary: _results(summary, measures),
            ),
            *_settings(records, comparison.comparisons),
            *_completeness(parts),
            *_section(
                "Choice of the weight, on held-out training classes",
                parts["tuning"],
                lambda summary: _trade_off(summary.comparisons, images),
            ),
            *_section(
                "Utility of the classes before and after",
                comparison,
                lambda summary: _utility(summary.comparisons, images),
            ),
            *_section(
                "Consistency against recognition, over losses and batch sizes",
                parts["sweep"],
                lambda summary: _consistency(summary.comparisons, measures, images),
            ),
        )
    )
    write_text(out / "study.md", without_tones(text))
    write_text(out / "study.html", to_html(TITLE, text, out))
    return document(_in_brief(comparison, measures))


def _section(
    title: str, summary: PartSummary, write: Callable[[PartSummary], Iterator[Markdown]]
) -> Iterator[Markdown]:
    """A section about the pairs of one part of the study, if there are any."""
    yield heading(title)
    if summary.comparisons:
        yield from write(summary)
    else:
        yield paragraph(f"Left out: there is no pair of {summary.part} runs.")


# ------------------------------------------------------------------- what was found


def _findings(
    comparisons: Sequence[Comparison],
    measures: Sequence[Measure],
    records: Sequence[RunRecord],
) -> Iterator[Markdown]:
    """The result in words."""
    arms = by_arm(comparisons)
    if arms:
        words = " and ".join(f"{arm} ({_ARMS[arm]})" for arm in arms)
        yield paragraph(f"Models without TCM are compared with models with {words}.")
    for arm, members in arms.items():
        findings = [_finding(arm, members, measure) for measure in measures]
        cost = _cost(arm, members, records)
        if len(arms) > 1:
            yield paragraph(f"With {arm}:")
        yield bullets([*findings, _kept_recall(arm, members), cost])
    if arms:
        yield paragraph(_COMPARISON)
    yield paragraph(_ORIGIN)


def _finding(arm: str, comparisons: Sequence[Comparison], measure: Measure) -> str:
    """Say in how many comparisons a measure gets better, and how far on average."""
    count, pooled = _over_comparisons(comparisons, measure)
    text = (
        f"{measure.title}, {_MEANINGS[measure.name]}, is {measure.better} (better) "
        f"with {arm} in {count.better} of {len(comparisons)} comparisons: "
        f"{_signed(measure, pooled.value)} on average"
    )
    if pooled.interval is not None:
        low, high = (_signed(measure, limit) for limit in pooled.interval)
        text += f", with a 95% interval from {low} to {high}"
    if measure is not RECALL:
        changes = {one.setting.base: one.changes[measure.name] for one in comparisons}
        worse = [
            f"{base} ({_signed(measure, change.shown.value)})"
            for base, change in changes.items()
            if change.change.value > 0
        ]
        text += f"; worse in {'; '.join(worse)}" if worse else ""
    return f"{text}."


def _kept_recall(arm: str, comparisons: Sequence[Comparison]) -> str:
    lost = {
        one.setting.base: change
        for one in comparisons
        if (change := one.changes[RECALL.name].change.value)
        < -_TOLERATED_LOSS / RECALL.factor
    }
    text = (
        f"R@1 is worse by more than {_TOLERATED_LOSS:g} points with {arm} in "
        f"{len(lost)} of {len(comparisons)} comparisons"
    )
    named = (f"{setting} ({_signed(RECALL, lost[setting])})" for setting in lost)
    return f"{text}: {'; '.join(named)}." if lost else f"{text}."


def _cost(
    arm: str, comparisons: Sequence[Comparison], records: Sequence[RunRecord]
) -> str:
    """Say how long trainings take, and what has to be trained before them."""
    pairs = (pair for one in comparisons for pair in one.pairs.values())
    without, with_tcm = (
        [record.seconds for record in side] for side in zip(*pairs, strict=True)
    )
    text = (
        f"A training takes {statistics.mean(with_tcm):.1f} s with {arm} and "
        f"{statistics.mean(without):.1f} s without TCM, on average"
    )
    tuned = {one.example.cell.tuned_for for one in comparisons}
    search = [
        record.seconds
        for record in records
        if arm == TCMSetting.arm
        and record.run.part == "tuning"
        and record.run.cell.tuned_for in tuned
    ]
    if not search:
        return f"{text}; no training chose margins and a weight before."
    return (
        f"{text}; margins and weights came from {len(search)} trainings before, which "
        f"took {sum(search) / 3600:.2f} hours, all those with {arm} "
        f"{sum(with_tcm) / 3600:.2f} hours."
    )


def _signed(measure: Measure, change: float) -> str:
    """A change in words: relative, or in points."""
    if MEASURES[measure.name]:
        return f"{change:+.1%}"
    return f"{measure.factor * change:+.{measure.decimals}f} points"


def _over_comparisons(
    comparisons: Sequence[Comparison], measure: Measure
) -> tuple[Count, Estimate]:
    """Count the changes of a measure, and estimate their mean."""
    estimates = [one.changes[measure.name].change for one in comparisons]
    mean = mean_estimate([estimate.value for estimate in estimates])
    return (
        count_changes(estimates, measure.is_higher_better),
        mean.map(math.expm1) if MEASURES[measure.name] else mean,
    )


# ------------------------------------------------------------------------ main result


def _results(summary: PartSummary, measures: Sequence[Measure]) -> Iterator[Markdown]:
    yield from _changes(summary.comparisons, measures)
    yield paragraph(_METHOD)
    yield heading("In how many of the comparisons")
    yield _count_table(summary.comparisons, measures)
    notes = list(_COUNT_NOTES)
    if summary.num_expected > len(summary.comparisons):
        notes.append(
            f"{len(summary.comparisons)} of {summary.num_expected} comparisons have a "
            "pair of runs; the others are not in these counts."
        )
    yield bullets(notes)


def _changes(
    comparisons: Sequence[Comparison], measures: Sequence[Measure]
) -> Iterator[Markdown]:
    """A table for each measure: one of all would be too wide for many screens."""
    arms = by_arm(comparisons)
    header = ["comparison"]
    for arm in arms:
        header += [f"without → with {arm}", "change"]
    for measure in measures:
        yield heading(f"{measure.heading}, {measure.better} is better", 3)
        rows = []
        for base, members in by_base(comparisons).items():
            row = [str(base)]
            for arm in arms:
                row += _change(members[arm], measure) if arm in members else ("-", "-")
            rows.append(row)
        yield table(header, rows)


def _in_brief(summary: PartSummary, measures: Sequence[Measure]) -> Iterator[Markdown]:
    """The main result in 80 columns."""
    if not summary.comparisons:
        yield paragraph("There is no pair of comparison runs.")
        return
    yield table(
        ("comparison", *(measure.heading for measure in measures)),
        [
            (
                lines(*filter(None, dataclasses.astuple(one.setting))),
                *(lines(*_change(one, measure, is_brief=True)) for measure in measures),
            )
            for one in summary.comparisons
        ],
    )
    yield paragraph(_METHOD_IN_SHORT)
    yield _count_table(summary.comparisons, measures)
    for arm, members in by_arm(summary.comparisons).items():
        yield paragraph(_kept_recall(arm, members))
    if summary.missing or summary.unused:
        yield paragraph("Some runs are missing or without a partner: see the report.")


def _change(
    comparison: Comparison, measure: Measure, is_brief: bool = False
) -> tuple[str, Markdown]:
    """Values without and with TCM, and their change."""
    change = comparison.changes[measure.name]
    values = f"{measure.format(change.without)} → {measure.format(change.with_tcm)}"
    return values, _written(measure, change.shown, is_brief)


def _written(measure: Measure, change: Estimate, is_brief: bool = False) -> Markdown:
    write = measure.relative if MEASURES[measure.name] else measure.difference
    return write(change, is_brief)


def _count_table(
    comparisons: Sequence[Comparison], measures: Sequence[Measure]
) -> Markdown:
    rows: list[list[str]] = []
    arms = by_arm(comparisons).items()
    for measure, (arm, members) in itertools.product(measures, arms):
        count, pooled = _over_comparisons(members, measure)
        row = [f"{measure.title}, {arm}"]
        for number, sure, tone in (
            (count.better, count.surely_better, "better"),
            (count.worse, count.surely_worse, "worse"),
        ):
            texts = [toned(f"{number} of {len(members)}", tone if number else "")]
            if count.with_interval:
                text = f"{sure} of {count.with_interval} *"
                texts.append(toned(text, tone if sure else ""))
            row.append(lines(*texts))
        rows.append([*row, _written(measure, pooled)])
    return table(("", "better", "worse", "mean change"), rows)


# --------------------------------------------------------------------------- settings


def _settings(
    records: Sequence[RunRecord], comparisons: Sequence[Comparison]
) -> Iterator[Markdown]:
    seconds = [record.seconds for record in records]
    yield heading("Settings")
    if comparisons:
        arms = by_arm(comparisons)
        rows = []
        for base, members in by_base(comparisons).items():
            cell = next(iter(members.values())).example.cell
            seeds = {seed for one in members.values() for seed in one.pairs}
            rows.append(
                (
                    str(base),
                    *(
                        str(members[arm].example.tcm) if arm in members else "-"
                        for arm in arms
                    ),
                    f"{cell.steps}, {cell.batch_size}",
                    ", ".join(map(str, sorted(seeds))),
                )
            )
        yield table(("comparison", *arms, "steps, batch size", "seeds"), rows)
    yield bullets(
        [
            *_recipe_lines([one.example.cell.recipe for one in comparisons]),
            f"backend: {_counted(record.backend for record in records)}",
            f"versions: {_versions(records)}",
            f"machine: {_counted(record.machine for record in records)}",
            f"{len(records)} runs, {sum(seconds) / 3600:.2f} hours of training in all, "
            f"{statistics.mean(seconds):.1f} s on average",
        ]
    )


def _recipe_lines(recipes: Sequence[Recipe]) -> Iterator[str]:
    """How the networks are trained, by network where that makes a difference."""
    for field in dataclasses.fields(Recipe) if recipes else ():
        name = field.name
        if name == "backbone":
            continue
        by_network: dict[str, dict[str, None]] = {}
        for recipe in recipes:
            values = by_network.setdefault(recipe.backbone, {})
            values[str(getattr(recipe, name))] = None
        texts = {network: ", ".join(values) for network, values in by_network.items()}
        if len(set(texts.values())) == 1:
            yield f"{name}: {next(iter(texts.values()))}"
        else:
            each = (f"{text} ({network})" for network, text in texts.items())
            yield f"{name}: {', '.join(each)}"


def _versions(records: Sequence[RunRecord]) -> str:
    versions: dict[str, list[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            versions.setdefault(name, []).append(str(version))
    return ", ".join(f"{name} {_counted(found)}" for name, found in versions.items())


def _counted(values: Iterable[str]) -> str:
    """The values that occur, and how often each does if there are several."""
    counts = collections.Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return " / ".join(f"{value} ({count} runs)" for value, count in counts.items())


# ----------------------------------------------------------------------- completeness


def _completeness(parts: Mapping[str, PartSummary]) -> Iterator[Markdown]:
    yield heading("Completeness")
    found = []
    for part, summary in parts.items():
        found += [f"missing from the {part}: {run}" for run in summary.missing]
        found += [
            f"not used, for want of its partner: {record.path.name}"
            for record in summary.unused
        ]
        found += [
            f"{before.path.name} and {after.path.name} come from different versions or "
            "backends"
            for one in summary.comparisons
            for before, after in one.pairs.values()
            if (before.versions, before.backend) != (after.versions, after.backend)
        ]
    if found:
        yield bullets(found)
    else:
        yield paragraph(
            "Every combination of the data sets, networks, base losses and seeds that "
            "occur was run, without TCM and with it."
        )


# ---------------------------------------------------------------------------- figures


def _trade_off(comparisons: Sequence[Comparison], images: Path) -> Iterator[Markdown]:
    yield _figure(
        plot_trade_off(comparisons),
        images / "study_trade_off.png",
        "Change of OPIS against change of R@1, for each base loss and weight",
    )
    yield paragraph(
        "Changes by TCM on training classes that were held out of the training. Small "
        "markers are data sets and networks, large ones their means; the test classes "
        "had no part in it. In the table, the change of R@1 in points, and below it "
        "that of OPIS."
    )
    yield _trade_off_table(comparisons)


def _trade_off_table(comparisons: Sequence[Comparison]) -> Markdown:
    weights = sorted({one.weight for one in comparisons})
    rows: list[list[str]] = []
    for loss in sorted({one.setting.loss for one in comparisons}):
        of_loss = [one for one in comparisons if one.setting.loss == loss]
        bases = dict.fromkeys(one.setting.base for one in of_loss)
        for base in bases:
            here = [one for one in of_loss if one.setting.base == base]
            rows.append([str(base), *_weight_cells(here, weights)])
        if len(bases) > 1:
            rows.append([f"{loss}, mean", *_weight_cells(of_loss, weights)])
    return table(("comparison", *(f"weight {w:g}" for w in weights)), rows)


def _weight_cells(
    comparisons: Sequence[Comparison], weights: Sequence[float]
) -> Iterator[str]:
    for weight in weights:
        chosen = [one for one in comparisons if one.weight == weight]
        if not chosen:
            yield "-"
            continue
        recall, opis = mean_change(chosen)
        yield lines(
            toned(f"{100 * recall:+.2f}", RECALL.tone(recall)),
            toned(f"{opis:+.1%}", OPIS.tone(opis)),
        )


def _utility(comparisons: Sequence[Comparison], images: Path) -> Iterator[Markdown]:
    arms = by_arm(comparisons)
    for number, (arm, members) in enumerate(arms.items(), start=1):
        one = representative(members)
        seed = min(one.pairs)
        before, after = (record.evaluation() for record in one.pairs[seed])
        yield _figure(
            plot_utility_comparison({"without TCM": before, f"with {arm}": after}),
            images / f"study_utility{_suffix(number, len(arms))}.png",
            "Utility of each test class against the distance threshold, without and "
            f"with {arm}",
        )
        yield paragraph(
            f"{one.setting}, seed {seed}: the comparison with the median relative "
            "change of OPIS."
        )


def _consistency(
    comparisons: Sequence[Comparison], measures: Sequence[Measure], images: Path
) -> Iterator[Markdown]:
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for arm, members in by_arm(comparisons).items():
        for one in members:
            place = one.setting.dataset, one.setting.backbone, arm
            groups.setdefault(place, []).append(one)
    for number, (named, members) in enumerate(groups.items(), start=1):
        points = [
            ConsistencyPoint(one.setting.loss, batch_size, has_tcm, recall, opis)
            for one in members
            if (batch_size := one.setting.batch_size) is not None
            for has_tcm, recall, opis in _two_models(one)
        ]
        ax = plot_consistency(points)
        ax.set_title(", ".join(named), parse_math=False)
        yield _figure(
            ax.figure,
            images / f"study_consistency{_suffix(number, len(groups))}.png",
            "OPIS against recognition error, for each base loss and batch size, "
            f"without and with {named[-1]}",
        )
    yield paragraph("Means over seeds, on the test classes; * and brackets as above.")
    yield from _changes(comparisons, measures)


def _two_models(comparison: Comparison) -> list[tuple[bool, float, float]]:
    recall, opis = comparison.changes["recall_at_1"], comparison.changes["opis"]
    return [
        (False, recall.without, opis.without),
        (True, recall.with_tcm, opis.with_tcm),
    ]


def _suffix(number: int, total: int) -> str:
    """What tells the file of a figure from its like, if there are several."""
    return "" if total == 1 else f"_{number}"


def _figure(drawn: Any, path: Path, description: str) -> Markdown:
    save_figure(drawn, path)
    return figure(f"{path.parent.name}/{path.name}", description)
