"""Recall at k alone."""

import math
from typing import Any

import numpy as np

from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.pair_walk import PairWalk
from keras_tcm.evaluation.positive_pairs import PositivePairs
from keras_tcm.evaluation.precision import full_precision
from keras_tcm.evaluation.relevance_labels import has_single_labels, read_labels
from keras_tcm.evaluation.relevance_walk import RelevanceWalk
from keras_tcm.evaluation.samples import Samples, check_embeddings, unsorted_samples
from keras_tcm.labels import encode_labels
from keras_tcm.relevance import Relevance


def recall_at_k(
    embeddings: Any, labels: Any, k: int, relevance: Relevance | None = None
) -> float:
    """Share of samples with a positive among their k nearest others.

    Args:
        embeddings: Shape `(n, d)`.
        labels: Shape `(n,)`, or what `relevance` compares.
        k: Number of neighbours, at least 1.
        relevance: Tells which pairs are positive, the first sample being the query.
            Defaults to `None`: those with equal labels.

    Returns:
        Recall over the samples that have a positive; NaN if there are none.
    """
    vectors = check_embeddings("embeddings", embeddings)
    k = min(k, len(vectors))
    (known,) = read_labels([("labels", labels, len(vectors))], relevance)
    hits = []
    with full_precision():
        if relevance is None or has_single_labels(relevance):
            classes, (codes,) = encode_labels(known)
            samples = Samples(vectors, codes, len(classes))
            walk = PairWalk(samples, None, None)
            for group in PositivePairs(samples, None).groups:
                ranks = NeighborRanks(group, k)
                walk.run(ranks=ranks)
                hits.append(ranks.retrieval((k,))[0])
        else:
            queries = unsorted_samples(vectors)
            pairs = RelevanceWalk(queries, None, known, None, relevance, None)
            hits += [strip.retrieval((k,))[0] for strip in pairs.strips()]
    found = np.concatenate(hits)
    return float(found.mean()) if len(found) else math.nan
