"""The threshold-consistent margin loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.similarity import BEYOND
from keras_tcm.validation import check_number


def hard_positives(pairs: Pairs, margin: Any) -> tuple[Any, Any]:
    """What the hard positive pairs of each anchor add up to.

    Args:
        pairs: The pairs.
        margin: Similarity up to which a positive pair is hard, a number or a scalar.

    Returns:
        The sum of their distances to the margin and the sum of their weights, tensors
        of shape `(a,)`.
    """
    similarities = pairs.similarities
    # Rounding can put a similarity just outside [-1, 1]; with a margin of -1 or 1
    # such a pair must still count as hard.
    highest = BEYOND if isinstance(margin, float) and margin == 1 else margin
    hard = ops.where(
        similarities <= highest, pairs.positive, ops.zeros_like(similarities)
    )
    return ops.sum(hard * (margin - similarities), axis=1), ops.sum(hard, axis=1)


def hard_negatives(pairs: Pairs, margin: Any) -> tuple[Any, Any]:
    """The same of the negative pairs, which are hard from the margin on."""
    similarities = pairs.similarities
    lowest = -BEYOND if isinstance(margin, float) and margin == -1 else margin
    hard = ops.where(
        similarities >= lowest, pairs.negative, ops.zeros_like(similarities)
    )
    return ops.sum(hard * (similarities - margin), axis=1), ops.sum(hard, axis=1)


@keras.saving.register_keras_serializable(package="keras_tcm")
class TCM(PairwiseLoss):
    """Threshold-consistent margin: a regulariser that aligns classes to one threshold.

    Over the pairs of a batch with cosine similarity `s`,

    ```
    loss = positive_weight * mean over positive pairs with s <= positive_margin
                             of (positive_margin - s)
         + negative_weight * mean over negative pairs with s >= negative_margin
                             of (s - negative_margin)
    ```

    The means run over the hard pairs only. A term without a hard pair is 0 with a
    zero gradient. Add it to a loss that separates the classes:
    `keras_tcm.losses.MultiSimilarity() + 0.1 * TCM(0.6, 0.4)`.

    The paper's margins and a weight of 1 do harm where they do not suit model and base
    loss. `keras_tcm.AutoTCM` chooses all three by itself.

    Args:
        positive_margin: Cosine similarity that positive pairs should exceed, in
            [-1, 1]. Defaults to 0.9.
        negative_margin: Cosine similarity that negative pairs should stay below, in
            [-1, `positive_margin`]. Defaults to 0.5.
        positive_weight: Factor of the positive term, at least 0. Defaults to 1.0.
        negative_weight: Factor of the negative term, at least 0. Defaults to 1.0.
        **options: Those of every pairwise loss: see `PairwiseLoss`. With the
            `reduction` `"none"`, the mean of the rows is the value above, and with
            `"sum"` their sum is batch size times that.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`.
        y_pred: Embeddings of any norm, shape `(batch, d)`. A zero vector has
            similarity 0 to all others.
        sample_weight: Optional weights, shape `(batch,)`. A pair weighs the product
            of its two weights, in the sum and in the count.

    Raises:
        ValueError: If a margin or a weight is out of range.
        TypeError: If a margin or a weight is not a number.

    Example:

    >>> loss = keras_tcm.losses.TCM(positive_margin=0.9, negative_margin=0.5)
    >>> embeddings = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> float(loss(np.array([0, 0, 1]), embeddings))  # (0.9-0.8) + (0.6-0.5)
    0.2

    Reference:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047)
    """

    is_symmetric = True

    def __init__(
        self,
        positive_margin: float = 0.9,
        negative_margin: float = 0.5,
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.positive_margin = check_number("positive_margin", positive_margin, -1, 1)
        self.negative_margin = check_number(
            "negative_margin", negative_margin, -1, self.positive_margin
        )
        self.positive_weight = check_number("positive_weight", positive_weight, 0)
        self.negative_weight = check_number("negative_weight", negative_weight, 0)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Add up the hard pairs of each anchor."""
        return (
            *hard_positives(pairs, self.positive_margin),
            *hard_negatives(pairs, self.negative_margin),
        )

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        positives, num_positive, negatives, num_negative = terms
        positive = self.average_counted(positives, num_positive, weights)
        negative = self.average_counted(negatives, num_negative, weights)
        return self.positive_weight * positive + self.negative_weight * negative

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "positive_margin": self.positive_margin,
            "negative_margin": self.negative_margin,
            "positive_weight": self.positive_weight,
            "negative_weight": self.negative_weight,
        }
