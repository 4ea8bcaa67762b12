"""Labels as a relevance compares them, and the classes that they make."""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from keras_tcm.labels import check_labels, encode_labels, to_array
from keras_tcm.relevance import (
    ClassRelevance,
    HierarchyLevel,
    Relevance,
    SharedLabel,
    get_relevance,
)


def check_relevance(relevance: Any, has_gallery: bool = True) -> Relevance | None:
    """Return a relevance under which samples have classes.

    Args:
        relevance: What a user gives: an object of `keras_tcm.relevance`, or `None` for
            equal labels.
        has_gallery: Whether there may be a gallery. Without, the relevance must be
            symmetric. Defaults to `True`.

    Raises:
        TypeError: If it is no relevance.
        ValueError: If it makes no classes, or is not symmetric.
    """
    relevance = get_relevance(relevance)
    known = (SharedLabel, HierarchyLevel, ClassRelevance)
    if relevance is not None and not isinstance(relevance, known):
        raise ValueError(
            "`relevance` must be a SharedLabel, HierarchyLevel or ClassRelevance, or "
            "None: a function makes no classes, over which OPIS is defined. "
            f"Received: relevance={relevance!r}"
        )
    if not has_gallery:
        check_symmetric(relevance)
    return relevance


def check_symmetric(relevance: Relevance | None) -> None:
    """Raise unless it does not matter which end of a pair is the query."""
    if relevance is not None and not relevance.is_symmetric:
        raise ValueError(
            "`relevance` must be symmetric where samples are compared with each other, "
            "for which threshold is the same from both ends of a pair. "
            "Received: a matrix that is not"
        )


def has_single_labels(relevance: Relevance | None) -> bool:
    """Whether a pair is positive if its ends have the same single label."""
    return relevance is None or isinstance(relevance, HierarchyLevel)


def read_labels(
    given: Sequence[tuple[str, Any, int]], relevance: Relevance | None
) -> list[Any]:
    """Check the labels of queries and gallery.

    Args:
        given: Name of the argument, its value and the number of samples, for each.
        relevance: What compares them.

    Returns:
        For each: single labels as `check_labels` returns them, multi-hot rows as
        booleans, the classes of a `ClassRelevance` as integers, and for anything else
        an array.
    """
    if relevance is None:
        return [check_labels(*one) for one in given]
    arrays: list[np.ndarray] = []
    for name, labels, size in given:
        array = _as_array(name, labels)
        relevance.check_labels(name, array.shape)
        if len(array) != size:
            raise ValueError(
                f"`{name}` must have one row per sample, {size}. "
                f"Received: {name}.shape={array.shape}"
            )
        if arrays and array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"`{name}` must be as wide as `{given[0][0]}`, {arrays[0].shape[1]}. "
                f"Received: {name}.shape={array.shape}"
            )
        arrays.append(array)
    return [
        _read(name, array, relevance)
        for (name, _, _), array in zip(given, arrays, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class Memberships:
    """Which samples are in which classes.

    Attributes:
        classes: The labels of the classes.
        queries: The query of each membership, increasing; shape `(k,)`.
        codes: The index of its class, shape `(k,)`.
        members: Gallery samples in each class, if a positive pair counts for a class
            only where both ends are in it; `None` if one end suffices.
    """

    classes: Sequence[Hashable]
    queries: np.ndarray
    codes: np.ndarray
    members: list[np.ndarray] | None

    def select(self, codes: np.ndarray) -> "Memberships":
        """Keep some classes, in increasing order."""
        kept = np.isin(self.codes, codes)
        return Memberships(
            [self.classes[code] for code in codes.tolist()],
            self.queries[kept],
            np.searchsorted(codes, self.codes[kept]),
            self.members and [self.members[code] for code in codes],
        )


def find_memberships(
    relevance: Relevance, labels: np.ndarray, gallery_labels: np.ndarray
) -> Memberships:
    """Find the classes of the queries.

    Args:
        relevance: A `SharedLabel` or a `ClassRelevance`.
        labels: Labels of the queries, from `read_labels`.
        gallery_labels: Labels of the gallery, likewise.
    """
    if isinstance(relevance, ClassRelevance):
        classes, (codes,) = encode_labels(labels)
        return Memberships(classes, np.arange(len(labels)), codes, None)
    queries, codes = np.nonzero(labels)
    members = [np.flatnonzero(column) for column in gallery_labels.T]
    found = Memberships(range(labels.shape[1]), queries, codes, members)
    return found.select(np.unique(codes))


def comparable(labels: np.ndarray, relevance: Relevance) -> np.ndarray:
    """Return labels from `read_labels` in a form that all backends hold exactly."""
    if not isinstance(relevance, ClassRelevance):
        return labels
    # JAX takes the low 32 bits of an integer: those of 2^32 are a class.
    classes, (codes,) = encode_labels(labels)
    known = range(len(relevance.matrix))
    return np.array([x if x in known else -1 for x in classes], np.int32)[codes]


def _as_array(name: str, labels: Any) -> np.ndarray:
    array, _ = to_array(name, labels)
    # As objects first: NumPy would turn the integers beside strings into strings, and
    # rows of different lengths fail later, with a shape that tells.
    return np.array(labels, dtype=object) if array is None else array


def _read(name: str, array: np.ndarray, relevance: Relevance) -> Any:
    if isinstance(relevance, HierarchyLevel):
        return _prefixes(name, array[:, : relevance.level + 1])
    if isinstance(relevance, ClassRelevance):
        known = check_labels(name, array, len(array))
        kinds = set(map(type, known)) - {int, bool} if isinstance(known, list) else ()
        if kinds:
            raise TypeError(f"`{name}` must hold integers. Received: {kinds.pop()}")
        return known
    if array.dtype == object:
        array = np.array(array.tolist())
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"`{name}` must hold numbers. Received: {name}.dtype={array.dtype}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received: NaN or infinity")
    return array > 0 if isinstance(relevance, SharedLabel) else array


def _prefixes(name: str, rows: np.ndarray) -> list[Hashable] | np.ndarray:
    """Rows as single labels: tuples, or the value itself in rows of one."""
    columns = [check_labels(name, column, len(rows)) for column in rows.T]
    if len(columns) == 1:
        return columns[0]
    values = (x.tolist() if isinstance(x, np.ndarray) else x for x in columns)
    return list(zip(*values, strict=True))
