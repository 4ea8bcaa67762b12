"""What each mistake on the page makes of OPIS."""

import pathlib
import re

import numpy as np
import pytest

from keras_tcm import reference
from keras_tcm.reference.definition import (
    Pairs,
    calibration_range,
    class_error_rates,
    classes_of,
    distances,
    error_rates,
    mean_over_range,
    opis_per_class,
    pairs_of,
    pairs_of_class,
    utility,
)

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference_values.md"
(CASE,) = (case for case in reference.cases() if case.name == "defaults")
X, LABELS = CASE.inputs["embeddings"], CASE.inputs["labels"]
PAIRS = pairs_of(distances(X), LABELS)
FAR_RANGE = CASE.options["far_range"]


def grid(bounds):
    return np.linspace(*bounds, CASE.options["num_thresholds"])


THRESHOLDS = grid(calibration_range(PAIRS, FAR_RANGE))


def harmonic(a, b):
    return 2 * a * b / np.where(a + b > 0, a + b, 1)


def opis(curves, thresholds=THRESHOLDS):
    return opis_per_class(curves, thresholds).mean()


def precision_and_recall(pairs, thresholds=THRESHOLDS):
    accepted = pairs.distance[:, None] <= thresholds
    found = accepted[pairs.positive].sum(axis=0)
    return found / np.maximum(accepted.sum(axis=0), 1), found / pairs.positive.sum()


def spread_of_one_f1():
    f1 = harmonic(*precision_and_recall(PAIRS))
    return mean_over_range((f1 - mean_over_range(f1, THRESHOLDS)) ** 2, THRESHOLDS)


def spread_of_one_utility():
    far, frr = error_rates(PAIRS, THRESHOLDS)
    one = harmonic(1 - far, 1 - frr)
    return mean_over_range((one - mean_over_range(one, THRESHOLDS)) ** 2, THRESHOLDS)


def not_divided_by_the_width():
    return opis(utility(PAIRS, THRESHOLDS)) * (THRESHOLDS[-1] - THRESHOLDS[0])


def thresholds_of_each_class():
    classes = [pairs_of_class(PAIRS, c) for c in classes_of(PAIRS)]
    curves = []
    for one in classes:
        far, frr = error_rates(one, grid(calibration_range(one, FAR_RANGE)))
        curves.append(harmonic(1 - far, 1 - frr))
    return opis(np.array(curves))


def precision_for_specificity():
    classes = [pairs_of_class(PAIRS, c) for c in classes_of(PAIRS)]
    return opis(np.array([harmonic(*precision_and_recall(one)) for one in classes]))


def far_of_all_pairs():
    far, _ = error_rates(PAIRS, THRESHOLDS)
    _, frr = class_error_rates(PAIRS, THRESHOLDS)
    return opis(harmonic(1 - far, 1 - frr))


def around_the_utility_of_all_pairs():
    far, frr = error_rates(PAIRS, THRESHOLDS)
    gaps = utility(PAIRS, THRESHOLDS) - harmonic(1 - far, 1 - frr)
    return mean_over_range(gaps**2, THRESHOLDS).mean()


def pairs_counted_twice():
    twice = Pairs(*(np.concatenate([field, field]) for field in PAIRS))
    thresholds = grid(calibration_range(twice, FAR_RANGE))
    return opis(utility(PAIRS, thresholds), thresholds)


def samples_paired_with_themselves():
    own = Pairs(
        np.zeros(len(LABELS)),
        np.ones(len(LABELS), dtype=bool),
        np.stack([LABELS, LABELS], axis=1),
    )
    both = Pairs(*map(np.concatenate, zip(PAIRS, own, strict=True)))
    return opis(utility(both, THRESHOLDS))


def quantiles_that_are_distances():
    negatives = PAIRS.distance[~PAIRS.positive]
    thresholds = grid(np.quantile(negatives, FAR_RANGE, method="lower"))
    return opis(utility(PAIRS, thresholds), thresholds)


def quantiles_of_all_pairs():
    thresholds = grid(np.quantile(PAIRS.distance, FAR_RANGE))
    return opis(utility(PAIRS, thresholds), thresholds)


def unnormalised():
    pairs = pairs_of(1 - X @ X.T, LABELS)
    thresholds = grid(calibration_range(pairs, FAR_RANGE))
    return opis(utility(pairs, thresholds), thresholds)


def variance_of_a_sample():
    curves = utility(PAIRS, THRESHOLDS)
    return opis(curves) * len(curves) / (len(curves) - 1)


def standard_deviation():
    curves = utility(PAIRS, THRESHOLDS)
    return mean_over_range(curves.std(axis=0), THRESHOLDS)


MISTAKES = {
    "the variance of one F1 (precision and recall of all pairs) over the thresholds": (
        spread_of_one_f1
    ),
    "the variance of one utility, that of all pairs, over the thresholds": (
        spread_of_one_utility
    ),
    "thresholds chosen for each class: its own FAR from 1% to 10%": (
        thresholds_of_each_class
    ),
    "precision in place of specificity": precision_for_specificity,
    "specificity over all negative pairs, not those of the class": far_of_all_pairs,
    "deviation from the utility of all pairs, not from the mean over classes": (
        around_the_utility_of_all_pairs
    ),
    "the integral not divided by the width of the range": not_divided_by_the_width,
    "each pair counted twice in the quantiles": pairs_counted_twice,
    "each sample paired with itself": samples_paired_with_themselves,
    "quantiles rounded down to a distance, not interpolated": (
        quantiles_that_are_distances
    ),
    "quantiles of all distances, not of the negative ones": quantiles_of_all_pairs,
    "embeddings not scaled to unit length": unnormalised,
    "division by the number of classes less one": variance_of_a_sample,
    "standard deviation in place of variance": standard_deviation,
}


def on_the_page():
    """The number beside each mistake, and the right one."""
    rows = re.findall(r"^\| (.+) \| (0\.\d+) \|$", PAGE.read_text("utf-8"), re.M)
    return {name: float(value) for name, value in rows}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_wrong_number(mistake):
    value = MISTAKES[mistake]()
    assert on_the_page()[mistake] == pytest.approx(value, abs=5e-9)
    # The vectors find it.
    assert abs(value - CASE.expected["opis"]) > 100 * CASE.tolerances["opis"]


def test_the_page_has_these_and_the_right_number():
    right = on_the_page()
    assert right.pop("OPIS") == pytest.approx(float(CASE.expected["opis"]), abs=5e-9)
    assert right.keys() == MISTAKES.keys()
