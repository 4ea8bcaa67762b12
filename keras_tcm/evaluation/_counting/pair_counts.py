"""What has been counted of the pairs."""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from keras_tcm.evaluation._counting.sampling_error import SamplingError
from keras_tcm.evaluation.criteria import Criteria, Thresholds
from keras_tcm.evaluation.distances import Histogram
from keras_tcm.evaluation.errors import UndefinedError


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


def check_classes(num_eligible: int, num_excluded: int) -> None:
    """Raise unless there are classes to compare."""
    if num_eligible < 2:
        raise UndefinedError(
            "`labels` must have at least two classes with a positive and a "
            f"negative pair. Received: {num_eligible} such classes among "
            f"{num_eligible + num_excluded}"
        )


def check_resolvable(criteria: Criteria, num_pairs: int) -> None:
    """Raise unless the negative pairs resolve the range of FARs."""
    far_range = criteria.far_range
    if criteria.needs_far_range and far_range[0] * num_pairs < 1:
        raise UndefinedError(
            "`far_range` must be resolvable: the smallest FAR that "
            f"{num_pairs} negative pairs resolve is {1 / num_pairs:.3g}. "
            f"Received: far_range={far_range}"
        )
