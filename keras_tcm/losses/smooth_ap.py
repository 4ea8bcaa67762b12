"""The Smooth-AP loss."""

from typing import Any

import keras

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.smooth_ap import smooth_ap_anchors
from keras_tcm.validation import check_number


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
        block_size: Queries in a block: see `PairwiseLoss`. Defaults
            to `None`.
        relevance: What makes a pair positive: see `PairwiseLoss`. Defaults to `None`:
            equal labels.
        reduction: See `EmbeddingLoss`. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss. Defaults to `"smooth_ap"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`.
        y_pred: Embeddings of any norm, shape `(batch, d)`.
        sample_weight: Optional weights, shape `(batch,)`: of the query in the mean,
            of the partner in the sums.

    Raises:
        ValueError: If `temperature` is not above 0.
        TypeError: If `temperature` is not a number.

    Example:

    >>> loss = keras_tcm.losses.SmoothAP() + 0.2 * keras_tcm.losses.TCM(0.7, 0.3)
    >>> model.compile("adam", loss=loss)

    Reference:
        - [Brown et al., ECCV 2020](https://arxiv.org/abs/2007.12163)
    """

    def __init__(
        self,
        temperature: float = 0.01,
        block_size: int | None = None,
        relevance: Any = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "smooth_ap",
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        super().__init__(block_size, relevance, reduction, name, dtype, gather)
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
