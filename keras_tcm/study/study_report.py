"""The report of a study: `study.md`, `study.html` and figures."""

import collections
import math
import pathlib
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from keras_tcm.study.document import (
    Block,
    Bullets,
    Cell,
    Figure,
    Heading,
    Line,
    Paragraph,
    Table,
    to_html,
    to_markdown,
)
from keras_tcm.study.estimate import Estimate, mean_estimate
from keras_tcm.study.measure import OPIS, RECALL, Measure, epsilon_opis_measure
from keras_tcm.study.run_record import PARTS, RunRecord, read_runs
from keras_tcm.study.summary import (
    Comparison,
    PairedChange,
    PartSummary,
    count_changes,
    representative,
    summarize,
)
from keras_tcm.study.trade_off import mean_change, plot_trade_off

TITLE = "Models with and without TCM"
# A loss of R@1 up to it counts as none, in points.
_TOLERATED_LOSS = 0.5
_DPI = 120
_ORIGIN = (
    "Written by keras-tcm report from the files of keras-tcm study, one for each "
    "training."
)
_METHOD = (
    "Each line compares models trained without and with TCM on the same data, from the "
    "same seeds: the means over seeds without → with TCM, their difference (of R@1 in "
    "points) and the relative change. Means of OPIS, whose scale differs between "
    "comparisons, are geometric. Brackets are 95% intervals of the mean over seeds by "
    "Student's t: for R@1 from the paired differences, for OPIS from the paired log "
    "ratios. They tell how far the result depends on the seed, not on the choice of "
    "the test classes. With one seed there is no interval. * marks intervals that "
    "exclude zero. Arrows point where the value goes; R@1 is better high, OPIS low."
)
_METHOD_IN_SHORT = (
    "Means over seeds without → with TCM (geometric for OPIS), difference (of R@1 in "
    "points), relative change. * marks 95% intervals that exclude zero; the report "
    "gives all of them."
)


def write_study_report(directory: pathlib.Path, out: pathlib.Path) -> list[Block]:
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
    measures = (RECALL, OPIS, epsilon_opis_measure(records[0].epsilon))
    blocks = [
        Heading(TITLE, 1),
        Paragraph(_ORIGIN),
        *_main_blocks(parts["comparison"], measures),
        *_settings_blocks(records, parts["comparison"]),
        *_completeness_blocks(parts),
        *_trade_off_blocks(parts["tuning"], images),
        *_utility_blocks(parts["comparison"], images),
        *_consistency_blocks(parts["sweep"], measures, images),
    ]
    (out / "study.md").write_text(to_markdown(blocks, out), encoding="utf-8")
    (out / "study.html").write_text(to_html(TITLE, blocks), encoding="utf-8")
    return list(_brief_blocks(parts["comparison"], measures))


# ------------------------------------------------------------------------ main result


def _main_blocks(summary: PartSummary, measures: Sequence[Measure]) -> Iterator[Block]:
    yield Heading("Results on the test classes")
    if not summary.comparisons:
        yield Paragraph("Left out: there is no pair of comparison runs.")
        return
    yield Table(
        ("data set", "network", "base loss", "seeds", *(m.heading for m in measures)),
        [
            (
                *_names(one),
                str(len(one.pairs)),
                *(_change_cell(one.changes[m.name], m) for m in measures),
            )
            for one in summary.comparisons
        ],
        num_labels=3,
    )
    yield Paragraph(_METHOD)
    yield Heading("In how many of the comparisons")
    yield _count_table(summary.comparisons, measures)
    yield Paragraph(_kept_recall(summary.comparisons))
    yield Bullets(list(_count_notes(summary)))


def _brief_blocks(summary: PartSummary, measures: Sequence[Measure]) -> Iterator[Block]:
    """The main result in 80 columns."""
    if not summary.comparisons:
        yield Paragraph("There is no pair of comparison runs.")
        return
    yield Table(
        ("comparison", *(measure.heading for measure in measures)),
        [
            (
                tuple(map(Line, _names(one))),
                *(
                    _change_cell(one.changes[m.name], m, is_brief=True)
                    for m in measures
                ),
            )
            for one in summary.comparisons
        ],
    )
    yield Paragraph(_METHOD_IN_SHORT)
    yield _count_table(summary.comparisons, measures)
    yield Paragraph(_kept_recall(summary.comparisons))
    if summary.missing or summary.unused:
        yield Paragraph("Some runs are missing or without a partner: see the report.")


