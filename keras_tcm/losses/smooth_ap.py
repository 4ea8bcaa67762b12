"""The Smooth-AP loss."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.ranks import count_nearer
from keras_tcm.validation import check_number


def smooth_ap_anchors(pairs: Pairs, temperature: float) -> tuple[Any, Any]:
    """One minus the smoothed average precision of each query.

    Args:
        pairs: The pairs of the batch; every anchor is a query against all its
            partners.
        temperature: Width of the sigmoid that stands in for the step function.

    Returns:
        Losses of shape `(a,)`, and a boolean tensor of shape `(a,)` that tells
        which queries have a positive partner; the loss of the others is 0.
    """
    partners = ops.stack([pairs.positive, pairs.positive + pairs.negative], axis=-1)
    nearer = count_nearer(pairs.similarities, partners, temperature)
    precision = (1.0 + nearer[..., 0]) / (1.0 + nearer[..., 1])
    positives = ops.sum(pairs.positive, axis=1)
    has_positive = positives > 0
    average_precision = ops.sum(pairs.positive * precision, axis=1) / ops.where(
        has_positive, positives, 1.0
    )
    return ops.where(has_positive, 1.0 - average_precision, 0.0), has_positive


@keras.saving.register_keras_serializable(package="keras_tcm")
class SmoothAP(PairwiseLoss):
    """Smooth-AP: one minus average precision, with sigmoids in place of steps.

    Every sample is a query against the rest of the batch. With `P(q)` the positives
    of query `q` and `g(x) = sigmoid(x / temperature)`,

    ```
    AP_q = mean over i in P(q) of
             (1 + sum over j in P(q), j != i, of g(s_qj - s_qi))
           / (1 + sum over all j other than q and i of g(s_qj - s_qi))
    ```

    The loss is the mean of `1 - AP_q` over the queries that have a positive.
    Classes may differ in size and come in any order.

    This is the paper's definition, in which the query is not in its own retrieval
    set. The authors' code and pytorch-metric-learning count the query as a
    positive of similarity 1, which flatters every precision; values differ.

    Every query compares all pairs of its partners. In blocks of queries (from a batch
    of 256 on, or with `block_size`), memory grows with the square of the batch size.

    Args:
        temperature: Width of the sigmoid in cosine similarity, above 0. Defaults to
            0.01.
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Raises:
        ValueError: If `temperature` is not above 0.
        TypeError: If `temperature` is not a number.

    Example:

    >>> loss = keras_tcm.AutoTCM(keras_tcm.losses.SmoothAP())
    >>> model.compile("adam", loss=loss)

    Reference:
        - [Brown et al., ECCV 2020](https://arxiv.org/abs/2007.12163)
    """

    def __init__(self, temperature: float = 0.01, **options: Any) -> None:
        super().__init__(**options)
        self.temperature = check_number("temperature", temperature, 0, open_low=True)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Compute the loss of each query, and whether it has a positive."""
        return smooth_ap_anchors(pairs, self.temperature)

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute rows of shape `(batch,)` whose mean is the loss."""
        losses, is_eligible = terms
        return self.average_eligible(losses, is_eligible, weights)

    @property
    def compares_partners(self) -> bool:
        """Whether each anchor compares every partner with every other."""
        return True

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "temperature": self.temperature}
