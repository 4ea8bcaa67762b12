"""Training with a memory of the embeddings of earlier batches."""

from typing import Any, Self

import keras
from keras import ops

from keras_tcm.losses.partners import use_partners
from keras_tcm.ops.integers import as_integer
from keras_tcm.sample_memory import SampleMemory
from keras_tcm.validation import check_integer, is_embedding_shape


@keras.saving.register_keras_serializable(package="keras_tcm")
class CrossBatchMemory(keras.Model):
    """Cross-batch memory (XBM): pairs with the embeddings of earlier batches.

    Wraps a model whose output is an embedding, or those of two towers. While it trains,
    every pairwise loss of this package in `compile` (`TCM` and the base losses, alone
    or in sums) compares the samples of the batch with each other, as ever, and with the
    last `memory_size` samples before them as well, as they were embedded then. Those
    pass no gradient.
    The more a batch is smaller than what a loss would like to see, the more this
    helps; it asks for embeddings that drift slowly, and so for a warm-up.

    Where several devices share a batch, every one has the same memory of global
    batches.

    The memory is part of the model: it is saved and loaded with it. Validation neither
    uses nor fills it. Samples of weight 0 are in it, but in no pair. A sample may meet
    itself, as it was an epoch ago, as a positive.

    When training is over, `model` (the wrapped one) is all that is needed.

    Args:
        model: A functional or built sequential `keras.Model` whose output is the
            embedding, or a dictionary with it, such as that of
            `keras_tcm.models.embedding_model`.
        memory_size: Embeddings kept, at least 1.
        warmup_steps: Training steps that fill the memory before it is used, at least
            0; 1,000 in the paper. Defaults to 0.
        output: Name of the embedding among several outputs; pairwise losses belong on
            it. Defaults to `"embedding"`.
        label_width: Width of label rows, where the losses have a `relevance` that
            compares rows. Defaults to `None`: one label for each sample.
        **kwargs: Keyword arguments of `keras.Model`, such as `name`.

    Raises:
        TypeError: If `model` is not a Keras model or a number is not an integer.
        ValueError: If a number is out of range, `model` has no such output, or it is
            not of shape `(batch, d)` or `(batch, 2, d)`; in training, if a pairwise
            loss is on another output, or labels are rows of another width.

    Example:

    ```python
    model = keras_tcm.models.embedding_model(backbone, 128)
    trainer = keras_tcm.models.CrossBatchMemory(model, memory_size=8192)
    trainer.compile("adam", loss=keras_tcm.AutoTCM(keras_tcm.losses.Contrastive()))
    trainer.fit(sampler, epochs=20)
    embeddings = model.predict(x)
    ```

    Reference:
        - [Wang et al., CVPR 2020](https://arxiv.org/abs/1912.06798)
    """

    def __init__(
        self,
        model: keras.Model,
        memory_size: int,
        warmup_steps: int = 0,
        output: str = "embedding",
        label_width: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a Keras model. Received: model={model!r}")
        self.model = model
        self.memory_size = check_integer("memory_size", memory_size, 1)
        self.warmup_steps = check_integer("warmup_steps", warmup_steps, 0)
        self.output_name = output
        if label_width is not None:
            label_width = check_integer("label_width", label_width, 1)
        self.label_width = label_width

        # A `Sequential` has no `output` until it is called.
        outputs = getattr(model, "outputs", None) or [None]
        output_tensor = self._embedding(getattr(model, "output", outputs[0]))
        shape: Any = getattr(output_tensor, "shape", ())
        if not is_embedding_shape(shape) or None in shape[1:]:
            raise ValueError(
                "`model` must be a functional or built sequential model that returns "
                "embeddings of shape (batch, dimension), or (batch, 2, dimension) "
                "of two towers. "
                f"Received: model={model!r}, with output {shape}"
            )
        self._memory = SampleMemory(self.memory_size, self._add_state)
        label_shape = () if label_width is None else (label_width,)
        self._memory.build(tuple(shape[1:]), label_shape, has_weights=True)
        # Training steps so far, as far as they matter.
        self._warm_steps = self._add_state("warm_steps", (), "int32")
        self.built = True

    def _add_state(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        return self.add_weight(
            shape=shape,
            initializer="zeros",
            dtype=dtype,
            trainable=False,
            autocast=False,
            # Replicas write the same: the global batch.
            aggregation="only_first_replica",
            name=name,
        )

    def _embedding(self, outputs: Any) -> Any:
        """The embedding among what belongs to each output of the model."""
        if not isinstance(outputs, dict):
            return outputs
        if self.output_name not in outputs:
            raise ValueError(
                f"`output` must be one of {', '.join(map(repr, outputs))}. "
                f"Received: output={self.output_name!r}"
            )
        return outputs[self.output_name]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the outputs of the wrapped model."""
        return self.model(inputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shapes of the outputs of the wrapped model."""
        return self.model.compute_output_shape(input_shape)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Compute the loss, with pairs from the memory when training."""
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        self._check_losses()
        with use_partners(self._remembered):
            loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        self._remember(
            self._embedding(y_pred), self._embedding(y), self._embedding(sample_weight)
        )
        return loss

    def _check_losses(self) -> None:
        for name, loss in self.loss.items() if isinstance(self.loss, dict) else ():
            if name != self.output_name and getattr(loss, "has_pairs", False):
                raise ValueError(
                    f"`loss` must have its pairwise losses on {self.output_name!r}, "
                    f"the output that is remembered. Received: one on {name!r}"
                )

    def _remembered(self, embeddings: Any, labels: Any, weights: Any) -> Any:
        """What is in memory; of weight 0 where it is empty, or not to be used yet."""
        memory = self._memory
        memory.check_shapes(embeddings, labels, ": see `label_width` for labels")
        is_warm = ops.convert_to_tensor(self._warm_steps) >= self.warmup_steps
        remembered = ops.convert_to_tensor(memory.weights)
        return (
            ops.convert_to_tensor(memory.embeddings),
            ops.convert_to_tensor(memory.labels),
            ops.where(is_warm, remembered, ops.zeros_like(remembered)),
        )

    def _remember(self, embeddings: Any, labels: Any, sample_weight: Any) -> None:
        shape = (-1,) if self.label_width is None else (-1, self.label_width)
        labels = ops.reshape(ops.convert_to_tensor(labels), shape)
        embeddings = ops.convert_to_tensor(embeddings)
        weights = ops.ones((ops.shape(embeddings)[0],), dtype=embeddings.dtype)
        if sample_weight is not None:
            weights = ops.reshape(ops.convert_to_tensor(sample_weight), (-1,))
        self._memory.write(embeddings, labels, weights)
        # No count of all steps, which an integer may not hold.
        steps = ops.convert_to_tensor(self._warm_steps) + 1
        self._warm_steps.assign(ops.minimum(steps, as_integer(self.warmup_steps)))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "memory_size": self.memory_size,
            "warmup_steps": self.warmup_steps,
            "output": self.output_name,
            "label_width": self.label_width,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """Build the wrapper, and the model in it, from the configuration."""
        model = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**{**config, "model": model})
