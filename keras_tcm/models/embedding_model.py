"""The embedding head on a backbone."""

from typing import Literal

import keras
from keras import layers

from keras_tcm.layers import CosineClassifier, GeMPooling, UnitNorm
from keras_tcm.validation import check_choice, check_integer


def _pool(features: keras.KerasTensor, pooling: str) -> keras.KerasTensor:
    rank = len(features.shape)
    if rank == 2:
        return features
    if rank == 3 and pooling == "avg":
        # A sequence is (batch, steps, channels) whatever the image data format.
        return layers.GlobalAveragePooling1D(
            data_format="channels_last", name="pooling"
        )(features)
    if rank == 4 and pooling == "avg":
        return layers.GlobalAveragePooling2D(name="pooling")(features)
    if rank == 4:
        return GeMPooling(name="pooling")(features)
    raise ValueError(
        "`backbone` must return a feature map (batch, height, width, channels), "
        'a sequence (batch, steps, channels) with `pooling="avg"`, or vectors '
        f"(batch, channels). Received: backbone.output_shape={features.shape}, "
        f"pooling={pooling!r}"
    )


def embedding_model(
    backbone: keras.Model,
    embedding_dim: int,
    pooling: Literal["avg", "gem"] = "avg",
    num_classes: int | None = None,
) -> keras.Model:
    """Put an embedding head on a backbone.

    The head is pooling, a dense layer and L2 normalisation; the last is in float32
    under any dtype policy. The backbone is one layer of the model, shared with it,
    so `backbone.trainable = False` freezes it here too, and
    `keras_tcm.models.freeze_batch_norm` its batch normalisation alone.

    Args:
        backbone: A `keras.Model` with one output: a feature map `(batch, height,
            width, channels)` (channels first under that
            `keras.config.image_data_format()`), a sequence `(batch, steps,
            channels)`, which is averaged over its steps (those that are not masked,
            if it has a mask), or vectors `(batch, channels)`, which are not pooled.
        embedding_dim: Integer, size of the embedding.
        pooling: `"avg"`, or `"gem"` for `keras_tcm.layers.GeMPooling`, on feature
            maps. Defaults to `"avg"`.
        num_classes: Integer, number of training classes for a second output, the
            cosines to one learned direction per class, which is the input of
            `ArcFace`, `CosFace`, `NormalizedSoftmax` and `ProxyAnchor`. Defaults
            to `None`: no such output.

    Returns:
        A functional `keras.Model`. Its output is the embedding `(batch,
        embedding_dim)`, float32, of unit norm. With `num_classes` it is a
        dictionary of `"embedding"` and `"cosines"`, `(batch, num_classes)`.

    Raises:
        TypeError: If `embedding_dim` or `num_classes` is not an integer.
        ValueError: If `backbone` is not a functional or built sequential model with
            one output, `embedding_dim` or `num_classes` is not positive, `pooling`
            is unknown, or the output of `backbone` cannot be pooled so.

    Example:
    ```python
    backbone = keras_tcm.models.backbone("resnet_small", (28, 28, 1))
    model = keras_tcm.models.embedding_model(backbone, 64, num_classes=100)
    model.compile(
        "adam",
        loss={
            "cosines": keras_tcm.losses.ArcFace(),
            "embedding": keras_tcm.losses.TCM(),
        },
    )
    ```
    """
    embedding_dim = check_integer("embedding_dim", embedding_dim, 1)
    check_choice("pooling", pooling, ("avg", "gem"))
    # A subclassed or unbuilt model has no symbolic outputs.
    if len(getattr(backbone, "outputs", None) or ()) != 1:
        raise ValueError(
            "`backbone` must be a functional or built sequential model with one "
            f"output. Received: backbone={backbone!r}"
        )
    # Calling the backbone, rather than going on from its output, keeps its layer
    # names, one of which may well be "embedding", apart from those of the head.
    sequential = isinstance(backbone, keras.Sequential)
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=x.dtype, name=x.name),
        backbone.inputs[0] if sequential else backbone.input,
    )
    x = _pool(backbone(inputs), pooling)
    x = layers.Dense(embedding_dim, name="projection")(x)
    embedding = UnitNorm(name="embedding")(x)
    if num_classes is None:
        return keras.Model(inputs, embedding, name="embedding_model")
    cosines = CosineClassifier(num_classes, name="cosines")(embedding)
    outputs = {"embedding": embedding, "cosines": cosines}
    return keras.Model(inputs, outputs, name="embedding_model")
