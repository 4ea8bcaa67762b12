"""From pairs to counts."""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from keras_tcm.evaluation._counting.label_pairs import (
    AllNegatives,
    CountedNegatives,
    PositivePairs,
    retrieval,
)
from keras_tcm.evaluation._counting.relevance_pairs import (
    accepted_pairs,
    count_by_distance,
    eligible_classes,
)
from keras_tcm.evaluation._counting.sampled_pairs import (
    SampledNegatives,
    SamplingError,
    sample_negatives,
    sampling_error,
)
from keras_tcm.evaluation._inputs.pair_space import PairSpace, class_sizes
from keras_tcm.evaluation._inputs.samples import to_tensor
from keras_tcm.evaluation._walk.pair_walk import similarities
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tallies import NeighborRanks
from keras_tcm.evaluation.criteria import Criteria, Thresholds
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, to_steps
from keras_tcm.evaluation.precision import full_precision
from keras_tcm.validation import UndefinedError

_PILOT_ROWS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class PairCounts:
    """How many pairs lie how far apart, in all and in each class.

    `C` counts the eligible classes: those with a query, a positive and a negative
    pair. The pairs of a class are counted from each end that is a query of the class.
    `T` counts the thresholds.

    Attributes:
        classes: Labels of the eligible classes.
        class_counts: Queries of each, shape `(C,)`.
        num_excluded: Classes with a query that are not eligible.
        num_queries: Queries of all classes.
        num_negative_pairs: All negative pairs, each counted once.
        positive: The positive pairs by distance.
        negative: The negative pairs that are counted by distance, the nearest of them.
        thresholds: Where the classes are looked at.
        num_positives: Positive pairs of each class, shape `(C,)`.
        num_negatives: Negative pairs of each that are counted, shape `(C,)`.
        positives_accepted: Positive pairs of each class up to each of
            `thresholds.cuts`, shape `(C, T)`.
        negatives_accepted: The same for negative pairs.
        hits: Whether each query with a positive has one among its k nearest, shape
            `(queries, ks)`.
        average_precision: Average precision at R of the same queries.
        sampling_error: What sampling the pairs does to the result; `None` without it.
    """

    classes: Sequence[Hashable]
    class_counts: np.ndarray
    num_excluded: int
    num_queries: int
    num_negative_pairs: int
    positive: Histogram
    negative: Histogram
    thresholds: Thresholds
    num_positives: np.ndarray
    num_negatives: np.ndarray
    positives_accepted: np.ndarray
    negatives_accepted: np.ndarray
    hits: np.ndarray
    average_precision: np.ndarray
    sampling_error: SamplingError | None = None


def count_pairs(space: PairSpace, plan: Plan, criteria: Criteria) -> PairCounts:
    """Count pairs as far as the criteria ask.

    Args:
        space: Which pairs there are.
        plan: How to go through them.
        criteria: What will be asked for.

    Raises:
        UndefinedError: If fewer than two classes are eligible, the negative pairs do
            not resolve the `far_range`, or the thresholds are not defined.
    """
    with full_precision():
        if space.relevance is not None:
            return _count_by_relevance(space, plan, criteria)
        return _count_by_label(space, plan, criteria)


def _count_by_label(space: PairSpace, plan: Plan, criteria: Criteria) -> PairCounts:
    """Count positive pairs class by class, and the others in a walk over them."""
    sizes = class_sizes(space)
    _check_classes(len(sizes.eligible), sizes.num_excluded)
    positives = PositivePairs(space)
    negatives: AllNegatives | SampledNegatives
    if plan.max_pairs is None:
        negatives = AllNegatives(space, sizes, positives, plan)
    else:
        negatives = sample_negatives(space, sizes, plan, plan.max_pairs)
    _check_resolvable(criteria, negatives.num_pairs)
    positive = positives.histogram()
    ranks = negatives.new_ranks()
    counted = _count_far_enough(negatives, criteria, positive, ranks)
    thresholds = criteria.thresholds(positive, counted.histogram)
    cuts, places = np.unique(thresholds.cuts, return_inverse=True)
    positives_accepted = positives.accepted(cuts)[sizes.eligible]
    negatives_accepted = negatives.accepted(counted, cuts)
    hits, average_precision = retrieval(negatives.ranked, plan, ranks)
    error = None
    if isinstance(negatives, SampledNegatives):
        error = sampling_error(
            criteria,
            thresholds,
            positive,
            positives.accepted(counted.tally.edges)[sizes.eligible],
            sizes.num_positives,
            negatives,
            counted,
        )
    return PairCounts(
        classes=[space.classes[code] for code in sizes.eligible.tolist()],
        class_counts=sizes.query_counts[sizes.eligible],
        num_excluded=sizes.num_excluded,
        num_queries=space.queries.size,
        num_negative_pairs=sizes.num_negative_pairs,
        positive=positive,
        negative=counted.histogram,
        thresholds=thresholds,
        num_positives=sizes.num_positives,
        num_negatives=negatives.num_per_class,
        positives_accepted=positives_accepted[:, places],
        negatives_accepted=negatives_accepted[:, places],
        hits=hits,
        average_precision=average_precision,
        sampling_error=error,
    )


