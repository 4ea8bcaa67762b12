"""The base class of the losses on pairs."""

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Self

import keras
from keras import ops

from keras_tcm.losses.embedding_loss import EmbeddingLoss, check_rows
from keras_tcm.losses.partners import extra_partners
from keras_tcm.ops.map_anchors import map_anchors
from keras_tcm.ops.pairs import Pairs, pair_masks
from keras_tcm.ops.similarity import l2_normalize
from keras_tcm.relevance import get_relevance
from keras_tcm.validation import (
    check_choice,
    check_embedding_shape,
    check_integer,
    tensor_shape,
)

# The rows of two towers, in their order.
SIDES = ("queries", "gallery")


class PairwiseLoss(EmbeddingLoss):
    """Base class for losses on the pairs of a batch of embeddings.

    The similarities of a batch are computed once for all terms of a sum, in blocks of
    anchors if there are many. Subclasses implement `anchor_terms`, and `combine` if
    anchors depend on each other.

    Args:
        block_size: Anchors in a block of similarities, at least 1. Blocks are computed
            anew for the gradient, so that no matrix of the size of the batch squared
            ever exists. Defaults to `None`: what is fastest, and the same from a batch
            of 4,097 on.
        relevance: What makes a pair positive: a `keras_tcm.relevance.Relevance`, or a
            function of two label tensors, those of queries first. Defaults to `None`:
            equal labels.
        anchors: Which rows of two towers are compared with all of the other one:
            `"queries"`, `"gallery"`, or `"both"` in turn, of which the loss is the
            mean. Without effect on one tower. Defaults to `"both"`.
        **options: `reduction`, `name`, `dtype` and `gather`: see `EmbeddingLoss`.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`, or what `relevance`
            compares.
        y_pred: Embeddings of any norm, shape `(batch, d)`, or `(batch, 2, d)` from two
            towers: queries and gallery items, see `keras_tcm.layers.StackTowers`. Pairs
            are of a query and an item then, also of the same row. A zero vector has
            similarity 0 to all others.
        sample_weight: Optional weights, shape `(batch,)`: unless a loss says otherwise,
            of the anchor in the mean, and of the partner in the sums.

    Example:

    ```python
    class MeanNegative(keras_tcm.losses.PairwiseLoss):
        def anchor_terms(self, pairs):
            return (keras.ops.sum(pairs.negative * pairs.similarities, axis=1),)
    ```
    """

    has_pairs = True
    #: Whether a pair adds the same to the loss from both of its ends.
    is_symmetric = False

    def __init__(
        self,
        block_size: int | None = None,
        relevance: Any = None,
        anchors: str = "both",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_choice("anchors", anchors, ("both", *SIDES))
        self.anchors = anchors
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

    @property
    def kind(self) -> Hashable:
        """What pairwise losses have in common that share one pass in a sum."""
        has_relevance = self.relevance is not None
        return (
            PairwiseLoss,
            self._compute_dtype,
            self.gather,
            self.has_class_labels,
            has_relevance,
        )

    def standardize_labels(self, labels: Any, batch: int | None) -> Any:
        """Check `y_true`: what `relevance` compares, or else shape `(batch,)`."""
        if self.relevance is None:
            return super().standardize_labels(labels, batch)
        shape = tensor_shape("y_true", labels)
        self.relevance.check_labels("y_true", shape)
        check_rows("y_true", shape, batch)
        return labels

    def check_predictions(self, shape: tuple[int | None, ...]) -> None:
        """Raise unless `y_pred` is of one tower, or of two."""
        check_embedding_shape("y_pred", shape)

    def vectors(self, anchors: Any, partners: Any, predictions: Any) -> tuple[Any, Any]:
        """Make the vectors whose inner products `anchor_terms` gets.

        Args:
            anchors: Unit vectors of shape `(batch, d)`.
            partners: Unit vectors of shape `(n, d)`, or `None` for the anchors.
            predictions: Tensor of shape `(batch, d)` or `(batch, 2, d)`.

        Returns:
            Both, by default as they are. A loss that changes them needs a `kind` of its
            own.
        """
        return anchors, partners

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute one weighted value per sample whose plain mean is the loss."""
        return self.rows_of([self], labels, predictions, weights)[0]

    def rows_of(
        self, losses: Sequence[Self], labels: Any, predictions: Any, weights: Any
    ) -> list[Any]:
        """Compute the rows of several losses in one pass over the similarities."""
        samples = l2_normalize(predictions), labels, weights
        has_towers = len(predictions.shape) == 3
        vectors, *others, first_anchor = self.gather_partners(*samples)
        for loss in losses:
            loss.standardize_labels(labels, None)
        if extra_partners() is None:
            for relevance, loss in {loss.relevance: loss for loss in losses}.items():
                loss._advice.look_at_pairs(others[0], others[1], relevance, has_towers)
        # Comparisons swallow NaN and a batch without pairs has no gradient path; this
        # zero lets a NaN through and keeps every row connected.
        connection = 0.0 * ops.sum(samples[0], axis=(1, 2) if has_towers else 1)
        places = ops.arange(ops.shape(weights)[0], dtype="int32") + first_anchor
        if not has_towers:
            found = self._rows_of_anchors(
                losses, (*samples, places), (vectors, *others), predictions
            )
            return [values + connection for values in found]
        has_own_partners = vectors is None
        if vectors is None:
            vectors = samples[0]

        @functools.cache
        def similarities() -> Any:
            queries, items = self.vectors(
                samples[0][:, 0], samples[0][:, 1], predictions
            )
            return ops.matmul(queries, ops.transpose(items))

        # From the other side, the same matrix turned round.
        of_sides = similarities, lambda: ops.transpose(similarities())
        # A query and the item of the same row are a pair like any other.
        places = -ops.ones_like(places)
        rows: list[list[Any]] = [[] for _ in losses]
        for number, side in enumerate(SIDES):
            chosen = [i for i, loss in enumerate(losses) if side in loss._sides]
            if not chosen:
                continue
            found = self._rows_of_anchors(
                [losses[i] for i in chosen],
                (samples[0][:, number], labels, weights, places),
                (vectors[:, 1 - number], *others),
                predictions,
                side == "gallery",
                of_sides[number] if has_own_partners else None,
            )
            for i, values in zip(chosen, found, strict=True):
                rows[i].append(values)
        return [sum(each) / len(each) + connection for each in rows]

    @property
    def _sides(self) -> tuple[str, ...]:
        """The sides of two towers from which to look at their pairs."""
        if self.anchors != "both":
            return (self.anchors,)
        # What a memory has are partners only.
        is_one_enough = self.is_symmetric and extra_partners() is None
        return SIDES[:1] if is_one_enough else SIDES

    def _rows_of_anchors(
        self,
        losses: Sequence[Self],
        anchors: tuple[Any, Any, Any, Any],
        partners: tuple[Any, Any, Any],
        predictions: Any,
        is_swapped: bool = False,
        similarities: Callable[[], Any] | None = None,
    ) -> list[Any]:
        """Compute the rows of several losses, of anchors with partners.

        Args:
            losses: The losses, this one first.
            anchors: Unit vectors, labels and weights of the anchors, and the place of
                each among the partners.
            partners: Unit vectors, or `None` for the anchors', labels and weights.
            predictions: What `vectors` gets.
            is_swapped: Whether the anchors are items and the partners queries.
            similarities: See `map_anchors`.
        """
        vectors, labels, weights, places = anchors
        other_vectors, other_labels, other_weights = partners
        vectors, other_vectors = self.vectors(vectors, other_vectors, predictions)
        relevances: list[Any] = []
        for loss in losses:
            if loss.relevance not in relevances:
                relevances.append(loss.relevance)
        counts: list[int] = []

        def terms_of_all(
            similarities: Any, labels: Any, places: Any, weights: Any
        ) -> Any:
            # Losses with the same relevance see the same pairs.
            pairs = [
                Pairs(
                    similarities,
                    *pair_masks(
                        labels,
                        other_labels,
                        places,
                        _swapped(relevance) if is_swapped else relevance,
                    ),
                    weights,
                    other_weights,
                )
                for relevance in relevances
            ]
            terms = [
                loss.anchor_terms(pairs[relevances.index(loss.relevance)])
                for loss in losses
            ]
            counts[:] = map(len, terms)
            flat = [ops.cast(x, vectors.dtype) for each in terms for x in each]
            return ops.stack(flat, axis=1)

        values = map_anchors(
            terms_of_all,
            vectors,
            other_vectors,
            (labels, places, weights),
            # The smallest blocks asked for.
            min((loss.block_size for loss in losses if loss.block_size), default=None),
            any(loss.compares_partners for loss in losses),
            similarities,
        )
        columns = iter(ops.unstack(values, sum(counts), axis=1))
        return [
            loss.combine(tuple(itertools.islice(columns, count)), weights)
            for loss, count in zip(losses, counts, strict=True)
        ]

    def gather_partners(
        self, embeddings: Any, labels: Any, weights: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Collect the possible partners: the global batch, and a memory if any.

        The one place where samples from elsewhere come in. The returned rows from
        `first_anchor` on are the batch itself.

        Args:
            embeddings: Unit vectors of shape `(batch, d)` or `(batch, 2, d)`.
            labels: Tensor of shape `(batch, ...)`.
            weights: Instance weights of shape `(batch,)`.

        Returns:
            Embeddings `(n, ...)`, labels `(n, ...)`, weights `(n,)` and `first_anchor`;
            embeddings are `None` if the batch itself has all partners.
        """
        batch = embeddings, labels, weights
        replicas, extra = self.replicas(embeddings), extra_partners()
        if replicas is None and extra is None:
            return None, labels, weights, 0
        partners, first_anchor = [*batch], 0
        if replicas is not None:
            partners, first_anchor = replicas.gather(batch)
        if extra is not None:
            partners = [
                ops.concatenate([x, ops.cast(other, x.dtype)])
                for x, other in zip(partners, extra(*batch), strict=True)
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
        return weights * sums / ops.where(count > 0, count, 1.0) * samples

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "block_size": self.block_size,
            "relevance": keras.saving.serialize_keras_object(self.relevance),
            "anchors": self.anchors,
        }


def _swapped(relevance: Any) -> Any:
    """What tells whether a query matches an item, given the item first."""
    if relevance is None or relevance.is_symmetric:
        return relevance
    return lambda items, queries: ops.transpose(relevance(queries, items))
