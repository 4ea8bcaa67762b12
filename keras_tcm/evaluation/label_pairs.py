"""Pairs of which equal labels make the positive ones."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from keras_tcm.evaluation.all_negative_pairs import AllNegativePairs
from keras_tcm.evaluation.definition import Definition, Thresholds
from keras_tcm.evaluation.executors import Executor
from keras_tcm.evaluation.pairs import Pairs
from keras_tcm.evaluation.population import Population
from keras_tcm.evaluation.positive_pairs import PositivePairs
from keras_tcm.evaluation.sampled_negative_pairs import SampledNegativePairs
from keras_tcm.evaluation.samples import Samples
from keras_tcm.evaluation.sampling_error import SamplingError, sampling_error
from keras_tcm.evaluation.tile_walk import Progress


class LabelPairs(Pairs):
    """Counts positive pairs class by class, and negative ones in a walk over the rest.

    Args:
        queries: The queries.
        gallery: The gallery, or `None` to pair the queries with each other.
        own: Where each query is in the gallery, or `None` if they are not there.
        classes: Labels of all classes, by class index.
        ks: Ranks that recall is asked for.
        max_pairs: Number of pairs to compare, at most; `None` for all.
        seed: Seed of the sample.
        block_size: Side of a block of pairs, or `None` to choose it.
        executor: See `PairWalk`.
        new_progress: Makes what each walk reports to.

    Raises:
        UndefinedError: If fewer than two classes are eligible.
    """

    def __init__(
        self,
        queries: Samples,
        gallery: Samples | None,
        own: np.ndarray | None,
        classes: Sequence[Hashable],
        ks: tuple[int, ...],
        max_pairs: int | None,
        seed: int,
        block_size: int | None,
        executor: Executor | None,
        new_progress: Callable[[], Progress | None],
    ) -> None:
        population = Population(queries, gallery, own is not None)
        self._eligible = population.eligible
        self.classes = [classes[code] for code in self._eligible.tolist()]
        self.class_counts = population.query_counts[self._eligible]
        self.num_excluded = population.num_excluded
        self.num_positives = population.num_positives
        self.num_negative_pairs = population.num_negative_pairs
        self._check_classes()
        self._positives = PositivePairs(queries, gallery, own)
        self._negatives: AllNegativePairs | SampledNegativePairs
        if max_pairs is None:
            self._negatives = AllNegativePairs(
                queries,
                gallery,
                population,
                self._positives,
                ks,
                block_size,
                executor,
                new_progress,
            )
        else:
            self._negatives = SampledNegativePairs(
                queries,
                gallery,
                own,
                population,
                ks,
                max_pairs,
                seed,
                block_size,
                executor,
                new_progress,
            )
            self.query_share = self._negatives.query_share
        self.num_negatives = self._negatives.num_per_class

    def count(self, definition: Definition) -> None:
        """Count all positive pairs, and the negative ones as far as it matters."""
        self._check_resolvable(definition, self._negatives.size)
        self.positive = self._positives.distribution()
        self._negatives.count(
            definition.shares,
            definition.known_cuts(self.positive),
            definition.at_cuts,
            self.positive,
        )
        self.negative = self._negatives.distribution

    def accepted(self, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count the pairs of each eligible class up to each cut."""
        return self._positives_accepted(cuts), self._negatives.accepted(cuts)

    def retrieval(self) -> tuple[np.ndarray, np.ndarray]:
        """Measure the retrieval of the queries that have a positive."""
        return self._negatives.retrieval()

    def sampling_error(
        self, definition: Definition, thresholds: Thresholds
    ) -> SamplingError | None:
        """Estimate what sampling the pairs does to the result; `None` without it."""
        if not isinstance(self._negatives, SampledNegativePairs):
            return None
        return sampling_error(
            definition,
            thresholds,
            self.positive,
            self._positives_accepted(self._negatives.edges),
            self.num_positives,
            self._negatives,
        )

    def _positives_accepted(self, cuts: np.ndarray) -> np.ndarray:
        return self._positives.accepted(cuts)[self._eligible]
