"""The `Relevance` of what a user may give."""

from typing import Any

import keras

from keras_tcm.relevance.function_relevance import FunctionRelevance
from keras_tcm.relevance.relevance import Relevance


def get_relevance(relevance: Any) -> Relevance | None:
    """Return a `Relevance` for what a user may give.

    Args:
        relevance: A `Relevance`, a function of two label tensors, the configuration of
            either, or `None`.

    Returns:
        The `Relevance`, or `None` for equal labels.

    Raises:
        TypeError: If it is anything else.
    """
    if isinstance(relevance, dict):
        relevance = keras.saving.deserialize_keras_object(relevance)
    if relevance is None or isinstance(relevance, Relevance):
        return relevance
    if isinstance(relevance, type) or not callable(relevance):
        raise TypeError(
            "`relevance` must be a `keras_tcm.relevance.Relevance`, a function of two "
            f"label tensors, or None. Received: relevance={relevance!r}"
        )
    return FunctionRelevance(relevance)
