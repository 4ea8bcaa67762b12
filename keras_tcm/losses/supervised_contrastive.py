"""The supervised contrastive loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.similarity import BEYOND
from keras_tcm.validation import check_number


def supervised_contrastive_anchors(pairs: Pairs, temperature: float) -> tuple[Any, Any]:
    """Supervised contrastive loss of each anchor (the paper's `L_out`).

    Args:
        pairs: The pairs of the batch.
        temperature: Divisor of the similarities.

    Returns:
        Losses of shape `(a,)`, and a boolean tensor of shape `(a,)` that tells
        which anchors have a positive partner; the loss of the others is 0.
    """
    logits = pairs.similarities / temperature
    weights = pairs.positive + pairs.negative
    largest = ops.max(ops.where(weights > 0, logits, -BEYOND), axis=1, keepdims=True)
    largest = ops.stop_gradient(ops.where(largest > -BEYOND, largest, 0.0))
    # The anchor itself can exceed `largest`: its exponent is masked before `exp`.
    logits = ops.where(weights > 0, logits - largest, ops.zeros_like(logits))
    partition = ops.sum(weights * ops.exp(logits), axis=1)
    log_partition = ops.log(ops.where(partition > 0, partition, 1.0))
    positives = ops.sum(pairs.positive, axis=1)
    has_positive = positives > 0
    mean_positive = ops.sum(pairs.positive * logits, axis=1) / ops.where(
        has_positive, positives, 1.0
    )
    return ops.where(has_positive, log_partition - mean_positive, 0.0), has_positive


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
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Raises:
        ValueError: If `temperature` is not above 0.
        TypeError: If `temperature` is not a number.

    Example:

    >>> model.compile("adam", loss=keras_tcm.losses.SupervisedContrastive())

    Reference:
        - [Khosla et al., NeurIPS 2020](https://arxiv.org/abs/2004.11362)
    """

    def __init__(self, temperature: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
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
