"""The numbers of an evaluation in HTML, each with a few words on what it means."""

import html
import math

from keras_tcm.evaluation import Evaluation, OperatingPoint


def describe(evaluation: Evaluation) -> str:
    """Say in a line of text what was evaluated."""
    pairs = (
        "estimated from a sample of the pairs (± standard error)"
        if evaluation.standard_errors
        else "all pairs compared"
    )
    if evaluation.intervals is not None:
        pairs += "; 95% intervals, for other classes of the same kind"
    return (
        f"{evaluation.num_samples:,} samples, {len(evaluation.classes):,} classes, "
        f"{evaluation.distance} distance, {pairs}"
    )


def measures(evaluation: Evaluation) -> str:
    """Write the measures as groups of a definition list."""
    share = f"{evaluation.epsilon:.0%}"
    groups = [
        _measure(
            "OPIS",
            _value(evaluation.opis, ".6f", evaluation, "opis"),
            "↓ lower is better",
            "How far the utilities of the classes lie apart at one threshold: their "
            "variance, averaged over the calibration range. 0 if a threshold serves "
            "all classes equally.",
        ),
        _measure(
            f"{share}-OPIS",
            _value(evaluation.epsilon_opis, ".6f", evaluation, "epsilon_opis"),
            "↓ lower is better",
            f"Squared gap in utility between the worst {share} of the classes and the "
            "others, averaged likewise.",
        ),
        _measure(
            "EER",
            _value(evaluation.eer, ".4f", evaluation, "eer"),
            "↓ lower is better",
            "Equal error rate: FAR and FRR at the threshold where they are equal.",
        ),
        _measure(
            "mAP@R",
            _value(evaluation.map_at_r, ".4f", evaluation, "map_at_r"),
            "↑ higher is better",
            "Mean average precision among the R nearest of each sample, R being the "
            "number of its positives.",
        ),
    ]
    recall = {
        k: _value(value, ".4f", evaluation, f"recall_at_{k}")
        for k, value in evaluation.recall.items()
    }
    first, *others = recall
    groups.append(
        _measure(
            f"R@{first}",
            recall[first],
            "↑ higher is better",
            "R@k: share of samples that have a positive among the k nearest to them.",
            *(f"R@{k} {recall[k]}" for k in others),
        )
    )
    return "".join(groups)


def _measure(name: str, value: str, better: str, meaning: str, *more: str) -> str:
    details = "".join(f"<dd>{text}</dd>" for text in (meaning, *more))
    return (
        f'<div><dt>{name}</dt><dd class="value">{value}</dd>'
        f'<dd class="better">{better}</dd>{details}</div>\n'
    )


def sizes(evaluation: Evaluation) -> str:
    """Write how much was compared as rows of a table."""
    low, high = evaluation.calibration_range
    distance = html.escape(evaluation.distance)
    rows = [
        ("Samples", f"{evaluation.num_samples:,}", "Queries, if there is a gallery."),
        (
            "Classes",
            f"{len(evaluation.classes):,}",
            "With at least one positive and one negative pair.",
        ),
        (
            "Excluded classes",
            f"{evaluation.num_excluded_classes:,}",
            "Without such pairs. Their samples still serve as negatives.",
        ),
        *(
            [
                (
                    "Unanswerable queries",
                    f"{evaluation.num_unanswerable:,}",
                    "Without a positive pair. Open-set FAR: share of them for which a "
                    "threshold accepts anything.",
                )
            ]
            if evaluation.num_unanswerable
            else []
        ),
        (
            "Positive pairs",
            f"{evaluation.num_positive_pairs:,}",
            "Belong together: a good threshold accepts them.",
        ),
        (
            "Negative pairs",
            f"{evaluation.num_negative_pairs:,}",
            "Do not belong together: a good threshold rejects them.",
        ),
        (
            "Calibration range",
            f"{low:.4f} to {high:.4f}",
            f"The thresholds ({distance} distance) that OPIS averages over.",
        ),
    ]
    return "".join(
        f'<tr><th scope="row">{name}<small>{meaning}</small></th>'
        f'<td class="number">{value}</td></tr>\n'
        for name, value, meaning in rows
    )


def open_set_heading(evaluation: Evaluation) -> str:
    """Write the head of the column that only unanswerable queries fill."""
    if not evaluation.num_unanswerable:
        return ""
    return '<th scope="col" class="number">Open-set FAR</th>'


def operating_points(evaluation: Evaluation) -> str:
    """Write the operating points as rows of a table."""
    has_open_set = bool(evaluation.num_unanswerable)
    return "".join(
        _operating_point(point, has_open_set) for point in evaluation.operating_points
    )


def _operating_point(point: OperatingPoint, has_open_set: bool) -> str:
    header = f'<th scope="row" class="target">FAR ≤ {100 * point.far_target:g}%</th>'
    if not point.resolved:
        return (
            f'<tr>{header}<td colspan="{3 + has_open_set}" class="number">not resolved '
            "by the negative "
            "pairs: too few</td></tr>\n"
        )
    values = [
        # All digits that float32 distances have: a threshold rounded up could miss its
        # target.
        _value(point.threshold, ".6f", point, "threshold"),
        _value(point.far, ".4%", point, "far"),
        _value(point.frr, ".2%", point, "frr"),
    ]
    if has_open_set:
        values.append(_value(point.open_set_far, ".2%", point, "open_set_far"))
    cells = "".join(f'<td class="number">{value}</td>' for value in values)
    return f"<tr>{header}{cells}</tr>\n"


def _value(
    value: float, form: str, measured: Evaluation | OperatingPoint, name: str
) -> str:
    """Write a value with what is known of its error."""
    text = f"{value:{form}}"
    errors, intervals = measured.standard_errors, measured.intervals
    if errors is not None and not math.isnan(errors[name]):
        return f"{text} <small>± {errors[name]:{form}}</small>"
    if intervals is not None and name in intervals:
        low, high = intervals[name]
        return f"{text} <small>({low:{form}} to {high:{form}})</small>"
    return text
