"""Labels of any hashable kind: which of them are the same class, and as tensors.

Two labels are the same class exactly when they are equal in Python, so `1`, `1.0` and
`True` are, `1` and `"1"` are not. A NumPy scalar stands for its Python value, but the
dates and durations of NumPy, which are compared with each other only. Missing labels
are refused, and so are floats that may have been rounded.
"""

import contextlib
import numbers
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from keras_tcm.ops.integers import widest_integer

# Labels of these types are what they are: present, hashable and exact.
_PLAIN = {int, str, bytes, bool}
# Digits of whole numbers, in bits, that the types of floats hold.
_DIGITS = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
_INT64 = np.iinfo(np.int64)
# What to say of labels in another form.
ENCODE = (
    "number other labels with `classes, y = np.unique(labels, return_inverse=True)`; "
    "`evaluate_embeddings` takes any as they are, so a test set needs no numbers"
)
ONE_HOT = (
    "one-hot rows have `np.argmax(rows, axis=1)` as labels; rows with several labels "
    "are compared with `relevance=keras_tcm.relevance.SharedLabel()`, by the pairwise "
    "losses, the metrics and `evaluate_embeddings`"
)


def check_labels(name: str, labels: Any, size: int) -> list[Hashable] | np.ndarray:
    """Return one hashable label per sample.

    Args:
        name: Name of the argument.
        labels: Array of shape `(n,)` or `(n, 1)`, backend tensor, or sequence of
            hashable objects.
        size: Number of samples expected.

    Returns:
        An array of integers (int64 or less) or booleans, or a list of anything else.
    """
    array, dtype = to_array(name, labels)
    if array is None:
        if isinstance(labels, str | bytes) or not isinstance(labels, Sequence):
            raise TypeError(
                f"`{name}` must be an array or a sequence. Received: {name}={labels!r}"
            )
        known: list[Hashable] | np.ndarray = _read_labels(name, labels)
    else:
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            hint = f" ({ONE_HOT})" if array.ndim == 2 else ""
            raise ValueError(
                f"`{name}` must have shape (samples,){hint}. "
                f"Received: {name}.shape={array.shape}"
            )
        known = _read_array(name, array, dtype)
    if len(known) != size:
        raise ValueError(
            f"`{name}` must have one label per sample, {size}. "
            f"Received: {len(known)} labels"
        )
    return known


def encode_labels(
    *label_sets: list[Hashable] | np.ndarray,
) -> tuple[list[Hashable], list[np.ndarray]]:
    """Number the classes that occur in several sets of labels.

    Args:
        label_sets: Labels as `check_labels` returns them.

    Returns:
        The classes (sorted where they can be, else in order of appearance), and for
        each set the index of each label among them.

    Raises:
        TypeError: If dates or durations of NumPy are mixed with anything else, whose
            equality with them depends on how it is asked for.
    """
    arrays = [labels for labels in label_sets if isinstance(labels, np.ndarray)]
    if len(arrays) == len(label_sets):
        classes, codes = np.unique(np.concatenate(arrays), return_inverse=True)
        ends = np.cumsum([len(labels) for labels in arrays])
        return classes.tolist(), np.split(codes.reshape(-1), ends[:-1])
    lists = [
        labels.tolist() if isinstance(labels, np.ndarray) else labels
        for labels in label_sets
    ]
    seen: dict[Hashable, None] = dict.fromkeys(x for labels in lists for x in labels)
    found = list(seen)
    types = set(map(type, found))
    if len(types) > 1 and types & {np.datetime64, np.timedelta64}:
        names = ", ".join(sorted(f"{x.__module__}.{x.__qualname__}" for x in types))
        raise TypeError(
            "`labels` must all be dates of NumPy, or durations, where some are. "
            f"Received: labels of {names}"
        )
    # Labels of kinds that have no order stay in order of appearance.
    with contextlib.suppress(TypeError):
        found = sorted(found)  # type: ignore[type-var]
    index = {label: code for code, label in enumerate(found)}
    return found, [
        np.fromiter(map(index.__getitem__, labels), np.int64, len(labels))
        for labels in lists
    ]


