"""A gallery with a threshold in it: which of the enrolled is this, and how surely?"""

import dataclasses
import hashlib
import os
import pathlib
import threading
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from keras_tcm import artefacts
from keras_tcm.evaluation import (
    STEPS_PER_UNIT,
    accepted_steps,
    check_embeddings,
    from_cosine,
    full_precision,
    normalize,
    similarities,
    to_cosine,
    to_steps,
    to_tensor,
)
from keras_tcm.files import replacing
from keras_tcm.labels import check_labels
from keras_tcm.threshold.threshold import Threshold, pair_similarities
from keras_tcm.validation import check_integer, check_number

_HEADER = {"format": "keras_tcm.Matcher", "version": 1}
_FIELDS = ("threshold", "ids", "vectors")
_INDEX_FILE = "matcher.json"
# Rows that are compared at a time, of the queries and of the gallery: 64 MiB.
_QUERY_ROWS = 1024
_GALLERY_ROWS = 16384
# Pairs that are looked at again in float64 at a time.
_PAIRS = 16384
# Steps that a float32 product may be wrong by, and some to spare.
_MARGIN = 4.0
# Few shapes: JAX compiles a product for each.
_LEAST_ROWS = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Matches:
    """What a query matches, best first; empty if nothing is within the threshold.

    Attributes:
        ids: The ids of what it matches. Of those at one distance, the first added is
            the first.
        distances: Their distances, increasing, shape `(m,)`.
        probabilities: How likely each is of one class with the query, shape `(m,)`.
    """

    ids: tuple[Hashable, ...]
    distances: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def best(self) -> Hashable | None:
        """The id of the nearest, or `None` if nothing matches."""
        return self.ids[0] if self.ids else None


