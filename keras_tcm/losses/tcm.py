"""The threshold-consistent margin loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.tcm import hard_pair_slopes, hard_pairs
from keras_tcm.validation import check_number


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
    `keras_tcm.losses.MultiSimilarity() + TCM()`.

    Margins that bracket the model's own operating threshold, with a small weight,
    often work better than the defaults; choose them on training classes.

    Args:
        positive_margin: Cosine similarity that positive pairs should exceed, in
            [-1, 1]. Defaults to 0.9.
        negative_margin: Cosine similarity that negative pairs should stay below, in
            [-1, `positive_margin`]. Defaults to 0.5.
        positive_weight: Factor of the positive term, at least 0. Defaults to 1.0.
        negative_weight: Factor of the negative term, at least 0. Defaults to 1.0.
        block_size: Anchors in a block of similarities: see `PairwiseLoss`. Defaults
            to `None`.
        relevance: What makes a pair positive: see `PairwiseLoss`. Defaults to `None`:
            equal labels.
        reduction: `"sum_over_batch_size"` gives the value above; `"none"` gives
            rows of shape `(batch,)` with that mean; `"sum"` gives batch size times
            that. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss. Defaults to `"tcm"`.
        dtype: Dtype of the result; the maths runs in float32 or better. Defaults to
            `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

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

    def __init__(
        self,
        positive_margin: float = 0.9,
        negative_margin: float = 0.5,
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        block_size: int | None = None,
        relevance: Any = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "tcm",
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        super().__init__(block_size, relevance, reduction, name, dtype, gather)
        self.positive_margin = check_number("positive_margin", positive_margin, -1, 1)
        self.negative_margin = check_number(
            "negative_margin", negative_margin, -1, self.positive_margin
        )
        self.positive_weight = check_number("positive_weight", positive_weight, 0)
        self.negative_weight = check_number("negative_weight", negative_weight, 0)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Add up the hard pairs of each anchor."""
        return hard_pairs(pairs, self.positive_margin, self.negative_margin)

    def symmetric_slopes(
        self, pairs: Pairs, anchor_upstream: Any, partner_upstream: Any
    ) -> Any:
        """Compute the gradient with respect to the similarities."""
        return hard_pair_slopes(
            pairs,
            self.positive_margin,
            self.negative_margin,
            anchor_upstream,
            partner_upstream,
        )

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        positive_excess, num_positive, negative_excess, num_negative = terms
        positives, negatives, samples = self.totals(
            weights * num_positive, weights * num_negative, ops.ones_like(weights)
        )

        def mean_over_hard(excess: Any, count: Any) -> Any:
            return weights * excess / ops.where(count > 0, count, 1.0)

        positive = mean_over_hard(positive_excess, positives)
        negative = mean_over_hard(negative_excess, negatives)
        rows = self.positive_weight * positive + self.negative_weight * negative
        return rows * samples

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "positive_margin": self.positive_margin,
            "negative_margin": self.negative_margin,
            "positive_weight": self.positive_weight,
            "negative_weight": self.negative_weight,
        }