def label_array(labels: Sequence[Hashable]) -> np.ndarray:
    """Return labels as an array of shape `(n,)`.

    Args:
        labels: Labels of any kind.

    Returns:
        An array of int64 where all labels are integers that it holds, else of objects:
        NumPy would make a matrix of tuples, and every text as long as the longest.
    """
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    is_int64 = are_integers(labels) and all(
        _INT64.min <= label <= _INT64.max  # type: ignore[operator]
        for label in labels
    )
    return array.astype(np.int64) if is_int64 else array


def are_integers(labels: Iterable[Hashable]) -> bool:
    """Whether labels are integers, of any size, and no booleans."""
    return all(
        isinstance(label, numbers.Integral) and not isinstance(label, bool)
        for label in labels
    )


def json_labels(labels: Sequence[Hashable]) -> list[bool | int | float | str]:
    """Return labels as JSON has them, different where they are different.

    Args:
        labels: Different labels of any kind.

    Returns:
        Numbers, booleans and strings as they are, and the `repr` of anything else;
        primes tell it from what is the same text.
    """
    taken = {label for label in labels if _is_json(label)}
    written: list[Any] = []
    for label in labels:
        if not _is_json(label):
            text = repr(label)
            while text in taken:
                text += "'"
            taken.add(text)
            label = text
        written.append(label)
    return written


def label_tensor(name: str, labels: Any, *, are_classes: bool = True) -> Any:
    """Return the labels of a batch as a tensor that holds them exactly, or raise.

    A tensor stays as it is: what its values once were is not known any more.

    Args:
        name: Name of the argument.
        labels: Tensor, array or nested sequence of numbers.
        are_classes: Whether they are compared for equality: then floats must be whole
            numbers, and become integers.

    Raises:
        TypeError: If they are text, or anything else that is no number.
        ValueError: If a label is missing, not whole, or beyond the integers that the
            backend holds.
    """
    if isinstance(labels, list | tuple) and any(map(_is_tensor, labels)):
        labels = keras.ops.convert_to_tensor(labels)
    if _is_tensor(labels):
        dtype = keras.backend.standardize_dtype(labels.dtype)
        if dtype == "string" or dtype.startswith("complex"):
            raise TypeError(_not_numbers(name, f"{name} of dtype {dtype}"))
        return labels
    array, dtype = to_array(name, labels)
    if array is None:
        array = np.array(labels, dtype=object)
    if array.dtype == object:
        array = _read_numbers(name, array, are_classes)
    elif array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(_not_numbers(name, f"{name} of dtype {array.dtype}"))
    elif are_classes and array.dtype.kind not in "biu":
        array = _whole_numbers(name, array, dtype)
    if array.dtype.kind in "iu":
        array = held_integers(name, array)
        return keras.ops.convert_to_tensor(array, dtype=widest_integer())
    # Named, for Keras may make floats of them where `floatx` is short.
    dtype = "bool" if array.dtype.kind == "b" else None
    return keras.ops.convert_to_tensor(array, dtype=dtype)


def held_integers(name: str, labels: np.ndarray) -> np.ndarray:
    """Return integers as they are if tensors of the backend hold them, or raise.

    Args:
        name: Name of the argument.
        labels: Array of integers.
    """
    held = widest_integer()
    limits = np.iinfo(held)
    for value in (labels.min(initial=0), labels.max(initial=0)):
        if not limits.min <= int(value) <= limits.max:
            place = np.argwhere(labels == value)[0]
            raise ValueError(_too_large(name, _at(name, place), value, held))
    return labels.astype(np.int64) if labels.dtype.kind == "u" else labels


def check_whole_numbers(name: str, labels: Any) -> None:
    """Raise if labels are floats that are not whole, or may have been rounded.

    Args:
        name: Name of the argument.
        labels: Tensor whose values are known.
    """
    dtype = keras.backend.standardize_dtype(labels.dtype)
    if keras.backend.is_float_dtype(dtype):
        _whole_numbers(name, keras.ops.convert_to_numpy(labels), dtype)


