"""Pairs of which a relevance makes the positive ones."""

from collections.abc import Callable, Iterator

import numpy as np

from keras_tcm.evaluation.definition import Definition
from keras_tcm.evaluation.distribution import NUM_STEPS, Distribution
from keras_tcm.evaluation.pairs import Pairs
from keras_tcm.evaluation.relevance_labels import Memberships
from keras_tcm.evaluation.relevance_walk import RelevanceWalk, Strip
from keras_tcm.evaluation.tile_walk import Progress


class RelevancePairs(Pairs):
    """Counts all pairs in two walks: by distance, and then by class.

    Args:
        walk: Walks over the pairs.
        memberships: The classes of the queries.
        ks: Ranks that recall is asked for.
        new_progress: Makes what each walk reports to.

    Raises:
        UndefinedError: If fewer than two classes are eligible.
    """

    def __init__(
        self,
        walk: RelevanceWalk,
        memberships: Memberships,
        ks: tuple[int, ...],
        new_progress: Callable[[], Progress | None],
    ) -> None:
        self._walk = walk
        self._new_progress = new_progress
        everything: np.ndarray = np.zeros(NUM_STEPS + 1, np.int64)
        positive: np.ndarray = np.zeros(NUM_STEPS, np.int64)
        counts, measured = [], []
        for strip in walk.strips(new_progress()):
            _add_histogram(everything, strip.steps.ravel())
            _add_histogram(positive, strip.steps[strip.is_positive])
            counts.append(strip.is_positive.sum(axis=1))
            measured.append(strip.retrieval(ks))
        self.positive = Distribution(positive, times_counted=walk.times_met)
        self.negative = Distribution(
            everything[:NUM_STEPS] - positive, times_counted=walk.times_met
        )
        self.num_negative_pairs = self.negative.size
        self._retrieval = tuple(np.concatenate(x) for x in zip(*measured, strict=True))
        self._set_classes(memberships, np.concatenate(counts))

    def count(self, definition: Definition) -> None:
        """Check the pairs, which have been counted."""
        self._check_resolvable(definition, self.negative.size)

    def accepted(self, cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count the pairs of each eligible class up to each cut."""
        # The bins end at the cuts; one is for pairs beyond the last, and in one more a
        # sample meets itself.
        num_bins = len(cuts) + 2
        widths = np.diff([0, *(cuts + 1), NUM_STEPS, NUM_STEPS + 1])
        number = np.arange(num_bins, dtype=np.min_scalar_type(num_bins))
        bin_of_step = np.repeat(number, widths)
        table = np.zeros((2, len(self.classes), num_bins), np.int64)
        for strip in self._walk.strips(self._new_progress(), 2 * num_bins):
            bins = bin_of_step[strip.steps]
            by_query = _count_bins(bins, strip.is_positive, num_bins)
            for code, rows in self._members_in(strip):
                table[0, code] += by_query[rows, 0].sum(axis=0)
                if self._members is None:
                    table[1, code] += by_query[rows, 1].sum(axis=0)
                else:
                    inside = bins[rows][:, self._members[code]]
                    table[1, code] += np.bincount(inside.ravel(), minlength=num_bins)
        negatives, positives = table[:, :, : len(cuts)].cumsum(axis=2)
        return positives, negatives

    def retrieval(self) -> tuple[np.ndarray, np.ndarray]:
        """Measure the retrieval of the queries that have a positive."""
        hits, average_precision = self._retrieval
        return hits, average_precision

    def _set_classes(self, memberships: Memberships, num_positives: np.ndarray) -> None:
        """Choose the eligible classes.

        Args:
            memberships: All classes of the queries.
            num_positives: Positive pairs of each query.
        """

        def total(per_query: np.ndarray) -> np.ndarray:
            return np.bincount(
                memberships.codes,
                per_query[memberships.queries],
                minlength=len(memberships.classes),
            ).astype(np.int64)

        num_queries = total(np.ones_like(num_positives))
        negatives = total(self._walk.num_candidates - num_positives)
        if memberships.members is None:
            positives = total(num_positives)
        else:
            sizes = np.array([len(x) for x in memberships.members], np.int64)
            positives = num_queries * (sizes - self._walk.num_own)
        eligible = np.flatnonzero((positives > 0) & (negatives > 0))
        self.class_counts = num_queries[eligible]
        self.num_excluded = len(num_queries) - len(eligible)
        self.num_positives = positives[eligible]
        self.num_negatives = negatives[eligible]
        chosen = memberships.select(eligible)
        self.classes = chosen.classes
        self._queries, self._codes = chosen.queries, chosen.codes
        self._members = chosen.members
        self._check_classes()

    def _members_in(self, strip: Strip) -> Iterator[tuple[int, np.ndarray]]:
        """The classes in a strip, and which of its rows are in each."""
        ends = strip.start, strip.start + len(strip.steps)
        first, last = np.searchsorted(self._queries, ends)
        codes, rows = self._codes[first:last], self._queries[first:last] - strip.start
        order = np.argsort(codes, kind="stable")
        present, starts = np.unique(codes[order], return_index=True)
        # No split at all would still leave one part.
        if len(present):
            parts = np.split(rows[order], starts[1:])
            yield from zip(present.tolist(), parts, strict=True)


def _add_histogram(histogram: np.ndarray, steps: np.ndarray) -> None:
    counts = np.bincount(steps)
    histogram[: len(counts)] += counts


def _count_bins(bins: np.ndarray, is_positive: np.ndarray, num_bins: int) -> np.ndarray:
    """Count the negative and the positive pairs of each row in each bin.

    Returns:
        Integers of shape `(rows, 2, num_bins)`.
    """
    keys = bins.astype(np.intp)
    np.add(keys, num_bins, out=keys, where=is_positive)
    keys += 2 * num_bins * np.arange(len(keys))[:, None]
    counts = np.bincount(keys.ravel(), minlength=len(keys) * 2 * num_bins)
    return counts.reshape(-1, 2, num_bins)
