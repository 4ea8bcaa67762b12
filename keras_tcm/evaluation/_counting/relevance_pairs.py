"""Counts of pairs of which a relevance makes the positive ones."""

import dataclasses
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from keras import ops

from keras_tcm.evaluation._counting.open_set import OpenSet
from keras_tcm.evaluation._inputs.pair_space import PairSpace, check_classes
from keras_tcm.evaluation._inputs.samples import similarities
from keras_tcm.evaluation._walk.pair_walk import new_progress, tile_side
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation.distances import (
    NUM_STEPS,
    RANK_TIE_STEPS,
    Histogram,
    to_steps,
)
from keras_tcm.labels import encode_labels
from keras_tcm.relevance import ClassRelevance, Relevance

# Pairs that are held at a time, up to some 40 bytes each.
_HELD_PAIRS = 2**22


@dataclasses.dataclass(frozen=True)
class Strip:
    """Pairs of consecutive queries with the whole gallery.

    Attributes:
        start: First query.
        steps: Distances in steps, int32 of shape `(queries, gallery)`; `NUM_STEPS`,
            farther than any pair, where a sample meets itself.
        is_positive: Whether each pair is positive; false there.
    """

    start: int
    steps: np.ndarray
    is_positive: np.ndarray

    def retrieval(self, ks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Measure the retrieval of each query that has a positive.

        A negative `RANK_TIE_STEPS` farther than a positive still ranks before it. The
        result is that of `NeighborRanks.retrieval`.
        """
        counts = self.is_positive.sum(axis=1)
        asking = np.flatnonzero(counts)
        if not len(asking):
            return np.zeros((0, len(ks)), np.bool_), np.zeros(0)
        counts, steps = counts[asking, None], self.steps[asking]
        # Twice the distance, and one more for positives: those are the odd ones.
        order = np.where(
            self.is_positive[asking],
            2 * steps + 1,
            2 * np.maximum(steps - RANK_TIE_STEPS, 0),
        )
        order[steps == NUM_STEPS] = 2 * NUM_STEPS
        depth = min(max(counts.max(), *ks), order.shape[1])
        order.partition(depth - 1, axis=1)
        nearest = np.sort(order[:, :depth], axis=1)
        is_hit = nearest % 2 == 1
        found = np.cumsum(is_hit, axis=1)
        rank = np.arange(1, depth + 1)
        precision = np.where(is_hit & (rank <= counts), found / rank, 0.0)
        average = precision.sum(axis=1) / counts[:, 0]
        return found[:, np.minimum(ks, depth) - 1] > 0, average


def strips(space: PairSpace, plan: Plan, held_per_query: int = 1) -> Iterator[Strip]:
    """Go once through all (query, gallery) pairs, from the side of the queries.

    Where the caller holds many numbers for each query of a strip, `held_per_query`, the
    strips have fewer queries.
    """
    relevance, size = space.relevance, space.gallery.size
    assert relevance is not None
    labels, *others = (comparable(some, relevance) for some in space.labels)
    gallery_labels = others[0] if others else labels
    num_columns = plan.block_size or tile_side(size)
    num_rows = min(
        plan.block_size or tile_side(space.queries.size),
        max(_HELD_PAIRS // size, 1),
        max(_HELD_PAIRS // held_per_query, 1),
    )
    progress = new_progress(plan)
    starts = range(0, space.queries.size, num_rows)
    for done, start in enumerate(starts, start=1):
        stop = min(start + num_rows, space.queries.size)
        rows = space.queries.vectors.tensor(start, num_rows)
        wanted = ops.convert_to_tensor(labels[start:stop])
        steps = np.empty((stop - start, size), np.int32)
        is_positive = np.empty(steps.shape, np.bool_)
        for column in range(0, size, num_columns):
            some = gallery_labels[column : column + num_columns]
            tile = slice(column, column + len(some))
            relevant = relevance(wanted, ops.convert_to_tensor(some))
            products = similarities(
                rows, space.gallery.vectors.tensor(column, num_columns)
            )
            steps[:, tile] = to_steps(products[: stop - start, : len(some)])
            is_positive[:, tile] = ops.convert_to_numpy(relevant)
        if space.own is not None:
            own = np.arange(stop - start), space.own[start:stop]
            steps[own] = NUM_STEPS
            is_positive[own] = False
        yield Strip(start, steps, is_positive)
        progress(done, len(starts))


def count_by_distance(
    space: PairSpace, plan: Plan
) -> tuple[Histogram, Histogram, np.ndarray, np.ndarray, np.ndarray, OpenSet]:
    """Count all pairs by distance.

    Returns:
        The positive and the negative pairs, the positives of each query, hits and
        average precisions as `Strip.retrieval` returns them, and what lies nearest to
        the queries without a positive.
    """
    everything: np.ndarray = np.zeros(NUM_STEPS + 1, np.int64)
    of_positives: np.ndarray = np.zeros(NUM_STEPS, np.int64)
    found = []
    for strip in strips(space, plan):
        _add_histogram(everything, strip.steps.ravel())
        _add_histogram(of_positives, strip.steps[strip.is_positive])
        per_query = strip.is_positive.sum(axis=1)
        nearest = strip.steps[per_query == 0].min(axis=1)
        found.append((per_query, *strip.retrieval(plan.ks), nearest))
    positive, negative = (
        Histogram.of(counts, times_counted=space.times_met)
        for counts in (of_positives, everything[:NUM_STEPS] - of_positives)
    )
    per_query, hits, average, nearest = (
        np.concatenate(x) for x in zip(*found, strict=True)
    )
    open_set = OpenSet(len(nearest), np.minimum(nearest, NUM_STEPS - 1))
    return positive, negative, per_query, hits, average, open_set


@dataclasses.dataclass(frozen=True)
class Memberships:
    """Which samples are in which classes.

    Attributes:
        classes: The labels of the classes.
        queries: The query of each membership, increasing; shape `(k,)`.
        codes: The index of its class, shape `(k,)`.
        members: Gallery samples in each class, if a positive pair counts for a class
            only where both ends are in it; `None` if one end suffices.
    """

    classes: Sequence[Hashable]
    queries: np.ndarray
    codes: np.ndarray
    members: list[np.ndarray] | None

    def select(self, codes: np.ndarray) -> "Memberships":
        """Keep some classes, in increasing order."""
        kept = np.isin(self.codes, codes)
        return Memberships(
            [self.classes[code] for code in codes.tolist()],
            self.queries[kept],
            np.searchsorted(codes, self.codes[kept]),
            self.members and [self.members[code] for code in codes],
        )


def find_memberships(
    relevance: Relevance, labels: np.ndarray, gallery_labels: np.ndarray
) -> Memberships:
    """Find the classes of the queries; labels are from `read_labels`."""
    if isinstance(relevance, ClassRelevance):
        classes, (codes,) = encode_labels(labels)
        return Memberships(classes, np.arange(len(labels)), codes, None)
    queries, codes = np.nonzero(labels)
    members = [np.flatnonzero(column) for column in gallery_labels.T]
    found = Memberships(range(labels.shape[1]), queries, codes, members)
    return found.select(np.unique(codes))


def comparable(labels: np.ndarray, relevance: Relevance) -> np.ndarray:
    """Return labels from `read_labels` in a form that all backends hold exactly."""
    if not isinstance(relevance, ClassRelevance):
        return labels
    # JAX takes the low 32 bits of an integer: those of 2^32 are a class.
    classes, (codes,) = encode_labels(labels)
    known = range(len(relevance.matrix))
    return np.array([x if x in known else -1 for x in classes], np.int32)[codes]


@dataclasses.dataclass(frozen=True, eq=False)
class _Classes:
    """The eligible classes.

    Attributes:
        memberships: Which samples are in which of them.
        num_queries: Queries of each, shape `(C,)`.
        num_positives: Positive pairs of each.
        num_negatives: Negative pairs of each.
        num_excluded: Number of the others.
    """

    memberships: Memberships
    num_queries: np.ndarray
    num_positives: np.ndarray
    num_negatives: np.ndarray
    num_excluded: int


def eligible_classes(space: PairSpace, num_positives: np.ndarray) -> _Classes:
    """Find the classes with a positive and a negative pair.

    `num_positives` are the positive pairs of each query.

    Raises:
        UndefinedError: If there are fewer than two.
    """
    assert space.relevance is not None
    found = find_memberships(space.relevance, space.labels[0], space.labels[-1])

    def total(per_query: np.ndarray) -> np.ndarray:
        return np.bincount(
            found.codes, per_query[found.queries], minlength=len(found.classes)
        ).astype(np.int64)

    num_queries = total(np.ones_like(num_positives))
    negatives = total(space.gallery.size - space.num_own - num_positives)
    if found.members is None:
        positives = total(num_positives)
    else:
        sizes = np.array([len(x) for x in found.members], np.int64)
        positives = num_queries * (sizes - space.num_own)
    eligible = np.flatnonzero((positives > 0) & (negatives > 0))
    check_classes(len(eligible), len(num_queries))
    return _Classes(
        memberships=found.select(eligible),
        num_queries=num_queries[eligible],
        num_positives=positives[eligible],
        num_negatives=negatives[eligible],
        num_excluded=len(num_queries) - len(eligible),
    )


def accepted_pairs(
    space: PairSpace, plan: Plan, classes: Memberships, cuts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count the positive and the negative pairs of each class up to increasing cuts.

    Returns:
        Two arrays of shape `(C, t)`.
    """
    # The bins end at the cuts; one is for pairs beyond the last, and in one more a
    # sample meets itself.
    num_bins = len(cuts) + 2
    widths = np.diff([0, *(cuts + 1), NUM_STEPS, NUM_STEPS + 1])
    number = np.arange(num_bins, dtype=np.min_scalar_type(num_bins))
    bin_of_step = np.repeat(number, widths)
    table = np.zeros((2, len(classes.classes), num_bins), np.int64)
    for strip in strips(space, plan, 2 * num_bins):
        bins = bin_of_step[strip.steps]
        by_query = _count_bins(bins, strip.is_positive, num_bins)
        for code, rows in _members_in(classes, strip):
            table[0, code] += by_query[rows, 0].sum(axis=0)
            if classes.members is None:
                table[1, code] += by_query[rows, 1].sum(axis=0)
            else:
                inside = bins[rows][:, classes.members[code]]
                table[1, code] += np.bincount(inside.ravel(), minlength=num_bins)
    negatives, positives = table[:, :, : len(cuts)].cumsum(axis=2)
    return positives, negatives


def _members_in(classes: Memberships, strip: Strip) -> Iterator[tuple[int, np.ndarray]]:
    """The classes in a strip, and which of its rows are in each."""
    ends = strip.start, strip.start + len(strip.steps)
    first, last = np.searchsorted(classes.queries, ends)
    codes, rows = classes.codes[first:last], classes.queries[first:last] - strip.start
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    # No split at all would still leave one piece.
    if len(present):
        pieces = np.split(rows[order], starts[1:])
        yield from zip(present.tolist(), pieces, strict=True)


def _add_histogram(histogram: np.ndarray, steps: np.ndarray) -> None:
    counts = np.bincount(steps)
    histogram[: len(counts)] += counts


def _count_bins(bins: np.ndarray, is_positive: np.ndarray, num_bins: int) -> np.ndarray:
    """Negative and positive pairs of each row in each bin, `(rows, 2, num_bins)`."""
    keys = bins.astype(np.intp)
    np.add(keys, num_bins, out=keys, where=is_positive)
    keys += 2 * num_bins * np.arange(len(keys))[:, None]
    counts = np.bincount(keys.ravel(), minlength=len(keys) * 2 * num_bins)
    return counts.reshape(-1, 2, num_bins)