class Matcher:
    """A gallery of embeddings, and the threshold that decides what matches in it.

    Who is this, and how sure are you? `add` those who are known, and `match` tells
    which of them are within the threshold of a query: none, one or several.

    All of the gallery is compared, in float32 on the Keras backend. Several threads may
    `match` while one adds or removes: each sees the gallery as it was at some moment
    between the start of its call and the end.

    Args:
        threshold: What `choose_threshold` returned.
        model: The Keras model of the embeddings. With one, `add` and `match` take its
            inputs instead of embeddings. If the threshold has a fingerprint of a
            model, it must be of this one. Defaults to `None`.
        index: An empty index of faiss for inner products that has `range_search`, such
            as `faiss.IndexFlatIP(dimension)` or a trained `IndexIVFFlat`, in place of
            the comparison on the backend; what it does not find is not matched.
            Defaults to `None`.

    Attributes:
        threshold: See above.

    Raises:
        TypeError: If `threshold` is no `Threshold`, or an argument has the wrong type.
        ValueError: If the model is another than that of the threshold, or the index is
            not empty, has another dimension, or is not for inner products.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(200), 8)
    >>> x = rng.normal(size=(200, 16))[labels] + 0.3 * rng.normal(size=(1600, 16))
    >>> threshold = keras_tcm.choose_threshold(x, labels, far=0.001)
    >>> matcher = keras_tcm.Matcher(threshold)
    >>> matcher.add(["ada", "emmy", "ida"], x[[0, 8, 16]])
    >>> known, stranger = matcher.match(x[[9, 80]])
    >>> known.best, stranger.best
    ('emmy', None)
    """

    def __init__(
        self, threshold: Threshold, model: Any = None, index: Any = None
    ) -> None:
        if not isinstance(threshold, Threshold):
            raise TypeError(
                "`threshold` must be a `keras_tcm.Threshold`, which "
                f"`choose_threshold` returns. Received: threshold={threshold!r}"
            )
        if model is not None and not isinstance(model, keras.Model):
            raise TypeError(f"`model` must be a `keras.Model`. Received: {model!r}")
        if model is not None and threshold.model_fingerprint is not None:
            threshold.check_model(model)
        self.threshold = threshold
        self._model = model
        self._index = None if index is None else _Index(index, threshold.dimension)
        self._gallery = _Gallery.empty(threshold.dimension)
        # Held by who changes the gallery, never by who reads it.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Number of embeddings in the gallery."""
        return self._gallery.size

    def __contains__(self, one: Hashable) -> bool:
        with self._lock:
            return one in self._gallery.places

    @property
    def ids(self) -> list[Hashable]:
        """The ids, in the order in which they were added."""
        gallery = self._gallery
        return gallery.ids[: gallery.size]

    # ------------------------------------------------------------------- the gallery

    def add(self, ids: Sequence[Hashable] | np.ndarray, samples: Any) -> None:
        """Enrol embeddings, all of them or, if there is an error, none.

        Args:
            ids: What to call each, shape `(n,)`: strings, integers, tuples or anything
                else that is hashable, and each of them once. Several embeddings of one
                person have an id each, such as `("ada", 1)` and `("ada", 2)`.
            samples: Embeddings of any norm, shape `(n, d)`; with a model, its inputs.

        Raises:
            ValueError: If an id is there already, or twice; or if the embeddings have
                another dimension than those of the threshold, or are not finite.
        """
        vectors = self._vectors("samples", samples)
        known = check_labels("ids", ids, len(vectors))
        names = known.tolist() if isinstance(known, np.ndarray) else known
        with self._lock:
            gallery = self._gallery
            seen: set[Hashable] = set()
            for name in names:
                if name in gallery.places or name in seen:
                    raise ValueError(
                        "`ids` must be new, each of them once: `remove` what is to be "
                        "replaced, and give several embeddings of one person an id "
                        f"each, such as {(name, 2)!r}. Received: {name!r}, which is "
                        + ("in the gallery" if name in gallery.places else "twice")
                    )
                seen.add(name)
            if self._index is not None:
                self._index.add(vectors)
            self._gallery = gallery.with_more(names, vectors)

    def remove(self, ids: Sequence[Hashable] | np.ndarray) -> None:
        """Forget embeddings, all of them or, if there is an error, none.

        Args:
            ids: The ids that they were added with, each of them once.

        Raises:
            KeyError: If an id is not in the gallery.
            ValueError: If an id is there twice.
        """
        known = check_labels("ids", ids, len(ids))
        names = known.tolist() if isinstance(known, np.ndarray) else known
        with self._lock:
            gallery = self._gallery
            missing = [name for name in names if name not in gallery.places]
            if missing:
                raise KeyError(
                    f"`ids` must be in the gallery. Received: {missing[0]!r}, which is "
                    "not"
                )
            if len(set(names)) < len(names):
                raise ValueError(
                    f"`ids` must be different. Received: {len(names)} ids, of which "
                    f"{len(set(names))} are different"
                )
            is_kept = np.ones(gallery.size, np.bool_)
            is_kept[[gallery.places[name] for name in names]] = False
            left = gallery.some(np.flatnonzero(is_kept))
            if self._index is not None:
                self._index.replace(left.vectors[: left.size])
            self._gallery = left

    # ------------------------------------------------------------------------- search

    def match(
        self, samples: Any, limit: int | None = None, prior: float | None = None
    ) -> list[Matches]:
        """Find what is within the threshold of each query.

        Args:
            samples: Embeddings of any norm, shape `(n, d)`; with a model, its inputs.
            limit: How many matches of a query to return, the best. Defaults to `None`:
                all.
            prior: Share of the pairs of a query and what is in the gallery that are of
                one class, in (0, 1), for the probabilities. Defaults to `None`: one in
                `len(matcher) + 1`, as if of each query one were there or none.

        Returns:
            The `Matches` of each query.

        Raises:
            ValueError: If the embeddings have another dimension than those of the
                threshold or are not finite, or an argument is out of range.
        """
        if limit is not None:
            limit = check_integer("limit", limit, 1)
        if prior is not None:
            prior = check_number("prior", prior, 0, 1, open_low=True, open_high=True)
        queries = self._vectors("samples", samples)
        value, distance = self.threshold.value, self.threshold.distance
        cut = int(accepted_steps(to_cosine(value, distance)))
        # What rounding may do to a product.
        least = np.float32(1.0 - (cut + _MARGIN) / STEPS_PER_UNIT)
        if self._index is None:
            gallery = self._gallery
            found = [
                _exactly(queries, gallery, cut, *pairs)
                for pairs in gallery.near(queries, least)
            ]
        else:
            # An index cannot be read while it is written.
            with self._lock:
                gallery = self._gallery
                pairs = self._index.near(queries, gallery, least)
            found = [_exactly(queries, gallery, cut, *pairs)]
        rows, places, products = map(np.concatenate, zip(_NOTHING, *found, strict=True))
        order = np.lexsort((places, -products, rows))
        rows, places, products = rows[order], places[order], products[order]
        steps = to_steps(products)
        distances = from_cosine(steps / STEPS_PER_UNIT, distance)
        if prior is None:
            prior = 1.0 / (gallery.size + 1.0) if gallery.size else 0.5
        probabilities = self.threshold.probability(distances, prior=prior)
        ends = np.searchsorted(rows, np.arange(len(queries) + 1))
        ids = gallery.ids
        matches = []
        for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            last = last if limit is None else min(last, first + limit)
            matches.append(
                Matches(
                    tuple(ids[place] for place in places[first:last].tolist()),
                    distances[first:last],
                    probabilities[first:last],
                )
            )
        return matches

    def _vectors(self, name: str, samples: Any) -> np.ndarray:
        """Unit vectors of shape `(n, d)`."""
        if self._model is not None:
            samples = self._model.predict(samples, verbose=0)
        rows = np.asarray(check_embeddings(name, samples)[:])
        self.threshold._check_dimension(name, rows.shape[1])
        return normalize(rows)

    # -------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the gallery and the threshold to a folder: whole, or not at all.

        A folder that holds a matcher holds the old one until the new one is complete.
        The model and the index are not saved, as they have formats of their own.

        Args:
            path: The folder, which is made if it is missing; not its parents.

        Raises:
            OSError: If it cannot be written.
            TypeError: If an id is not a string, a number, a boolean or a tuple of such.
        """
        folder = pathlib.Path(path)
        gallery = self._gallery
        vectors = gallery.vectors[: gallery.size]
        ids = [_to_json(one) for one in gallery.ids[: gallery.size]]
        folder.mkdir(exist_ok=True)
        name = f"vectors-{_digest(vectors)}.npy"
        with replacing(folder / name) as partial, partial.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        values = {"threshold": self.threshold.to_dict(), "ids": ids, "vectors": name}
        # From here on it is the new one.
        artefacts.save(folder / _INDEX_FILE, {**_HEADER, **values})
        for old in folder.glob("vectors-*"):
            if old.name != name:
                old.unlink(missing_ok=True)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], model: Any = None, index: Any = None
    ) -> "Matcher":
        """Read a matcher that `save` wrote.

        Args:
            path: The folder.
            model: As for the constructor, like `index`.
            index: See above. It is filled anew.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If the folder does not hold a matcher, its vectors are not those
                that were saved, or the model is another.
        """
        folder = pathlib.Path(path)

        def read(values: Any) -> "Matcher":
            known = artefacts.check_fields(
                values, "Matcher", _HEADER, _FIELDS, "save the gallery anew"
            )
            threshold = Threshold.from_dict(known["threshold"])
            name, ids = known["vectors"], [_from_json(one) for one in known["ids"]]
            if pathlib.PurePath(name).name != name:
                raise ValueError(
                    f"`vectors` must name a file in it. Received: {name!r}"
                )
            with (folder / name).open("rb") as file:
                vectors = np.lib.format.read_array(file, allow_pickle=False)
            shape = len(ids), threshold.dimension
            if vectors.shape != shape or f"vectors-{_digest(vectors)}.npy" != name:
                raise ValueError(
                    f"{name} must hold the vectors that were saved, of shape {shape}. "
                    f"Received: shape {vectors.shape}, or other values"
                )
            matcher = cls(threshold, model=model, index=index)
            if ids:
                if matcher._index is not None:
                    matcher._index.add(vectors)
                matcher._gallery = matcher._gallery.with_more(ids, vectors)
            return matcher

        return artefacts.load(folder / _INDEX_FILE, "Matcher", read)


@dataclasses.dataclass(frozen=True, eq=False)
class _Gallery:
    """What is enrolled at a moment.

    Later ones share the lists and arrays, and only append to them.

    Attributes:
        ids: At least `size` ids.
        places: Place of each id, of later ones too; for who holds the lock.
        vectors: At least `size` unit vectors, and room for more.
        size: How many there are.
        tensors: Backend tensors of blocks of the vectors, and how many rows of each
            were filled when it was made.
    """

    ids: list[Hashable]
    places: dict[Hashable, int]
    vectors: np.ndarray
    size: int
    tensors: dict[int, tuple[int, Any]]

    @classmethod
    def empty(cls, dimension: int) -> "_Gallery":
        return cls([], {}, np.zeros((_LEAST_ROWS, dimension), np.float32), 0, {})

    @property
    def block_rows(self) -> int:
        return min(len(self.vectors), _GALLERY_ROWS)

    def with_more(self, ids: list[Hashable], vectors: np.ndarray) -> "_Gallery":
        """The same with more: to be called once, as it appends to what is shared."""
        size = self.size + len(ids)
        rows, tensors = self.vectors, self.tensors
        if size > len(rows):
            capacity = _LEAST_ROWS
            while capacity < size:
                capacity *= 2
            rows = np.zeros((capacity, rows.shape[1]), np.float32)
            rows[: self.size] = self.vectors[: self.size]
            if min(capacity, _GALLERY_ROWS) != self.block_rows:
                tensors = {}
        rows[self.size : size] = vectors
        self.places.update(zip(ids, range(self.size, size), strict=True))
        self.ids.extend(ids)
        return _Gallery(self.ids, self.places, rows, size, tensors)

    def some(self, places: np.ndarray) -> "_Gallery":
        """Some of it, in lists and arrays of its own."""
        ids = [self.ids[place] for place in places.tolist()]
        empty = _Gallery.empty(self.vectors.shape[1])
        return empty.with_more(ids, self.vectors[places])

    def near(
        self, queries: np.ndarray, least: np.float32
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Find the pairs from a similarity on: queries and places."""
        num_rows = _LEAST_ROWS
        while num_rows < min(len(queries), _QUERY_ROWS):
            num_rows *= 2
        with full_precision():
            for first in range(0, len(queries), num_rows):
                some = queries[first : first + num_rows]
                rows = to_tensor(some, num_rows)
                for start in range(0, self.size, self.block_rows):
                    num_columns = min(self.size - start, self.block_rows)
                    products = similarities(rows, self._tensor(start, num_columns))
                    products = products[: len(some), :num_columns]
                    near, columns = np.nonzero(products >= least)
                    yield near + first, columns + start

    def _tensor(self, start: int, num_rows: int) -> Any:
        filled, tensor = self.tensors.get(start, (0, None))
        if filled < num_rows:
            block = self.vectors[start : start + self.block_rows]
            # A copy, which what is added meanwhile does not change half.
            tensor = to_tensor(block[:num_rows].copy(), self.block_rows)
            self.tensors[start] = num_rows, tensor
        return tensor


