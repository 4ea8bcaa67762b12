"""What AutoTCM does, in the logs."""

from typing import Any, Self

import keras
from keras import ops

from keras_tcm.losses.auto_tcm import AutoTCM

NAMES = (
    "positive_margin",
    "negative_margin",
    "tcm_weight",
    "negative_weight",
    "gradient_ratio",
    "gradient_alignment",
    "hard_positives",
    "hard_negatives",
)


@keras.saving.register_keras_serializable(package="keras_tcm")
class AutoTCMMonitor(keras.metrics.Metric):
    """Means over an epoch of what `AutoTCM` sets itself to.

    Writes eight numbers into the logs: `positive_margin` and `negative_margin`, cosine
    similarities; `tcm_weight` and, as a factor in it, `negative_weight`;
    `gradient_ratio`, of the base loss' gradient to that of TCM, and
    `gradient_alignment`, with that of TCM's positive term; `hard_positives` and
    `hard_negatives`, shares of the positive and the negative pairs.
    `keras_tcm.visualization.plot_auto_tcm` draws them. A batch without a negative pair,
    which has no margins, is left out.

    Where `hard_positives` nears 0, the network knows its training samples by heart, and
    TCM has nothing left to pull together: augment the samples, or train for less long.

    It evaluates the loss once more in each step; without it, nothing is computed.

    Args:
        loss: The `AutoTCM` of the model.
        name: Name of the metric. Defaults to `"auto_tcm_monitor"`.
        dtype: Dtype of the results. Defaults to `keras.config.floatx()`.

    Raises:
        TypeError: If `loss` is not an `AutoTCM`.

    Example:

    >>> loss = keras_tcm.AutoTCM(keras_tcm.losses.MultiSimilarity())
    >>> monitor = keras_tcm.metrics.AutoTCMMonitor(loss)
    >>> model.compile("adam", loss=loss, metrics=[monitor])
    """

    def __init__(
        self, loss: AutoTCM, name: str = "auto_tcm_monitor", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if not isinstance(loss, AutoTCM):
            raise TypeError(
                f"`loss` must be a `keras_tcm.losses.AutoTCM`. Received: loss={loss!r}"
            )
        self.loss = loss
        self._totals = self.add_variable(
            shape=(len(NAMES),), initializer="zeros", name="totals", dtype="float32"
        )
        self._steps = self.add_variable(
            shape=(), initializer="zeros", name="steps", dtype="float32"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add what the rule makes of a batch."""
        found = self.loss.settings(y_true, y_pred, sample_weight)
        values = ops.stack([ops.cast(found[name], "float32") for name in NAMES])
        # Elsewhere they are similarities.
        has_margins = ops.abs(values[0]) < 2
        self._totals.assign(
            ops.convert_to_tensor(self._totals)
            + ops.where(has_margins, values, ops.zeros_like(values))
        )
        self._steps.assign(
            ops.convert_to_tensor(self._steps) + ops.cast(has_margins, "float32")
        )

    def result(self) -> dict[str, Any]:
        """Return the means since the last reset, 0 before there are any."""
        steps = ops.maximum(ops.convert_to_tensor(self._steps), 1.0)
        means = ops.convert_to_tensor(self._totals) / steps
        return {
            name: ops.cast(means[place], self.dtype) for place, name in enumerate(NAMES)
        }

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "loss": keras.saving.serialize_keras_object(self.loss),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build the metric, and the loss in it, from the configuration."""
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})