def _names(comparison: Comparison) -> tuple[str, str, str]:
    setting = comparison.setting
    return setting.dataset, setting.backbone, setting.loss


def _change_cell(
    change: PairedChange, measure: Measure, is_brief: bool = False
) -> Cell:
    if measure.is_ratio:
        without, with_tcm = change.geometric_without, change.geometric_with_tcm
        difference = Estimate(with_tcm - without, None)
        relative = change.relative
    else:
        without, with_tcm = change.without, change.with_tcm
        difference = change.difference
        relative = Estimate(difference.value / without, None)
    return (
        Line(f"{measure.format(without)} → {measure.format(with_tcm)}"),
        measure.difference(difference, is_brief),
        measure.relative(relative, is_brief),
    )


def _decisive(change: PairedChange, measure: Measure) -> Estimate:
    return change.log_ratio if measure.is_ratio else change.difference


def _count_table(
    comparisons: Sequence[Comparison], measures: Sequence[Measure]
) -> Table:
    rows: list[list[Cell]] = []
    for measure in measures:
        estimates = [
            _decisive(one.changes[measure.name], measure) for one in comparisons
        ]
        count = count_changes(estimates, measure.is_higher_better)
        over_cells = mean_estimate([estimate.value for estimate in estimates])
        if measure.is_ratio:
            pooled = measure.relative(over_cells.map(math.expm1))
        else:
            pooled = measure.difference(over_cells)
        rows.append(
            [
                measure.title,
                _of(count.better, len(estimates), "better"),
                _of(count.worse, len(estimates), "worse"),
                _of(count.surely_better, count.with_interval, "better"),
                _of(count.surely_worse, count.with_interval, "worse"),
                (pooled,),
            ]
        )
    return Table(
        (
            "",
            "better",
            "worse",
            "better, interval excludes 0",
            "worse, interval excludes 0",
            "mean change over comparisons",
        ),
        rows,
    )


def _of(number: int, total: int, tone: str) -> Cell:
    if not total:
        return "no intervals"
    return (Line(f"{number} of {total}", tone if number else ""),)


def _kept_recall(comparisons: Sequence[Comparison]) -> str:
    changes = [one.changes["recall_at_1"].difference.value for one in comparisons]
    kept = sum(100 * change >= -_TOLERATED_LOSS for change in changes)
    return (
        f"R@1 is not worse by more than {_TOLERATED_LOSS:g} points in {kept} of "
        f"{len(comparisons)} comparisons."
    )


def _count_notes(summary: PartSummary) -> Iterator[str]:
    yield (
        "Better and worse go by the mean log ratio of OPIS and "
        "by the mean difference of R@1. By chance alone, one interval in 40 would "
        "exclude zero on either side."
    )
    yield (
        "The last column is the mean over comparisons of their mean differences (R@1, "
        "in points) or log ratios (OPIS, as relative change), with a 95% interval over "
        "comparisons. Comparisons share data sets and networks, so that they are less "
        "independent than this interval takes them to be."
    )
    if summary.num_expected > len(summary.comparisons):
        yield (
            f"{len(summary.comparisons)} of {summary.num_expected} comparisons have a "
            "pair of runs; the others are not in these counts."
        )


# --------------------------------------------------------------------------- settings


def _settings_blocks(
    records: Sequence[RunRecord], summary: PartSummary
) -> Iterator[Block]:
    yield Heading("Settings")
    if summary.comparisons:
        yield _settings_table(summary.comparisons)
    yield Bullets(
        [
            *_common_settings(summary.comparisons),
            f"backend: {_counted(record.backend for record in records)}",
            *_version_lines(records),
            f"machine: {_counted(record.machine for record in records)}",
            *_time_lines(records, summary),
        ]
    )


