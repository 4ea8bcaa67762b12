"""The base class of the losses on pairs."""

from typing import Any

from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss
from keras_tcm.ops.pairs import Pairs, pair_masks
from keras_tcm.ops.similarity import l2_normalize


class PairwiseLoss(EmbeddingLoss):
    """Base class for losses on the pairs of a batch of embeddings.

    It builds the similarity matrix and the pair weights once, so that the terms
    of a sum share them. Subclasses implement `pair_rows`. See `EmbeddingLoss` for
    the arguments.

    Example:

    ```python
    class MeanNegative(keras_tcm.losses.PairwiseLoss):
        def pair_rows(self, pairs):
            similarities = keras.ops.sum(pairs.negative * pairs.similarities, axis=1)
            return self.average(similarities, pairs.anchor_weights, pairs.total)
    ```
    """

    def pair_rows(self, pairs: Pairs) -> Any:
        """Compute one weighted value per anchor whose plain mean is the loss.

        Args:
            pairs: The pairs of the batch.

        Returns:
            Tensor of shape `(batch,)`.
        """
        raise NotImplementedError

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute one weighted value per sample whose plain mean is the loss."""
        return self.pair_rows(self.pairs(labels, predictions, weights))

    def pairs(self, labels: Any, embeddings: Any, weights: Any) -> Pairs:
        """Pair every sample of the batch with every sample that can be its partner.

        Args:
            labels: Integer tensor of shape `(batch,)`.
            embeddings: Tensor of shape `(batch, d)`, of any norm.
            weights: Instance weights of shape `(batch,)`; a sample of weight zero
                vanishes as an anchor and as a partner.

        Returns:
            The pairs.
        """
        anchors = l2_normalize(embeddings)
        partners, partner_labels, partner_weights, first_anchor = self.gather(
            anchors, labels, weights
        )
        similarities = ops.matmul(anchors, ops.transpose(partners))
        # Comparisons swallow NaN and a batch without pairs has no gradient path;
        # this zero lets a NaN through and keeps every row connected.
        similarities = similarities + 0.0 * ops.sum(anchors, axis=1, keepdims=True)
        is_positive, is_negative = pair_masks(labels, partner_labels, first_anchor)
        none = ops.zeros_like(similarities)
        return Pairs(
            similarities=similarities,
            positive=ops.where(is_positive, partner_weights, none),
            negative=ops.where(is_negative, partner_weights, none),
            anchor_weights=weights,
        )

    def gather(
        self, embeddings: Any, labels: Any, weights: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Collect the possible partners: here, the batch itself.

        The one place where samples from elsewhere (another replica, a memory)
        come in. The returned rows from `first_anchor` on are the batch itself.

        Returns:
            Embeddings `(n, d)`, labels `(n,)`, weights `(n,)` and `first_anchor`.
        """
        return embeddings, labels, weights, 0

    def average_eligible(self, losses: Any, is_eligible: Any, pairs: Pairs) -> Any:
        """Rows whose mean is the mean loss over the eligible anchors.

        Args:
            losses: Tensor of shape `(batch,)`, 0 for the other anchors.
            is_eligible: Boolean tensor of shape `(batch,)`.
            pairs: The pairs of the batch.

        Returns:
            Tensor of shape `(batch,)`.
        """
        weights = pairs.anchor_weights
        eligible = ops.where(is_eligible, weights, ops.zeros_like(weights))
        eligible_weight = pairs.total(ops.sum(eligible))
        weight = pairs.total(ops.sum(weights))
        scale = weight / ops.where(eligible_weight > 0, eligible_weight, 1.0)
        return self.average(losses * scale, weights, pairs.total)
