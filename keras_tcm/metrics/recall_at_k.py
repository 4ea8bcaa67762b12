"""Recall at k as a Keras metric."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_tcm.evaluation import RANK_TIE_STEPS, STEPS_PER_UNIT, recall_at_k
from keras_tcm.metrics.batch_pairs import (
    are_pairs,
    batch_similarities,
    positive_pairs,
)
from keras_tcm.metrics.embedding_metric import EmbeddingMetric
from keras_tcm.validation import check_integer


@keras.saving.register_keras_serializable(package="keras_tcm")
class RecallAtK(EmbeddingMetric):
    """Share of samples with a positive among their k nearest.

    The hit rate that metric learning calls R@k, by cosine similarity, over all samples
    seen since the last reset, up to `memory_size`; past that it is a sliding window
    over the most recent ones and warns once. Positives are the others of the same
    class, or what `relevance` says; samples without any are left out. Ties count
    against the query. Of two towers (`keras_tcm.layers.StackTowers`), queries have
    their neighbours among the gallery items.

    Epoch logs, History and `evaluate` have this value, which is NaN where no sample has
    a positive. In a step, `train_on_batch` and `test_on_batch` give that of the batch,
    with 0 in place of NaN, and the progress bar of `fit` shows the value computed last.

    Args:
        k: Number of neighbours, at least 1. Defaults to 1.
        memory_size: Samples kept, at least 2. Defaults to 8192.
        relevance: What makes a pair positive, the first sample being the query: a
            `keras_tcm.relevance.Relevance`, or a function of two label tensors.
            Defaults to `None`: equal labels.
        name: Name of the metric. Defaults to `"recall_at_<k>"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.

    Raises:
        ValueError: If `k` or `memory_size` is too small.
        TypeError: If `k` or `memory_size` is not an integer.

    Example:

    >>> metric = keras_tcm.metrics.RecallAtK(1)
    >>> metric.update_state([0, 0, 1], [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    >>> float(metric.result())
    1.0
    """

    worst_value = 0.0
    direction = "up"

    def __init__(
        self,
        k: int = 1,
        memory_size: int = 8192,
        relevance: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.k = check_integer("k", k, 1)
        super().__init__(memory_size, relevance, name or f"recall_at_{k}", dtype)

    def compute(self, embeddings: np.ndarray, labels: np.ndarray) -> float:
        """Compute the metric of the samples in memory."""
        return recall_at_k(embeddings, labels, self.k, self.relevance)

    def compute_in_step(self, embeddings: Any, labels: Any) -> Any:
        """Compute the metric of a batch with operations of the backend."""
        is_pair = are_pairs(embeddings)
        positive = is_pair & positive_pairs(labels, self.relevance)
        similarities = batch_similarities(embeddings)
        best = ops.max(ops.where(positive, similarities, -2.0), axis=1, keepdims=True)
        is_before = similarities >= best - RANK_TIE_STEPS / STEPS_PER_UNIT
        is_before = is_before & is_pair & ops.logical_not(positive)
        is_hit = ops.sum(ops.cast(is_before, "int32"), axis=1) < self.k
        is_query = ops.any(positive, axis=1)
        num_hits = ops.sum(ops.cast(is_hit & is_query, "float32"))
        num_queries = ops.sum(ops.cast(is_query, "float32"))
        return num_hits / ops.maximum(num_queries, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "k": self.k}
