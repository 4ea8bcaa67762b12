"""The supervised contrastive loss."""

from typing import Any

import keras

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.supervised_contrastive import supervised_contrastive_anchors
from keras_tcm.validation import check_number


@keras.saving.register_keras_serializable(package="keras_tcm")
class SupervisedContrastive(PairwiseLoss):
    """Supervised contrastive loss (the form with the mean outside the logarithm).

    For an anchor `i` with positives `P(i)`,

    ```
    loss_i = - mean over p in P(i) of
               log(exp(s_ip / temperature) / sum over a != i of exp(s_ia / temperature))
    ```

    The loss is the mean over the anchors that have a positive.

    Args:
        temperature: Divisor of the similarities, above 0. Defaults to 0.1.
        block_size: Anchors in a block of similarities: see `PairwiseLoss`. Defaults
            to `None`.
        relevance: What makes a pair positive: see `PairwiseLoss`. Defaults to `None`:
            equal labels.
        reduction: See `EmbeddingLoss`. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss. Defaults to `"supervised_contrastive"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`.
        y_pred: Embeddings of any norm, shape `(batch, d)`.
        sample_weight: Optional weights, shape `(batch,)`: of the anchor in the mean,
            of the partner in the sums.

    Raises:
        ValueError: If `temperature` is not above 0.
        TypeError: If `temperature` is not a number.

    Example:

    >>> model.compile("adam", loss=keras_tcm.losses.SupervisedContrastive())

    Reference:
        - [Khosla et al., NeurIPS 2020](https://arxiv.org/abs/2004.11362)
    """

    def __init__(
        self,
        temperature: float = 0.1,
        block_size: int | None = None,
        relevance: Any = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "supervised_contrastive",
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        super().__init__(block_size, relevance, reduction, name, dtype, gather)
        self.temperature = check_number("temperature", temperature, 0, open_low=True)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Compute the loss of each anchor, and whether it has a positive."""
        return supervised_contrastive_anchors(pairs, self.temperature)

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        losses, is_eligible = terms
        return self.average_eligible(losses, is_eligible, weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "temperature": self.temperature}
