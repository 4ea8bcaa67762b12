"""A gallery with a threshold in it: which of the enrolled is this, and how surely?"""

import dataclasses
import os
import pathlib
import threading
from collections.abc import Hashable, Sequence
from typing import Any

import keras
import numpy as np

from keras_tcm.evaluation import (
    STEPS_PER_UNIT,
    ScoreNormalization,
    accepted_steps,
    check_embeddings,
    compared_dimension,
    from_cosine,
    normalize,
    to_cosine,
)
from keras_tcm.threshold.gallery import Gallery, Index
from keras_tcm.threshold.gallery_files import SavedGallery
from keras_tcm.threshold.threshold import Threshold
from keras_tcm.validation import check_integer, check_number

# A model must not be asked by two threads at once: on JAX, Keras takes its weights away
# while it predicts.
_PREDICTING = threading.Lock()


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
    between the start of its call and the end. A model embeds for one thread at a time,
    and an index searches for one.

    Args:
        threshold: What `choose_threshold` returned.
        model: The Keras model of the embeddings. With one, `add` and `match` take its
            inputs instead of embeddings. If the threshold has a fingerprint of a
            model, it must be of this one. Defaults to `None`.
        index: An empty index of faiss for inner products that has `range_search`, such
            as `faiss.IndexFlatIP(dimension)` or a trained `IndexIVFFlat`, in place of
            the comparison on the backend; what it does not find is not matched. It
            must not serve anybody else. Defaults to `None`.
        score_normalization: The `keras_tcm.ScoreNormalization` that the threshold was
            chosen with, if any; saved with the matcher. The vectors of an index have 4
            numbers more than the embeddings with a shift; with `"as_norm"`, twice as
            many and 4 more. Defaults to `None`.

    Attributes:
        threshold: See above.
        score_normalization: See above.

    Raises:
        TypeError: If `threshold` is no `Threshold`, or an argument has the wrong type.
        ValueError: If the model or the score normalisation is another than that of the
            threshold, or the index is not empty, has another dimension, or is not for
            inner products.

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
        self,
        threshold: Threshold,
        model: Any = None,
        index: Any = None,
        score_normalization: ScoreNormalization | None = None,
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
        threshold.check_normalization(score_normalization)
        self.threshold = threshold
        self.score_normalization = score_normalization
        self._model = model
        dimension = compared_dimension(threshold.dimension, threshold.distance)
        self._index = None if index is None else Index(index, dimension)
        self._gallery = Gallery.empty(dimension)
        # Held by who changes the gallery, never by who reads it.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Number of embeddings in the gallery."""
        return self._gallery.size

    def __contains__(self, one: Hashable) -> bool:
        with self._lock:
            return _id(one) in self._gallery.places

    @property
    def ids(self) -> list[Hashable]:
        """The ids, in the order in which they were added."""
        gallery = self._gallery
        return gallery.ids[: gallery.size]

    # ------------------------------------------------------------------- the gallery

    def add(self, ids: Sequence[Hashable] | np.ndarray, embeddings: Any) -> None:
        """Enrol embeddings, all of them or, if there is an error, none.

        Args:
            ids: What to call each, shape `(n,)`: strings, integers, tuples or anything
                else that is hashable, and each of them once. Several embeddings of one
                person have an id each, such as `("ada", 1)` and `("ada", 2)`.
            embeddings: Vectors of any norm, shape `(n, d)`; with a model, its inputs.

        Raises:
            ValueError: If an id is there already, or twice; or if the embeddings have
                another dimension than those of the threshold, or are not finite.
        """
        names = _ids(ids)
        vectors = self._vectors("embeddings", embeddings, is_gallery=True)
        if len(names) != len(vectors):
            raise ValueError(
                f"`ids` must have one id for each embedding, {len(vectors)}. "
                f"Received: {len(names)} ids"
            )
        if not names:
            return
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
        names = _ids(ids)
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
        self, queries: Any, limit: int | None = None, prior: float | None = None
    ) -> list[Matches]:
        """Find what is within the threshold of each query.

        Args:
            queries: Vectors of any norm, shape `(n, d)`; with a model, its inputs.
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
        vectors = self._vectors("queries", queries, is_gallery=False)
        value, distance = self.threshold.value, self.threshold.distance
        cut = int(accepted_steps(to_cosine(value, distance)))
        if not len(vectors):
            return []
        if self._index is None:
            gallery = self._gallery
            found = gallery.near(vectors, cut)
        else:
            # An index cannot be read while it is written.
            with self._lock:
                gallery = self._gallery
                found = [self._index.near(vectors, cut, gallery)]
        none = np.zeros(0, np.int64)
        rows, places, steps = map(
            np.concatenate, zip((none, none, none), *found, strict=True)
        )
        order = np.lexsort((places, steps, rows))
        rows, places, steps = rows[order], places[order], steps[order]
        distances = from_cosine(steps / STEPS_PER_UNIT, distance)
        if prior is None:
            prior = 1.0 / (gallery.size + 1.0) if gallery.size else 0.5
        probabilities = self.threshold.probability(distances, prior=prior)
        ends = np.searchsorted(rows, np.arange(len(vectors) + 1))
        ids = gallery.ids
        matches = []
        for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            last = last if limit is None else min(last, first + limit)
            matches.append(
                Matches(
                    tuple(ids[place] for place in places[first:last].tolist()),
                    # Not a view, which would keep those of all queries.
                    distances[first:last].copy(),
                    probabilities[first:last].copy(),
                )
            )
        return matches

    def check_canaries(self, samples: Any) -> None:
        """Raise unless the model still makes of samples what it made of them.

        After an update of the model, or of what prepares its inputs. Without, all would
        go on, and match others.

        Args:
            samples: The rows `threshold.canaries.rows` of the data that the threshold
                was chosen on: embeddings, or with a model, its inputs.

        Raises:
            ValueError: If their embeddings are others: choose a threshold anew, and
                enrol everybody anew.
        """
        self.threshold.check_canaries(self._embeddings("samples", samples))

    def _vectors(self, name: str, samples: Any, is_gallery: bool) -> np.ndarray:
        """Unit vectors to compare; there may be none."""
        if hasattr(samples, "__len__") and len(samples) == 0:
            return self._gallery.vectors[:0]
        unit = normalize(self._embeddings(name, samples))
        if self.score_normalization is None:
            return unit
        scored = self.score_normalization.rows(unit)
        return (scored.flipped if is_gallery else scored)[:]

    def _embeddings(self, name: str, samples: Any) -> np.ndarray:
        if self._model is not None:
            with _PREDICTING:
                samples = self._model.predict(samples, verbose=0)
        rows = np.asarray(check_embeddings(name, samples)[:])
        self.threshold._check_dimension(name, rows.shape[1])
        return rows

    # -------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the gallery and the threshold to a folder: whole, or not at all.

        A folder that holds a matcher holds the old one until the new one is complete.
        The model and the index are not saved, as they have formats of their own.

        Args:
            path: The folder, which is made if it is missing; not its parents.

        Raises:
            OSError: If it cannot be written.
            TypeError: If an id is not a string, a finite number, a boolean or a tuple
                of such.
        """
        gallery = self._gallery
        ids = gallery.ids[: gallery.size]
        saved = SavedGallery(
            self.threshold,
            ids,
            gallery.vectors[: gallery.size],
            self.score_normalization,
        )
        saved.save(pathlib.Path(path))

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
        saved = SavedGallery.load(pathlib.Path(path))
        matcher = cls(saved.threshold, model, index, saved.score_normalization)
        if saved.ids:
            if matcher._index is not None:
                matcher._index.add(saved.vectors)
            matcher._gallery = matcher._gallery.with_more(saved.ids, saved.vectors)
        return matcher


def _ids(ids: Any) -> list[Hashable]:
    """Ids as a list, those of arrays and tensors as Python has them."""
    if keras.ops.is_tensor(ids):
        ids = keras.ops.convert_to_numpy(ids)
    if isinstance(ids, np.ndarray) and ids.ndim != 1:
        raise ValueError(f"`ids` must have shape (n,). Received: shape {ids.shape}")
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence | np.ndarray):
        raise TypeError(f"`ids` must be an array or a sequence. Received: ids={ids!r}")
    return [_id(one) for one in ids]


def _id(one: Any) -> Hashable:
    if isinstance(one, np.generic):
        one = one.item()
    if not isinstance(one, Hashable) or one is None or one != one:
        raise ValueError(
            "`ids` must be hashable, and equal to themselves: not None, NaN or a list. "
            f"Received: {one!r} in it"
        )
    return one
