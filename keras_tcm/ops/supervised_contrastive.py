"""The supervised contrastive loss."""

from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.similarity import BEYOND


def supervised_contrastive_anchors(pairs: Pairs, temperature: float) -> tuple[Any, Any]:
    """Supervised contrastive loss of each anchor (the paper's `L_out`).

    Args:
        pairs: The pairs of the batch.
        temperature: Divisor of the similarities.

    Returns:
        Losses of shape `(a,)`, and a boolean tensor of shape `(a,)` that tells
        which anchors have a positive partner; the loss of the others is 0.

    Reference:
        - [Khosla et al., NeurIPS 2020](https://arxiv.org/abs/2004.11362),
          equation 2.
    """
    logits = pairs.similarities / temperature
    weights = pairs.positive + pairs.negative
    largest = ops.max(ops.where(weights > 0, logits, -BEYOND), axis=1, keepdims=True)
    largest = ops.stop_gradient(ops.where(largest > -BEYOND, largest, 0.0))
    # The anchor itself can exceed `largest`: its exponent is masked before `exp`.
    logits = ops.where(weights > 0, logits - largest, ops.zeros_like(logits))
    partition = ops.sum(weights * ops.exp(logits), axis=1)
    log_partition = ops.log(ops.where(partition > 0, partition, 1.0))
    positives = ops.sum(pairs.positive, axis=1)
    has_positive = positives > 0
    mean_positive = ops.sum(pairs.positive * logits, axis=1) / ops.where(
        has_positive, positives, 1.0
    )
    return ops.where(has_positive, log_partition - mean_positive, 0.0), has_positive
