"""Batch normalisation that stays as it is while the rest trains."""

from collections.abc import Iterator

import keras


def _layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield `layer`, the layers of models inside it and the layers they wrap."""
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _layers(inner)
    if isinstance(layer, keras.layers.Wrapper):
        yield from _layers(layer.layer)


def freeze_batch_norm(model: keras.Model) -> None:
    """Freeze the batch normalisation of a model, and nothing else of it.

    Every `keras.layers.BatchNormalization` in `model`, in models inside it and in
    wrappers such as `TimeDistributed` gets `trainable = False`: in `fit` too it
    normalises with its moving statistics, as in `predict`, and neither they nor its
    scale and offset change. This is usual when a pretrained backbone is fine-tuned
    with the small, class-balanced batches of metric learning, whose statistics are
    not those of the data.

    It is kept by saving and loading, because it is in the configuration of each
    layer. Setting `trainable` on the model or on a part of it afterwards overrides
    it. It is not found, and has to be done by hand, inside a layer of your own that
    holds batch normalisation as an attribute; and keras-hub's own backbones do not
    save it: call this function again after loading them.

    Args:
        model: A `keras.Model`, such as a backbone or an embedding model. It is
            changed in place; a model that is compiled must be compiled again.

    Raises:
        TypeError: If `model` is not a `keras.Model`.

    Example:
    >>> backbone = keras_tcm.models.backbone("resnet_small", (28, 28, 1))
    >>> before = len(backbone.trainable_variables)
    >>> keras_tcm.models.freeze_batch_norm(backbone)
    >>> before, len(backbone.trainable_variables)
    (27, 9)

    Reference:
        - [Musgrave et al., 2020, A Metric Learning Reality
          Check](https://arxiv.org/abs/2003.08505) freeze it in every experiment.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"`model` must be a keras.Model. Received: model={model!r}")
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
