"""Positive pairs from a user's function."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_tcm.relevance.relevance import Relevance


@keras.saving.register_keras_serializable(package="keras_tcm")
class FunctionRelevance(Relevance):
    """A function that tells which pairs are positive; losses take the function itself.

    Args:
        function: Maps the labels of some samples `(a, ...)` and those of others
            `(n, ...)`, tensors of the backend, to whether each pair is positive, shape
            `(a, n)`. Register it with `keras.saving.register_keras_serializable` to
            save models that are compiled with it.

    Example:

    >>> def within_a_year(years, others):
    ...     return keras.ops.abs(years[:, None] - others[None, :]) <= 1
    >>> loss = keras_tcm.TCM(relevance=within_a_year)
    """

    is_symmetric = False

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        if isinstance(function, dict):
            function = keras.saving.deserialize_keras_object(function)
        self.function = function

    def check_labels(self, name: str, shape: tuple[int | None, ...]) -> None:
        """Raise unless there are labels at all."""
        if not shape:
            raise ValueError(
                f"`{name}` must have shape (batch, ...). Received: {name}.shape={shape}"
            )

    def __call__(self, anchor_labels: Any, partner_labels: Any) -> Any:
        """Apply the function, and check what comes back, shape `(a, n)`."""
        anchors = ops.convert_to_tensor(anchor_labels)
        partners = ops.convert_to_tensor(partner_labels)
        relevant = ops.convert_to_tensor(self.function(anchors, partners))
        expected = anchors.shape[0], partners.shape[0]
        found = tuple(relevant.shape)
        if len(found) != 2 or any(
            None not in sizes and sizes[0] != sizes[1]
            for sizes in zip(found, expected, strict=True)
        ):
            raise ValueError(
                "`relevance` must return a matrix of anchors x partners, "
                f"{expected}. Received: shape {found}"
            )
        return ops.cast(relevant, "bool")

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"FunctionRelevance({name})"

    def __eq__(self, other: object) -> bool:
        # Functions that one `def` makes with other values inside have the same name.
        return isinstance(other, FunctionRelevance) and self.function == other.function

    __hash__ = Relevance.__hash__

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {"function": keras.saving.serialize_keras_object(self.function)}
