"""The multi-similarity loss."""

from typing import Any

import keras

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.multi_similarity import multi_similarity_anchors
from keras_tcm.ops.pairs import Pairs
from keras_tcm.validation import check_number


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
        block_size: Anchors in a block of similarities: see `PairwiseLoss`. Defaults
            to `None`.
        relevance: What makes a pair positive: see `PairwiseLoss`. Defaults to `None`:
            equal labels.
        reduction: See `EmbeddingLoss`. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss. Defaults to `"multi_similarity"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`.
        y_pred: Embeddings of any norm, shape `(batch, d)`.
        sample_weight: Optional weights, shape `(batch,)`: of the anchor in the mean,
            of the partner in the sums.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is not a number.

    Example:

    >>> loss = keras_tcm.losses.MultiSimilarity() + 0.3 * keras_tcm.losses.TCM(0.7, 0.4)
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
        block_size: int | None = None,
        relevance: Any = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "multi_similarity",
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        super().__init__(block_size, relevance, reduction, name, dtype, gather)
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
