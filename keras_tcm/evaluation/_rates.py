"""From counts to rates: FAR, FRR, utility, OPIS and operating points."""

import math
from collections.abc import Sequence

import numpy as np

from keras_tcm.evaluation._counting.count_pairs import PairCounts
from keras_tcm.evaluation._counting.sampled_pairs import SamplingError
from keras_tcm.evaluation.class_intervals import (
    open_set_intervals,
    pair_errors,
    point_intervals,
    score_intervals,
)
from keras_tcm.evaluation.criteria import Criteria, Thresholds
from keras_tcm.evaluation.distances import NUM_STEPS, distance_range
from keras_tcm.evaluation.evaluation import ErrorRates, Evaluation, OperatingPoint
from keras_tcm.evaluation.inequity import Inequity
from keras_tcm.labels import label_array
from keras_tcm.ops.curves import epsilon_opis, opis_per_class, utility_curves


def evaluation_of(
    counts: PairCounts,
    criteria: Criteria,
    recall_at: Sequence[int],
    classes_per_pair: int | None = None,
) -> Evaluation:
    """Make the result of what has been counted.

    Args:
        counts: What has been counted.
        criteria: What it was counted for.
        recall_at: Values of k for R@k, as the user gave them.
        classes_per_pair: How many classes a negative pair counts for, 1 or 2, if there
            are to be intervals; `None` where samples have several classes.
    """
    chosen, error = counts.thresholds, counts.sampling_error
    size = criteria.num_thresholds
    utility = utility_curves(
        counts.positives_accepted[:, :size],
        counts.num_positives,
        counts.negatives_accepted[:, :size],
        counts.num_negatives,
        criteria.beta,
    )
    per_class = opis_per_class(utility)
    epsilon_score = epsilon_opis(utility, criteria.epsilon)
    if error is not None:
        per_class = per_class - error.opis_bias
        epsilon_score -= error.epsilon_opis_bias
    resolved = [
        math.nan if point is None else criteria.distance_of(point)
        for point in chosen.points
    ]
    rates = _all_rates(counts, [*resolved, *chosen.between, *criteria.at_thresholds])
    num_known = len(chosen.cuts) - len(criteria.at_thresholds)
    targets, at = criteria.far_targets, criteria.at_thresholds
    places_of_points = [
        *range(size, size + len(targets)),
        *range(num_known, num_known + len(at)),
    ]
    open_set = counts.open_set
    open_set_far = open_set.rates(chosen.cuts[places_of_points])
    errors_of: dict[int, dict[str, float]] = {}
    intervals, intervals_of = None, {}
    pairs_per_class = None
    if error is None and classes_per_pair is not None:
        # Without a gallery, each positive pair is met from both ends.
        num_positives = counts.num_positives / classes_per_pair
        pairs_per_class = (counts.num_negatives, num_positives)
        far, frr = pair_errors(counts, classes_per_pair)
        intervals = score_intervals(counts, per_class, recall_at, far, frr, num_known)
        if intervals is not None:
            places = [
                place
                for place in places_of_points
                if not math.isnan(rates.thresholds[place])
            ]
            found = point_intervals(
                *(places, rates.thresholds, chosen.cuts, far, frr, num_known),
                distance_range(criteria.distance),
            )
            limits = open_set_intervals(open_set, chosen.cuts[places])
            if limits is not None:
                for known, (low, high) in zip(found, limits.tolist(), strict=True):
                    known["open_set_far"] = (low, high)
            intervals_of = dict(zip(places, found, strict=True))
    if error is not None:
        errors_of = _errors_of_points(places_of_points, counts, error)
    points = tuple(
        _point(
            rates,
            place,
            target,
            accepted,
            errors_of.get(place),
            intervals_of.get(place),
            pairs_per_class,
        )
        for place, target, accepted in zip(
            places_of_points,
            [*targets, *[math.nan] * len(at)],
            open_set_far.tolist(),
            strict=True,
        )
    )
    recall = counts.hits.mean(axis=0).tolist()
    return Evaluation(
        opis=float(per_class.mean()),
        epsilon_opis=epsilon_score,
        opis_per_class=per_class,
        recall=dict(zip(recall_at, recall, strict=True)),
        map_at_r=float(counts.average_precision.mean()),
        eer=chosen.eer,
        calibration_range=chosen.bounds,
        thresholds=chosen.calibration,
        utility=utility,
        classes=label_array(counts.classes),
        class_counts=counts.class_counts,
        operating_points=points[: len(targets)],
        num_samples=counts.num_queries,
        num_excluded_classes=counts.num_excluded,
        num_unanswerable=open_set.num_queries,
        num_positive_pairs=counts.positive.size,
        num_negative_pairs=counts.num_negative_pairs,
        distance=criteria.distance,
        beta=criteria.beta,
        epsilon=criteria.epsilon,
        error_rates=_known_rates(rates, chosen, num_known),
        standard_errors=None if error is None else _standard_errors(counts, recall_at),
        at_thresholds=points[len(targets) :],
        intervals=intervals,
    )