class _Index:
    """An index of faiss for inner products.

    Args:
        index: The index, empty.
        dimension: Of the embeddings.
    """

    def __init__(self, index: Any, dimension: int) -> None:
        for name in ("d", "ntotal", "metric_type", "add", "reset", "range_search"):
            if not hasattr(index, name):
                raise TypeError(
                    "`index` must be an index of faiss that has `range_search`. "
                    f"Received: index={index!r}, without `{name}`"
                )
        # 0 is faiss.METRIC_INNER_PRODUCT.
        found = index.d, index.ntotal, index.metric_type
        if found != (dimension, 0, 0):
            raise ValueError(
                f"`index` must be empty and for inner products of dimension {dimension}"
                ". Received: an index of dimension {}, with {} vectors, of metric type "
                "{}".format(*found)
            )
        self._index = index

    def add(self, vectors: np.ndarray) -> None:
        self._index.add(vectors)

    def replace(self, vectors: np.ndarray) -> None:
        self._index.reset()
        if len(vectors):
            self._index.add(vectors)

    def near(
        self, queries: np.ndarray, gallery: _Gallery, least: np.float32
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the pairs from a similarity on: queries and places."""
        if not gallery.size:
            return _NOTHING[:2]
        ends, _, places = self._index.range_search(queries, float(least))
        rows = np.repeat(np.arange(len(queries)), np.diff(ends.astype(np.int64)))
        return rows, places


# Queries, places and products of no pairs.
_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64)


def _exactly(
    queries: np.ndarray,
    gallery: _Gallery,
    cut: int,
    rows: np.ndarray,
    places: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of pairs that may match, those that do, and their products.

    Whatever found them: neither what matches nor the order may depend on that.
    """
    products = np.empty(len(rows))
    for start in range(0, len(rows), _PAIRS):
        some = slice(start, start + _PAIRS)
        products[some] = pair_similarities(
            queries[rows[some]], gallery.vectors[places[some]]
        )
    is_match = to_steps(products) <= cut
    return rows[is_match], places[is_match], products[is_match]


def _digest(vectors: np.ndarray) -> str:
    rows = np.ascontiguousarray(vectors, np.float32)
    return hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()


def _to_json(one: Hashable) -> Any:
    """An id as JSON has it: a tuple becomes a list."""
    if isinstance(one, tuple):
        return [_to_json(part) for part in one]
    if one is None or isinstance(one, bool | int | float | str):
        return one
    raise TypeError(
        "`ids` must be strings, numbers, booleans or tuples of such to be saved. "
        f"Received: {one!r} in the gallery"
    )


def _from_json(one: Any) -> Hashable:
    if isinstance(one, list):
        return tuple(_from_json(part) for part in one)
    if isinstance(one, dict):
        raise ValueError(f"ids must be numbers, texts or lists. Received: {one!r}")
    return one
