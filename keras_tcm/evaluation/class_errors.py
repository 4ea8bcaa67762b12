"""Errors class by class, and what they tell about other classes of the same kind.

The pairs of a class share its samples, so that they err together: what is known of a
rate depends on the number of classes, not of pairs. All of this is NumPy on counts.
"""

import dataclasses
import functools

import numpy as np

from keras_tcm.student import student_quantile

# Fewer tell nothing about others: without one of two there is no pair of classes.
MIN_CLASSES = 3
# Thresholds that are looked at together.
_COLUMNS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class GalleryErrors:
    """How many pairs with a gallery sample of each class err: `K` classes.

    Attributes:
        errors: Wrong pairs of each, shape `(K, T)`. Those of a class of queries that is
            not listed count for it from either end.
        pairs: Pairs of each, shape `(K,)`, likewise.
        places: The place among these of each class of queries, shape `(C,)`.
        num_absent: Classes of queries that are not among these.
    """

    errors: np.ndarray
    pairs: np.ndarray
    places: np.ndarray
    num_absent: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class ClassErrors:
    """How many pairs of each class err, at each of several thresholds.

    `C` counts the classes, `T` the thresholds.

    The standard errors come from the jackknife over classes: the rate is computed anew
    without each class, and without all pairs that have an end in it. For FAR that is
    the conservative variance of Fogliato et al., `sum_i (A_i - FAR * N_i)^2 / M^2`, but
    for factors `M / (M - N_i)`, which matter with few classes only.

    Rates of false acceptance are skewed: most classes have few, and some have many. A
    sample of classes that misses those shows a low rate and a small variance at once.
    So the upper limit is the score limit under a standard error that grows with the
    rate, in proportion to `rate * (1 - rate)`. It is far above the rate, instead of a
    little too low, where a handful of classes makes up all of the errors. The lower
    limit is Wilson's, with `rate * (1 - rate) / variance` effective trials. Both use
    quantiles of Student's t with one degree of freedom less than there are classes.
    Rates above one half have the limits of their complements.

    Without any error, the upper limit is that of Clopper and Pearson for as many trials
    as there are classes, or half as many if each pair has two of them.

    Queries and gallery are two samples of classes, and a class may be in both. So a
    class is left out with its queries and its gallery samples, and the smaller of the
    two samples has the number of classes.

    Attributes:
        errors: Wrong pairs of each class, shape `(C, T)`.
        pairs: Pairs of each class, shape `(C,)`.
        all_errors: Wrong pairs in all, shape `(T,)`.
        all_pairs: Number of pairs in all.
        classes_per_pair: How many classes a pair counts for, 1 or 2; between them where
            the other end is in another class of these as often as not.
        num_others: Classes with pairs in all that are not listed: they are taken to
            differ as the others do.
        gallery: The errors by class of the gallery sample, if `errors` are by class of
            the query alone. Without, what is known is for this gallery.

    Reference:
        - [Fogliato, Patil and Perona, 2024](https://arxiv.org/abs/2306.01198)
        - Efron and Tibshirani, *An Introduction to the Bootstrap*, chapter 11
    """

    errors: np.ndarray
    pairs: np.ndarray
    all_errors: np.ndarray
    all_pairs: float
    classes_per_pair: float = 1
    num_others: int = 0
    gallery: GalleryErrors | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes, also of those that are not listed."""
        number = len(self.pairs) + self.num_others
        return number if self.gallery is None else min(number, len(self.gallery.pairs))

    @property
    def num_trials(self) -> float:
        """How many independent pairs of classes there are."""
        return max(self.num_classes / self._ends_per_pair, 1.0)

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """Share of all pairs that err, shape `(T,)`."""
        return self.all_errors / self.all_pairs

    @functools.cached_property
    def per_class(self) -> np.ndarray:
        """Share of the pairs of each class that err, shape `(C, T)`."""
        return self.errors / self.pairs[:, None]

    def at(self, place: int) -> "ClassErrors":
        """The errors at one of the thresholds alone: `T` is 1."""
        return self.some(np.array([place]))

    def some(self, places: np.ndarray) -> "ClassErrors":
        """The errors at some of the thresholds."""
        gallery = self.gallery
        if gallery is not None:
            gallery = dataclasses.replace(gallery, errors=gallery.errors[:, places])
        return dataclasses.replace(
            self,
            errors=self.errors[:, places],
            all_errors=self.all_errors[places],
            gallery=gallery,
        )

    def without_each(self) -> np.ndarray:
        """The rates without each class, at either end: `(C, T)`, or `(K, T)`."""
        errors, pairs = self.errors, self.pairs
        if self.gallery is not None:
            errors = self.gallery.errors.astype(np.float64)
            errors[self.gallery.places] += self.errors
            pairs = self._pairs_at_either_end
        return (self.all_errors - errors) / (self.all_pairs - pairs)[:, None]

    @functools.cached_property
    def variances(self) -> np.ndarray:
        """Variances of the rates over classes, shape `(T,)`; infinite below 3."""
        if len(self.pairs) < MIN_CLASSES:
            return np.full(len(self.all_errors), np.inf)
        variances = np.empty(len(self.all_errors))
        # Some thresholds at a time: there may be many classes in a gallery.
        for first in range(0, len(variances), _COLUMNS):
            places = np.arange(first, min(first + _COLUMNS, len(variances)))
            variances[places] = self.some(places).without_each().var(axis=0)
        variances *= len(self._pairs_at_either_end) - 1
        absent = self.num_others if self.gallery is None else self.gallery.num_absent
        if absent:
            # Each of the others moves the rate as its pairs do.
            pairs = self._pairs_at_either_end.astype(np.float64)
            of_others = self._ends_per_pair * self.all_pairs - pairs.sum()
            squares = of_others**2 / absent
            variances = variances * (1.0 + squares / np.square(pairs).sum())
        return variances

    def upper_limits(self, confidence: float) -> np.ndarray:
        """What the rates over other classes do not exceed, one by one.

        Args:
            confidence: Probability of this for one rate, in (0.5, 1).

        Returns:
            Limits in [0, 1], shape `(T,)`.
        """
        return np.where(
            self.rates <= 0.5,
            self._far_limits(self.rates, confidence),
            1.0 - self._near_limits(1.0 - self.rates, confidence),
        )

    def lower_limits(self, confidence: float) -> np.ndarray:
        """What the rates over other classes do not fall below: see `upper_limits`."""
        return np.where(
            self.rates <= 0.5,
            self._near_limits(self.rates, confidence),
            1.0 - self._far_limits(1.0 - self.rates, confidence),
        )

    def intervals(self, confidence: float) -> np.ndarray:
        """Intervals that hold the rate over other classes, shape `(T, 2)`.

        Args:
            confidence: Probability of this for one rate, in (0, 1).
        """
        one_sided = (1.0 + confidence) / 2.0
        return np.column_stack(
            [self.lower_limits(one_sided), self.upper_limits(one_sided)]
        )

    def relative_errors(self, confidence: float) -> np.ndarray:
        """Distances of limits from the rates, in standard units of `rate (1 - rate)`.

        From 1 on, the upper limit is far away; it falls with the root of the number of
        classes.
        """
        spread = self._quantile(confidence) * np.sqrt(self.variances)
        scale = self.rates * (1.0 - self.rates)
        return np.divide(
            spread, scale, out=np.full_like(spread, np.inf), where=scale > 0
        )

    @property
    def _ends_per_pair(self) -> float:
        return self.classes_per_pair if self.gallery is None else 2

    @functools.cached_property
    def _pairs_at_either_end(self) -> np.ndarray:
        """Pairs with an end in each class."""
        if self.gallery is None:
            return self.pairs
        pairs = self.gallery.pairs.copy()
        pairs[self.gallery.places] += self.pairs
        return pairs

    def _quantile(self, confidence: float) -> float:
        # That of one side.
        return student_quantile(2.0 * confidence - 1.0, max(self.num_classes - 1, 1))

    def _far_limits(self, rates: np.ndarray, confidence: float) -> np.ndarray:
        """Limits on the side of the higher rates; `rates` or their complements."""
        spread = self.relative_errors(confidence)
        # The root of (u - rate) = spread * u * (1 - u).
        spread = np.where(np.isfinite(spread), spread, 0.0)
        root = np.sqrt(np.square(1.0 - spread) + 4.0 * spread * rates)
        limits = 2.0 * rates / np.maximum((1.0 - spread) + root, 1e-300)
        limits = np.where(np.isfinite(self.variances), limits, 1.0)
        without_errors = 1.0 - (1.0 - confidence) ** (1.0 / self.num_trials)
        return np.clip(np.where(rates > 0, limits, without_errors), 0.0, 1.0)

    def _near_limits(self, rates: np.ndarray, confidence: float) -> np.ndarray:
        """Limits on the side of the lower rates; `rates` or their complements."""
        # Half the inverse of the effective trials, times the squared quantile.
        spread = self.relative_errors(confidence)
        spread = np.where(np.isfinite(spread), spread, 0.0)
        square = np.square(spread) * rates * (1.0 - rates)
        root = np.sqrt(square * (rates * (1.0 - rates) + square / 4.0))
        limits = (rates + square / 2.0 - root) / (1.0 + square)
        return np.where(
            (rates > 0) & np.isfinite(self.variances), np.maximum(limits, 0.0), 0.0
        )
