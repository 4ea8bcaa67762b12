"""TCM with margins and a weight that set themselves."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Self

import keras
from keras import ops

from keras_tcm.distribution import active_replicas
from keras_tcm.losses.pairwise_loss import PairwiseLoss
from keras_tcm.losses.tcm import TCM, hard_pairs
from keras_tcm.losses.weighted_sum import SummableLoss, WeightedSum
from keras_tcm.ops.autodiff import gradients, upstream_gradient
from keras_tcm.ops.integers import as_integer
from keras_tcm.ops.pairs import Pairs, pair_masks
from keras_tcm.ops.similarity import BEYOND, l2_normalize
from keras_tcm.validation import check_integer, check_number, check_range, tensor_shape

# Samples, evenly spaced among those at hand, whose pairs set the margins.
_MAX_SAMPLES = 256


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


class Balance(NamedTuple):
    """What `AutoTCM` makes of a batch.

    Attributes:
        value: Base loss plus weighted TCM, a scalar.
        slopes: Its gradient with respect to the predictions.
        weight: The weight of TCM, a scalar.
        ratio: Mean length of the rows of the base loss' gradient over that of TCM's.
    """

    value: Any
    slopes: Any
    weight: Any
    ratio: Any


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
      gradient over that of TCM's, with respect to `y_pred` (of two towers, to the
      directions of its vectors: lengths may carry a learned temperature). Below 1, the
      base loss has the last word, however it is scaled, whatever its batch and network.

    A batch without a hard pair gets the base loss alone. The rule has no state: it is
    the same in the first step and the last, in training and validation, on one device
    and on several. `keras_tcm.metrics.AutoTCMMonitor` shows what it does.

    Args:
        base: The loss that separates the classes: any `keras.losses.Loss` on
            embeddings and integer labels, or a sum of them. It keeps its reduction.
        strength: Length of TCM's gradient in that of the base loss, at least 0.
            Defaults to 0.7, chosen on held-out training classes of drawn characters
            (`benchmarks/auto_tcm.py`). At 2 and above, some trainings collapse.
        far_range: Shares of the negative pairs that reach the positive and the
            negative margin, `0 <= low <= high <= 1`. Defaults to (0.01, 0.1), the
            range over which `OPIS` is taken.
        embedding_dim: For a base loss on something else than embeddings, such as
            `ArcFace` on cosines: the first `embedding_dim` columns of `y_pred` are the
            embedding, for TCM, and the others are for the base loss. Defaults to
            `None`: all columns are for both.
        relevance: What makes a pair of TCM positive; see `PairwiseLoss`. Defaults to
            that of the base loss, if it has one.
        block_size: Anchors in a block of similarities; see `PairwiseLoss`.
        negative_weight: Factor of TCM's negative term, at least 0. Defaults to 1.0, as
            in the paper. With 0.0 and a strength of 0.25, `MultiSimilarity` and
            `SmoothAP` came out more consistent still; base losses that push little came
            to harm, and `keras.losses.Circle` collapsed (`docs/auto_tcm.md`).
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
          gradients of several tasks.
    """

    has_pairs = True

    def __init__(
        self,
        base: keras.losses.Loss,
        strength: float = 0.7,
        far_range: tuple[float, float] = (0.01, 0.1),
        embedding_dim: int | None = None,
        relevance: Any = None,
        block_size: int | None = None,
        negative_weight: float = 1.0,
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
        self.negative_weight = check_number("negative_weight", negative_weight, 0)
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
                weight = self._balance(terms, ops.stop_gradient(predictions)).weight
                base, tcm = terms(predictions)
                return ops.cast(base + weight * tcm, self.dtype)

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
            cosine similarities; `"tcm_weight"`; `"gradient_ratio"`, of the base loss'
            gradient to that of TCM; `"hard_positives"` and `"hard_negatives"`, shares
            of the pairs that set the margins.
        """
        predictions = ops.stop_gradient(self._predictions(y_pred))
        pairs, margins, terms = self._terms(y_true, predictions, sample_weight)
        balance = self._balance(terms, predictions)
        _, num_positive, _, num_negative = map(ops.sum, hard_pairs(pairs, *margins))

        def share(number: Any, of: Any) -> Any:
            return number / ops.maximum(ops.sum(of), 1.0)

        return {
            "positive_margin": margins[0],
            "negative_margin": margins[1],
            "tcm_weight": balance.weight,
            "gradient_ratio": balance.ratio,
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
        """The pairs that set the margins, these, and values of base loss and TCM."""
        d = self.embedding_dim
        tcm = TCM(negative_weight=self.negative_weight, **self._options)
        tcm._advice = self._tcm_advice
        batch = tcm.standardize(
            y_true, ops.stop_gradient(predictions[:, :d]), sample_weight
        )
        batch = l2_normalize(batch[1]), batch[0], batch[2]
        found = tcm.gather_partners(*batch)[:3]
        samples = batch if found[0] is None else found
        pairs = sampled_pairs(*samples, tcm.relevance)
        margins = margins_at(pairs, self.far_range)
        tcm.positive_margin, tcm.negative_margin = margins
        base = WeightedSum([self.base])

        def values(x: Any) -> list[Any]:
            if d is None:
                # Together: pairwise terms share one matrix of similarities.
                both = WeightedSum([base, tcm])
                *parts, of_tcm = both.values(y_true, x, sample_weight)
            else:
                parts = base.values(y_true, x[:, d:], sample_weight)
                of_tcm = tcm(y_true, x[:, :d], sample_weight)
            weighted = zip(base.weights, parts, strict=True)
            of_base = sum(weight * value for weight, value in weighted)
            return [ops.cast(value, predictions.dtype) for value in (of_base, of_tcm)]

        return pairs, margins, values

    def _balance(self, terms: Callable[[Any], list[Any]], predictions: Any) -> Balance:
        def values(x: Any) -> tuple[Any, ...]:
            return tuple(ops.mean(value) for value in terms(x))

        (base, tcm), slopes = gradients(values, predictions)
        lengths = ops.stack(
            [_sum_of_lengths(_of_directions(x, predictions)) for x in slopes]
        )
        replicas = active_replicas(predictions) if self.gather else None
        if replicas is not None:
            lengths = replicas.sum(lengths)
        has_tcm = lengths[1] > 0
        ratio = ops.where(
            has_tcm, lengths[0] / ops.where(has_tcm, lengths[1], 1.0), 0.0
        )
        weight = self.strength * ratio
        return Balance(
            base + weight * tcm, slopes[0] + weight * slopes[1], weight, ratio
        )

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


def _sum_of_lengths(slopes: Any) -> Any:
    return ops.sum(ops.sqrt(ops.sum(ops.square(slopes), axis=-1)))


def _of_directions(slopes: Any, predictions: Any) -> Any:
    """From the gradient of the vectors of two towers to that of their directions."""
    if len(predictions.shape) == 2:
        return slopes
    directions = l2_normalize(predictions)
    lengths = ops.sum(directions * predictions, axis=-1, keepdims=True)
    along = ops.sum(slopes * directions, axis=-1, keepdims=True)
    return lengths * (slopes - along * directions)


def _relevance_of(loss: keras.losses.Loss) -> Any:
    """What makes a pair positive for a loss, or for a term of a sum."""
    terms = loss.losses if isinstance(loss, WeightedSum) else (loss,)
    found = (term.relevance for term in terms if isinstance(term, PairwiseLoss))
    return next(found, None)
