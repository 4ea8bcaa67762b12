"""Pairs of anchors and partners: who is positive, who is negative, with what weight."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from keras import ops


def pair_masks(
    anchor_labels: Any,
    partner_labels: Any,
    places: Any = None,
    relevance: Callable[[Any, Any], Any] | None = None,
) -> tuple[Any, Any]:
    """Tell positive pairs from negative pairs.

    Labels are compared in their own dtype, so large integers never collide.

    Args:
        anchor_labels: Tensor of shape `(a,)`, or what `relevance` compares.
        partner_labels: Tensor of shape `(n,)`, likewise.
        places: Index of each anchor among the partners, int32 tensor of shape `(a,)`.
            Defaults to the first `a`.
        relevance: Function of both labels that tells what matches, shape `(a, n)`.
            Defaults to `None`: equal labels.

    Returns:
        Two boolean tensors of shape `(a, n)`: matching labels but another sample
        (positive pairs), and labels that do not match (negative pairs).

    Example:

    >>> labels = keras.ops.convert_to_tensor([7, 7, 9])
    >>> positive, negative = keras_tcm.ops.pair_masks(labels, labels)
    >>> int(keras.ops.sum(keras.ops.cast(positive, "int32")))
    2
    """
    if relevance is None:
        matches = ops.equal(anchor_labels[:, None], partner_labels[None, :])
    else:
        matches = relevance(anchor_labels, partner_labels)
    if places is None:
        places = ops.arange(ops.shape(anchor_labels)[0], dtype="int32")
    partners = ops.arange(ops.shape(partner_labels)[0], dtype="int32")
    other_sample = ops.not_equal(places[:, None], partners[None, :])
    negative = ops.logical_not(matches)
    if relevance is not None:
        # A sample need not match itself.
        negative = ops.logical_and(negative, other_sample)
    return ops.logical_and(matches, other_sample), negative


def has_pairs(
    labels: Any, relevance: Callable[[Any, Any], Any] | None = None
) -> tuple[Any, Any]:
    """Tell whether the samples of a batch make a positive pair, and a negative one.

    Args:
        labels: Tensor of shape `(batch,)`, or what `relevance` compares.
        relevance: See `pair_masks`.

    Returns:
        Two boolean scalars.
    """
    if relevance is not None:
        positive, negative = pair_masks(labels, labels, relevance=relevance)
        return ops.any(positive), ops.any(negative)
    # Equal labels are neighbours then: no matrix is needed.
    labels = ops.sort(labels)
    is_repeated = ops.equal(labels[1:], labels[:-1])
    return ops.any(is_repeated), ops.any(ops.logical_not(is_repeated))


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of some anchors with all partners, as the pairwise losses see them.

    Attributes:
        similarities: Cosine similarities, shape `(a, n)`.
        is_positive: Whether each pair is positive, shape `(a, n)`.
        is_negative: Whether each pair is negative.
        anchor_weights: Instance weights of the anchors, shape `(a,)`.
        partner_weights: Instance weights of the partners, shape `(n,)`.
    """

    similarities: Any
    is_positive: Any
    is_negative: Any
    anchor_weights: Any
    partner_weights: Any

    @functools.cached_property
    def positive(self) -> Any:
        """Weight of the partner in each positive pair; 0 elsewhere."""
        return ops.where(self.is_positive, self.partner_weights, self._zero)

    @functools.cached_property
    def negative(self) -> Any:
        """Weight of the partner in each negative pair; 0 elsewhere."""
        return ops.where(self.is_negative, self.partner_weights, self._zero)

    @property
    def _zero(self) -> Any:
        return ops.zeros((), dtype=self.partner_weights.dtype)
