"""Losses of tensorflow-similarity as Keras losses."""

import copy
import functools
from typing import Any, Self

import keras
from keras import ops

from keras_tcm.interop.peers import import_peer
from keras_tcm.losses.embedding_loss import EmbeddingLoss


def _import(module: str) -> Any:
    return import_peer(f"tensorflow_similarity.{module}", "tensorflow", "similarity")


@keras.saving.register_keras_serializable(package="keras_tcm")
class TensorFlowSimilarityLoss(EmbeddingLoss):
    """What `as_keras_loss` returns.

    Args:
        loss: Loss of tensorflow-similarity. Its reduction is that of this loss.
        name: Name of the loss. Defaults to that of the wrapped one.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.

    Raises:
        See `as_keras_loss`.
    """

    def __init__(
        self,
        loss: Any,
        name: str | None = None,
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        losses = _import("losses")
        # One takes no labels, the other keeps variables that no model would save and
        # whose size XLA cannot know.
        others = losses.MultiNegativesRankLoss, losses.XBM
        if not isinstance(loss, losses.MetricLoss) or isinstance(loss, others):
            raise TypeError(
                "`loss` must be a loss of tensorflow-similarity that takes labels and "
                "embeddings, such as `MultiSimilarityLoss`; for `XBM` there is "
                f"`keras_tcm.models.CrossBatchMemory`. Received: loss={loss!r}"
            )
        super().__init__(loss.reduction, name or loss.name, dtype, gather)
        import tensorflow as tf

        self.loss = loss
        self._inlined_loss = _inline(loss)
        # The peer branches on tensors, which autograph makes possible. It is off in the
        # functions that Keras compiles; a `tf.function` would turn it on, but see
        # `_inline`.
        self._peer_rows = tf.autograph.to_graph(loss.call)

    @property
    def distance(self) -> Any:
        """The peer's distance, which `SimilarityModel.compile` asks for."""
        return self.loss.distance

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Compute the peer's rows, of shape `(batch,)`."""
        own = ops.shape(predictions)[0]
        labels = ops.cast(labels[:, None], "int64")
        embeddings = ops.cast(predictions, "float32")
        first, replicas = 0, self.replicas(embeddings)
        if replicas is not None:
            (labels, embeddings), first = replicas.gather([labels, embeddings])
        rows = self._peer_rows(self._inlined_loss, labels, embeddings)
        rows = ops.reshape(rows, (-1,))
        if replicas is not None:
            # Of the global batch, the rows of this replica.
            rows = ops.take(rows, first + ops.arange(own, dtype="int32"))
        return self.average(ops.cast(rows, weights.dtype), weights)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            "loss": _serialize(self.loss),
            "name": self.name,
            "dtype": self.dtype,
            "gather": self.gather,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the loss, and the one it wraps, from the configuration."""
        _import("losses")  # Which registers the classes.
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})


def as_keras_loss(loss: Any, gather: bool = True) -> TensorFlowSimilarityLoss:
    """Make a loss of tensorflow-similarity work in `fit`, and add to ours.

    Any of its losses on labels will do: `MultiSimilarityLoss`, `TripletLoss`,
    `CircleLoss`, `PNLoss`, `SoftNearestNeighborLoss` and subclasses of `MetricLoss`.
    The values and gradients are the peer's; labels are compared as integers, and the
    maths runs in float32 under any dtype policy, with or without `jit_compile`.

    Construct the loss with `reduction="sum_over_batch_size"`: its own default,
    `"auto"`, does not exist in Keras 3, which raises a `ValueError` right there.

    Embeddings reach the loss as they are. Its cosine distance expects unit vectors:
    those of `keras_tcm.models.embedding_model` or of its layer `MetricEmbedding`.

    Models compiled with the result can be saved and loaded.

    Args:
        loss: Instance of a loss of tensorflow-similarity.
        gather: Whether the replicas of a `tf.distribute` strategy each give the peer
            the global batch: see `EmbeddingLoss`. Defaults to `True`.

    Returns:
        A `keras_tcm.losses.EmbeddingLoss` with the reduction and the name of `loss`.
        Called with `y_true`, integer labels of shape `(batch,)` or `(batch, 1)`,
        `y_pred`, embeddings of shape `(batch, d)`, and optionally `sample_weight`,
        shape `(batch,)`. As in the peer, the weight of a sample is that of its row: a
        sample of weight 0 is still a partner of the others.

    Raises:
        RuntimeError: If the backend is not TensorFlow.
        ImportError: If tensorflow-similarity is not installed.
        TypeError: If `loss` is not such an instance, needs two views instead of labels
            (`SimCLRLoss`, `SimSiamLoss`, `Barlow`, `VicReg`,
            `MultiNegativesRankLoss`), or is `XBM`, which has variables of its own.
        ValueError: From `get_config` and on saving, if the class of `loss` cannot
            build it again from its configuration; a distance must be one of the peer's
            own.

    Example:

    >>> import tensorflow_similarity as tfsim
    >>> from keras_tcm.interop.tensorflow_similarity import as_keras_loss
    >>> circle = tfsim.losses.CircleLoss(reduction="sum_over_batch_size")
    >>> loss = keras_tcm.AutoTCM(as_keras_loss(circle))
    >>> model.compile("adam", loss=loss)

    Reference:
        - [tensorflow-similarity](https://github.com/tensorflow/similarity)
    """
    return TensorFlowSimilarityLoss(loss, gather=gather)


def _inline(loss: Any) -> Any:
    """Copy a loss so that its distance becomes a part of the caller's graph.

    The peer's distances are `tf.function`s. In the gradient, one of the results of such
    a function may serve as the shape of something; XLA then takes all of its inputs for
    constants, and compiles the training step anew for every batch.
    """
    options = loss._fn_kwargs
    call = getattr(type(options.get("distance")), "call", None)
    function = getattr(call, "python_function", None)
    if function is None:
        return loss
    distance = copy.copy(options["distance"])
    distance.call = functools.partial(function, distance)
    # `copy.copy` would build the loss from its configuration, which the peer's cannot.
    inlined = object.__new__(type(loss))
    vars(inlined).update(vars(loss), _fn_kwargs={**options, "distance": distance})
    return inlined


def _serialize(loss: Any) -> dict[str, Any]:
    serialized = keras.saving.serialize_keras_object(loss)
    config = serialized["config"]
    # A distance cannot be built from its configuration, but from its name.
    names = {type(known): known.name for known in _import("distances").DISTANCES}
    for key, value in loss.get_config().items():
        config[key] = names.get(type(value), config[key])
    try:
        type(loss).from_config(dict(config))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`loss` must be one that its class can build again from `get_config`, with "
            "one of tensorflow-similarity's own distances; otherwise save the weights "
            f"only (`model.save_weights`). Received: loss={loss!r}"
        ) from error
    return serialized
