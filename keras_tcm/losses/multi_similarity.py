"""The multi-similarity loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.log_sum_exp import log_one_plus_sum_exp
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.similarity import BEYOND
from keras_tcm.validation import check_number


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


@keras.saving.register_keras_serializable(package="keras_tcm")
class MultiSimilarity(PairwiseLoss):
    """Multi-similarity loss with the paper's pair mining.

    The mean over anchors of

    ```
    log(1 + sum over mined positives of exp(-alpha * (s - base))) / alpha
    + log(1 + sum over mined negatives of exp(beta * (s - base))) / beta
    ```

    A negative is mined where its similarity exceeds that of the anchor's farthest
    positive minus `epsilon`, a positive where its similarity is below that of the
    nearest negative plus `epsilon`. An anchor without positives or without
    negatives has nothing to mine and contributes 0.

    The defaults are those of the paper. The authors' code uses `beta=40`.
    pytorch-metric-learning has the loss without mining (`epsilon=None` here) and
    the mining as a separate miner.

    Args:
        alpha: Scale of the positive similarities, above 0. Defaults to 2.0.
        beta: Scale of the negative similarities, above 0. Defaults to 50.0.
        base: Similarity around which both are centred, in [-1, 1]. Defaults to 0.5.
        epsilon: Mining margin in cosine similarity, at least 0, or `None` to use
            all pairs. Defaults to 0.1.
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is not a number.

    Example:

    >>> loss = keras_tcm.AutoTCM(keras_tcm.losses.MultiSimilarity())
    >>> model.compile("adam", loss=loss)

    Reference:
        - [Wang et al., CVPR 2019](https://arxiv.org/abs/1904.06627)
    """

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float | None = 0.1,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.alpha = check_number("alpha", alpha, 0, open_low=True)
        self.beta = check_number("beta", beta, 0, open_low=True)
        self.base = check_number("base", base, -1, 1)
        self.epsilon = None if epsilon is None else check_number("epsilon", epsilon, 0)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Compute the loss of each anchor."""
        return (
            multi_similarity_anchors(
                pairs, self.alpha, self.beta, self.base, self.epsilon
            ),
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "base": self.base,
            "epsilon": self.epsilon,
        }
