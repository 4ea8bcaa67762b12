"""The base class of the losses on pairs."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss, check_rows
from keras_tcm.losses.partners import extra_partners
from keras_tcm.ops.map_anchors import AnchorFunction, map_anchors
from keras_tcm.ops.pairs import Pairs, pair_masks
from keras_tcm.ops.similarity import l2_normalize
from keras_tcm.relevance import get_relevance
from keras_tcm.validation import check_integer, tensor_shape


class PairwiseLoss(EmbeddingLoss):
    """Base class for losses on the pairs of a batch of embeddings.

    The similarities of a batch are computed once for all terms of a sum, in blocks of
    anchors if there are many. Subclasses implement `anchor_terms`, and `combine` if
    anchors depend on each other.

    Args:
        block_size: Anchors in a block, at least 1. Blocks are computed anew for the
            gradient, so that no matrix of the size of the batch squared ever exists.
            Defaults to `None`: what is fastest, and the same from a batch of 4,097 on.
        relevance: What makes a pair positive: a `keras_tcm.relevance.Relevance`, or a
            function of two label tensors. Defaults to `None`: equal labels.
        reduction: See `EmbeddingLoss`. Defaults to `"sum_over_batch_size"`.
        name: Name of the loss.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

    Example:

    ```python
    class MeanNegative(keras_tcm.losses.PairwiseLoss):
        def anchor_terms(self, pairs):
            return (keras.ops.sum(pairs.negative * pairs.similarities, axis=1),)
    ```
    """

    def __init__(
        self,
        block_size: int | None = None,
        relevance: Any = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        super().__init__(reduction, name, dtype, gather)
        if block_size is not None:
            block_size = check_integer("block_size", block_size, 1)
        self.block_size = block_size
        self.relevance = get_relevance(relevance)

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Compute what the loss needs to know about each anchor.

        Args:
            pairs: The pairs of some anchors.

        Returns:
            Tensors of shape `(a,)`, in which no anchor depends on another. Those that
            are not differentiable, such as counts, may be boolean.
        """
        raise NotImplementedError

    def symmetric_slopes(
        self, pairs: Pairs, anchor_upstream: Any, partner_upstream: Any
    ) -> Any:
        """Short cut to the gradient with respect to the similarities, if there is one.

        Args:
            pairs: Pairs of samples of one batch.
            anchor_upstream: Upstream gradients of the anchors' terms, shape `(a, t)`.
            partner_upstream: Those of the partners' terms, shape `(n, t)`.

        Returns:
            Gradient of each similarity from both of its ends, shape `(a, n)`.
        """
        raise NotImplementedError

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        """Compute one weighted value per anchor whose plain mean is the loss.

        Args:
            terms: The terms of all anchors of the batch, each of shape `(batch,)`.
            weights: Their instance weights, shape `(batch,)`.

        Returns:
            Tensor of shape `(batch,)`. Defaults to the weighted first term.
        """
        return self.average(terms[0], weights)

    @property
    def compares_partners(self) -> bool:
        """Whether `anchor_terms` compares, for each anchor, all pairs of partners."""
        return False

    @property
    def has_class_labels(self) -> bool:
        """Whether `y_true` are classes, or levels of them, which are equal or not."""
        return self.relevance is None or self.relevance.has_class_labels

    def standardize_labels(self, labels: Any, batch: int | None) -> Any:
        """Check `y_true`: what `relevance` compares, or else shape `(batch,)`."""
        if self.relevance is None:
            return super().standardize_labels(labels, batch)
        shape = tensor_shape("y_true", labels)
        self.relevance.check_labels("y_true", shape)
        check_rows("y_true", shape, batch)
        return labels

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute one weighted value per sample whose plain mean is the loss."""
        return pairwise_rows([self], labels, predictions, weights)[0]

    def gather_partners(
        self, embeddings: Any, labels: Any, weights: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Collect the possible partners: the global batch, and a memory if any.

        The one place where samples from elsewhere come in. The returned rows from
        `first_anchor` on are the batch itself.

        Args:
            embeddings: Unit vectors of shape `(batch, d)`.
            labels: Tensor of shape `(batch, ...)`.
            weights: Instance weights of shape `(batch,)`.

        Returns:
            Embeddings `(n, d)`, labels `(n, ...)`, weights `(n,)` and `first_anchor`;
            embeddings are `None` if the batch itself has all partners.
        """
        own = embeddings, labels, weights
        replicas, extra = self.replicas(embeddings), extra_partners()
        if replicas is None and extra is None:
            return None, labels, weights, 0
        partners, first_anchor = [*own], 0
        if replicas is not None:
            partners, first_anchor = replicas.gather(own)
        if extra is not None:
            partners = [
                ops.concatenate([x, ops.cast(other, x.dtype)])
                for x, other in zip(partners, extra(*own), strict=True)
            ]
        return *partners, first_anchor

    def average_eligible(self, losses: Any, is_eligible: Any, weights: Any) -> Any:
        """Rows whose mean is the mean loss over the eligible anchors.

        Args:
            losses: Tensor of shape `(batch,)`, 0 for the other anchors.
            is_eligible: Tensor of shape `(batch,)`: 1 or 0.
            weights: Instance weights, shape `(batch,)`.

        Returns:
            Tensor of shape `(batch,)`.
        """
        eligible_weight, weight = self.totals(is_eligible * weights, weights)
        scale = weight / ops.where(eligible_weight > 0, eligible_weight, 1.0)
        return self.average(losses * scale, weights)

    def average_counted(self, sums: Any, counts: Any, weights: Any) -> Any:
        """Rows whose mean is the mean over the pairs or triplets that count.

        Args:
            sums: What those of each anchor add up to, shape `(batch,)`.
            counts: The sums of their weights, shape `(batch,)`.
            weights: Instance weights of the anchors, shape `(batch,)`.

        Returns:
            Tensor of shape `(batch,)`; 0 where nothing counts.
        """
        count, samples = self.totals(weights * counts, ops.ones_like(weights))
        return weights * sums * (samples / ops.where(count > 0, count, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "relevance": keras.saving.serialize_keras_object(self.relevance),
        }


def pairwise_rows(
    losses: Sequence[PairwiseLoss], labels: Any, embeddings: Any, weights: Any
) -> list[Any]:
    """Compute the rows of several losses from one pass over the similarities.

    Args:
        losses: The losses; the first gathers the partners.
        labels: Tensor of shape `(batch, ...)`, which every loss can compare.
        embeddings: Tensor of shape `(batch, d)`, of any norm.
        weights: Instance weights of shape `(batch,)`; a sample of weight zero
            vanishes as an anchor and as a partner.

    Returns:
        One tensor of shape `(batch,)` for each loss.
    """
    anchors = l2_normalize(embeddings)
    partners, partner_labels, partner_weights, first_anchor = losses[0].gather_partners(
        anchors, labels, weights
    )
    places = ops.arange(ops.shape(anchors)[0], dtype="int32") + first_anchor
    ends: list[int] = []

    distinct = []
    for loss in losses:
        if loss.relevance not in distinct:
            distinct.append(loss.relevance)
            if extra_partners() is None:
                loss._advice.look_at_pairs(
                    partner_labels, partner_weights, loss.relevance
                )

    def pairs(
        similarities: Any, labels: Any, places: Any, weights: Any
    ) -> Iterator[tuple[PairwiseLoss, Pairs]]:
        """The losses and the pairs as they see them: shared where they see the same."""
        different = [
            Pairs(
                similarities,
                *pair_masks(labels, partner_labels, places, relevance),
                weights,
                partner_weights,
            )
            for relevance in distinct
        ]
        for loss in losses:
            yield loss, different[distinct.index(loss.relevance)]

    def terms(*inputs: Any) -> Any:
        each = [loss.anchor_terms(own) for loss, own in pairs(*inputs)]
        ends[:] = itertools.accumulate(map(len, each))
        flat = [ops.cast(term, anchors.dtype) for terms in each for term in terms]
        return ops.stack(flat, axis=1)

    def slopes(*inputs: Any) -> Any:
        anchor_upstream, partner_upstream = inputs[-2:]
        return sum(
            loss.symmetric_slopes(
                own, anchor_upstream[:, start:end], partner_upstream[:, start:end]
            )
            for (loss, own), start, end in zip(
                pairs(*inputs[:-2]), [0, *ends], ends, strict=False
            )
        )

    has_slopes = all(
        type(loss).symmetric_slopes is not PairwiseLoss.symmetric_slopes
        and (loss.relevance is None or loss.relevance.is_symmetric)
        for loss in losses
    )
    values = map_anchors(
        AnchorFunction(terms, slopes if has_slopes else None),
        anchors,
        partners,
        (labels, places, weights),
        # The smallest blocks asked for.
        min((loss.block_size for loss in losses if loss.block_size), default=None),
        any(loss.compares_partners for loss in losses),
    )
    # Comparisons swallow NaN and a batch without pairs has no gradient path; this zero
    # lets a NaN through and keeps every row connected.
    connection = 0.0 * ops.sum(anchors, axis=1)
    rows = []
    for loss, start, end in zip(losses, [0, *ends], ends, strict=False):
        own = tuple(values[:, number] for number in range(start, end))
        rows.append(loss.combine(own, weights) + connection)
    return rows
