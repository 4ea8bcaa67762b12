"""The result of an evaluation."""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any, Self

import numpy as np

from keras_tcm.evaluation.error_rates import ErrorRates
from keras_tcm.files import replacing
from keras_tcm.labels import json_labels, label_array

_FORMAT = "keras_tcm.Evaluation"


@dataclasses.dataclass(frozen=True, eq=False)
class OperatingPoint:
    """The threshold for one target of the global false acceptance rate.

    Attributes:
        far_target: The target.
        threshold: Distance up to which pairs are accepted: just below the negative
            pair that would exceed the target. NaN if the target is not resolved.
        far: Global false acceptance rate achieved, at most the target.
        frr: Global false rejection rate.
        per_class_far: Share of each class's negative pairs accepted, shape `(C,)`.
        per_class_frr: Share of each class's positive pairs rejected, shape `(C,)`.
        standard_errors: Where pairs were sampled, the standard errors by name: of
            `"threshold"` and `"frr"` as estimates of what all pairs would give for the
            target, and of `"far"` as the rate of all pairs at this threshold. `None` if
            all pairs were compared, or if unresolved.
    """

    far_target: float
    threshold: float
    far: float
    frr: float
    per_class_far: np.ndarray
    per_class_frr: np.ndarray
    standard_errors: dict[str, float] | None = None

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
        num_excluded_classes: Classes without a positive or a negative pair; their
            samples still serve as negatives.
        num_positive_pairs: Positive pairs.
        num_negative_pairs: Negative pairs.
        distance: `"cosine"` or `"euclidean"`.
        beta: Weight of the sensitivity in the utility.
        epsilon: Share of classes that count as worst.
        standard_errors: Where pairs were sampled, the standard errors of `"opis"`,
            `"epsilon_opis"`, `"eer"`, `"map_at_r"` and `"recall_at_1"` (and the other
            k). `None` if all pairs were compared.
        error_rates: FAR and FRR, in all and of each class, at many thresholds: see
            `ErrorRates`. `None` in results that an earlier version saved.

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
    num_positive_pairs: int
    num_negative_pairs: int
    distance: str
    beta: float
    epsilon: float
    standard_errors: dict[str, float] | None = None
    error_rates: ErrorRates | None = None

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
                    f"{_error(point.standard_errors, 'threshold', '.4f')}, "
                    f"FAR {point.far:.4%}"
                    f"{_error(point.standard_errors, 'far', '.4%')}, "
                    f"FRR {point.frr:.2%}"
                    f"{_error(point.standard_errors, 'frr', '.2%')}"
                    if point.resolved
                    else "not resolved by the negative pairs"
                )
            )
        return "\n".join(lines)

    def _error(self, name: str, form: str) -> str:
        return _error(self.standard_errors, name, form)

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
        values["operating_points"] = [
            dataclasses.asdict(point) for point in self.operating_points
        ]
        values["error_rates"] = self.error_rates and self.error_rates.to_dict()
        return {"format": _FORMAT, **_to_json(values)}

    def save(self, path: str | os.PathLike) -> None:
        """Write the result to a JSON file."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.to_dict(), file, allow_nan=False)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read a result that `save` wrote.

        Raises:
            ValueError: If the file does not hold one.
        """
        try:
            with open(path, encoding="utf-8") as file:
                return cls.from_dict(json.load(file))
        except ValueError:
            raise ValueError(
                f"`path` must be a file that `Evaluation.save` wrote. "
                f"Received: path={os.fspath(path)!r}"
            ) from None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make a result of what `to_dict` returned, also by way of JSON.

        Raises:
            ValueError: If it is anything else.
        """
        names = {"format", *(field.name for field in dataclasses.fields(cls))}
        if not isinstance(values, dict) or values.keys() | {"error_rates"} != names:
            found = list(values) if isinstance(values, dict) else values
            raise ValueError(
                "`values` must be what `Evaluation.to_dict` returns. "
                f"Received: {found!r:.200}"
            )
        values = dict(values)
        found = values.pop("format")
        if found != _FORMAT:
            raise ValueError(
                f"`values` must have the format {_FORMAT!r}. Received: {found!r}"
            )
        for name in ("opis_per_class", "thresholds", "utility", "class_counts"):
            values[name] = np.asarray(values[name])
        values["classes"] = label_array(values["classes"])
        values["calibration_range"] = tuple(values["calibration_range"])
        values["recall"] = {int(k): value for k, value in values["recall"].items()}
        errors = values["standard_errors"]
        values["standard_errors"] = errors and _load_errors(errors)
        rates = values.get("error_rates")
        values["error_rates"] = rates and ErrorRates.from_dict(rates)
        values["operating_points"] = tuple(
            _load_operating_point(dict(point)) for point in values["operating_points"]
        )
        return cls(**values)

    def plot_utility(self, ax: Any = None, threshold: float | None = None) -> Any:
        """Draw the utility curves of all classes; needs matplotlib.

        Args:
            ax: Matplotlib axes. Defaults to new ones.
            threshold: A distance to mark. Defaults to `None`.

        Returns:
            The axes.
        """
        from keras_tcm.visualization import plot_utility

        return plot_utility(self, ax=ax, threshold=threshold)

    def to_html(
        self, path: str | os.PathLike, title: str = "Embedding evaluation"
    ) -> None:
        """Write the result as an interactive page of HTML.

        The page has a threshold to move, which shows FAR, FRR and utility, in all and
        of each class, in charts and in a table to sort and search. It is one file that
        needs no other and no network.

        Args:
            path: File to write, replaced if it exists; its folder must exist.
            title: Title of the page. Defaults to `"Embedding evaluation"`.

        Raises:
            OSError: If the file cannot be written.
            TypeError: If `title` is not a string.

        Example:

        >>> result.to_html(path, title="Digits, with TCM")
        """
        from keras_tcm.report import render_page

        if not isinstance(title, str):
            raise TypeError(f"`title` must be a string. Received: title={title!r}")
        # What UTF-8 cannot express is written as references to characters.
        page = render_page(self, title).encode("utf-8", "xmlcharrefreplace")
        with replacing(pathlib.Path(path)) as partial:
            partial.write_bytes(page)


def _error(errors: dict[str, float] | None, name: str, form: str) -> str:
    return "" if errors is None else f" ± {errors[name]:{form}}"


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


def _load_operating_point(values: dict[str, Any]) -> OperatingPoint:
    errors = values.pop("standard_errors")
    # `None` stands for NaN, and NumPy reads it as such.
    arrays = {name: np.asarray(value, np.float64) for name, value in values.items()}
    return OperatingPoint(
        far_target=float(arrays["far_target"]),
        threshold=float(arrays["threshold"]),
        far=float(arrays["far"]),
        frr=float(arrays["frr"]),
        per_class_far=arrays["per_class_far"],
        per_class_frr=arrays["per_class_frr"],
        standard_errors=errors and _load_errors(errors),
    )


def _load_errors(errors: dict[str, float | None]) -> dict[str, float]:
    return {
        name: math.nan if value is None else value for name, value in errors.items()
    }
