"""Scores that are normalised by a cohort, as products of longer vectors."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import zipfile
import zlib
from typing import Any, Literal, Self

import numpy as np

from keras_tcm.evaluation._inputs.samples import (
    CHUNK_ROWS,
    MappedRows,
    check_embeddings,
    normalize,
    similarities,
    to_tensor,
)
from keras_tcm.evaluation.distances import DISTANCES, STRETCHES
from keras_tcm.evaluation.precision import full_precision
from keras_tcm.files import replacing
from keras_tcm.validation import check_choice, check_integer

# Rows and cohort samples that are compared at a time: 4 MiB. Always as many, for what a
# product is must not depend on how many are asked for.
_ROWS = 128
_COHORT_ROWS = 8192
# Standard deviations below this one count as this one. The products of `as_norm` are
# stretched by twice its inverse, so that none leaves [-1, 1].
_LEAST_DEVIATION = 2.0 / STRETCHES["as_norm"]
_DIGEST_BYTES = 16
_FIELDS = ("cohort", "top", "method")
# What NumPy raises where a file is no archive, or one of other things.
_NO_ARCHIVE = (
    *(ValueError, TypeError, KeyError, AttributeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
# Vectors whose squared length differs from 1 by less are unit vectors.
_UNIT_ERROR = 1e-6


class ScoreNormalization:
    """Even out scores between classes after training, with a cohort of other samples.

    Where embeddings lie close together, pairs of different classes are similar, and a
    threshold that is right elsewhere accepts too many of them. What a sample's
    similarity to its nearest samples of a cohort is tells how close: `m` is the mean
    of its `top` largest cosine similarities to the cohort, and `sd` their standard
    deviation (of the population). The score of two samples with the similarity `s` is

    ```
    "shift":   s - (m_1 + m_2) / 2
    "as_norm": ((s - m_1) / sd_1 + (s - m_2) / sd_2) / 2
    ```

    and the distance between them 1 less that. It is a measure of its own, mostly
    between 0.5 and 2 with a shift, and from -20 to 20 for `as_norm`; thresholds of the
    cosine distance mean nothing there. Standard deviations below 1/256 count as that,
    which small values of `top` may come near.

    Distances are told apart in steps of 1e-6 with a shift, and of 2.4e-4 for
    `as_norm`.

    Hand it to `evaluate_embeddings`, `choose_threshold` and `Matcher`. For other
    engines, `transform_queries` and `transform_gallery` return vectors whose inner
    products are the scores: two numbers longer than the embeddings with a shift.

    Args:
        cohort: Embeddings of samples that are neither evaluated nor enrolled, shape
            `(n, d)`, of any norm: some thousand of those that the model was trained on.
        top: How many of the cohort count, the most similar, at most `n`, and at least 2
            for `as_norm`. Defaults to 20.
        method: `"shift"` or `"as_norm"`. Defaults to `"shift"`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If one is out of range, or the cohort is not finite.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(np.arange(40), 10)
    >>> x = rng.normal(size=(40, 16))[labels] + rng.normal(size=(400, 16))
    >>> cohort = rng.normal(size=(1000, 16))
    >>> normalization = keras_tcm.ScoreNormalization(cohort)
    >>> result = keras_tcm.evaluate_embeddings(
    ...     x, labels, score_normalization=normalization)
    >>> result.distance
    'shift'

    Reference:
        - [Matějka et al., Interspeech 2017](https://doi.org/10.21437/Interspeech.2017-803)
          (AS-norm)
        - [Terhörst et al., Pattern Recognition Letters 2020](https://arxiv.org/abs/2002.03592)
          (scores shifted by the threshold of where a sample lies)
    """

    def __init__(
        self,
        cohort: Any,
        top: int = 20,
        method: Literal["shift", "as_norm"] = "shift",
    ) -> None:
        check_choice("method", method, tuple(STRETCHES))
        top = check_integer("top", top, 2 if method == "as_norm" else 1)
        rows = check_embeddings("cohort", cohort)
        if top > len(rows):
            raise ValueError(
                f"`top` must be at most the size of the cohort, {len(rows)}. "
                f"Received: top={top}"
            )
        self._cohort = _unit(np.asarray(rows[:]))
        self._cohort.setflags(write=False)
        self._top, self._method = top, method
        self._tensors: dict[int, Any] = {}

    @property
    def cohort(self) -> np.ndarray:
        """The cohort as unit vectors, float32."""
        return self._cohort

    @property
    def top(self) -> int:
        """How many of the cohort count."""
        return self._top

    @property
    def method(self) -> str:
        """`"shift"` or `"as_norm"`."""
        return self._method

    @property
    def dimension(self) -> int:
        """Length of the embeddings."""
        return int(self.cohort.shape[1])

    @functools.cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that tell it from others."""
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        digest.update(f"{self.method} {self.top} {self.cohort.shape}".encode())
        # 0 is -0.
        digest.update(np.ascontiguousarray(self.cohort + np.float32(0.0)).tobytes())
        return digest.hexdigest()

    # ------------------------------------------------------------------- other engines

    def transform_queries(self, embeddings: Any) -> np.ndarray:
        """Vectors of queries, whose inner products with those of a gallery are scores.

        Args:
            embeddings: Vectors of any norm, shape `(n, d)`.

        Returns:
            float32 vectors, of shape `(n, d + 2)` with a shift, or `(n, 2 d + 2)`. They
            are not of unit length, and must stay as they are.

        Raises:
            ValueError: If the embeddings have another dimension than the cohort, or
                are not finite.

        Example:

        >>> cohort = np.random.default_rng(0).normal(size=(100, 4))
        >>> normalization = keras_tcm.ScoreNormalization(cohort)
        >>> queries = normalization.transform_queries(embeddings[:5])
        >>> gallery = normalization.transform_gallery(embeddings)
        >>> distances = 1 - queries @ gallery.T
        >>> distances.shape
        (5, 64)
        """
        return self._transform(embeddings, is_gallery=False)

    def transform_gallery(self, embeddings: Any) -> np.ndarray:
        """Vectors of gallery samples: see `transform_queries`."""
        return self._transform(embeddings, is_gallery=True)

    def _transform(self, embeddings: Any, is_gallery: bool) -> np.ndarray:
        rows = check_embeddings("embeddings", embeddings)
        self.check_dimension("embeddings", rows.shape[1])
        scored = self.rows(rows)
        return (scored.flipped if is_gallery else scored).unscaled()

    # ---------------------------------------------------------------------- evaluation

    def rows(self, embeddings: Any) -> "ScoredRows":
        """Embeddings as what is compared: vectors whose products are the scores.

        Args:
            embeddings: What `check_embeddings` returned; read now, and again whenever
                rows are asked for.
        """
        terms = [
            self._terms(normalize(np.asarray(embeddings[start : start + CHUNK_ROWS])))
            for start in range(0, len(embeddings), CHUNK_ROWS)
        ]
        offset, slope = (np.concatenate(part) for part in zip(*terms, strict=True))
        # A file is opened anew by whoever reads it.
        is_mapped = isinstance(embeddings, np.memmap)
        rows = MappedRows(embeddings) if is_mapped else embeddings
        return ScoredRows(rows, np.arange(len(offset)), offset, slope, self.method)

    def check_dimension(self, name: str, dimension: int) -> None:
        """Raise unless embeddings have the dimension of the cohort."""
        if dimension != self.dimension:
            raise ValueError(
                f"`{name}` must have the dimension of the cohort, {self.dimension}. "
                f"Received: {dimension}"
            )

    def _terms(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is taken off the score of each sample, and what it is multiplied by."""
        mean, deviation = self._nearest(unit)
        if self.method == "shift":
            return mean[:, None], np.ones_like(mean)[:, None]
        slope = 1.0 / np.maximum(deviation, _LEAST_DEVIATION)
        return (mean * slope)[:, None], slope[:, None]

    def _nearest(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the largest similarities to the cohort."""
        size = len(self.cohort)
        side = min(size, _COHORT_ROWS)
        means, deviations = np.empty((2, len(unit)), np.float32)
        with full_precision():
            for start in range(0, len(unit), _ROWS):
                some = unit[start : start + _ROWS]
                rows = to_tensor(some, _ROWS)
                nearest = np.empty((len(some), 0), np.float32)
                for first in range(0, size, side):
                    products = similarities(rows, self._tensor(first, side))
                    products = products[: len(some), : size - first]
                    # The nearest so far, and those of this part of the cohort.
                    both = np.concatenate([nearest, products], axis=1)
                    place = both.shape[1] - self.top
                    if place > 0:
                        both.partition(place, axis=1)
                        both = both[:, place:]
                    nearest = both
                # In one order, whatever the partition made of them.
                values = np.sort(nearest, axis=1).astype(np.float64)
                means[start : start + len(some)] = values.mean(axis=1)
                deviations[start : start + len(some)] = values.std(axis=1)
        return means, deviations

    def _tensor(self, start: int, size: int) -> Any:
        if start not in self._tensors:
            self._tensors[start] = to_tensor(self.cohort[start : start + size], size)
        return self._tensors[start]

    # --------------------------------------------------------------------------- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file `.npz`: whole, or not at all."""
        path = _npz("path", path)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez(file, cohort=self.cohort, top=self.top, method=self.method)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it holds anything else.
        """
        path = _npz("path", path)
        try:
            with np.load(path, allow_pickle=False) as file:
                cohort, top, method = (file[name] for name in _FIELDS)
            return cls(cohort, top.item(), method.item())
        except _NO_ARCHIVE as error:
            raise ValueError(
                "`path` must be a file that `ScoreNormalization.save` wrote. "
                f"Received: {path}, which is none: {error}"
            ) from error


def measure_of(distance: str, score_normalization: Any) -> str:
    """The measure of the distances, perhaps that of normalised scores.

    Args:
        distance: `"cosine"`, or another measure without normalisation; with one, its
            method is as good.
        score_normalization: A `ScoreNormalization` or `None`.

    Raises:
        TypeError: If it is neither.
        ValueError: If there is another distance beside it.

    Example:

    >>> keras_tcm.evaluation.measure_of("euclidean", None)
    'euclidean'
    """
    if score_normalization is None:
        check_choice("distance", distance, DISTANCES)
        return distance
    if not isinstance(score_normalization, ScoreNormalization):
        raise TypeError(
            "`score_normalization` must be a `keras_tcm.ScoreNormalization` or None. "
            f"Received: score_normalization={score_normalization!r}"
        )
    if distance not in ("cosine", score_normalization.method):
        raise ValueError(
            '`distance` must be "cosine" with a `score_normalization`, whose scores '
            f"are made of cosine similarities. Received: distance={distance!r}"
        )
    return score_normalization.method


def compared_dimension(dimension: int, distance: str) -> int:
    """Length of the vectors that are compared, given that of the embeddings.

    Args:
        dimension: Length of the embeddings.
        distance: The measure of a threshold: `"cosine"`, `"euclidean"`, or a method of
            score normalisation.

    Example:

    >>> keras_tcm.evaluation.compared_dimension(64, "shift")
    68
    """
    if distance not in STRETCHES:
        return dimension
    return (2 if distance == "as_norm" else 1) * dimension + 4


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredRows:
    """Unit vectors whose products are scores, less by the stretch of the method.

    Attributes:
        embeddings: What they are made of, rows of any norm.
        numbers: The row that each is made of, shape `(n,)`.
        offset: What is taken off the score of each, shape `(n, 1)`.
        slope: What it is multiplied by, likewise.
        method: The method.
        is_gallery: Whether they are the other end of a pair.
    """

    embeddings: Any
    numbers: np.ndarray
    offset: np.ndarray
    slope: np.ndarray
    method: str
    is_gallery: bool = False

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def flipped(self) -> "ScoredRows":
        """The same samples as the other end of a pair."""
        return dataclasses.replace(self, is_gallery=not self.is_gallery)

    def some(self, rows: np.ndarray) -> "ScoredRows":
        """Some of them: another process is sent no more."""
        is_held = isinstance(self.embeddings, np.ndarray)
        return dataclasses.replace(
            self,
            embeddings=self.embeddings[rows] if is_held else self.embeddings,
            numbers=np.arange(len(rows)) if is_held else self.numbers[rows],
            offset=self.offset[rows],
            slope=self.slope[rows],
        )

    def unscaled(self) -> np.ndarray:
        """Vectors whose products are the scores themselves."""
        return _joined(*self._parts(slice(None), 1.0), self.is_gallery)

    def __getitem__(self, index: Any) -> np.ndarray:
        stretch = STRETCHES[self.method]
        # Both ends share the stretch, and the large factors with the small ones.
        factor = 1.0 if self.method == "shift" else (2.0 / np.sqrt(stretch))
        vectors, numbers = self._parts(index, factor)
        lengths = sum(
            np.einsum("ij,ij->i", x, x, dtype=np.float64) for x in (*vectors, *numbers)
        )
        # Makes the length the same for all; its partner at the other end is 0.
        filled = np.sqrt(np.maximum(stretch - lengths, 0.0))[:, None]
        numbers = [*numbers, filled, np.zeros_like(filled)]
        return _joined(vectors, numbers, self.is_gallery) / np.float32(np.sqrt(stretch))

    def _parts(
        self, index: Any, factor: float
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Vectors and numbers whose products with those they are exchanged for add up.

        Args:
            index: Which rows.
            factor: What one of two that are exchanged has more, and the other less.
        """
        unit = normalize(np.asarray(self.embeddings[self.numbers[index]]))
        offset, slope = self.offset[index], self.slope[index]
        vectors = [unit]
        if self.method == "as_norm":
            vectors = [unit * slope * (factor / 2.0), unit / factor]
        return vectors, [-offset * (factor / 2.0), np.full_like(offset, 1.0 / factor)]


def _joined(
    vectors: list[np.ndarray], numbers: list[np.ndarray], is_gallery: bool
) -> np.ndarray:
    """Join parts to vectors; those of a gallery have each pair of parts exchanged."""
    if is_gallery:
        vectors = vectors[::-1]
        numbers = [numbers[place ^ 1] for place in range(len(numbers))]
    return np.concatenate([*vectors, *numbers], axis=1, dtype=np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rows of unit length; those that have it stay as they are, to the last bit."""
    rows = np.asarray(rows, np.float64)
    is_unit = np.abs(np.einsum("ij,ij->i", rows, rows) - 1.0) < _UNIT_ERROR
    return np.where(is_unit[:, None], rows, normalize(rows)).astype(np.float32)


def _npz(name: str, path: str | os.PathLike[str]) -> pathlib.Path:
    known = pathlib.Path(path)
    if known.suffix != ".npz":
        raise ValueError(f"`{name}` must end in .npz. Received: {name}={str(path)!r}")
    return known
