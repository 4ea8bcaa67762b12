"""Recall at k alone."""

import math
from typing import Any

import numpy as np

from keras_tcm.evaluation.neighbor_ranks import NeighborRanks
from keras_tcm.evaluation.pair_walk import PairWalk
from keras_tcm.evaluation.positive_pairs import PositivePairs
from keras_tcm.evaluation.precision import full_precision
from keras_tcm.evaluation.samples import Samples, check_embeddings
from keras_tcm.labels import check_labels, encode_labels


def recall_at_k(embeddings: Any, labels: Any, k: int) -> float:
    """Share of samples with a sample of their class among their k nearest others.

    Args:
        embeddings: Shape `(n, d)`.
        labels: Shape `(n,)`.
        k: Number of neighbours, at least 1.

    Returns:
        Recall over the samples whose class has another one; NaN if there are none.
    """
    vectors = check_embeddings("embeddings", embeddings)
    classes, (codes,) = encode_labels(check_labels("labels", labels, len(vectors)))
    samples = Samples(vectors, codes, len(classes))
    hits = []
    with full_precision():
        walk = PairWalk(samples, None, None)
        for group in PositivePairs(samples, None).groups:
            ranks = NeighborRanks(group, k)
            walk.run(ranks=ranks)
            hits.append(ranks.retrieval((k,))[0])
    found = np.concatenate(hits)
    return float(found.mean()) if len(found) else math.nan
