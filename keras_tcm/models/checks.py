"""Argument checks that the backbones share."""

import keras


def check_image_shape(
    input_shape: tuple[int, ...], smallest: int, channels: int | None = None
) -> tuple[int, int]:
    """Return the height and width of an image, or raise if it is not fit.

    Args:
        input_shape: Shape of one image, in the order that
            `keras.config.image_data_format()` asks for.
        smallest: Integer, smallest height and width.
        channels: Integer, the number of channels. Defaults to `None`: any.

    Raises:
        ValueError: If `input_shape` does not have three known axes, the image is
            smaller than `smallest`, or its channels are not `channels`.
    """
    channels_first = keras.config.image_data_format() == "channels_first"
    axes = list(input_shape)
    given = axes.pop(0 if channels_first else -1) if axes else None
    if (
        len(axes) != 2
        or given is None
        or None in axes
        or min(axes) < smallest
        or channels not in (None, given)
    ):
        raise ValueError(
            "`input_shape` must have a height and a width of at least "
            f"{smallest} pixels, and {channels or 'its'} channels, which come "
            f"{'first' if channels_first else 'last'}. "
            f"Received: input_shape={input_shape}"
        )
    return axes[0], axes[1]


def check_no_weights(name: str, weights: str | None) -> None:
    """Raise `ValueError` if pretrained weights are asked for that do not exist."""
    if weights is not None:
        raise ValueError(
            f"`weights` must be None: {name} has no pretrained weights. "
            f"Received: weights={weights!r}"
        )
