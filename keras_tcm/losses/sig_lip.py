"""The pairwise sigmoid loss between two towers."""

from typing import Any

import keras
from keras import ops

from keras_tcm.losses.logit_loss import LogitLoss
from keras_tcm.ops.logit_scale import read_logit_scale
from keras_tcm.ops.pairs import Pairs
from keras_tcm.validation import check_number


@keras.saving.register_keras_serializable(package="keras_tcm")
class SigLIP(LogitLoss):
    """Logistic loss of every pair of a query and an item (sigmoid loss).

    ```
    loss = sum over pairs of log(1 + exp(-z (scale * s + bias))) / batch
    ```

    with `z` = 1 for a pair that matches and -1 for one that does not. Every pair is
    judged by itself, against one threshold for all: `-bias / scale` is the cosine
    similarity from which on the model takes a pair for a match.

    Args:
        scale: Factor of the similarities, above 0. Defaults to 10.0, where the paper
            begins.
        bias: Added to them. Defaults to -10.0, likewise: as there are many more pairs
            that do not match, it begins by taking all of them for such. `None` for both
            takes what `keras_tcm.layers.StackTowers(scale=10.0, bias=-10.0)` learns,
            which is what the paper does.
        **options: Those of every pairwise loss, as the call arguments: see
            `PairwiseLoss`.

    Call arguments:
        sample_weight: Optional weights, shape `(batch,)`. A pair weighs the product of
            its two weights.

    Raises:
        ValueError: If `scale` is not above 0, only one of the two is `None`, or both
            with one tower.
        TypeError: If a number is none.

    Example:

    >>> embeddings = np.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    >>> loss = keras_tcm.losses.SigLIP(scale=10.0, bias=-5.0)
    >>> round(float(loss(np.array([0, 1]), embeddings)), 4)  # 2 log(1 + exp(-5))
    0.0134

    Reference:
        - [Zhai et al., ICCV 2023](https://arxiv.org/abs/2303.15343)
    """

    is_symmetric = True
    scale_name = "scale"

    def __init__(
        self,
        scale: float | None = 10.0,
        bias: float | None = -10.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if (scale is None) != (bias is None):
            raise ValueError(
                "`scale` and `bias` must both be numbers or both be None. "
                f"Received: scale={scale!r}, bias={bias!r}"
            )
        if scale is not None:
            scale = check_number("scale", scale, 0, open_low=True)
            bias = check_number("bias", bias)
        self.scale = scale
        self.bias = bias

    def vectors(self, anchors: Any, partners: Any, predictions: Any) -> tuple[Any, Any]:
        """Make the vectors whose inner products are the logits."""
        if not self.has_learned_scale:
            return anchors, partners
        scale, bias = read_logit_scale(predictions)
        return (
            ops.concatenate([scale * anchors, ops.ones_like(anchors[:, :1])], axis=1),
            ops.concatenate([partners, bias * ops.ones_like(partners[:, :1])], axis=1),
        )

    def anchor_terms(self, pairs: Pairs) -> tuple[Any, ...]:
        """Add up the losses of the pairs of each anchor."""
        logits = pairs.similarities
        if not self.has_learned_scale:
            logits = self.scale * logits + self.bias
        return (
            ops.sum(
                pairs.positive * ops.softplus(-logits)
                + pairs.negative * ops.softplus(logits),
                axis=1,
            ),
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {**super().get_config(), "scale": self.scale, "bias": self.bias}
