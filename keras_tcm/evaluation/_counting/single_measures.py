"""What metrics and figures count alone: recall, distances of pairs, neighbours."""

import math
from typing import Any

import numpy as np

from keras_tcm.evaluation._counting.label_pairs import PositivePairs, retrieval
from keras_tcm.evaluation._counting.relevance_pairs import strips
from keras_tcm.evaluation._inputs.pair_space import PairSpace, make_space, read_labels
from keras_tcm.evaluation._inputs.samples import (
    CHUNK_ROWS,
    Samples,
    check_embeddings,
    open_rows,
    split_towers,
    unsorted_samples,
)
from keras_tcm.evaluation._walk.pair_walk import walk_pairs
from keras_tcm.evaluation._walk.plan import Plan
from keras_tcm.evaluation._walk.tallies import Tally
from keras_tcm.evaluation.distances import NUM_STEPS, Histogram, to_steps
from keras_tcm.evaluation.precision import full_precision
from keras_tcm.relevance import Relevance
from keras_tcm.validation import UndefinedError


def recall_at_k(
    embeddings: Any, labels: Any, k: int, relevance: Relevance | None = None
) -> float:
    """Share of samples with a positive among their k nearest others.

    Args:
        embeddings: Shape `(n, d)`, or `(n, 2, d)`: queries and gallery items.
        labels: Shape `(n,)`, or what `relevance` compares.
        k: Number of neighbours, at least 1.
        relevance: Tells which pairs are positive, the first sample being the query.
            Defaults to `None`: those with equal labels.

    Returns:
        Recall over the samples that have a positive; NaN if there are none.
    """
    space = _space_of(embeddings, labels, relevance)
    plan = Plan(ks=(min(k, space.gallery.size),))
    with full_precision():
        if space.relevance is None:
            hits, _ = retrieval(PositivePairs(space), plan, None)
        else:
            found = [strip.retrieval(plan.ks)[0] for strip in strips(space, plan)]
            hits = np.concatenate(found)
    return float(hits.mean()) if len(hits) else math.nan


def pair_histograms(
    embeddings: Any, labels: Any, max_positives: int, max_samples: int
) -> tuple[Histogram, Histogram]:
    """Count positive and negative pairs by distance, or random ones of them.

    The random samples are the same in every call.

    Args:
        embeddings: Shape `(n, d)`.
        labels: Shape `(n,)`.
        max_positives: Of more (query, gallery) pairs, those of random queries are
            counted.
        max_samples: Of more samples, the negative pairs among random ones are counted.

    Returns:
        The positive and the negative pairs.

    Raises:
        UndefinedError: If there is no positive or no negative pair.
    """
    space = _space_of(check_embeddings("embeddings", embeddings), labels, None)
    with full_precision():
        return (
            _some_positives(space, max_positives),
            _some_negatives(space.queries, max_samples),
        )


def nearest_samples(
    embeddings: Any, queries: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the samples nearest to each query, which is not one of them.

    Args:
        embeddings: What `check_embeddings` returned, shape `(n, d)`.
        queries: Indices of the queries.
        count: Number of neighbours, below `n`.

    Returns:
        Their indices and their distances in steps, in order of distance, both of shape
        `(len(queries), count)`.
    """
    vectors = unsorted_samples(embeddings).vectors
    rows = vectors[queries]
    chunks = [
        to_steps(rows @ vectors[start : start + CHUNK_ROWS].T)
        for start in range(0, len(vectors), CHUNK_ROWS)
    ]
    steps = np.concatenate(chunks, axis=1)
    # Farther than everything: a query is no neighbour of itself.
    steps[np.arange(len(queries)), queries] = np.iinfo(steps.dtype).max
    nearest = np.argsort(steps, axis=1, kind="stable")[:, :count]
    return nearest, np.take_along_axis(steps, nearest, axis=1)


def _space_of(embeddings: Any, labels: Any, relevance: Relevance | None) -> PairSpace:
    rows = open_rows("embeddings", embeddings)
    towers = (rows,) if rows.ndim != 3 else split_towers("embeddings", rows)
    vectors = [check_embeddings("embeddings", one) for one in towers]
    (known,) = read_labels([("labels", labels, len(rows))], relevance)
    return make_space(vectors, [known] * len(vectors), relevance)


def _some_positives(space: PairSpace, most: int) -> Histogram:
    positives, size = PositivePairs(space), space.queries.size
    if not positives.num_pairs:
        raise UndefinedError(
            "`labels` must have a class with two samples, for a positive pair. "
            f"Received: {size} samples of as many classes"
        )
    if positives.num_pairs > most:
        places = _random_places(size, max(size * most // positives.num_pairs, 1))
        positives = PositivePairs(space.of_queries(places))
    return positives.histogram()


def _some_negatives(samples: Samples, most: int) -> Histogram:
    if samples.size > most:
        samples = samples.some(_random_places(samples.size, most))
    tally = Tally(np.array([NUM_STEPS - 1]), None, None, 0, np.uint32)
    walk_pairs(samples.vectors, samples.codes, samples, Plan(ks=(1,)), tally)
    negative = Histogram.of(tally.histogram[0])
    if not negative.size:
        raise UndefinedError(
            "`labels` must have two classes or more, for a negative pair. "
            f"Received: {samples.size} samples of one class"
        )
    return negative


def _random_places(size: int, count: int) -> np.ndarray:
    """Draw places without replacement, the same in every call; increasing."""
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(size, count, replace=False))
