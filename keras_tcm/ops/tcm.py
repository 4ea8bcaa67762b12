"""The threshold-consistent margin regulariser."""

from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs


def tcm_rows(
    pairs: Pairs,
    positive_margin: float,
    negative_margin: float,
    positive_weight: float = 1.0,
    negative_weight: float = 1.0,
) -> Any:
    """Each anchor's share of the TCM loss.

    Args:
        pairs: The pairs of the batch.
        positive_margin: Positive pairs with a similarity up to it are hard.
        negative_margin: Negative pairs with a similarity from it on are hard.
        positive_weight: Factor of the positive term.
        negative_weight: Factor of the negative term.

    Returns:
        Tensor of shape `(a,)` that sums (over all replicas) to the loss.

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """
    similarities = pairs.similarities
    # Rounding can put a similarity just outside [-1, 1]; with a margin of -1 or 1
    # such a pair must still count as hard.
    bounded = ops.stop_gradient(ops.clip(similarities, -1.0, 1.0))
    none = ops.zeros_like(similarities)
    hard_positive = ops.where(bounded <= positive_margin, pairs.positive, none)
    hard_negative = ops.where(bounded >= negative_margin, pairs.negative, none)

    def mean_over_hard(hard: Any, excess: Any) -> Any:
        rows = pairs.anchor_weights * ops.sum(hard * excess, axis=1)
        count = pairs.total(ops.sum(pairs.anchor_weights * ops.sum(hard, axis=1)))
        return rows / ops.where(count > 0, count, ops.ones_like(count))

    return positive_weight * mean_over_hard(
        hard_positive, positive_margin - similarities
    ) + negative_weight * mean_over_hard(hard_negative, similarities - negative_margin)
