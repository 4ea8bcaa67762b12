"""Vision Transformers of keras-hub, with their preprocessing inside."""

from typing import Any

import keras
from keras import layers

from keras_tcm.models.checks import check_image_shape

_PATCH_SIZE = 16
_BASE = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072}


def _keras_hub() -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            'The backbone "vit_base" needs keras-hub: pip install "keras-tcm[hub]"'
        ) from error
    return keras_hub


def _class_token_model(vit: Any, scale: Any, offset: Any) -> keras.Model:
    """Rescale pixels, run `vit`, and take its class token, which is the first."""
    inputs = keras.Input(tuple(vit.image_shape), name="image")
    tokens = vit(layers.Rescaling(scale, offset)(inputs))
    return keras.Model(inputs, tokens[:, 0], name="vit_base")


def _pretrained(weights: str, input_shape: tuple[int, ...]) -> keras.Model:
    hub = _keras_hub()
    # How the pixels were scaled when the weights were trained.
    converter = hub.layers.ViTImageConverter.from_preset(weights)
    # Presets are saved in float32; the backbone follows the policy in force.
    vit = hub.models.ViTBackbone.from_preset(weights, dtype=keras.config.dtype_policy())
    if tuple(vit.image_shape) != input_shape:
        raise ValueError(
            f"`input_shape` must be {tuple(vit.image_shape)}, which the preset was "
            f"trained with. Received: input_shape={input_shape}, weights={weights!r}"
        )
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return _class_token_model(vit, scale, offset)


def vit_base(input_shape: tuple[int, ...], weights: str | None = None) -> keras.Model:
    """Build the Vision Transformer of keras-hub, ViT-B/16 unless a preset differs.

    It has 86 million weights. The output is the class token, from which the presets
    were trained to classify; so `embedding_model` has nothing to pool. Needs
    keras-hub: `pip install "keras-tcm[hub]"`.

    Args:
        input_shape: Shape of one RGB image, `(height, width, 3)`: multiples of 16
            pixels, or the size that the preset was trained with, such as 224 x 224.
        weights: Name of a `keras_hub.models.ViTBackbone` preset, such as
            `"vit_base_patch16_224_imagenet"` (all of them:
            `keras_hub.models.ViTBackbone.presets`), downloaded by keras-hub at first
            use, or the path of a preset directory; the preset fixes the architecture
            and how pixels are rescaled. Defaults to `None`: random initialisation,
            and pixels rescaled to [-1, 1].

    Returns:
        A `keras.Model` from RGB pixels in [0, 255] to vectors `(batch, 768)`, the
        class token after the last layer normalisation.

    Raises:
        ImportError: If keras-hub is not installed.
        ValueError: If `weights` is not a preset, `input_shape` is not that of the
            preset, or not that of an RGB image in multiples of 16 pixels, or
            `keras.config.image_data_format()` is `"channels_first"`, which presets
            cannot take.

    Example:
    ```python
    backbone = keras_tcm.models.backbone(
        "vit_base", (224, 224, 3), weights="vit_base_patch16_224_imagenet"
    )
    model = keras_tcm.models.embedding_model(backbone, 128)
    ```

    Reference:
        - [Dosovitskiy et al., 2021](https://arxiv.org/abs/2010.11929)
    """
    data_format = keras.config.image_data_format()
    if data_format != "channels_last":
        raise ValueError(
            '`keras.config.image_data_format()` must be "channels_last" for the '
            f'backbone "vit_base". Received: {data_format!r}'
        )
    pixels = check_image_shape(input_shape, _PATCH_SIZE, channels=3)
    if weights is not None:
        return _pretrained(weights, input_shape)
    if any(size % _PATCH_SIZE for size in pixels):
        raise ValueError(
            f"`input_shape` must be in multiples of {_PATCH_SIZE} pixels. "
            f"Received: input_shape={input_shape}"
        )
    vit = _keras_hub().models.ViTBackbone(
        image_shape=input_shape, patch_size=_PATCH_SIZE, **_BASE
    )
    return _class_token_model(vit, scale=1 / 127.5, offset=-1.0)
