"""Which pairs of a batch are what."""

from typing import Any

from keras import ops

from keras_tcm.relevance import Relevance


def distinct_pairs(embeddings: Any) -> Any:
    """Which pairs are of two different samples, shape `(n, n)`."""
    samples = ops.arange(ops.shape(embeddings)[0], dtype="int32")
    return samples[:, None] != samples[None, :]


def positive_pairs(labels: Any, relevance: Relevance | None) -> Any:
    """Which pairs are positive, also of a sample with itself; shape `(n, n)`."""
    if relevance is not None:
        return relevance(labels, labels)
    return labels[:, None] == labels[None, :]
