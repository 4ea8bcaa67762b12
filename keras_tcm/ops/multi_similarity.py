"""The multi-similarity loss."""

from typing import Any

from keras import ops

from keras_tcm.ops.log_sum_exp import log_one_plus_sum_exp
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.similarity import BEYOND


def multi_similarity_anchors(
    pairs: Pairs, alpha: float, beta: float, base: float, epsilon: float | None
) -> Any:
    """Multi-similarity loss of each anchor.

    Args:
        pairs: The pairs of the batch.
        alpha: Scale of the positive similarities.
        beta: Scale of the negative similarities.
        base: Similarity around which both are centred.
        epsilon: Mining margin, or `None` to use all pairs.

    Returns:
        Tensor of shape `(a,)`.

    Reference:
        - [Wang et al., CVPR 2019](https://arxiv.org/abs/1904.06627)
    """
    similarities = pairs.similarities
    positive, negative = pairs.positive, pairs.negative
    if epsilon is not None:
        fixed = ops.stop_gradient(similarities)
        lowest_positive = ops.min(
            ops.where(positive > 0, fixed, BEYOND), axis=1, keepdims=True
        )
        highest_negative = ops.max(
            ops.where(negative > 0, fixed, -BEYOND), axis=1, keepdims=True
        )
        none = ops.zeros_like(similarities)
        positive = ops.where(fixed < highest_negative + epsilon, positive, none)
        negative = ops.where(fixed > lowest_positive - epsilon, negative, none)
    return (
        log_one_plus_sum_exp(-alpha * (similarities - base), positive) / alpha
        + log_one_plus_sum_exp(beta * (similarities - base), negative) / beta
    )
