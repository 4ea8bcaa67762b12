"""Which pairs of a batch there are, and which are what."""

from typing import Any

from keras import ops

from keras_tcm.relevance import Relevance


def batch_similarities(embeddings: Any) -> Any:
    """Cosine similarities of the pairs of a batch, shape `(n, n)`.

    Args:
        embeddings: Unit vectors of shape `(n, d)`, or `(n, 2, d)` of two towers, whose
            queries are the rows.
    """
    queries = gallery = embeddings
    if len(embeddings.shape) == 3:
        queries, gallery = embeddings[:, 0], embeddings[:, 1]
    return ops.matmul(queries, ops.transpose(gallery))


def are_pairs(embeddings: Any) -> Any:
    """Which entries of `batch_similarities` are pairs, shape `(n, n)`.

    Two different samples, or any query and any item.
    """
    samples = ops.arange(ops.shape(embeddings)[0], dtype="int32")
    is_other = samples[:, None] != samples[None, :]
    return is_other if len(embeddings.shape) == 2 else ops.ones_like(is_other)


def positive_pairs(labels: Any, relevance: Relevance | None) -> Any:
    """Which pairs are positive, also of a sample with itself; shape `(n, n)`."""
    if relevance is not None:
        return relevance(labels, labels)
    return labels[:, None] == labels[None, :]
