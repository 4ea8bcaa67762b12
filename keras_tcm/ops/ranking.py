"""Rank-based retrieval measures from the nearest negatives of each query (NumPy)."""

import numpy as np


def positive_ranks(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Rank of every positive of a query among all of its candidates.

    Ties count against the query: a negative as near as a positive comes first.

    Args:
        positives: Distances to the positives, shape `(q, r)`.
        negatives: Distances to the nearest negatives, shape `(q, n)`. Ranks up to
            `n` are exact.

    Returns:
        Increasing integers of shape `(q, r)`; 1 is the nearest candidate.
    """
    num_negatives = negatives.shape[1]
    order = np.argsort(
        np.concatenate([negatives, positives], axis=1), axis=1, kind="stable"
    )
    ranks = np.nonzero(order >= num_negatives)[1] + 1
    return ranks.reshape(positives.shape)


def recall_hits(ranks: np.ndarray, k: int) -> np.ndarray:
    """Whether each query has a positive among its `k` nearest, shape `(q,)`."""
    return ranks[:, 0] <= k


def average_precision_at_r(ranks: np.ndarray) -> np.ndarray:
    """Average precision at R of each query, R being its number of positives.

    Args:
        ranks: Ranks of the positives in increasing order, shape `(q, r)`.

    Returns:
        Float64 array of shape `(q,)` with values in [0, 1].

    Reference:
        - [Musgrave et al., ECCV 2020](https://arxiv.org/abs/2003.08505)
    """
    num_positives = ranks.shape[1]
    precision = np.arange(1, num_positives + 1) / ranks
    return np.where(ranks <= num_positives, precision, 0.0).mean(axis=1)
