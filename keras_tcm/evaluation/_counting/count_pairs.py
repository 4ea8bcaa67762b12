"""From pairs to counts."""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from keras_tcm.evaluation._counting.label_pairs import (
    AllNegatives,
    PositivePairs,
    retrieval,
)
from keras_tcm.evaluation._counting.open_set import OpenSet, find_open_set
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
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation.class_errors import GalleryErrors
from keras_tcm.evaluation.criteria import Criteria, Thresholds
from keras_tcm.evaluation.distances import Histogram
from keras_tcm.evaluation.precision import full_precision


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
        open_set: The queries without a positive pair.
        gallery: Negative pairs up to each cut by class of the gallery sample, where
            `negatives_accepted` has them by class of the query alone, and all are
            counted; otherwise `None`.
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
    open_set: OpenSet
    gallery: GalleryErrors | None = None
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
    positives = PositivePairs(space)
    negatives: AllNegatives | SampledNegatives
    if plan.max_pairs is None:
        negatives = AllNegatives(space, sizes, plan, positives)
    else:
        negatives = sample_negatives(space, sizes, plan, plan.max_pairs)
    criteria.check_resolvable(negatives.num_pairs)
    positive = positives.histogram()
    ranks = negatives.new_ranks()
    counted = negatives.count_far_enough(criteria, positive, ranks)
    thresholds = criteria.thresholds(positive, counted.histogram, counted.tally.edges)
    cuts, places = np.unique(thresholds.cuts, return_inverse=True)
    positives_accepted = positives.accepted(cuts)[sizes.eligible]
    negatives_accepted, of_gallery = negatives.accepted(counted, cuts)
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
        gallery=None
        if of_gallery is None
        else GalleryErrors(
            of_gallery[:, places],
            sizes.gallery_negatives,
            sizes.gallery_slots[sizes.eligible],
            sizes.num_absent,
        ),
        sampling_error=error,
        open_set=find_open_set(space, plan, criteria.needs_open_set),
    )


def _count_by_relevance(space: PairSpace, plan: Plan, criteria: Criteria) -> PairCounts:
    """Count all pairs in two walks: by distance, then class by class."""
    positive, negative, per_query, hits, average_precision, open_set = (
        count_by_distance(space, plan)
    )
    classes = eligible_classes(space, per_query)
    criteria.check_resolvable(negative.size)
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
        open_set=open_set,
    )
