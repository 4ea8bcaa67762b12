"""Exact evaluation at the end of an epoch."""

import inspect
import math
import warnings
from typing import Any

import keras

from keras_tcm.evaluation import Evaluation, UndefinedError, evaluate_embeddings
from keras_tcm.validation import check_integer


class RetrievalEvaluation(keras.callbacks.Callback):
    """Embeds a data set at the end of an epoch and logs `evaluate_embeddings`.

    Writes `opis`, `epsilon_opis`, `recall_at_1` (and the other k), `map_at_r` and
    `eer`, each after `prefix`, into the logs of the epoch, where History,
    EarlyStopping, ModelCheckpoint and TensorBoard find them; list this callback before
    those.
    Unlike the metrics, it has no memory limit.

    Where the embeddings do not determine a result (NaN, collapsed), it logs NaN and
    warns, and training goes on.

    Args:
        x: Samples to embed: whatever `model.predict` accepts.
        y: One label per sample, shape `(n,)`, of any hashable kind; with `relevance`
            among the options, what that compares.
        every: Evaluate at the end of every so many epochs; the logs of the others are
            left alone. Defaults to 1.
        batch_size: Batch size of `model.predict`. Defaults to 32.
        prefix: Put before the names in the logs. Defaults to `"val_"`.
        output: Name of the embedding among the outputs of a model with several.
            Defaults to `"embedding"`.
        **options: Keyword arguments of `evaluate_embeddings`, such as `far_range`,
            `recall_at`, `relevance` or `gallery_embeddings`.

    Attributes:
        evaluation: The last `Evaluation`, or `None`.

    Raises:
        ValueError: If `every` or `batch_size` is below 1.
        TypeError: If `options` has a name that `evaluate_embeddings` does not know.
        KeyError: During `fit`, if the model has no output of that name.

    Example:

    ```python
    callbacks = [
        keras_tcm.callbacks.RetrievalEvaluation(x_val, y_val),
        keras.callbacks.EarlyStopping("val_opis", mode="min", patience=3),
    ]
    model.fit(sampler, epochs=20, callbacks=callbacks)
    ```
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        every: int = 1,
        batch_size: int = 32,
        prefix: str = "val_",
        output: str = "embedding",
        **options: Any,
    ) -> None:
        super().__init__()
        self.x = x
        self.y = y
        self.every = check_integer("every", every, 1)
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.prefix = prefix
        self.output = output
        # A misspelt option must not wait for the end of the first epoch.
        inspect.signature(evaluate_embeddings).bind(x, y, **options)
        self.options = {"verbose": False, **options}
        self.evaluation: Evaluation | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate and write into `logs`."""
        if (epoch + 1) % self.every:
            return
        batched = not isinstance(self.x, keras.utils.PyDataset)
        embeddings = self.model.predict(
            self.x, batch_size=self.batch_size if batched else None, verbose=0
        )
        if isinstance(embeddings, dict):
            embeddings = embeddings[self.output]
        try:
            self.evaluation = evaluate_embeddings(embeddings, self.y, **self.options)
        except UndefinedError as error:
            self.evaluation = None
            warnings.warn(f"Epoch {epoch + 1} has no evaluation: {error}", stacklevel=2)
        if logs is not None:
            logs.update(self._values())

    def _values(self) -> dict[str, float]:
        result = self.evaluation
        recall_at = self.options.get("recall_at", (1, 2, 4, 8))
        values = {
            "opis": result.opis if result else math.nan,
            "epsilon_opis": result.epsilon_opis if result else math.nan,
            "map_at_r": result.map_at_r if result else math.nan,
            "eer": result.eer if result else math.nan,
        }
        for k in recall_at:
            values[f"recall_at_{k}"] = result.recall[k] if result else math.nan
        return {self.prefix + name: value for name, value in values.items()}
