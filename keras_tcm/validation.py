"""Argument checks with one form of message: the name, the expectation, the value."""

import math
import numbers
from collections.abc import Collection, Iterable
from typing import Any


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise `ValueError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}"
        )


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return `value` as a float, or raise unless it is a finite number in a range.

    Args:
        name: Name of the argument.
        value: Its value.
        low: Smallest value.
        high: Largest value.
        open_low: Whether `low` itself is excluded.
        open_high: Whether `high` itself is excluded.
    """
    interval = (
        f"{'(' if open_low or math.isinf(low) else '['}{low:g}, "
        f"{high:g}{')' if open_high or math.isinf(high) else ']'}"
    )
    message = f"`{name}` must be a number in {interval}. Received: {name}={value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    number = float(value)
    below = number <= low if open_low else number < low
    above = number >= high if open_high else number > high
    if not math.isfinite(number) or below or above:
        raise ValueError(message)
    return number


def check_integer(name: str, value: Any, low: int) -> int:
    """Return `value` as an int, or raise unless it is a whole number >= `low`."""
    message = f"`{name}` must be an integer >= {low}. Received: {name}={value!r}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(message)
    if value < low:
        raise ValueError(message)
    return int(value)


def check_range(name: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """Return `value` as two floats, or raise unless `low <= first < second <= high`."""
    message = (
        f"`{name}` must be two increasing numbers in [{low:g}, {high:g}]. "
        f"Received: {name}={value!r}"
    )
    try:
        first, second = (float(bound) for bound in value)
    except (TypeError, ValueError):
        raise TypeError(message) from None
    if not low <= first < second <= high:
        raise ValueError(message)
    return first, second


def check_several(name: str, values: Any, kind: str) -> tuple[Any, ...]:
    """Return several values as a tuple."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(
            f"`{name}` must be a sequence of {kind}. Received: {name}={values!r}"
        )
    return tuple(values)


def tensor_shape(name: str, tensor: Any) -> tuple[int | None, ...]:
    """Return the shape of a tensor, or raise unless its dimensions are known by number.

    Args:
        name: Name of the argument.
        tensor: A tensor; graphs of TensorFlow have some of unknown shape.
    """
    try:
        return tuple(tensor.shape)
    except ValueError:
        raise ValueError(
            f"`{name}` must have a known number of dimensions: `tf.ensure_shape` gives "
            f"one to what functions of Python return. Received: {name} of unknown shape"
        ) from None


def is_embedding_shape(shape: tuple[int | None, ...]) -> bool:
    """Whether a shape is `(batch, d)`, or `(batch, 2, d)` of two towers."""
    return len(shape) == 2 or (len(shape) == 3 and shape[1] == 2)


def check_embedding_shape(name: str, shape: tuple[int | None, ...]) -> None:
    """Raise unless a shape is that of the embeddings of one tower, or of two."""
    if not is_embedding_shape(shape):
        raise ValueError(
            f"`{name}` must have shape (batch, dimension), or "
            f"(batch, 2, dimension) for two towers. Received: {name}.shape={shape}"
        )


def as_vector(name: str, tensor: Any, hint: str = "") -> Any:
    """Return a tensor of shape `(batch,)` or `(batch, 1)` in the former, or raise.

    Args:
        name: Name of the argument.
        tensor: The tensor.
        hint: What to do with one that has more columns.
    """
    shape = tensor_shape(name, tensor)
    if len(shape) == 1:
        return tensor
    if len(shape) == 2 and shape[1] == 1:
        return tensor[:, 0]
    hint = f" ({hint})" if hint and len(shape) == 2 else ""
    raise ValueError(
        f"`{name}` must have shape (batch,) or (batch, 1){hint}. "
        f"Received: {name}.shape={shape}"
    )


class UndefinedError(ValueError):
    """The embeddings do not determine the requested figure.

    Raised for NaN or infinite embeddings, for too few classes or pairs, and for a
    calibration range of zero width (collapsed embeddings).
    """
