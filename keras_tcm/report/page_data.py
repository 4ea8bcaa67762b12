"""What the script of the page reads."""

import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_tcm.class_names import ClassNames, names_of
from keras_tcm.evaluation import ErrorRates, Evaluation

# The classes between these percentiles make the bands of the charts.
_BAND = (5, 95)


def page_data(
    evaluation: Evaluation,
    class_names: ClassNames | None,
    thumbnails: Sequence[str | None] | None,
) -> str:
    """Write the numbers and class names of an evaluation as JSON for a script element.

    `C` counts the classes, `R` the thresholds.

    Args:
        evaluation: What to write.
        class_names: The name of each label, or `None`.
        thumbnails: URI of an image of each class, or `None`.

    Returns:
        ASCII text without `<`, `>` and `&`: an object with
        - `labels` and `thumbnails` of length `C`, or `null` where there are no names
          and no images;
        - `classes` (names), `samples` and `share` (of OPIS; all `null` where OPIS is
          not above 0), each of length `C`;
        - `distance`, `beta`, `calibration_range`;
        - `rates`: `thresholds`, `far`, `frr` of length `R`, their `far_band` and
          `frr_band` over the classes, and `per_class_far` and `per_class_frr`: base64
          of little-endian float32, shape `(R, C)`, so that one threshold's are
          contiguous;
        - `utility_curves`: `thresholds`, the `mean`, `worst` (mean of the worst
          classes) and `band` at each, and `lowest`, of all classes and thresholds;
        - `points`: `name` and `index` among `rates.thresholds` of operating points, of
          thresholds that were asked for, and of the equal error rate;
        - `num_operating_points`: how many of them are operating points.
    """
    rates = _known_rates(evaluation)
    total = evaluation.opis_per_class.sum()
    shares = [
        value / total if total > 0 else None
        for value in evaluation.opis_per_class.tolist()
    ]
    labels = evaluation.classes.tolist()
    data = {
        "classes": names_of(labels, class_names),
        "labels": None if class_names is None else names_of(labels, None),
        "thumbnails": thumbnails,
        "samples": evaluation.class_counts.tolist(),
        "share": shares,
        "distance": evaluation.distance,
        "beta": evaluation.beta,
        "calibration_range": evaluation.calibration_range,
        "rates": _rates(rates),
        "utility_curves": _utility_curves(evaluation),
        "points": _points(evaluation, rates),
        "num_operating_points": sum(
            point.resolved for point in evaluation.operating_points
        ),
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    # Inside a string, the only place where they occur, escapes mean the same.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _known_rates(evaluation: Evaluation) -> ErrorRates:
    """Rates also at the thresholds that were asked for."""
    rates = evaluation.error_rates
    if not evaluation.at_thresholds:
        return rates
    more = evaluation.rates_at([point.threshold for point in evaluation.at_thresholds])
    thresholds = np.concatenate([rates.thresholds, more.thresholds])
    _, places = np.unique(thresholds, return_index=True)
    return ErrorRates(
        **{
            field.name: np.concatenate(
                [getattr(rates, field.name), getattr(more, field.name)], axis=-1
            )[..., places]
            for field in dataclasses.fields(rates)
        }
    )


def _rates(rates: ErrorRates) -> dict[str, Any]:
    return {
        "thresholds": rates.thresholds.tolist(),
        "far": rates.far.tolist(),
        "frr": rates.frr.tolist(),
        "far_band": _band(rates.per_class_far),
        "frr_band": _band(rates.per_class_frr),
        "per_class_far": _float32(rates.per_class_far.T),
        "per_class_frr": _float32(rates.per_class_frr.T),
    }


def _float32(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _utility_curves(evaluation: Evaluation) -> dict[str, Any]:
    thresholds, utility = evaluation.utility_curves()
    # The worst classes are those of epsilon-OPIS, wherever the curves reach.
    worst = evaluation.worst_classes(by="utility")
    return {
        "thresholds": thresholds.tolist(),
        "mean": utility.mean(axis=0).tolist(),
        "worst": utility[worst].mean(axis=0).tolist(),
        "band": _band(utility),
        "lowest": float(utility.min()),
    }


def _band(curves: np.ndarray) -> list[list[float]]:
    return np.percentile(curves, _BAND, axis=0).tolist()


def _points(evaluation: Evaluation, rates: ErrorRates) -> list[dict[str, Any]]:
    # Points that are unresolved, or accept every pair, have no threshold among them.
    points = [
        {"name": f"FAR ≤ {100 * point.far_target:g}%", "index": int(index)}
        for point in evaluation.operating_points
        for index in np.flatnonzero(rates.thresholds == point.threshold)
    ]
    points += [
        {"name": f"{point.threshold:g}", "index": int(index)}
        for point in evaluation.at_thresholds
        for index in np.flatnonzero(rates.thresholds == point.threshold)
    ]
    crossing = int(np.abs(rates.far - rates.frr).argmin())
    # At the largest distance, it is not among the thresholds.
    if abs((rates.far + rates.frr)[crossing] / 2 - evaluation.eer) < 5e-5:
        points.append({"name": "EER", "index": crossing})
    return points
