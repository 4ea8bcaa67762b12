"""Positive pairs of hierarchical labels."""

from typing import Any

import keras
from keras import ops

from keras_tcm.relevance.relevance import Relevance
from keras_tcm.validation import check_integer


@keras.saving.register_keras_serializable(package="keras_tcm")
class HierarchyLevel(Relevance):
    """Labels in a hierarchy: a pair is positive if they agree down to a level.

    Labels are rows from the coarsest to the finest level, such as (category, product).
    Because all levels down to `level` must agree, ids may begin anew in every branch.

    Args:
        level: Index of the finest level that must agree: 0 is the coarsest.

    Raises:
        TypeError: If `level` is not an integer.
        ValueError: If `level` is negative; in use, if labels have no such level.

    Example:

    >>> labels = np.array([[0, 5], [0, 6], [1, 5]])
    >>> positive = keras_tcm.relevance.HierarchyLevel(0)(labels, labels)
    >>> keras.ops.convert_to_numpy(positive)[0].tolist()
    [True, True, False]
    """

    has_class_labels = True

    def __init__(self, level: int) -> None:
        self.level = check_integer("level", level, 0)

    def check_labels(self, name: str, shape: tuple[int | None, ...]) -> None:
        """Raise unless labels are rows that reach down to the level."""
        if len(shape) != 2 or shape[1] is None or shape[1] <= self.level:
            raise ValueError(
                f"`{name}` must have shape (batch, levels) with more than {self.level} "
                f"levels. Received: {name}.shape={shape}"
            )

    def __call__(self, anchor_labels: Any, partner_labels: Any) -> Any:
        """Tell which pairs agree down to the level, shape `(a, n)`."""
        last = self.level + 1
        anchors = ops.convert_to_tensor(anchor_labels)[:, None, :last]
        partners = ops.convert_to_tensor(partner_labels)[None, :, :last]
        return ops.all(ops.equal(anchors, partners), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"level": self.level}