def _count_by_relevance(space: PairSpace, plan: Plan, criteria: Criteria) -> PairCounts:
    """Count all pairs in two walks: by distance, then class by class."""
    positive, negative, per_query, hits, average_precision = count_by_distance(
        space, plan
    )
    classes = eligible_classes(space, per_query)
    _check_classes(len(classes.num_queries), classes.num_excluded)
    _check_resolvable(criteria, negative.size)
    thresholds = criteria.thresholds(positive, negative)
    cuts, places = np.unique(thresholds.cuts, return_inverse=True)
    positives_accepted, negatives_accepted = accepted_pairs(
        space, plan, classes.memberships, cuts
    )
    return PairCounts(
        classes=classes.memberships.classes,
        class_counts=classes.num_queries,
        num_excluded=classes.num_excluded,
        num_queries=space.queries.size,
        num_negative_pairs=negative.size,
        positive=positive,
        negative=negative,
        thresholds=thresholds,
        num_positives=classes.num_positives,
        num_negatives=classes.num_negatives,
        positives_accepted=positives_accepted[:, places],
        negatives_accepted=negatives_accepted[:, places],
        hits=hits,
        average_precision=average_precision,
    )


def _count_far_enough(
    pairs: AllNegatives | SampledNegatives,
    criteria: Criteria,
    positive: Histogram,
    ranks: NeighborRanks | None,
) -> CountedNegatives:
    """Count negative pairs as far as it matters, and rank neighbours on the way.

    Which distances matter is only known once the pairs have been counted. So a small
    pilot first tells about how far the counts must go, at least to where FAR exceeds
    FRR; a walk then counts the pairs up to there, exactly in all and in bins class by
    class, and it is checked that they went far enough.
    """
    pilot = _pilot(pairs.space)
    shares, cuts = criteria.shares, criteria.known_cuts(positive)
    # At these no class is to be read off a bin. At the largest distance every pair is
    # accepted: nothing to count.
    exact_cuts = criteria.at_cuts[criteria.at_cuts < NUM_STEPS - 1]
    asked = (*shares, _crossing_share(pilot, positive))
    first = min(_quantile(pilot, 0.5 * min(asked)), NUM_STEPS - 2)
    share = 1.25 * max(asked) + 0.002
    while True:
        last = max(_quantile(pilot, share), first + 1, *cuts)
        edges = np.union1d(pairs.edges(pilot, first, last, cuts), exact_cuts)
        counted = pairs.count(edges, ranks)
        # What the pilot did not foresee is counted anew, farther.
        if last == NUM_STEPS - 1 or _is_enough(
            last, shares, counted.histogram, positive
        ):
            return counted
        share, ranks = 2.0 * share, None


def _is_enough(
    last: int, shares: tuple[float, ...], negative: Histogram, positive: Histogram
) -> bool:
    """Whether counts up to `last` hold what will be asked for."""
    far = negative.share_up_to(last)
    frr = 1.0 - positive.share_up_to(last)
    # One more than a quantile needs: an operating point asks for the next pair.
    indices = [negative.quantile_index(share)[0] + 2 for share in shares]
    most = min(max(indices, default=0), negative.size - 1)
    return bool(far >= frr) and negative.has(most, last)


def _pilot(space: PairSpace) -> np.ndarray:
    """Distances in steps of some negative pairs, increasing."""
    queries, gallery = space.queries, space.gallery
    rows, columns = (_spread(queries.size), _spread(gallery.size))
    values = similarities(
        to_tensor(queries.vectors[rows], _PILOT_ROWS),
        to_tensor(gallery.vectors[columns], _PILOT_ROWS),
    )[: len(rows), : len(columns)]
    is_negative = queries.codes[rows][:, None] != gallery.codes[columns]
    return np.sort(to_steps(values[is_negative]))


def _spread(size: int) -> np.ndarray:
    """Places spread evenly, so that all classes are among them if possible."""
    return np.unique(np.linspace(0, size - 1, _PILOT_ROWS).astype(np.int64))


def _quantile(pilot: np.ndarray, share: float) -> int:
    if share >= 1.0:
        return NUM_STEPS - 1
    return int(pilot[int(share * len(pilot))])


def _crossing_share(pilot: np.ndarray, positive: Histogram) -> float:
    """Share of the pilot up to where FAR reaches FRR."""
    far = np.arange(1, len(pilot) + 1) / len(pilot)
    frr = 1.0 - positive.share_up_to(pilot)
    return float(far[np.argmax(far >= frr)])


def _check_classes(num_eligible: int, num_excluded: int) -> None:
    """Raise unless there are classes to compare."""
    if num_eligible < 2:
        raise UndefinedError(
            "`labels` must have at least two classes with a positive and a "
            f"negative pair. Received: {num_eligible} such classes among "
            f"{num_eligible + num_excluded}"
        )


def _check_resolvable(criteria: Criteria, num_pairs: int) -> None:
    """Raise unless the negative pairs resolve the range of FARs."""
    far_range = criteria.far_range
    if criteria.needs_far_range and far_range[0] * num_pairs < 1:
        raise UndefinedError(
            "`far_range` must be resolvable: the smallest FAR that "
            f"{num_pairs} negative pairs resolve is {1 / num_pairs:.3g}. "
            f"Received: far_range={far_range}"
        )
