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
    is_positive, is_negative = _are_hard(pairs, positive_margin, negative_margin)
    none = ops.zeros((), dtype=similarities.dtype)
    positive = ops.where(is_positive, pairs.partner_weights, none)
    negative = ops.where(is_negative, pairs.partner_weights, none)
    return (
        ops.sum(positive * (positive_margin - similarities), axis=1),
        ops.sum(positive, axis=1),
        ops.sum(negative * (similarities - negative_margin), axis=1),
        ops.sum(negative, axis=1),
    )


def hard_pair_slopes(
    pairs: Pairs,
    positive_margin: float,
    negative_margin: float,
    anchor_upstream: Any,
    partner_upstream: Any,
) -> Any:
    """Gradient of `hard_pairs` with respect to the similarities, from both ends.

    Args:
        pairs: Pairs of samples of one batch.
        positive_margin: See `hard_pairs`.
        negative_margin: See `hard_pairs`.
        anchor_upstream: Upstream gradients of the four sums, shape `(a, 4)`.
        partner_upstream: The same for the partners as anchors, shape `(n, 4)`.

    Returns:
        Tensor of shape `(a, n)`.
    """
    is_positive, is_negative = _are_hard(pairs, positive_margin, negative_margin)

    def both_ends(term: int, sign: float) -> Any:
        of_anchors = ops.stack(
            [sign * anchor_upstream[:, term], sign * pairs.anchor_weights], axis=1
        )
        of_partners = ops.stack([pairs.partner_weights, partner_upstream[:, term]])
        return ops.matmul(of_anchors, of_partners)

    none = ops.zeros((), dtype=pairs.similarities.dtype)
    negative = ops.where(is_negative, both_ends(2, 1.0), none)
    return ops.where(is_positive, both_ends(0, -1.0), negative)


def _are_hard(
    pairs: Pairs, positive_margin: float, negative_margin: float
) -> tuple[Any, Any]:
    # Rounding can put a similarity just outside [-1, 1]; with a margin of -1 or 1
    # such a pair must still count as hard.
    highest = float("inf") if positive_margin == 1 else positive_margin
    lowest = float("-inf") if negative_margin == -1 else negative_margin
    return (
        ops.logical_and(pairs.is_positive, pairs.similarities <= highest),
        ops.logical_and(pairs.is_negative, pairs.similarities >= lowest),
    )
