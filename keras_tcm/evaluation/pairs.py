"""What an evaluation needs to know about the pairs of samples."""

import abc
from collections.abc import Hashable, Sequence

import numpy as np

from keras_tcm.evaluation.definition import Definition, Thresholds
from keras_tcm.evaluation.distribution import Distribution
from keras_tcm.evaluation.errors import UndefinedError
from keras_tcm.evaluation.sampling_error import SamplingError


class Pairs(abc.ABC):
    """Counts pairs by distance, in all and for each class.

    `C` counts the eligible classes: those with a query, a positive and a negative
    pair. The pairs of a class are counted from each end that is a query of the class.

    Attributes:
        classes: Labels of the eligible classes.
        class_counts: Queries of each, shape `(C,)`.
        num_excluded: Classes with a query that are not eligible.
        num_positives: Positive pairs of each eligible class, shape `(C,)`.
        num_negatives: Negative pairs of each that are counted.
        num_negative_pairs: All negative pairs, each counted once.
        positive: The positive pairs by distance; from `count` on.
        negative: The negative pairs by distance; from `count` on.
        query_share: Share of the queries whose neighbours are ranked.
    """

    classes: Sequence[Hashable]
    class_counts: np.ndarray
    num_excluded: int
    num_positives: np.ndarray
    num_negatives: np.ndarray
    num_negative_pairs: int
    positive: Distribution
    negative: Distribution
    query_share = 1.0

    @abc.abstractmethod
    def count(self, definition: Definition) -> None:
        """Count the pairs as far as it matters to what is measured.

        Raises:
            UndefinedError: If the negative pairs do not resolve the `far_range`.
        """

    @abc.abstractmethod
    def accepted(self, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count the pairs of each eligible class up to each cut.

        Args:
            cuts: Distances in steps, increasing; shape `(t,)`.

        Returns:
            The positive and the negative pairs, both of shape `(C, t)`.
        """

    @abc.abstractmethod
    def retrieval(self) -> tuple[np.ndarray, np.ndarray]:
        """Measure the retrieval of the queries that have a positive.

        Returns:
            Whether there is a hit among the k nearest, shape `(queries, ks)`, and the
            average precision at R, shape `(queries,)`.
        """

    def sampling_error(
        self, definition: Definition, thresholds: Thresholds
    ) -> SamplingError | None:
        """Estimate what sampling the pairs does to the result; `None` without it."""
        return None

    def _check_classes(self) -> None:
        if len(self.classes) < 2:
            raise UndefinedError(
                "`labels` must have at least two classes with a positive and a "
                f"negative pair. Received: {len(self.classes)} such classes among "
                f"{len(self.classes) + self.num_excluded}"
            )

    @staticmethod
    def _check_resolvable(definition: Definition, num_pairs: int) -> None:
        far_range = definition.far_range
        if definition.needs_far_range and far_range[0] * num_pairs < 1:
            raise UndefinedError(
                "`far_range` must be resolvable: the smallest FAR that "
                f"{num_pairs} negative pairs resolve is {1 / num_pairs:.3g}. "
                f"Received: far_range={far_range}"
            )