def _all_rates(counts: PairCounts, more: Sequence[float]) -> ErrorRates:
    """Rates at each of `thresholds.cuts`.

    After those of the calibration range, the cuts stand for `more` distances, NaN where
    they stand for none.
    """
    cuts = counts.thresholds.cuts
    return ErrorRates(
        thresholds=np.concatenate([counts.thresholds.calibration, more]),
        far=counts.negative.share_up_to(cuts),
        frr=1.0 - counts.positive.share_up_to(cuts),
        per_class_far=counts.negatives_accepted / counts.num_negatives[:, None],
        per_class_frr=1.0 - counts.positives_accepted / counts.num_positives[:, None],
    )


def _point(
    rates: ErrorRates,
    place: int,
    target: float,
    open_set_far: float,
    errors: dict[str, float] | None,
    intervals: dict[str, tuple[float, float]] | None,
    pairs_per_class: tuple[np.ndarray, np.ndarray] | None,
) -> OperatingPoint:
    """What a threshold does.

    Args:
        rates: Rates at all thresholds.
        place: Its place among them.
        target: The FAR target that it is for, or NaN.
        open_set_far: Share of the unanswerable queries that it accepts, or NaN.
        errors: Its standard errors, or `None`.
        intervals: Its intervals, or `None`.
        pairs_per_class: Negative and positive pairs of each class, if the inequity is
            to be measured.
    """
    threshold = float(rates.thresholds[place])
    if math.isnan(threshold):
        unknown = np.full(len(rates.per_class_far), np.nan)
        return OperatingPoint(
            target, math.nan, math.nan, math.nan, unknown, unknown.copy()
        )
    far, frr = rates.per_class_far[:, place], rates.per_class_frr[:, place]
    return OperatingPoint(
        far_target=target,
        threshold=threshold,
        far=float(rates.far[place]),
        frr=float(rates.frr[place]),
        per_class_far=far,
        per_class_frr=frr,
        open_set_far=open_set_far,
        standard_errors=errors,
        intervals=intervals,
        inequity=pairs_per_class and Inequity.of(far, frr, *pairs_per_class),
    )


def _errors_of_points(
    places: Sequence[int], counts: PairCounts, error: SamplingError
) -> dict[int, dict[str, float]]:
    """Standard errors of each point by its place among the cuts."""
    known = [*error.points, *error.at_thresholds]
    open_set = counts.open_set
    if open_set.num_queries:
        more = open_set.standard_errors(counts.thresholds.cuts[list(places)])
        known = [
            errors | {"open_set_far": one}
            for errors, one in zip(known, more.tolist(), strict=True)
        ]
    return dict(zip(places, known, strict=True))


def _known_rates(rates: ErrorRates, chosen: Thresholds, size: int) -> ErrorRates:
    """The first `size` rates, in the order of their thresholds, each once; float32."""
    # Without unresolved points, which are NaN, and those at the largest distance, which
    # would stretch the range.
    is_used = chosen.cuts[:size] < NUM_STEPS - 1
    is_used[: len(chosen.calibration)] = True
    thresholds = np.where(is_used, rates.thresholds[:size], np.nan)
    _, places = np.unique(thresholds, return_index=True)
    places = places[~np.isnan(thresholds[places])]
    return ErrorRates(
        thresholds=rates.thresholds[places],
        far=rates.far[places],
        frr=rates.frr[places],
        per_class_far=rates.per_class_far[:, places].astype(np.float32),
        per_class_frr=rates.per_class_frr[:, places].astype(np.float32),
    )


def _standard_errors(counts: PairCounts, recall_at: Sequence[int]) -> dict[str, float]:
    """Standard errors of the scores of a sample of the pairs."""
    assert counts.sampling_error is not None
    retrieval = np.column_stack([counts.average_precision, counts.hits])
    names = ("map_at_r", *(f"recall_at_{k}" for k in recall_at))
    spread = retrieval.std(axis=0, ddof=1) / math.sqrt(len(retrieval))
    spread *= math.sqrt(1.0 - counts.sampling_error.query_share)
    spreads = dict(zip(names, spread.tolist(), strict=True))
    return counts.sampling_error.scores | spreads