def are_whole_numbers(labels: Any) -> Any:
    """Tell which labels are whole numbers that have not been rounded.

    Args:
        labels: Tensor of floats, with values or in a compiled step.

    Returns:
        Boolean tensor of the same shape.
    """
    limit = _first_inexact(keras.backend.standardize_dtype(labels.dtype))
    return keras.ops.logical_and(
        labels == keras.ops.floor(labels), keras.ops.abs(labels) < limit
    )


def to_array(name: str, labels: Any) -> tuple[np.ndarray | None, str]:
    """Return labels as an array, and the name of the type that they had.

    Args:
        name: Name of the argument.
        labels: Anything.

    Returns:
        `None` if they are neither an array nor a tensor, nor convert themselves.

    Raises:
        ValueError: If entries are masked.
    """
    if np.ma.is_masked(labels):
        place = np.argwhere(np.ma.getmaskarray(labels))[0]
        raise ValueError(_missing(name, _at(name, place), "masked"))
    if keras.ops.is_tensor(labels):
        dtype = keras.backend.standardize_dtype(labels.dtype)
        return keras.ops.convert_to_numpy(labels), dtype
    if hasattr(labels, "__array__"):
        array = np.asarray(labels)
        return array, array.dtype.name
    return None, ""


def _read_array(
    name: str, array: np.ndarray, dtype: str
) -> list[Hashable] | np.ndarray:
    """Labels of an array of shape `(n,)`, of which `dtype` was the type."""
    kind = array.dtype.kind
    # NumPy calls bfloat16 (from ml_dtypes) a void type.
    if kind == "f" or array.dtype.name == "bfloat16":
        return _whole_numbers(name, array, dtype)
    if kind in "ib":
        return array
    if kind == "u" and array.max(initial=0) <= _INT64.max:
        return array.astype(np.int64)
    # NumPy's dates in nanoseconds would become integers.
    return _read_labels(name, list(array) if kind in "mM" else array.tolist())


def _read_labels(name: str, labels: Sequence[Any]) -> list[Hashable]:
    """Labels of a sequence."""
    if set(map(type, labels)) <= _PLAIN:
        return list(labels)
    # Beside text or tuples, 2.5 is a name like any other.
    are_names = any(isinstance(x, str | bytes | tuple | frozenset) for x in labels)
    return [
        _read(f"{name}[{index}]", name, x, are_names) for index, x in enumerate(labels)
    ]


def _read(place: str, name: str, label: Any, may_be_broken: bool = False) -> Hashable:
    """One label, checked: what it is in Python.

    Args:
        place: The label's place, for messages.
        name: Name of the argument.
        label: The label.
        may_be_broken: Whether floats need not be whole numbers.
    """
    if type(label) in _PLAIN:
        return label
    dtype = "float64"
    if isinstance(label, np.generic):
        dtype = label.dtype.name
    elif hasattr(label, "__array__") and label is not np.ma.masked:
        array, dtype = to_array(name, label)
        # Tensors hash by what they are, not by the value that they have.
        label = array[()] if array is not None and array.ndim == 0 else array
    try:
        hash(label)
    except TypeError:
        raise TypeError(_missing(name, place, label)) from None
    if isinstance(label, np.generic) and not isinstance(
        label, str | bytes | np.datetime64 | np.timedelta64
    ):
        label = label.item()
    if isinstance(label, float | np.floating):
        is_name = may_be_broken and np.isfinite(label) and label != np.floor(label)
        return label if is_name else _whole_number(place, name, label, dtype)
    if _is_missing(label):
        raise ValueError(_missing(name, place, label))
    is_date = isinstance(label, np.datetime64 | np.timedelta64)
    return _in_coarsest_unit(label) if is_date else label


