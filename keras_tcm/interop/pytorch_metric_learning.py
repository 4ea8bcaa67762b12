"""Losses of pytorch-metric-learning as Keras losses."""

from typing import Any, Self

import keras
from keras import ops

from keras_tcm.interop.peers import import_peer
from keras_tcm.losses.embedding_loss import EmbeddingLoss


def _import(module: str) -> Any:
    return import_peer(f"pytorch_metric_learning.{module}", "torch", "pml")


@keras.saving.register_keras_serializable(package="keras_tcm")
class PyTorchMetricLearningLoss(EmbeddingLoss):
    """What `as_keras_loss` returns.

    Args:
        loss: Loss of pytorch-metric-learning, or `None` for one that could not be
            saved: then this loss can be loaded, but not called.
        miner: Miner of the same package. Defaults to `None`.
        name: Name of the loss. Defaults to the class name of the wrapped one.
        dtype: Dtype of the result. Defaults to `keras.config.floatx()`.
        gather: See `EmbeddingLoss`. Defaults to `True`.
    """

    def __init__(
        self,
        loss: Any,
        miner: Any = None,
        name: str | None = None,
        dtype: Any = None,
        gather: bool = True,
    ) -> None:
        name = name or type(loss).__name__
        super().__init__(name=name, dtype=dtype, gather=gather)
        self.loss = loss
        self.miner = miner
        if loss is not None:
            import torch

            # Compiled, the peer's lists of pairs would be compiled anew for every
            # number of them.
            self._peer_value = torch.compiler.disable(self._compute_peer_value)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Compute the loss; see `as_keras_loss`."""
        if sample_weight is not None:
            raise ValueError(
                "`sample_weight` must be None: the losses of pytorch-metric-learning "
                "take no weights, and a sum gives the same to all its terms. To weight "
                "the other terms only, compile them on an output of their own. "
                f"Received: a sample_weight for the loss {self.name}"
            )
        return super().__call__(y_true, y_pred)

    def rows(self, labels: Any, predictions: Any, weights: Any) -> Any:
        """Repeat the peer's value for every sample, shape `(batch,)`."""
        if self.loss is None:
            raise RuntimeError(
                f"{self.name} of pytorch-metric-learning was not saved with the model, "
                "because it has no configuration. Compile the model again: "
                "`model.compile(model.optimizer, loss=as_keras_loss(...))`."
            )
        embeddings = ops.cast(predictions, "float32")
        replicas = self.replicas(embeddings)
        if replicas is not None:
            # Each process computes the value of the global batch.
            (embeddings, labels), _ = replicas.gather([embeddings, labels])
        # Keeps a value without pairs connected to the embeddings.
        value = 0.0 * ops.sum(embeddings)
        # Keras builds losses with tensors that have no values. The peer cannot work
        # with them, and one with a memory must not remember what takes their place.
        if not embeddings.is_meta:
            value = value + self._peer_value(embeddings, ops.cast(labels, "int64"))
        return ops.cast(value, weights.dtype) * weights

    def _compute_peer_value(self, embeddings: Any, labels: Any) -> Any:
        tuples = None if self.miner is None else self.miner(embeddings, labels)
        value = self.loss(embeddings, labels, tuples)
        if not ops.is_tensor(value) or value.numel() != 1:
            raise TypeError(
                "`loss` must have a reducer that returns one number. "
                f"Received: loss={self.loss!r}"
            )
        return ops.reshape(value, ())

    def get_config(self) -> dict[str, Any]:
        """Return all but the peer, which has no configuration."""
        return {"name": self.name, "dtype": self.dtype, "gather": self.gather}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build a loss that says, when it is called, that it was not saved."""
        return cls(None, **config)


def as_keras_loss(
    loss: Any, miner: Any = None, gather: bool = True
) -> PyTorchMetricLearningLoss:
    """Make a loss of pytorch-metric-learning work in `fit`, and add to ours.

    Any of its losses without parameters will do, `CrossBatchMemory` and
    `MultipleLosses` included. The value is the peer's, one number for the batch, and
    so is the gradient; the maths runs in float32 under any dtype policy.

    A model compiled with the result can be saved and loaded, with its weights and the
    state of its optimizer. The loss itself is not in the file, because the peer's
    losses have no configuration: compile the model again before you train it further,
    `model.compile(model.optimizer, loss=as_keras_loss(...))`.

    Args:
        loss: Instance of a loss of pytorch-metric-learning. Its reducer must return
            one number, as all do but `DoNothingReducer`.
        miner: Instance of one of its miners, which is given embeddings and labels and
            picks the pairs or triplets for the loss. Defaults to `None`: those that
            the loss picks itself.
        gather: Whether processes of a `torch.distributed` group each give the peer the
            global batch: see `EmbeddingLoss`. A miner that picks at random picks
            differently in each. Defaults to `True`.

    Returns:
        A `keras_tcm.losses.EmbeddingLoss`, named after the class of `loss`. Called with
        `y_true`, integer labels of shape `(batch,)` or `(batch, 1)`, and `y_pred`,
        embeddings of any norm, shape `(batch, d)`; a `sample_weight` is a `ValueError`.

    Raises:
        RuntimeError: If the backend is not torch.
        ImportError: If pytorch-metric-learning is not installed.
        TypeError: If `loss` is not such an instance, needs two views instead of labels
            (`SelfSupervisedLoss`, `VICRegLoss`), or `miner` is not a miner.
        ValueError: If `loss` has parameters to train, such as proxies or class
            weights: Keras would not train them.

    Example:

    >>> from pytorch_metric_learning import losses, miners
    >>> from keras_tcm.interop.pytorch_metric_learning import as_keras_loss
    >>> base = as_keras_loss(losses.TripletMarginLoss(), miners.BatchHardMiner())
    >>> model.compile("adam", loss=keras_tcm.AutoTCM(base))

    Reference:
        - [Musgrave et al., 2020](https://arxiv.org/abs/2008.09164)
    """
    losses = _import("losses")
    accepted = losses.BaseMetricLossFunction, losses.CrossBatchMemory
    if not isinstance(loss, (*accepted, losses.MultipleLosses)) or isinstance(
        loss, losses.VICRegLoss
    ):
        raise TypeError(
            "`loss` must be a loss of pytorch-metric-learning that takes labels and "
            f"embeddings, such as `TripletMarginLoss()`. Received: loss={loss!r}"
        )
    if any(parameter.requires_grad for parameter in loss.parameters()):
        raise ValueError(
            "`loss` must have no parameters to train, because Keras trains only those "
            "of layers. Put `keras_tcm.layers.CosineClassifier` into the model and use "
            "`keras_tcm.losses.ArcFace`, `CosFace`, `NormalizedSoftmax` or "
            f"`ProxyAnchor` on its output. Received: loss={loss!r}"
        )
    if miner is not None and not isinstance(miner, _import("miners").BaseMiner):
        raise TypeError(
            "`miner` must be a miner of pytorch-metric-learning, such as "
            f"`BatchHardMiner()`, or None. Received: miner={miner!r}"
        )
    return PyTorchMetricLearningLoss(loss, miner, gather=gather)
