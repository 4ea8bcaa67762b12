"""TCM with margins and a weight that set themselves."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Self

import keras
from keras import ops

from keras_tcm.distribution import active_replicas
from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.losses.tcm import TCM, hard_negatives, hard_positives
from keras_tcm.losses.weighted_sum import SummableLoss, WeightedSum
from keras_tcm.ops.autodiff import gradients, upstream_gradient
from keras_tcm.ops.integers import as_integer
from keras_tcm.ops.pairs import Pairs, pair_masks
from keras_tcm.ops.similarity import BEYOND, l2_normalize
from keras_tcm.validation import check_integer, check_number, check_range, tensor_shape

# Samples, evenly spaced among those at hand, whose pairs set the margins.
_MAX_SAMPLES = 256

# Alignment of the base loss with the positive term of TCM above which the negative term
# joins in, how fast, and how much of it at most.
_PUSH_FROM, _PUSH_SLOPE, _MAX_PUSH = 0.5, 6.0, 1.5
# So many times the longest row of the base loss' gradient is the most that a row of
# TCM's may be long, at a strength of 1.
_LOUDEST = 2.0


def sampled_pairs(embeddings: Any, labels: Any, weights: Any, relevance: Any) -> Pairs:
    """Pairs among at most 256 samples, without gradient.

    Args:
        embeddings: Unit vectors of shape `(n, d)`, or `(n, 2, d)` of two towers.
        labels: Tensor of shape `(n, ...)`.
        weights: Instance weights of shape `(n,)`. A sample of weight 0 has no pair,
            and any other counts once.
        relevance: What compares labels; see `pair_masks`.

    Returns:
        Each pair once, or from both of its ends where they may see it differently; of
        two towers, each pair of a query and an item.
    """
    size = ops.shape(embeddings)[0]
    if not isinstance(size, int) or size > _MAX_SAMPLES:
        # In a graph for any batch size, it may be all of them.
        number = (
            _MAX_SAMPLES
            if isinstance(size, int)
            else ops.minimum(size, as_integer(_MAX_SAMPLES))
        )
        places = ops.arange(number, dtype="int32") * size // number
        embeddings, labels, weights = (
            ops.take(x, places, axis=0) for x in (embeddings, labels, weights)
        )
    embeddings = ops.stop_gradient(embeddings)
    is_kept = weights > 0
    places = ops.arange(ops.shape(is_kept)[0], dtype="int32")
    has_towers = len(embeddings.shape) == 3
    anchors = partners = embeddings
    own = places
    if has_towers:
        anchors, partners = embeddings[:, 0], embeddings[:, 1]
        # The query and the item of a sample are a pair.
        own = -ops.ones_like(places)
    masks = pair_masks(labels, labels, own, relevance)
    is_positive, is_negative = (
        ops.logical_and(mask, ops.expand_dims(is_kept, 1)) for mask in masks
    )
    if not has_towers and (relevance is None or relevance.is_symmetric):
        is_first = places[:, None] < places[None, :]
        is_positive, is_negative = (
            ops.logical_and(mask, is_first) for mask in (is_positive, is_negative)
        )
    ones = ops.cast(is_kept, embeddings.dtype)
    similarities = ops.matmul(anchors, ops.transpose(partners))
    return Pairs(similarities, is_positive, is_negative, ones, ones)


def margins_at(pairs: Pairs, far_range: tuple[float, float]) -> tuple[Any, Any]:
    """Similarities that given shares of the negative pairs reach.

    Args:
        pairs: The pairs.
        far_range: The shares, the lower one first.

    Returns:
        The positive and the negative margin, scalars: quantiles, linear between
        neighbours. Without a negative pair, margins at which no pair is hard.
    """
    low, high = far_range
    is_negative = pairs.negative > 0
    similarities = ops.where(is_negative, pairs.similarities, -BEYOND)
    similarities = ops.reshape(similarities, (-1,))
    size = pairs.similarities.shape[0]
    if size is None:
        # In a graph for any batch size.
        descending = -ops.sort(-similarities)
    else:
        # No more of them matter, which takes a tenth of the time of sorting all.
        most = int(high * size * size) + 2
        descending, _ = ops.top_k(similarities, min(most, size * size))
    last = ops.shape(descending)[0] - 1
    count = ops.sum(ops.cast(is_negative, descending.dtype))

    def quantile(rate: float) -> Any:
        place = rate * ops.maximum(count - 1.0, 0.0)
        above = ops.floor(place)
        share = place - above
        above = ops.cast(above, "int32")
        # Below the lowest there is none, nor is it needed.
        below = ops.minimum(above + 1, last)
        step = ops.take(descending, above) - ops.take(descending, below)
        return ops.take(descending, above) - ops.where(share > 0, share * step, 0.0)

    return (
        ops.where(count > 0, quantile(low), -BEYOND),
        ops.where(count > 0, quantile(high), BEYOND),
    )


class _Positives(TCM):
    """The positive term of TCM."""

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        return hard_positives(pairs, self.positive_margin)

    def combine(self, terms: tuple[Any, ...], weights: Any) -> Any:
        sums, counts = terms
        return self.average_counted(sums, counts, weights)


class _Negatives(_Positives):
    """The negative term of TCM."""

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        return hard_negatives(pairs, self.negative_margin)


class Balance(NamedTuple):
    """What `AutoTCM` makes of a batch.

    Attributes:
        value: Base loss plus weighted TCM, a scalar.
        slopes: Its gradient with respect to the predictions.
        weights: Those of the base loss, 1, and of TCM's positive and negative term.
        negative_weight: The last over the one before it.
        ratio: Mean length of the rows of the base loss' gradient over that of TCM's.
        alignment: Cosine similarity between the gradients of the base loss and of the
            positive term of TCM.
    """

    value: Any
    slopes: Any
    weights: tuple[Any, Any, Any]
    negative_weight: Any
    ratio: Any
    alignment: Any


@keras.saving.register_keras_serializable(package="keras_tcm")
class AutoTCM(SummableLoss):
    """A base loss plus TCM, whose margins and weight set themselves.

    ```
    loss = base + weight * TCM(
        positive_margin, negative_margin, negative_weight=negative_weight
    )
    ```

    where in each batch, and without gradient,

    - the margins are where the model decides now: the cosine similarities that shares
      `far_range` of the negative pairs reach, of those among at most 256 samples at
      hand (of the global batch and the memory of `CrossBatchMemory`, evenly spaced);
    - the weight is `strength` times the mean length of the rows of the base loss'
      gradient over that of TCM's, with respect to the directions of the embeddings.
      Below 1, the base loss has the last word, however it is scaled. Few hard pairs do
      not shout: no row of TCM's gradient gets longer than `2 * strength` times the
      longest of the base loss';
    - `negative_weight` is the larger of two numbers, from 0 to 1.5. The first keeps TCM
      neutral: to pull positive pairs together draws hard negative pairs nearer as well,
      and so much of the negative term joins in that, to first order, they stay where
      the base loss puts them. (The gradient of TCM is then at a right angle to that of
      its negative term.)
    - The second is `6 * (alignment - 0.5)`, where the *alignment* is the cosine
      similarity between the gradients of the base loss and of TCM's positive term. It
      tells how much the base loss pulls positive pairs together by itself: where it
      does, TCM adds what it lacks, and pushes.

    A batch without a hard positive pair gets the base loss alone, unless
    `negative_weight` is held fixed. The rule has no state: it is the same in the first
    step and the last, in training and validation, on one device and on several.
    `keras_tcm.metrics.AutoTCMMonitor` shows what it does.

    Args:
        base: The loss that separates the classes: any `keras.losses.Loss` on
            embeddings and integer labels, or a sum of them. It keeps its reduction.
        strength: Length of TCM's gradient in that of the base loss, at least 0.
            Defaults to 0.5, chosen on held-out training classes of drawn characters
            (`docs/auto_tcm.md`).
        far_range: Shares of the negative pairs that reach the positive and the
            negative margin, `0 <= low <= high <= 1`. Defaults to (0.01, 0.1), the
            range over which `OPIS` is taken.
        embedding_dim: For a base loss on something else than embeddings, such as
            `ArcFace` on cosines: the first `embedding_dim` columns of `y_pred` are the
            embedding, for TCM, and the others are for the base loss. How that pulls and
            pushes embeddings is not known, so `negative_weight` is 1.5. Defaults to
            `None`: all columns are for both.
        relevance: What makes a pair of TCM positive; see `PairwiseLoss`. Defaults to
            that of the base loss, if it has one.
        block_size: Anchors in a block of similarities; see `PairwiseLoss`.
        negative_weight: Factor of TCM's negative term, at least 0, to hold it fixed;
            the weight then rests on mean lengths alone. Between two towers, 1 with a
            strength of 0.7 did better (`docs/two_towers.md`). Defaults to `None`:
            it sets itself.
        name: Name of the loss. Defaults to `"auto_tcm"`.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.

    Call arguments:
        y_true: Integer labels, shape `(batch,)` or `(batch, 1)`, or what `relevance`
            compares.
        y_pred: Embeddings of any norm, shape `(batch, d)`, see `embedding_dim`; or
            `(batch, 2, d)` of two towers, if the base loss takes them.
        sample_weight: Optional weights, shape `(batch,)`, for both terms. A sample of
            weight 0 does not count for the margins; any other counts once.

    Raises:
        ValueError: If `strength`, `far_range`, `negative_weight` or `embedding_dim` is
            out of range.
        TypeError: If `base` is not a `keras.losses.Loss`, or a number is none.

    Example:

    >>> loss = keras_tcm.AutoTCM(keras_tcm.losses.MultiSimilarity())
    >>> model.compile("adam", loss=loss)

    With a base loss on cosines:

    ```python
    model = keras_tcm.models.embedding_model(backbone, 64, num_classes=100)
    both = [model.output["embedding"], model.output["cosines"]]
    trainer = keras.Model(model.input, keras.layers.Concatenate()(both))
    trainer.compile(
        "adam", loss=keras_tcm.AutoTCM(keras_tcm.losses.ArcFace(), embedding_dim=64)
    )
    ```

    References:
        - [Zhang et al., ICLR 2024](https://arxiv.org/abs/2307.04047), for TCM; the rule
          for its margins and weight is this package's own.
        - [Chen et al., ICML 2018](https://arxiv.org/abs/1711.02257), who balance the
          gradients of several tasks, and
          [Yu et al., NeurIPS 2020](https://arxiv.org/abs/2001.06782), who take out of
          one what works against another.
    """

    has_pairs = True

    def __init__(
        self,
        base: keras.losses.Loss,
        strength: float = 0.5,
        far_range: tuple[float, float] = (0.01, 0.1),
        embedding_dim: int | None = None,
        relevance: Any = None,
        block_size: int | None = None,
        negative_weight: float | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if not isinstance(base, keras.losses.Loss):
            raise TypeError(
                "`base` must be a `keras.losses.Loss` instance. "
                f"Received: base={base!r}"
            )
        is_unreduced = base.reduction in (None, "none")
        super().__init__(
            reduction="none" if is_unreduced else "sum_over_batch_size",
            name=name or "auto_tcm",
            dtype=dtype,
        )
        self.base = base
        self.strength = check_number("strength", strength, 0)
        self.far_range = check_range("far_range", far_range, 0, 1)
        if negative_weight is not None:
            negative_weight = check_number("negative_weight", negative_weight, 0)
        self.negative_weight = negative_weight
        if embedding_dim is not None:
            embedding_dim = check_integer("embedding_dim", embedding_dim, 1)
        self.embedding_dim = embedding_dim
        self.gather = base.gather if isinstance(base, SummableLoss) else True
        self._options = {
            "relevance": _relevance_of(base) if relevance is None else relevance,
            "block_size": block_size,
            "reduction": self.reduction,
            "dtype": "float64" if self.dtype == "float64" else "float32",
            "gather": self.gather,
        }
        # Tells each mistake once, though each call has a TCM of its own.
        self._tcm_advice = TCM(**self._options)._advice

    @property
    def kind(self) -> Hashable:
        """What losses have in common that a sum may compute together."""
        return id(self)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the loss; see the call arguments of the class."""
        with keras.name_scope(self.name):
            predictions = self._predictions(y_pred)
            _, _, terms = self._terms(y_true, predictions, sample_weight)
            if self.reduction == "none":
                weights = self._balance(terms, ops.stop_gradient(predictions)).weights
                rows = zip(weights, terms(predictions), strict=True)
                return ops.cast(sum(weight * row for weight, row in rows), self.dtype)

            @ops.custom_gradient
            def total(x: Any) -> tuple[Any, Callable[..., Any]]:
                balance = self._balance(terms, x)

                def gradient(*args: Any, upstream: Any = None) -> Any:
                    return upstream_gradient(args, upstream) * balance.slopes

                return balance.value, gradient

            return ops.cast(total(predictions), self.dtype)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Compute the loss without instance weights."""
        return self(y_true, y_pred)

    def settings(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Tell what the rule makes of a batch.

        Args:
            y_true: See the call arguments of the class, like all that follow.
            y_pred: See `y_true`.
            sample_weight: See `y_true`.

        Returns:
            Scalars without gradient: `"positive_margin"` and `"negative_margin"`,
            cosine similarities; `"tcm_weight"` and `"negative_weight"`;
            `"gradient_ratio"`, of the base loss' gradient to that of TCM;
            `"gradient_alignment"`; `"hard_positives"` and `"hard_negatives"`, shares of
            the pairs that set the margins.
        """
        predictions = ops.stop_gradient(self._predictions(y_pred))
        pairs, margins, terms = self._terms(y_true, predictions, sample_weight)
        balance = self._balance(terms, predictions)
        _, num_positive = hard_positives(pairs, margins[0])
        _, num_negative = hard_negatives(pairs, margins[1])

        def share(numbers: Any, of: Any) -> Any:
            return ops.sum(numbers) / ops.maximum(ops.sum(of), 1.0)

        return {
            "positive_margin": margins[0],
            "negative_margin": margins[1],
            "tcm_weight": balance.weights[1],
            "negative_weight": balance.negative_weight,
            "gradient_ratio": balance.ratio,
            "gradient_alignment": balance.alignment,
            "hard_positives": share(num_positive, pairs.positive),
            "hard_negatives": share(num_negative, pairs.negative),
        }

    def _predictions(self, y_pred: Any) -> Any:
        predictions = ops.cast(ops.convert_to_tensor(y_pred), self._options["dtype"])
        shape, d = tensor_shape("y_pred", predictions), self.embedding_dim
        if d is not None and (len(shape) != 2 or shape[1] is None or shape[1] <= d):
            raise ValueError(
                "`y_pred` must hold the embedding and, after it, what the base loss is "
                f"on: shape (batch, more than embedding_dim={d}). "
                f"Received: y_pred.shape={shape}"
            )
        return predictions

    def _terms(
        self, y_true: Any, predictions: Any, sample_weight: Any
    ) -> tuple[Pairs, tuple[Any, Any], Callable[[Any], list[Any]]]:
        """The pairs that set the margins, these, and the terms of the loss."""
        d = self.embedding_dim
        of_tcm = _Positives(**self._options), _Negatives(**self._options)
        batch = of_tcm[0].standardize(
            y_true, ops.stop_gradient(predictions[:, :d]), sample_weight
        )
        batch = l2_normalize(batch[1]), batch[0], batch[2]
        found = of_tcm[0].gather_partners(*batch)[:3]
        samples = batch if found[0] is None else found
        pairs = sampled_pairs(*samples, of_tcm[0].relevance)
        margins = margins_at(pairs, self.far_range)
        for term in of_tcm:
            term.positive_margin, term.negative_margin = margins
            term._advice = self._tcm_advice
        base = WeightedSum([self.base])
        tcm = WeightedSum(of_tcm)

        def values(x: Any) -> list[Any]:
            if d is None:
                # Together: pairwise terms share one matrix of similarities.
                all_terms = WeightedSum([base, tcm])
                *parts, positive, negative = all_terms.values(y_true, x, sample_weight)
            else:
                parts = base.values(y_true, x[:, d:], sample_weight)
                positive, negative = tcm.values(y_true, x[:, :d], sample_weight)
            weighted = zip(base.weights, parts, strict=True)
            of_base = sum(weight * value for weight, value in weighted)
            terms = of_base, positive, negative
            return [ops.cast(value, predictions.dtype) for value in terms]

        return pairs, margins, values

    def _balance(self, terms: Callable[[Any], list[Any]], predictions: Any) -> Balance:
        def means(x: Any) -> tuple[Any, ...]:
            return tuple(ops.mean(value) for value in terms(x))

        values, slopes = gradients(means, predictions)
        base, positive, negative = map(self._to_directions(predictions), slopes)
        replicas = active_replicas(predictions) if self.gather else None

        def of_replicas(values: Sequence[Any]) -> Any:
            row = ops.stack(values)[None]
            return row if replicas is None else replicas.gather([row])[0][0]

        products = (
            *((base, base), (base, positive)),
            *((positive, positive), (positive, negative), (negative, negative)),
        )
        found = of_replicas([ops.sum(x * y) for x, y in products])
        bb, bp, pp, pn, nn = ops.unstack(ops.sum(found, axis=0), 5)
        # No alignment where the base loss is on other columns.
        alignment = _ratio(bp, ops.sqrt(bb) * ops.sqrt(pp))
        negative_weight = self.negative_weight
        if negative_weight is None and self.embedding_dim is not None:
            # How it pulls and pushes the embeddings is not known then.
            negative_weight = _MAX_PUSH
        elif negative_weight is None:
            neutral = _ratio(-pn, nn)
            push = ops.maximum(neutral, _PUSH_SLOPE * (alignment - _PUSH_FROM))
            negative_weight = ops.clip(push, 0.0, _MAX_PUSH)
        lengths = _lengths(base), _lengths(positive + negative_weight * negative)
        # A replica may have no rows.
        longest = [ops.max(rows, initial=0.0) for rows in lengths]
        found = of_replicas([*map(ops.sum, lengths), *longest])
        ratio = _ratio(*ops.unstack(ops.sum(found[:, :2], axis=0), 2))
        weight = self.strength * ratio
        if self.negative_weight is None:
            loudest = _ratio(*ops.unstack(ops.max(found[:, 2:], axis=0), 2))
            weight = ops.minimum(weight, self.strength * _LOUDEST * loudest)
        weights = 1.0, weight, weight * negative_weight
        value, gradient = (
            sum(weight * x for weight, x in zip(weights, each, strict=True))
            for each in (values, slopes)
        )
        return Balance(value, gradient, weights, negative_weight, ratio, alignment)

    def _to_directions(self, predictions: Any) -> Callable[[Any], Any]:
        """What makes a gradient of vectors that of their directions."""
        d = self.embedding_dim
        vectors = predictions[:, :d]
        directions = l2_normalize(vectors)
        lengths = ops.sum(directions * vectors, axis=-1, keepdims=True)

        def project(slopes: Any) -> Any:
            of_vectors = slopes[:, :d]
            along = ops.sum(of_vectors * directions, axis=-1, keepdims=True)
            found = lengths * (of_vectors - along * directions)
            return found if d is None else ops.concatenate([found, slopes[:, d:]], 1)

        return project

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            "base": keras.saving.serialize_keras_object(self.base),
            "strength": self.strength,
            "far_range": self.far_range,
            "negative_weight": self.negative_weight,
            "embedding_dim": self.embedding_dim,
            "relevance": keras.saving.serialize_keras_object(
                self._options["relevance"]
            ),
            "block_size": self._options["block_size"],
            "name": self.name,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the loss, and its base, from the configuration."""
        base = keras.saving.deserialize_keras_object(config["base"])
        return cls(**{**config, "base": base})


def _lengths(slopes: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(slopes), axis=-1))


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Their ratio, 0 where the denominator is."""
    is_some = denominator > 0
    return ops.where(is_some, numerator / ops.where(is_some, denominator, 1.0), 0.0)


def _relevance_of(loss: keras.losses.Loss) -> Any:
    """What makes a pair positive for a loss, or for a term of a sum."""
    terms = loss.losses if isinstance(loss, WeightedSum) else (loss,)
    found = (term.relevance for term in terms if isinstance(term, PairwiseLoss))
    return next(found, None)