def _read_numbers(name: str, array: np.ndarray, are_classes: bool) -> np.ndarray:
    """Numbers out of an array of objects."""
    read: list[Any] = []
    for index, value in np.ndenumerate(array):
        place = _at(name, index)
        number = value
        if are_classes or not isinstance(value, float | np.floating):
            is_nested = isinstance(value, Collection) and not hasattr(value, "shape")
            number = value if is_nested else _read(place, name, value)
        if not isinstance(number, int | float | np.floating):
            raise TypeError(_not_numbers(name, f"{place}={number!r}"))
        if isinstance(number, int) and not _INT64.min <= number <= _INT64.max:
            raise ValueError(_too_large(name, place, number, "int64"))
        read.append(number)
    are_integers = all(isinstance(number, int) for number in read)
    flat = np.array(read, np.int64 if are_integers else np.float64)
    return flat.reshape(array.shape)


def _whole_numbers(name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    """Floats as int64."""
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    is_exact = (values == np.floor(values)) & (np.abs(values) < _first_inexact(dtype))
    if not is_exact.all():
        index = np.argwhere(~is_exact)[0]
        _whole_number(_at(name, index), name, values[tuple(index)], dtype)
    return values.astype(np.int64)


def _whole_number(place: str, name: str, value: Any, dtype: str) -> int:
    """A float as an integer, or an error that tells why not."""
    if not np.isfinite(value) or value != np.floor(value):
        raise ValueError(
            f"`{name}` must be whole numbers where they are floats. "
            f"Received: {place}={value}"
        )
    if abs(value) >= _first_inexact(dtype):
        raise ValueError(
            f"`{name}` must be integers where they are as large as "
            f"{_first_inexact(dtype)}: from there on {dtype} does not hold every whole "
            "number, and different labels may have become equal. "
            f"Received: {place}={value}"
        )
    return int(value)


def _first_inexact(dtype: str) -> int:
    """Up to which whole number a type of floats holds all; int64 at most."""
    digits = _DIGITS.get(dtype) or np.finfo(dtype).nmant + 1
    return 2 ** min(digits, 63)


def _in_coarsest_unit(
    date: np.datetime64 | np.timedelta64,
) -> np.datetime64 | np.timedelta64:
    """The same date or duration: equal ones have equal hashes in any NumPy then."""
    kind = type(date).__name__
    for unit in ("D", "s", "us"):
        with contextlib.suppress(OverflowError):
            coarser = date.astype(f"{kind}[{unit}]")
            # Unless it is rounded, or beyond what the unit reaches.
            if coarser.astype(date.dtype) == date:
                return coarser
    return date


def _is_tensor(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor) or keras.ops.is_tensor(value)


def _is_json(label: Any) -> bool:
    return isinstance(label, bool | int | float | str)


def _is_missing(label: Any) -> bool:
    """Whether a label, or a part of it, is nothing, or does not equal itself."""
    if label is None or label is np.ma.masked:
        return True
    if isinstance(label, tuple | frozenset):
        # A part that is `None` equals itself, as another label's does.
        return any(part is not None and _is_missing(part) for part in label)
    try:
        return bool(label != label)
    except TypeError:
        # NA of pandas, which neither does nor does not.
        return True


def _at(name: str, index: Iterable[int]) -> str:
    places = ", ".join(map(str, index))
    return f"{name}[{places}]" if places else name


def _missing(name: str, place: str, label: Any) -> str:
    return (
        f"`{name}` must be hashable and not missing (None, NaN, NaT, masked). "
        f"Received: {place}={label!r}"
    )


def _not_numbers(name: str, received: str) -> str:
    return f"`{name}` must be integers ({ENCODE}). Received: {received}"


def _too_large(name: str, place: str, label: Any, dtype: str) -> str:
    remedy = "number them with `y = np.unique(labels, return_inverse=True)[1]`"
    if dtype == "int32":
        remedy += ", or set `jax_enable_x64`"
    limits = np.iinfo(dtype)
    return (
        f"`{name}` must fit {dtype}, as tensors of the backend do, in "
        f"[{limits.min}, {limits.max}]; {remedy}. Received: {place}={label}"
    )
