"""The contrastive cross-entropy between two towers."""

from typing import Any

import keras

from keras_tcm.losses.logit_loss import LogitLoss
from keras_tcm.losses.supervised_contrastive import supervised_contrastive_anchors
from keras_tcm.ops.logit_scale import read_logit_scale
from keras_tcm.ops.pairs import Pairs
from keras_tcm.validation import check_number


@keras.saving.register_keras_serializable(package="keras_tcm")
class InfoNCE(LogitLoss):
    """Cross-entropy of telling each query's item from all others, and the other way.

    What CLIP is trained with. For a query `i` whose matching items are `P(i)`,

    ```
    loss_i = - mean over p in P(i) of
               log(exp(s_ip / temperature) / sum over all a of exp(s_ia / temperature))
    ```

    and the same for an item and its matching queries. The loss is the mean over the
    queries and that over the items, averaged; with `anchors="queries"` the former
    alone, which is the `MultipleNegativesRankingLoss` of sentence-transformers.

    With one label for each row there is one match, and this is CLIP's loss. Rows that
    share a label (two pictures with the same caption) match each other; CLIP takes them
    for negatives. On one tower it is `SupervisedContrastive`.

    Args:
        temperature: Divisor of the similarities, above 0. Defaults to 0.07. `None`
            takes the scale that `keras_tcm.layers.StackTowers(scale=...)` learns.
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Raises:
        ValueError: If `temperature` is not above 0, or `None` with one tower.
        TypeError: If `temperature` is not a number.

    Example:

    >>> embeddings = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    >>> loss = keras_tcm.losses.InfoNCE(temperature=0.5)
    >>> round(float(loss(np.array([0, 1]), embeddings)), 4)  # log(1 + exp(-2))
    0.1269

    References:
        - [van den Oord et al., 2018](https://arxiv.org/abs/1807.03748)
        - [Radford et al., ICML 2021](https://arxiv.org/abs/2103.00020)
    """

    scale_name = "temperature"

    def __init__(self, temperature: float | None = 0.07, **options: Any) -> None:
        super().__init__(**options)
        if temperature is not None:
            temperature = check_number("temperature", temperature, 0, open_low=True)
        self.temperature = temperature

    def vectors(self, anchors: Any, partners: Any, predictions: Any) -> tuple[Any, Any]:
        """Make the vectors whose inner products are the logits."""
        if not self.has_learned_scale:
            return anchors, partners
        scale, _ = read_logit_scale(predictions)
        return scale * anchors, partners

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Compute the loss of each anchor, and whether it has a positive."""
        temperature = 1.0 if self.temperature is None else self.temperature
        return supervised_contrastive_anchors(pairs, temperature)

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        losses, is_eligible = terms
        return self.average_eligible(losses, is_eligible, weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "temperature": self.temperature}
