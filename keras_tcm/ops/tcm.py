"""The threshold-consistent margin regulariser."""

from typing import Any

from keras import ops

from keras_tcm.ops.pairs import Pairs


def hard_pairs(
    pairs: Pairs, positive_margin: float, negative_margin: float
) -> tuple[Any, Any, Any, Any]:
    """What the hard pairs of each anchor add up to.

    Args:
        pairs: The pairs.
        positive_margin: Positive pairs with a similarity up to it are hard.
        negative_margin: Negative pairs with a similarity from it on are hard.

    Returns:
        For the hard positive pairs, the sum of their distances to the margin and the
        sum of their weights, and the same for the hard negative ones: tensors of shape
        `(a,)`.
    """
    similarities = pairs.similarities
    # Rounding can put a similarity just outside [-1, 1]; with a margin of -1 or 1
    # such a pair must still count as hard.
    highest = float("inf") if positive_margin == 1 else positive_margin
    lowest = float("-inf") if negative_margin == -1 else negative_margin
    none = ops.zeros((), dtype=similarities.dtype)
    positive = ops.where(similarities <= highest, pairs.positive, none)
    negative = ops.where(similarities >= lowest, pairs.negative, none)
    return (
        ops.sum(positive * (positive_margin - similarities), axis=1),
        ops.sum(positive, axis=1),
        ops.sum(negative * (similarities - negative_margin), axis=1),
        ops.sum(negative, axis=1),
    )
