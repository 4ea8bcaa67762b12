"""The two towers of a model, each by itself."""

from typing import Any

import keras

from keras_tcm._keras_internals import origin_of
from keras_tcm.layers import StackTowers
from keras_tcm.models.cross_batch_memory import CrossBatchMemory


def towers(model: Any) -> tuple[keras.Model, keras.Model]:
    """Take a model that ends with `StackTowers` apart.

    Queries and gallery items are embedded separately once a model is trained, and there
    may be more of the ones than of the others.

    Args:
        model: A functional `keras.Model` whose output is that of a `StackTowers`, or a
            `CrossBatchMemory` around it.

    Returns:
        The model of the queries and that of the gallery items: from the inputs that
        each depends on to its embedding. They share their layers with `model`.

    Raises:
        TypeError: If `model` is not a functional model.
        ValueError: If it does not end with a `StackTowers`.

    Example:

    ```python
    text_tower, image_tower = keras_tcm.models.towers(model)
    matcher = keras_tcm.Matcher(threshold)
    matcher.add(image_ids, image_tower.predict(images))
    matcher.match(text_tower.predict(texts))
    ```
    """
    if isinstance(model, CrossBatchMemory):
        model = model.model
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise TypeError(
            "`model` must be a functional Keras model: build a model of another kind "
            f"from its towers. Received: model={model!r}"
        )
    layer, inputs = origin_of(model.outputs[0])
    if not isinstance(layer, StackTowers):
        raise ValueError(
            "`model` must end with a `keras_tcm.layers.StackTowers`, where its towers "
            f"meet. Received: model={model!r}, which ends with {layer!r}"
        )
    query_tower, gallery_tower = (
        keras.Model(_inputs_of(output), output) for output in inputs
    )
    return query_tower, gallery_tower


def _inputs_of(output: Any) -> Any:
    inputs = keras.utils.get_source_inputs(output)
    return inputs[0] if len(inputs) == 1 else inputs
