"""The triplet loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.similarity import BEYOND
from keras_tcm.validation import check_choice, check_number

MININGS = ("batch_hard", "semi_hard", "all")


def hardest_triplets(pairs: Pairs, margin: float) -> tuple[Any, Any]:
    """Loss of the farthest positive and the nearest negative of each anchor.

    Args:
        pairs: The pairs.
        margin: Distance that negatives should keep from positives, on squared
            Euclidean distances of unit vectors.

    Returns:
        The loss, and 1 where it is above 0: tensors of shape `(a,)`.
    """
    similarities = pairs.similarities
    is_positive, is_negative = pairs.positive > 0, pairs.negative > 0
    has_triplet = ops.logical_and(
        ops.any(is_positive, axis=1), ops.any(is_negative, axis=1)
    )
    positives = ops.min(ops.where(is_positive, similarities, BEYOND), axis=1)
    negatives = ops.max(ops.where(is_negative, similarities, -BEYOND), axis=1)
    gaps = ops.where(has_triplet, positives, 0.0) - ops.where(
        has_triplet, negatives, 0.0
    )
    losses = margin - 2.0 * gaps
    is_active = ops.logical_and(has_triplet, losses > 0)
    return ops.where(is_active, losses, 0.0), ops.cast(is_active, losses.dtype)


def all_triplets(
    pairs: Pairs, margin: float, semi_hard: bool = False
) -> tuple[Any, Any]:
    """What the losses of the triplets of each anchor add up to.

    Args:
        pairs: The pairs.
        margin: See `hardest_triplets`.
        semi_hard: Whether to leave out negatives that are nearer than the positive.
            Defaults to `False`.

    Returns:
        The sum of the losses, and the sum of the weights of the triplets with a loss
        above 0: tensors of shape `(a,)`.
    """
    similarities = pairs.similarities
    # gaps[a, p, n]: by how much partner p is nearer to anchor a than partner n is.
    gaps = similarities[:, :, None] - similarities[:, None, :]
    losses = margin - 2.0 * gaps
    is_active = losses > 0
    if semi_hard:
        is_active = ops.logical_and(is_active, gaps > 0)
    negative = pairs.negative[:, :, None]

    def total(values: Any) -> Any:
        return ops.sum(pairs.positive * ops.matmul(values, negative)[..., 0], axis=1)

    return (
        total(ops.where(is_active, losses, 0.0)),
        total(ops.cast(is_active, losses.dtype)),
    )


@keras.saving.register_keras_serializable(package="keras_tcm")
class TripletMargin(PairwiseLoss):
    """Triplet loss on the squared Euclidean distances of unit vectors.

    Over the mined triplets of an anchor `a`, a positive `p` and a negative `n` whose
    loss is above 0,

    ```
    loss = mean of max(0, |a - p|^2 - |a - n|^2 + margin)
         = mean of max(0, 2 (s_an - s_ap) + margin)
    ```

    Triplets without a loss do not count in the mean. With `mining`

    - `"batch_hard"`, every anchor has one triplet: its farthest positive and its
      nearest negative;
    - `"semi_hard"`, all triplets count whose negative is farther than the positive,
      but by less than the margin;
    - `"all"`, all triplets count.

    Hermans et al., who propose `"batch_hard"`, take distances that are not squared, of
    embeddings that are not normalised.

    Except for `"batch_hard"`, every anchor compares all pairs of its partners: time
    grows with the cube of the batch size, memory in blocks of anchors with its square.

    Args:
        margin: Squared distance that negatives should keep from positives, above 0.
            Defaults to 0.2, a difference of 0.1 in cosine similarity.
        mining: `"batch_hard"`, `"semi_hard"` or `"all"`. Defaults to `"semi_hard"`.
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Call arguments:
        sample_weight: Optional weights, shape `(batch,)`. A triplet weighs the product
            of its three weights, in the sum and in the count; with `"batch_hard"`, the
            weight of its anchor, and samples of weight 0 are not mined.

    Raises:
        ValueError: If `margin` is out of range or `mining` unknown.
        TypeError: If `margin` is not a number.

    Example:

    >>> loss = keras_tcm.losses.TripletMargin(mining="batch_hard")
    >>> embeddings = np.array([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    >>> float(loss(np.array([0, 0, 1]), embeddings))  # 2 * (0.96 - 0.8) + 0.2
    0.52

    Reference:
        - [Schroff et al., CVPR 2015](https://arxiv.org/abs/1503.03832)
        - [Hermans et al., 2017](https://arxiv.org/abs/1703.07737)
    """

    def __init__(
        self, margin: float = 0.2, mining: str = "semi_hard", **options: Any
    ) -> None:
        super().__init__(**options)
        self.margin = check_number("margin", margin, 0, open_low=True)
        check_choice("mining", mining, MININGS)
        self.mining = mining

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Add up the losses of the triplets of each anchor."""
        if self.mining == "batch_hard":
            return hardest_triplets(pairs, self.margin)
        return all_triplets(pairs, self.margin, semi_hard=self.mining == "semi_hard")

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        sums, counts = terms
        return self.average_counted(sums, counts, weights)

    @property
    def compares_partners(self) -> bool:
        """Whether each anchor compares every partner with every other."""
        return self.mining != "batch_hard"

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "margin": self.margin, "mining": self.mining}
