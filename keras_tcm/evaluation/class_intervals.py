"""Intervals for the measures of an evaluation: what they are for other classes.

From the counts of each class, without another look at the pairs. FAR, FRR, recall and
mean average precision are shares, whose limits `ClassErrors` tells; for the others,
each class is left out in turn (jackknife).
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_tcm.evaluation._counting.count_pairs import PairCounts
from keras_tcm.evaluation._counting.open_set import OpenSet
from keras_tcm.evaluation.class_errors import MIN_CLASSES, ClassErrors
from keras_tcm.student import student_quantile

# Of each interval.
CONFIDENCE = 0.95
Interval = tuple[float, float]


def pair_errors(
    counts: PairCounts, classes_per_pair: int
) -> tuple[ClassErrors, ClassErrors]:
    """Accepted negative and rejected positive pairs of each class, at each cut.

    Args:
        counts: What has been counted, by label.
        classes_per_pair: 1 with a gallery, 2 without.
    """
    accepted = counts.negative.share_up_to(counts.thresholds.cuts)
    rejected = counts.num_positives[:, None] - counts.positives_accepted
    far = ClassErrors(
        errors=counts.negatives_accepted,
        pairs=counts.num_negatives,
        all_errors=np.rint(accepted * counts.num_negative_pairs),
        all_pairs=counts.num_negative_pairs,
        classes_per_pair=classes_per_pair,
        num_others=counts.num_excluded,
        gallery=counts.gallery,
    )
    # Without a gallery each positive pair is met from both ends: that cancels out.
    frr = ClassErrors(
        errors=rejected,
        pairs=counts.num_positives,
        all_errors=rejected.sum(axis=0),
        all_pairs=int(counts.num_positives.sum()),
    )
    return far, frr


def opis_interval(opis_per_class: np.ndarray) -> Interval:
    """Interval of OPIS, at one calibration range.

    Args:
        opis_per_class: What each class contributes to it, at least two.
    """
    num_classes = len(opis_per_class)
    opis = float(opis_per_class.mean())
    rest = opis_per_class.sum() - opis_per_class - opis_per_class / (num_classes - 1)
    return _on_log_scale(opis, _deviation(rest / (num_classes - 1)), num_classes)


def score_intervals(
    counts: PairCounts,
    opis_per_class: np.ndarray,
    recall_at: Sequence[int],
    far: ClassErrors,
    frr: ClassErrors,
    num_known: int,
) -> dict[str, Interval] | None:
    """Intervals of OPIS, EER, mAP@R and R@k, or `None` if there are too few classes.

    OPIS has its calibration range, and the FAR of each class, taken as they are.

    Args:
        counts: What has been counted, by label.
        opis_per_class: What each class contributes to OPIS.
        recall_at: Values of k for R@k, as the user gave them.
        far: Accepted negative pairs at each cut.
        frr: Rejected positive pairs at each cut.
        num_known: How many of the cuts, the first, are the evaluation's own.
    """
    num_classes = len(opis_per_class)
    if num_classes < MIN_CLASSES:
        return None
    order = np.argsort(counts.thresholds.cuts[:num_known], kind="stable")
    accepted, rejected = (x.without_each()[:, order] for x in (far, frr))
    if far.gallery is not None:
        # A class of the gallery alone has no positive pair.
        of_queries = rejected
        rejected = np.tile(frr.rates[order], (len(accepted), 1))
        rejected[far.gallery.places] = of_queries
    eer = _crossing(accepted - rejected, (accepted + rejected) / 2.0)
    # The queries come class by class.
    codes = np.repeat(np.arange(num_classes), counts.class_counts)
    found = np.column_stack([counts.average_precision, counts.hits])
    missed = np.zeros((num_classes, found.shape[1]))
    np.add.at(missed, codes, 1.0 - found)
    shares = ClassErrors(
        missed, counts.class_counts, missed.sum(axis=0), int(counts.class_counts.sum())
    )
    names = ("map_at_r", *(f"recall_at_{k}" for k in recall_at))
    limits = 1.0 - shares.intervals(CONFIDENCE)[:, ::-1]
    return {
        "opis": opis_interval(opis_per_class),
        "eer": _on_logit_scale(counts.thresholds.eer, _deviation(eer), num_classes),
        **{
            name: (float(low), float(high))
            for name, (low, high) in zip(names, limits, strict=True)
        },
    }


def point_intervals(
    places: Sequence[int],
    distances: np.ndarray,
    cuts: np.ndarray,
    far: ClassErrors,
    frr: ClassErrors,
    num_known: int,
    limits: Interval,
) -> list[dict[str, Interval]]:
    """Intervals of FAR and FRR at thresholds, and of the thresholds themselves.

    That of the threshold is for the distance at which other classes have the FAR that
    these have there.

    Args:
        places: Places among the cuts.
        distances: The distance of each cut; NaN where there is none.
        cuts: The cuts, in steps.
        far: Accepted negative pairs at each.
        frr: Rejected positive pairs at each.
        num_known: As for `score_intervals`: what else is asked for changes nothing.
        limits: The least and the largest distance that there is.
    """
    order = np.argsort(cuts[:num_known], kind="stable")
    order = order[~np.isnan(distances[order])]
    curves = far.without_each()[:, order]
    found = []
    for place in places:
        rate = far.rates[place]
        known = np.broadcast_to(distances[order], curves.shape)
        crossing = _crossing(curves - rate, known)
        spread = _quantile(far.num_classes) * _deviation(crossing)
        value = float(distances[place])
        rates = [x.at(place).intervals(CONFIDENCE)[0].tolist() for x in (far, frr)]
        found.append(
            {
                "threshold": (
                    max(value - spread, limits[0]),
                    min(value + spread, limits[1]),
                ),
                "far": (rates[0][0], rates[0][1]),
                "frr": (rates[1][0], rates[1][1]),
            }
        )
    return found


def open_set_intervals(
    open_set: OpenSet, cuts: np.ndarray, confidence: float = CONFIDENCE
) -> np.ndarray | None:
    """Intervals of the open-set FAR, for other classes of queries in the same gallery.

    Those of `ClassErrors`, but nowhere wider than Wilson's with a trial for each class:
    queries of a class cannot be more alike than to be accepted or rejected together.
    Classes of unequal sizes count for fewer trials, `(sum n)^2 / sum n^2` (Kish). If
    no query is accepted, or every one, the other limit is that of Clopper and Pearson
    with a trial for each class, unless Wilson's is nearer.

    Args:
        open_set: The queries without a positive.
        cuts: Distances in steps, shape `(t,)`.
        confidence: Probability that an interval holds the rate.

    Returns:
        Limits of shape `(t, 2)`; `None` below three classes of such queries, and where
        samples have several classes.
    """
    if open_set.codes is None or not len(open_set.codes):
        return None
    errors = open_set.errors(cuts)
    if errors.num_classes < MIN_CLASSES:
        return None
    sizes = errors.pairs.astype(np.float64)
    trials = sizes.sum() ** 2 / np.square(sizes).sum()
    quantile = student_quantile(confidence, errors.num_classes - 1)
    square = quantile**2 / trials
    rates = errors.rates
    root = np.sqrt(square * (rates * (1.0 - rates) + square / 4.0))
    low, high = ((rates + square / 2.0 + x) / (1.0 + square) for x in (-root, root))
    limits = errors.intervals(confidence)
    return np.column_stack(
        [np.maximum(limits[:, 0], low), np.minimum(limits[:, 1], high)]
    )


def _crossing(gaps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values where increasing gaps reach 0, row by row, linear between columns."""
    after = np.where((gaps >= 0).any(axis=1), np.argmax(gaps >= 0, axis=1), -1)
    rows, before = np.arange(len(gaps)), np.maximum(after - 1, 0)
    width = gaps[rows, after] - gaps[rows, before]
    share = np.divide(
        -gaps[rows, before], width, out=np.zeros_like(width), where=width > 0
    )
    share = np.clip(share, 0.0, 1.0)
    return (1.0 - share) * values[rows, before] + share * values[rows, after]


def _deviation(without: np.ndarray) -> float:
    """Standard error of a measure, from its values without each class."""
    return math.sqrt((len(without) - 1) * without.var())


def _quantile(num_classes: int) -> float:
    return student_quantile(CONFIDENCE, num_classes - 1)


def _on_log_scale(value: float, deviation: float, num_classes: int) -> Interval:
    if value <= 0.0:
        return 0.0, 0.0
    factor = math.exp(min(_quantile(num_classes) * deviation / value, 700.0))
    return value / factor, value * factor


def _on_logit_scale(value: float, deviation: float, num_classes: int) -> Interval:
    if not 0.0 < value < 1.0:
        return value, value
    odds = value / (1.0 - value)
    spread = _quantile(num_classes) * deviation / (value * (1.0 - value))
    factor = math.exp(min(spread, 700.0))
    low, high = odds / factor, odds * factor
    return low / (1.0 + low), high / (1.0 + high)
