"""The recall@k surrogate loss."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.ops.pairs import Pairs
from keras_tcm.ops.ranks import count_nearer
from keras_tcm.validation import check_integer, check_number


def recall_at_k_anchors(
    pairs: Pairs, k: Sequence[int], temperature: float, rank_temperature: float
) -> tuple[Any, Any]:
    """One minus the smoothed recall of each query, averaged over several k.

    Args:
        pairs: The pairs of the batch; every anchor is a query against all its
            partners.
        k: Numbers of neighbours.
        temperature: Width of the sigmoid that compares similarities.
        rank_temperature: Width of the sigmoid that compares ranks with k.

    Returns:
        Losses of shape `(a,)`, and a boolean tensor of shape `(a,)` that tells
        which queries have a positive partner; the loss of the others is 0.
    """
    partners = (pairs.positive + pairs.negative)[..., None]
    ranks = 1.0 + count_nearer(pairs.similarities, partners, temperature)[..., 0]
    positives = ops.sum(pairs.positive, axis=1)
    has_positive = positives > 0
    positives = ops.where(has_positive, positives, 1.0)

    def recall(k: int) -> Any:
        found = ops.sigmoid((k - ranks) / rank_temperature)
        found = ops.sum(pairs.positive * found, axis=1)
        return ops.minimum(found, k) / ops.minimum(positives, k)

    mean = sum(recall(each) for each in k) / len(k)
    return ops.where(has_positive, 1.0 - mean, 0.0), has_positive


# The metric of the same name is registered under that name.
@keras.saving.register_keras_serializable(package="keras_tcm", name="RecallAtKLoss")
class RecallAtK(PairwiseLoss):
    """Recall@k surrogate: one minus recall, with sigmoids in place of steps.

    Every sample is a query against the rest of the batch. With `P(q)` the positives of
    query `q` and `g_t(x) = sigmoid(x / t)`,

    ```
    rank_qi = 1 + sum over all j other than q and i of g_temperature(s_qj - s_qi)
    R_q(k)  = sum over i in P(q) of g_rank_temperature(k - rank_qi)
    loss_q  = mean over k of 1 - min(k, R_q(k)) / min(k, |P(q)|)
    ```

    The loss is the mean over the queries that have a positive. Recall is the share of
    the positives found, of which there can be `k` at most; the metric
    `keras_tcm.metrics.RecallAtK` asks only whether one is found.

    This is the paper's rank, in which the query is not in its own retrieval set. The
    authors' code counts the query itself among the nearer samples, so that every rank
    is one higher, and takes `k` as the `rank_temperature` of each `k`, where the paper
    has 1; values differ. The bound of `k` is that of the code.

    Every query compares all pairs of its partners: time grows with the cube of the
    batch size, memory in blocks of queries with its square.

    Args:
        k: Number of neighbours, an integer of at least 1, or a sequence of them.
            Defaults to `(1, 2, 4, 8, 16)`.
        temperature: Width of the sigmoid that compares similarities, above 0. Defaults
            to 0.01.
        rank_temperature: Width of the sigmoid that compares ranks with `k`, above 0.
            Defaults to 1.0.
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Raises:
        ValueError: If `k` is empty or an argument out of range.
        TypeError: If `k` is not made of integers or a temperature is not a number.

    Example:

    >>> loss = keras_tcm.losses.RecallAtK(k=(1, 2, 4)) + 0.2 * keras_tcm.losses.TCM()
    >>> model.compile("adam", loss=loss)

    Reference:
        - [Patel et al., CVPR 2022](https://arxiv.org/abs/2108.11179)
    """

    def __init__(
        self,
        k: int | Sequence[int] = (1, 2, 4, 8, 16),
        temperature: float = 0.01,
        rank_temperature: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        each = tuple(k) if isinstance(k, list | tuple) else (k,)
        self.k = tuple(check_integer("k", number, 1) for number in each)
        if not self.k:
            raise ValueError(f"`k` must hold at least one integer. Received: k={k!r}")
        self.temperature = check_number("temperature", temperature, 0, open_low=True)
        self.rank_temperature = check_number(
            "rank_temperature", rank_temperature, 0, open_low=True
        )

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Compute the loss of each query, and whether it has a positive."""
        return recall_at_k_anchors(
            pairs, self.k, self.temperature, self.rank_temperature
        )

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
        return {
            **super().get_config(),
            "k": list(self.k),
            "temperature": self.temperature,
            "rank_temperature": self.rank_temperature,
        }
