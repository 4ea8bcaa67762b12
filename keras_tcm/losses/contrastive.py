"""The contrastive loss."""

from typing import Any

import keras

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.contrastive import contrastive_pairs
from keras_tcm.ops.pairs import Pairs
from keras_tcm.validation import check_number


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
        block_size: Anchors in a block of similarities: see `PairwiseLoss`. Defaults
            to `None`.
        relevance: What makes a pair positive: see `PairwiseLoss`. Defaults to `None`:
            equal labels.
        reduction: See `EmbeddingLoss`. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss. Defaults to `"contrastive"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`.
        y_pred: Embeddings of any norm, shape `(batch, d)`.
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

    def __init__(
        self,
        margin: float = 1.0,
        block_size: int | None = None,
        relevance: Any = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "contrastive",
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        super().__init__(block_size, relevance, reduction, name, dtype, gather)
        self.margin = check_number("margin", margin, 0, 2, open_low=True)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Add up the losses of the pairs of each anchor."""
        return contrastive_pairs(pairs, self.margin)

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        positives, num_positive, negatives, num_negative = terms
        return self.average_counted(
            positives, num_positive, weights
        ) + self.average_counted(negatives, num_negative, weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "margin": self.margin}
