"""The result of an evaluation."""

import base64
import dataclasses
import math
import os
import pathlib
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np

from keras_tcm import artefacts
from keras_tcm.class_names import ClassNames
from keras_tcm.evaluation.criteria import check_thresholds
from keras_tcm.evaluation.distances import accepted_steps, to_cosine
from keras_tcm.evaluation.groups import Group, GroupPairs, GroupPoint
from keras_tcm.evaluation.inequity import Inequity
from keras_tcm.files import replacing
from keras_tcm.labels import json_labels, label_array
from keras_tcm.ops.curves import f_beta, mean_over_range, num_worst_classes
from keras_tcm.validation import check_choice, check_integer, check_number

# How arrays of many classes are written: little-endian, whatever the machine.
_FLOAT32 = np.dtype("<f4")


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorRates:
    """What each threshold does to the pairs, in all and class by class.

    `C` counts the classes, `R` the thresholds: those of the calibration range, those of
    the operating points, where FAR and FRR are closest, and on either side of the range
    as dense ones out to the farthest of these, but no more than the range itself has.

    Attributes:
        thresholds: Distances, increasing, shape `(R,)`.
        far: Share of all negative pairs that are accepted, shape `(R,)`.
        frr: Share of all positive pairs that are rejected, shape `(R,)`.
        per_class_far: The same share of each class's negative pairs, float32 (float64
            where `Evaluation.rates_at` returns it), shape `(C, R)`.
        per_class_frr: The same share of each class's positive pairs, likewise.

    Example:

    >>> rates = result.error_rates
    >>> rates.per_class_far.shape == (len(result.classes), len(rates.thresholds))
    True
    """

    thresholds: np.ndarray
    far: np.ndarray
    frr: np.ndarray
    per_class_far: np.ndarray
    per_class_frr: np.ndarray

    def utility(self, beta: float) -> np.ndarray:
        """Utility of each class at each threshold.

        Args:
            beta: Weight of the sensitivity; above 1 favours it.

        Returns:
            F-beta of specificity and sensitivity, in [0, 1], shape `(C, R)`.
        """
        return f_beta(
            1.0 - self.per_class_frr.astype(np.float64),
            1.0 - self.per_class_far.astype(np.float64),
            beta,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the rates as JSON-ready values.

        Those of the classes are base64 text of little-endian float32, class by class:
        exact, and a quarter of the size that numbers would have.
        """
        return {
            "thresholds": self.thresholds.tolist(),
            "far": self.far.tolist(),
            "frr": self.frr.tolist(),
            "per_class_far": _encode(self.per_class_far),
            "per_class_frr": _encode(self.per_class_frr),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make rates of what `to_dict` returned.

        Raises:
            ValueError: If it is anything else.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or values.keys() != set(names):
            raise ValueError(
                f"`values` must have the keys {', '.join(names)}. "
                f"Received: {values!r:.200}"
            )
        shared = [np.asarray(values[name], np.float64) for name in names[:3]]
        per_class = [
            np.frombuffer(base64.b64decode(values[name]), _FLOAT32)
            .reshape(-1, len(shared[0]))
            .astype(np.float32)
            for name in names[3:]
        ]
        return cls(*shared, *per_class)


def _encode(values: np.ndarray) -> str:
    """Write an array as base64 text of little-endian float32, row by row."""
    return base64.b64encode(values.astype(_FLOAT32).tobytes()).decode("ascii")


# Of what `to_dict` returns: another number where its fields, or their meaning, change.
_HEADER = {"format": "keras_tcm.Evaluation", "version": 2}
# Fields that hold operating points.
_POINTS = ("operating_points", "at_thresholds")


@dataclasses.dataclass(frozen=True, eq=False)
class OperatingPoint:
    """A threshold, for a target of the global FAR or as asked for, and its rates.

    Attributes:
        far_target: The target, or NaN if the threshold itself was asked for.
        threshold: Distance up to which pairs are accepted: just below the negative
            pair that would exceed the target. NaN if the target is not resolved.
        far: Global false acceptance rate achieved, at most the target.
        frr: Global false rejection rate.
        per_class_far: Share of each class's negative pairs accepted, shape `(C,)`.
        per_class_frr: Share of each class's positive pairs rejected, shape `(C,)`.
        open_set_far: Share of the unanswerable queries (`Evaluation.num_unanswerable`)
            for which a gallery sample is accepted: the false positive identification
            rate (FPIR) of an open-set search, in a gallery of this size. NaN if there
            are none, or if unresolved.
        standard_errors: Where pairs were sampled, the standard errors by name: of
            `"threshold"` and `"frr"` as estimates of what all pairs would give for the
            target, and of `"far"` as the rate of all pairs at this threshold; where the
            threshold was asked for, of `"far"` and of `"frr"`, which is 0. If there are
            unanswerable queries, of `"open_set_far"` as the rate of all of them at this
            threshold: 0 unless these were sampled too. `None` if all pairs were
            compared, or if unresolved.
        intervals: 95% intervals of `"threshold"`, `"far"` and `"frr"`, for other
            classes of the same kind: see `Evaluation.intervals`. If the unanswerable
            queries are of three classes or more, of `"open_set_far"`, for other
            classes of such queries against the same gallery. `None` where the
            evaluation has none, or if unresolved.
        inequity: How unequal the rates of the classes are. `None` if unresolved, where
            pairs were sampled, and where a sample has several classes.
        group_inequity: How unequal those of the groups are; only of groups that have
            both rates. `None` if fewer than two have.

    Reference:
        - ISO/IEC 19795-1:2021 (FPIR)
        - Grother, Ngan and Hanaoka, *Face Recognition Vendor Test (FRVT) part 2:
          Identification*, NIST IR 8271, 2019
    """

    far_target: float
    threshold: float
    far: float
    frr: float
    per_class_far: np.ndarray
    per_class_frr: np.ndarray
    open_set_far: float = math.nan
    standard_errors: dict[str, float] | None = None
    intervals: dict[str, tuple[float, float]] | None = None
    inequity: Inequity | None = None
    group_inequity: Inequity | None = None

    @property
    def resolved(self) -> bool:
        """Whether the negative pairs resolve the target (target x pairs >= 1)."""
        return not math.isnan(self.threshold)


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """Retrieval and threshold consistency of embeddings, over all pairs.

    `C` counts the classes with a positive and a negative pair, `K` the thresholds.

    Attributes:
        opis: Operating-point inconsistency score; lower is better.
        epsilon_opis: The same between the worst classes and the others.
        opis_per_class: Each class's contribution, shape `(C,)`; its mean is `opis`.
        recall: R@k by k: share of queries with a hit among the k nearest.
        map_at_r: Mean average precision at R.
        eer: Equal error rate: mean of global FAR and FRR at the pair distance where
            they are closest.
        calibration_range: Smallest and largest threshold considered.
        thresholds: Distances, shape `(K,)`.
        utility: Utility of each class at each threshold, shape `(C, K)`.
        classes: Labels of the classes, shape `(C,)`.
        class_counts: Samples (queries) in each class, shape `(C,)`.
        operating_points: One `OperatingPoint` per FAR target.
        num_samples: Samples (queries) evaluated.
        num_excluded_classes: Classes without a positive or a negative pair. They have
            no part in OPIS and no rates of their own; their negative pairs count for
            the global FAR.
        num_unanswerable: Queries without a positive pair: with a gallery, those whose
            class it does not hold; without, those that are alone in their class. Recall
            and mAP@R leave them out, since they have nothing to find, and their
            negative pairs count for the global FAR. Each of them for which a threshold
            accepts anything counts for `OperatingPoint.open_set_far`. `None` if the
            result was loaded from a file of an earlier version, which did not count
            them.
        num_positive_pairs: Positive pairs.
        num_negative_pairs: Negative pairs.
        distance: `"cosine"`, `"euclidean"`, or the method by which scores were
            normalised.
        beta: Weight of the sensitivity in the utility.
        epsilon: Share of classes that count as worst.
        error_rates: FAR and FRR, in all and of each class, at many thresholds: see
            `ErrorRates`.
        standard_errors: Where pairs were sampled, the standard errors of `"opis"`,
            `"epsilon_opis"`, `"eer"`, `"map_at_r"` and `"recall_at_1"` (and the other
            k). `None` if all pairs were compared.
        at_thresholds: One `OperatingPoint` per distance of `at_thresholds`, increasing
            and each of them once.
        intervals: 95% intervals of `"opis"`, `"eer"`, `"map_at_r"` and `"recall_at_1"`
            (and the other k), for other classes of the same kind: see `ClassErrors`.
            With a gallery, FAR and EER are for other classes in it too, the rest for
            other classes of queries against it. `None` below three classes, where
            pairs were sampled, and where a sample has several classes.
        groups: One `Group` per group of `groups`, in the order of their labels.
        group_pairs: Which negative pairs are those of a group, `"both_ends"` or
            `"one_end"`; `None` without groups.

    Example:

    >>> result.save(path)
    >>> keras_tcm.Evaluation.load(path).opis == result.opis
    True
    """

    opis: float
    epsilon_opis: float
    opis_per_class: np.ndarray
    recall: dict[int, float]
    map_at_r: float
    eer: float
    calibration_range: tuple[float, float]
    thresholds: np.ndarray
    utility: np.ndarray
    classes: np.ndarray
    class_counts: np.ndarray
    operating_points: tuple[OperatingPoint, ...]
    num_samples: int
    num_excluded_classes: int
    num_unanswerable: int | None
    num_positive_pairs: int
    num_negative_pairs: int
    distance: str
    beta: float
    epsilon: float
    error_rates: ErrorRates
    standard_errors: dict[str, float] | None = None
    at_thresholds: tuple[OperatingPoint, ...] = ()
    intervals: dict[str, tuple[float, float]] | None = None
    groups: tuple[Group, ...] = ()
    group_pairs: GroupPairs | None = None

    def operating_point(self, far: float) -> OperatingPoint:
        """The operating point for a FAR target.

        Args:
            far: One of the `far_targets` of `evaluate_embeddings`.

        Raises:
            TypeError: If `far` is not a number.
            ValueError: If it is not one of the targets.

        Example:

        >>> result.operating_point(0.01).far <= 0.01
        True
        """
        far = check_number("far", far, 0, 1, open_low=True)
        for point in self.operating_points:
            if point.far_target == far:
                return point
        known = [point.far_target for point in self.operating_points]
        raise ValueError(
            f"`far` must be one of the evaluation's `far_targets`, {known}. "
            f"Received: far={far!r}"
        )

    def worst_classes(
        self, n: int | None = None, by: Literal["opis", "utility"] = "opis"
    ) -> np.ndarray:
        """The classes that fit the common threshold worst.

        Args:
            n: Number of classes, at most. Defaults to `None`: the share of the classes
                that epsilon-OPIS takes for the worst, at least one.
            by: `"opis"`: those with the largest share of OPIS, which lie farthest from
                the others, on whichever side. `"utility"`: those with the lowest mean
                utility over the calibration range, which epsilon-OPIS compares with the
                others. Defaults to `"opis"`.

        Returns:
            Their indices in `classes`, the worst first; the first in `classes` of equal
            ones.

        Raises:
            TypeError: If `n` is not an integer.
            ValueError: If `n` is below 1, or `by` is another than these.

        Example:

        >>> worst = result.worst_classes(3)
        >>> result.classes[worst].shape, result.opis_per_class[worst].shape
        ((3,), (3,))
        """
        if n is None:
            n = num_worst_classes(len(self.classes), self.epsilon)
        n = check_integer("n", n, 1)
        check_choice("by", by, ("opis", "utility"))
        fit = mean_over_range(self.utility) if by == "utility" else -self.opis_per_class
        return np.argsort(fit, kind="stable")[:n]

    def utility_curves(self) -> tuple[np.ndarray, np.ndarray]:
        """The utility of each class as far as it is known, beyond the range of OPIS.

        Returns:
            The thresholds of `error_rates`, shape `(R,)`, and the utility of each class
            there, shape `(C, R)`, in [0, 1].

        Example:

        >>> thresholds, utility = result.utility_curves()
        >>> utility.shape == (len(result.classes), len(thresholds))
        True
        """
        return self.error_rates.thresholds, self.error_rates.utility(self.beta)

    def rates_at(self, thresholds: Any) -> ErrorRates:
        """FAR and FRR at thresholds that have been counted, in all and of each class.

        These are the `at_thresholds` of `evaluate_embeddings`, the thresholds of the
        operating points and those of `error_rates`. At any other distance the rates
        are not known, and nothing is interpolated. (Distances are told apart in steps
        of 4.8e-7 of the cosine distance.)

        The rates are counts over all pairs; only those of classes may, at thresholds
        that were not given as `at_thresholds`, have been read off bins: see
        `evaluate_embeddings`. Where pairs were sampled, FARs are estimates, of which
        `at_thresholds` and `operating_points` have standard errors.

        Args:
            thresholds: A distance of the measure that was evaluated, or several in
                any order, shape `(R,)`.

        Returns:
            The rates at these, in their order. For a single distance `thresholds`,
            `far` and `frr` are numbers, and the rates of the classes have shape
            `(C,)`; float64.

        Raises:
            TypeError: If a threshold is not a number.
            ValueError: If a threshold is no distance of the measure, or has not been
                counted.

        Example:

        >>> rng = np.random.default_rng(0)
        >>> labels = np.repeat(np.arange(20), 10)
        >>> x = rng.normal(size=(20, 16))[labels] + rng.normal(size=(200, 16))
        >>> result = keras_tcm.evaluate_embeddings(x, labels, at_thresholds=(0.3,))
        >>> result.rates_at(0.3).per_class_far.shape
        (20,)
        """
        if hasattr(thresholds, "__array__"):
            thresholds = np.asarray(thresholds, np.float64).tolist()
        is_one = not isinstance(thresholds, Iterable)
        asked = np.array(
            check_thresholds(
                "thresholds", [thresholds] if is_one else thresholds, self.distance
            )
        )
        counted = self._counted_rates()
        # What accepts the same steps has the same rates. The first are the best known.
        cuts, places = np.unique(
            accepted_steps(to_cosine(counted.thresholds, self.distance)),
            return_index=True,
        )
        wanted = accepted_steps(to_cosine(asked, self.distance))
        is_counted = np.isin(wanted, cuts)
        if not is_counted.all():
            raise ValueError(self._not_counted(asked[~is_counted][0]))
        chosen = places[np.searchsorted(cuts, wanted)]
        index = chosen[0] if is_one else chosen
        return ErrorRates(
            asked[0] if is_one else asked,
            counted.far[index],
            counted.frr[index],
            counted.per_class_far[:, index],
            counted.per_class_frr[:, index],
        )

    def _counted_rates(self) -> ErrorRates:
        """The rates at all thresholds that were counted, the most exact ones first."""
        points = [
            *self.at_thresholds,
            *(point for point in self.operating_points if point.resolved),
        ]
        rates = self.error_rates
        return ErrorRates(
            np.array([*(point.threshold for point in points), *rates.thresholds]),
            np.array([*(point.far for point in points), *rates.far]),
            np.array([*(point.frr for point in points), *rates.frr]),
            np.column_stack([*(p.per_class_far for p in points), rates.per_class_far]),
            np.column_stack([*(p.per_class_frr for p in points), rates.per_class_frr]),
        )

    def _not_counted(self, threshold: float) -> str:
        known = [
            repr(point.threshold)
            for points in (self.at_thresholds, self.operating_points)
            for point in points
            if point.resolved
        ]
        thresholds = self.error_rates.thresholds
        known.append(
            f"one of the {len(thresholds)} `error_rates.thresholds` from "
            f"{float(thresholds[0])!r} to {float(thresholds[-1])!r}"
        )
        return (
            f"`thresholds` must have been counted: {', '.join(known)}. For others, "
            f"evaluate with `at_thresholds`. Received: {float(threshold)!r}"
        )

    def summary(self) -> str:
        """Describe the result in a few lines of text."""
        lines = [
            f"{self.num_samples:,} samples, {len(self.classes):,} classes"
            + (
                f" ({self.num_excluded_classes:,} more without a pair)"
                if self.num_excluded_classes
                else ""
            ),
            f"{self.num_positive_pairs:,} positive and {self.num_negative_pairs:,} "
            "negative pairs",
            *(
                ["Estimated from a sample of the pairs (with standard errors)"]
                if self.standard_errors
                else []
            ),
            f"OPIS            {self.opis:.6f}{self._error('opis', '.6f')}",
            f"{self.epsilon:.0%}-OPIS        {self.epsilon_opis:.6f}"
            + self._error("epsilon_opis", ".6f"),
            *(
                f"R@{k:<14}{value:.4f}{self._error(f'recall_at_{k}', '.4f')}"
                for k, value in self.recall.items()
            ),
            f"mAP@R           {self.map_at_r:.4f}{self._error('map_at_r', '.4f')}",
            f"EER             {self.eer:.4f}{self._error('eer', '.4f')}",
            f"Calibration     {self.calibration_range[0]:.4f} to "
            f"{self.calibration_range[1]:.4f} ({self.distance} distance)",
        ]
        for point in self.operating_points:
            lines.append(
                f"FAR <= {point.far_target:<9g}"
                + (
                    f"threshold {point.threshold:.4f}"
                    f"{_error(point, 'threshold', '.4f')}, "
                    f"FAR {point.far:.4%}"
                    f"{_error(point, 'far', '.4%')}, "
                    f"FRR {point.frr:.2%}"
                    f"{_error(point, 'frr', '.2%')}"
                    if point.resolved
                    else "not resolved by the negative pairs"
                )
            )
        for point in self.at_thresholds:
            lines.append(
                f"At {point.threshold:<13.4f}"
                f"FAR {point.far:.4%}{_error(point, 'far', '.4%')}, "
                f"FRR {point.frr:.2%}"
                f"{_error(point, 'frr', '.2%')}"
            )
        if self.num_unanswerable:
            points = (*self.operating_points, *self.at_thresholds)
            lines.append(
                f"Open-set FAR    {', '.join(map(_open_set_far, points))} "
                f"({self.num_unanswerable:,} queries without a positive)"
            )
        if self.groups:
            ends = "both ends" if self.group_pairs == "both_ends" else "one end"
            lines.append(f"{len(self.groups):,} groups, pairs with {ends} in the group")
            lines.extend(self._group_lines())
        if self.intervals is not None:
            lines.append("(95% intervals, for other classes of the same kind)")
        return "\n".join(lines)

    def _group_lines(self) -> list[str]:
        """The groups with the smallest and the largest rates, at each threshold."""
        lines = []
        for place, point in enumerate((*self.operating_points, *self.at_thresholds)):
            of_groups = [
                (group.label, (*group.operating_points, *group.at_thresholds)[place])
                for group in self.groups
            ]
            texts = []
            for name, form in (("far", ".4%"), ("frr", ".2%")):
                rates = [
                    (getattr(of_group, name), label) for label, of_group in of_groups
                ]
                known = [entry for entry in rates if not math.isnan(entry[0])]
                if known:
                    (low, first), (high, last) = (
                        choose(known, key=lambda entry: entry[0])
                        for choose in (min, max)
                    )
                    texts.append(
                        f"{name.upper()} {low:{form}} ({first}) to {high:{form}} "
                        f"({last})"
                    )
            if texts:
                target = (
                    f"At {point.threshold:<13.4f}"
                    if math.isnan(point.far_target)
                    else f"FAR <= {point.far_target:<9g}"
                )
                lines.append(target + ", ".join(texts))
        return lines

    def _error(self, name: str, form: str) -> str:
        return _error(self, name, form)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values; NaN becomes `None`.

        Labels other than integers, floats, booleans and strings become their `repr`,
        with a prime where another class has that text.
        """
        values = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        values["classes"] = json_labels(self.classes.tolist())
        values["recall"] = {str(k): value for k, value in self.recall.items()}
        for name in _POINTS:
            values[name] = [dataclasses.asdict(point) for point in values[name]]
        labels = json_labels([group.label for group in self.groups])
        values["groups"] = [
            dataclasses.asdict(dataclasses.replace(group, label=label))
            for group, label in zip(self.groups, labels, strict=True)
        ]
        values["error_rates"] = self.error_rates.to_dict()
        return {**_HEADER, **_to_json(values)}

    def save(self, path: str | os.PathLike) -> None:
        """Write the result to a JSON file: whole, or not at all."""
        artefacts.save(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a result that `save` wrote.

        Raises:
            ValueError: If the file does not hold one.
        """
        return artefacts.load(path, "Evaluation", cls.from_dict)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a result of what `to_dict` returned, also by way of JSON.

        Raises:
            ValueError: If it is anything else, or what another version returned.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        values = artefacts.check_fields(
            _of_this_version(values), "Evaluation", _HEADER, names, "evaluate again"
        )
        for name in ("opis_per_class", "thresholds", "utility", "class_counts"):
            values[name] = np.asarray(values[name])
        values["classes"] = label_array(values["classes"])
        values["calibration_range"] = tuple(values["calibration_range"])
        values["recall"] = {int(k): value for k, value in values["recall"].items()}
        errors = values["standard_errors"]
        values["standard_errors"] = errors and _load_errors(errors)
        values["intervals"] = _load_intervals(values["intervals"])
        values["error_rates"] = ErrorRates.from_dict(values["error_rates"])
        for name in _POINTS:
            values[name] = tuple(
                _load_operating_point(dict(point)) for point in values[name]
            )
        values["groups"] = tuple(_load_group(group) for group in values["groups"])
        return cls(**values)

    def to_html(
        self,
        path: str | os.PathLike,
        title: str = "Embedding evaluation",
        class_names: ClassNames | None = None,
        images: Any = None,
        labels: Any = None,
    ) -> None:
        """Write the result as an interactive page of HTML.

        The page has a threshold to move, which shows FAR, FRR and utility, in all and
        of each class, in charts and in a table to sort and search. It is one file that
        needs no other and no network.

        Args:
            path: File to write, replaced if it exists; its folder must exist.
            title: Title of the page. Defaults to `"Embedding evaluation"`.
            class_names: The name of each label: a mapping or, for integer labels, a
                sequence, such as `keras_tcm.datasets.glyphs.class_names()`. Defaults to
                `None`: the labels.
            images: Array or tensor of shape `(n, height, width, 1 or 3)` with values in
                [0, 255], or paths of `n` image files. The first image of each class
                stands beside its name, scaled to 64 pixels; it adds some 2 kB to the
                file, and 4 kB at most. Of more than 500 classes, those with the largest
                share of OPIS have one. Defaults to `None`: no images.
            labels: Labels of the images, shape `(n,)`; with `images` only.

        Raises:
            ImportError: If there are images, and Pillow is not installed.
            OSError: If the file cannot be written.
            TypeError: If `title` is not a string, `class_names` are no names, or
                `labels` are no labels.
            ValueError: If a class has no name or no image, `images` are not as
                described or cannot be read, their number is not that of the labels, or
                there is one without the other.

        Example:

        >>> result.to_html(path, title="Digits, with TCM")
        """
        from keras_tcm.report import render_page

        if not isinstance(title, str):
            raise TypeError(f"`title` must be a string. Received: title={title!r}")
        # What UTF-8 cannot express is written as references to characters.
        text = render_page(self, title, class_names, images, labels)
        page = text.encode("utf-8", "xmlcharrefreplace")
        with replacing(pathlib.Path(path)) as partial:
            partial.write_bytes(page)


def _error(measured: Evaluation | OperatingPoint, name: str, form: str) -> str:
    """What is known of the error of a value: a standard error, an interval, nothing."""
    errors, intervals = measured.standard_errors, measured.intervals
    if errors is not None:
        return f" ± {errors[name]:{form}}"
    if intervals is None or name not in intervals:
        return ""
    low, high = intervals[name]
    return f" ({low:{form}} to {high:{form}})"


def _open_set_far(point: OperatingPoint) -> str:
    """The rate, and what is known of its error."""
    if not point.resolved:
        return "not resolved"
    return f"{point.open_set_far:.2%}{_error(point, 'open_set_far', '.2%')}"


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def _of_this_version(values: Any) -> Any:
    """Values of version 1, which knew no unanswerable queries, as of this version."""
    if not artefacts.is_of_version(values, _HEADER, 1):
        return values
    points = {
        name: [{**point, "open_set_far": None} for point in values.get(name, ())]
        for name in _POINTS
    }
    return {**values, **points, **_HEADER, "num_unanswerable": None}


def _load_operating_point(values: dict[str, Any]) -> OperatingPoint:
    errors, intervals = values.pop("standard_errors"), values.pop("intervals")
    inequities = {
        name: (found := values.pop(name)) and Inequity(**found)
        for name in ("inequity", "group_inequity")
    }
    # `None` stands for NaN, and NumPy reads it as such.
    arrays = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return OperatingPoint(
        far_target=float(arrays["far_target"]),
        threshold=float(arrays["threshold"]),
        far=float(arrays["far"]),
        frr=float(arrays["frr"]),
        per_class_far=arrays["per_class_far"],
        per_class_frr=arrays["per_class_frr"],
        open_set_far=float(arrays["open_set_far"]),
        standard_errors=errors and _load_errors(errors),
        intervals=_load_intervals(intervals),
        **inequities,
    )


def _load_group(values: dict[str, Any]) -> Group:
    interval = values["opis_interval"]
    points = {
        name: tuple(_load_group_point(dict(point)) for point in values[name])
        for name in _POINTS
    }
    return Group(
        **{
            **values,
            **points,
            "opis": _number(values["opis"]),
            "opis_interval": interval and (interval[0], interval[1]),
        }
    )


def _load_group_point(values: dict[str, Any]) -> GroupPoint:
    intervals = _load_intervals(values.pop("intervals"))
    numbers = {name: _number(value) for name, value in values.items()}
    return GroupPoint(**numbers, intervals=intervals)


def _number(value: float | None) -> float:
    """A number of JSON, where `None` stands for NaN."""
    return math.nan if value is None else value


def _load_intervals(
    intervals: dict[str, list[float]] | None,
) -> dict[str, tuple[float, float]] | None:
    if intervals is None:
        return None
    return {name: (low, high) for name, (low, high) in intervals.items()}


def _load_errors(errors: dict[str, float | None]) -> dict[str, float]:
    return {name: _number(value) for name, value in errors.items()}