def _settings_table(comparisons: Sequence[Comparison]) -> Table:
    rows = []
    for one in comparisons:
        config = one.example.config
        tcm = config["tcm"]
        rows.append(
            (
                *_names(one),
                f"{tcm['positive_margin']:g}",
                f"{tcm['negative_margin']:g}",
                f"{tcm['weight']:g}",
                str(config["steps"]),
                str(config["batch_size"]),
                ", ".join(map(str, one.pairs)),
            )
        )
    names = ("positive margin", "negative margin", "weight of TCM", "steps")
    header = ("data set", "network", "base loss", *names, "batch size", "seeds")
    return Table(header, rows, num_labels=3)


_IN_TABLE = frozenset(
    ("dataset", "backbone", "loss", "tcm", "steps", "batch_size", "seed")
)


def _common_settings(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Everything else that a run was told, by network where that makes a difference."""
    configs = [one.example.config for one in comparisons]
    for name in dict.fromkeys(name for config in configs for name in config):
        if name in _IN_TABLE:
            continue
        by_network: dict[str, dict[str, None]] = {}
        for config in configs:
            values = by_network.setdefault(config["backbone"], {})
            values[str(config.get(name))] = None
        texts = {network: ", ".join(values) for network, values in by_network.items()}
        if len(set(texts.values())) == 1:
            yield f"{name}: {next(iter(texts.values()))}"
        else:
            each = (f"{text} ({network})" for network, text in texts.items())
            yield f"{name}: {', '.join(each)}"


def _version_lines(records: Sequence[RunRecord]) -> Iterator[str]:
    versions: dict[str, list[str]] = {}
    for record in records:
        for name, version in record.versions.items():
            versions.setdefault(name, []).append(str(version))
    texts = (f"{name} {_counted(found)}" for name, found in versions.items())
    yield f"versions: {', '.join(texts)}"


def _counted(values: Iterable[str]) -> str:
    """The values that occur, and how often each does if there are several."""
    counts = collections.Counter(values)
    if len(counts) == 1:
        return next(iter(counts))
    return " / ".join(f"{value} ({count} runs)" for value, count in counts.items())


def _time_lines(records: Sequence[RunRecord], summary: PartSummary) -> Iterator[str]:
    seconds = [record.seconds for record in records]
    yield (
        f"{len(records)} runs, {sum(seconds) / 3600:.2f} hours of training in all, "
        f"{statistics.mean(seconds):.1f} s on average"
    )
    pairs = [pair for one in summary.comparisons for pair in one.pairs.values()]
    if pairs:
        without, with_tcm = (
            statistics.mean(record.seconds for record in side)
            for side in zip(*pairs, strict=True)
        )
        yield (
            f"mean training time of the pairs above: {without:.1f} s without TCM, "
            f"{with_tcm:.1f} s with TCM"
        )


# ----------------------------------------------------------------------- completeness


def _completeness_blocks(parts: Mapping[str, PartSummary]) -> Iterator[Block]:
    yield Heading("Completeness")
    lines = []
    for part, summary in parts.items():
        lines += [f"missing from the {part}: {run}" for run in summary.missing]
        lines += [
            f"not used, for want of its partner: {record.path.name}"
            for record in summary.unused
        ]
        lines += [
            f"{before.path.name} and {after.path.name} come from different versions or "
            "backends"
            for one in summary.comparisons
            for before, after in one.pairs.values()
            if (before.versions, before.backend) != (after.versions, after.backend)
        ]
    if lines:
        yield Bullets(lines)
    else:
        yield Paragraph(
            "Every combination of the data sets, networks, base losses and seeds that "
            "occur was run, without TCM and with it."
        )


# ---------------------------------------------------------------------------- figures


def _trade_off_blocks(summary: PartSummary, images: pathlib.Path) -> Iterator[Block]:
    yield Heading("Choice of the weight, on held-out training classes")
    comparisons = summary.comparisons
    if not comparisons:
        yield Paragraph("Left out: there is no pair of tuning runs.")
        return
    path = _save(plot_trade_off(comparisons), images / "study_trade_off.png")
    yield Figure(
        path, "Change of OPIS against change of R@1, for each base loss and weight"
    )
    yield Paragraph(
        "Changes by TCM on training classes that were held out of the training. Small "
        "markers are data sets and networks, large ones their means; the test classes "
        "had no part in it."
    )
    yield _trade_off_table(comparisons)


def _trade_off_table(comparisons: Sequence[Comparison]) -> Table:
    weights = sorted({one.weight for one in comparisons})
    rows: list[list[Cell]] = []
    for loss in sorted({one.setting.loss for one in comparisons}):
        of_loss = [one for one in comparisons if one.setting.loss == loss]
        places = {(one.setting.dataset, one.setting.backbone): None for one in of_loss}
        for dataset, backbone in places:
            here = [
                one
                for one in of_loss
                if (one.setting.dataset, one.setting.backbone) == (dataset, backbone)
            ]
            rows.append([loss, dataset, backbone, *_weight_cells(here, weights)])
        if len(places) > 1:
            rows.append([loss, "mean", "", *_weight_cells(of_loss, weights)])
    header = ("base loss", "data set", "network", *(f"weight {w:g}" for w in weights))
    return Table(header, rows, num_labels=3)


def _weight_cells(
    comparisons: Sequence[Comparison], weights: Sequence[float]
) -> Iterator[Cell]:
    for weight in weights:
        chosen = [one for one in comparisons if one.weight == weight]
        if not chosen:
            yield "-"
            continue
        recall, opis = mean_change(chosen)
        yield (
            Line(f"R@1 {100 * recall:+.2f}", RECALL.tone(recall)),
            Line(f"OPIS {opis:+.1%}", OPIS.tone(opis)),
        )


def _utility_blocks(summary: PartSummary, images: pathlib.Path) -> Iterator[Block]:
    from keras_tcm.visualization import plot_utility_comparison

    yield Heading("Utility of the classes before and after")
    if not summary.comparisons:
        yield Paragraph("Left out: there is no pair of comparison runs.")
        return
    one = representative(summary.comparisons)
    seed = min(one.pairs)
    before, after = (record.evaluation() for record in one.pairs[seed])
    figure = plot_utility_comparison({"without TCM": before, "with TCM": after})
    yield Figure(
        _save(figure, images / "study_utility.png"),
        "Utility of each test class against the distance threshold, without and with "
        "TCM",
    )
    yield Paragraph(
        f"{one.setting}, seed {seed}: the comparison with the median relative change "
        "of OPIS."
    )


def _consistency_blocks(
    summary: PartSummary, measures: Sequence[Measure], images: pathlib.Path
) -> Iterator[Block]:
    from keras_tcm.visualization import ConsistencyPoint, plot_consistency

    yield Heading("Consistency against recognition, over losses and batch sizes")
    comparisons = summary.comparisons
    if not comparisons:
        yield Paragraph("Left out: there is no pair of sweep runs.")
        return
    groups: dict[tuple[str, str], list[Comparison]] = {}
    for one in comparisons:
        groups.setdefault((one.setting.dataset, one.setting.backbone), []).append(one)
    for number, ((dataset, backbone), members) in enumerate(groups.items(), start=1):
        points = [
            ConsistencyPoint(one.setting.loss, batch_size, has_tcm, recall, opis)
            for one in members
            if (batch_size := one.setting.batch_size) is not None
            for has_tcm, recall, opis in _two_models(one)
        ]
        ax = plot_consistency(points)
        ax.set_title(f"{dataset}, {backbone}", parse_math=False)
        suffix = "" if len(groups) == 1 else f"_{number}"
        yield Figure(
            _save(ax.figure, images / f"study_consistency{suffix}.png"),
            "OPIS against recognition error, for each base loss and batch size, "
            "without and with TCM",
        )
    yield Paragraph("Means over seeds, on the test classes; * and brackets as above.")
    yield Table(
        (
            *("data set", "network", "base loss", "batch size", "seeds"),
            *(m.heading for m in measures),
        ),
        [
            (
                *_names(one),
                str(one.setting.batch_size),
                str(len(one.pairs)),
                *(_change_cell(one.changes[m.name], m) for m in measures),
            )
            for one in comparisons
        ],
        num_labels=3,
    )


def _two_models(comparison: Comparison) -> list[tuple[bool, float, float]]:
    recall, opis = comparison.changes["recall_at_1"], comparison.changes["opis"]
    return [
        (False, recall.without, opis.geometric_without),
        (True, recall.with_tcm, opis.geometric_with_tcm),
    ]


def _save(figure: Any, path: pathlib.Path) -> pathlib.Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
    return path
