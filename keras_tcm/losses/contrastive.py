"""The contrastive loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.validation import check_number

# Squared distances up to it are rounding: there the slope of the distance has no sense.
_COINCIDENT = 1e-6


def contrastive_pairs(pairs: Pairs, margin: float) -> tuple[Any, Any, Any, Any]:
    """What the contrastive loss of the pairs of each anchor adds up to.

    Args:
        pairs: The pairs.
        margin: Euclidean distance from which on negative pairs have no loss.

    Returns:
        The sum of the losses of the positive pairs and the sum of their weights, and
        the same for the negative pairs within the margin: tensors of shape `(a,)`.
    """
    positive, negative = pairs.positive, pairs.negative
    # Half of the squared distance between unit vectors.
    halves = 1.0 - pairs.similarities
    apart = 2.0 * halves > _COINCIDENT
    distances = ops.where(apart, ops.sqrt(ops.where(apart, 2.0 * halves, 1.0)), 0.0)
    within = ops.where(distances < margin, negative, ops.zeros_like(negative))
    return (
        ops.sum(positive * halves, axis=1),
        ops.sum(positive, axis=1),
        ops.sum(within * ops.square(margin - distances), axis=1) / 2,
        ops.sum(within, axis=1),
    )


@keras.saving.register_keras_serializable(package="keras_tcm")
class Contrastive(PairwiseLoss):
    """Contrastive loss on the Euclidean distances of unit vectors.

    Over the pairs of a batch with distance `d = sqrt(2 - 2 s)`,

    ```
    loss = mean over positive pairs of d^2 / 2
         + mean over negative pairs with d < margin of (margin - d)^2 / 2
    ```

    The paper adds up given pairs. Here both kinds have a mean of their own, because a
    batch has many more negative pairs than positive ones, and most are past the
    margin. pytorch-metric-learning leaves out the squares and halves.

    Args:
        margin: Euclidean distance that negative pairs should keep, in (0, 2]. Defaults
            to 1.0, a cosine similarity of 0.5.
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Call arguments:
        sample_weight: Optional weights, shape `(batch,)`. A pair weighs the product
            of its two weights, in the sum and in the count.

    Raises:
        ValueError: If `margin` is out of range.
        TypeError: If `margin` is not a number.

    Example:

    >>> loss = keras_tcm.losses.Contrastive()
    >>> embeddings = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    >>> float(loss(np.array([0, 0, 1]), embeddings))  # 0.2 + (1 - sqrt(0.8))^2 / 2
    0.2055728

    Reference:
        - [Hadsell et al., CVPR 2006](https://doi.org/10.1109/CVPR.2006.100)
    """

    is_symmetric = True

    def __init__(self, margin: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.margin = check_number("margin", margin, 0, 2, open_low=True)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Add up the losses of the pairs of each anchor."""
        return contrastive_pairs(pairs, self.margin)

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        positives, num_positive, negatives, num_negative = terms
        positive = self.average_counted(positives, num_positive, weights)
        negative = self.average_counted(negatives, num_negative, weights)
        return positive + negative

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "margin": self.margin}
