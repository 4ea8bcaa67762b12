"""The base class of the losses on logits, whose scale may be learned."""

from collections.abc import Hashable

from keras_tcm.losses.pairwise_loss import PairwiseLoss


class LogitLoss(PairwiseLoss):
    """Base class for losses on logits whose scale `StackTowers` may learn.

    Subclasses make the logits in `vectors`, for a learned scale, and in `anchor_terms`.

    Attributes:
        scale_name: Name of the argument that is `None` for a learned scale.
    """

    scale_name: str

    @property
    def has_learned_scale(self) -> bool:
        """Whether the scale is what `StackTowers` learns."""
        return getattr(self, self.scale_name) is None

    @property
    def kind(self) -> Hashable:
        """With a learned scale, its similarities are nobody else's."""
        return id(self) if self.has_learned_scale else super().kind

    def check_predictions(self, shape: tuple[int | None, ...]) -> None:
        """Raise unless `y_pred` has a shape that the loss takes."""
        super().check_predictions(shape)
        if self.has_learned_scale and len(shape) != 3:
            raise ValueError(
                f"`{self.scale_name}` must be a number with one tower: None stands for "
                "what `keras_tcm.layers.StackTowers` learns. "
                f"Received: {self.scale_name}=None, y_pred.shape={shape}"
            )
