"""Likelihood ratios of distances, against those of known distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from keras_tcm.threshold import ScoreCalibration
from keras_tcm.threshold.score_calibration import cllr

EDGES = np.linspace(-4.0, 6.0, 61)
CENTERS = (EDGES[:-1] + EDGES[1:]) / 2.0


def counts(seed, mean, deviation, num_classes=50, pairs=400):
    rng = np.random.default_rng(seed)
    values = rng.normal(mean, deviation, (num_classes, pairs))
    return np.array([np.histogram(row, EDGES)[0] for row in values])


def test_equal_deviations_are_logistic():
    # Normal distances of equal deviation: the log-ratio is linear, slope 2 for d' = 2.
    curve = ScoreCalibration.fit(CENTERS, counts(0, 0, 1), counts(1, 2, 1))
    assert curve.kind == "logistic"
    near = np.linspace(-1, 3, 9)
    np.testing.assert_allclose(curve.log_ratio(near), 2 - 2 * near, atol=0.15)
    assert curve.min_cllr <= curve.cllr < curve.min_cllr + 0.01


def test_unequal_deviations_are_isotonic():
    positive, negative = counts(2, 0, 0.5), counts(3, 3, 2)
    curve = ScoreCalibration.fit(CENTERS, positive, negative)
    assert curve.kind == "isotonic"
    exact = stats.norm.logpdf(CENTERS, 0, 0.5) - stats.norm.logpdf(CENTERS, 3, 2)
    some = (CENTERS > 0.3) & (CENTERS < 1.8)
    np.testing.assert_allclose(curve.log_ratio(CENTERS[some]), exact[some], atol=0.4)


def test_pairs_beyond_the_end_do_not_bend_the_curve():
    def cut(counts, number):
        return np.column_stack([counts[:, :number], counts[:, number:].sum(axis=1)])

    # All pairs farther than 2 are in one: most of the negative ones.
    positive, negative = counts(0, 0, 1), counts(1, 2, 1)
    number = int(np.searchsorted(EDGES, 2.0))
    curve = ScoreCalibration.fit(
        CENTERS[:number],
        cut(positive, number),
        cut(negative, number),
        end=float(EDGES[number]),
    )
    assert curve.kind == "logistic"
    inside = np.append(np.linspace(-1, 1.8, 9), CENTERS[number - 1])
    np.testing.assert_allclose(curve.log_ratio(inside), 2 - 2 * inside, atol=0.15)
    # Up to the end itself, and from there on that of the pairs beyond.
    assert curve.log_ratio(EDGES[number]) == curve.log_ratio(CENTERS[number - 1])
    beyond = stats.norm.sf(2.0, [0, 2])
    assert curve.log_ratio(3.0) == pytest.approx(
        np.log(beyond[0] / beyond[1]), abs=0.05
    )
    assert (np.diff(curve.log_ratios) <= 0).all()


def test_cllr_by_hand():
    # Ratios of 3 and 1/3, each right in 3 of 4 cases.
    ratios = np.log([3.0, 1.0 / 3.0])
    found = cllr(ratios, np.array([3, 1]), np.array([1, 3]))
    expected = 0.75 * np.log2(1 + 1 / 3) + 0.25 * np.log2(1 + 3)
    assert found == pytest.approx(expected)
    assert cllr(np.zeros(2), np.array([3, 1]), np.array([1, 3])) == pytest.approx(1.0)


pairs = st.lists(st.integers(0, 30), min_size=6, max_size=6)


@given(pairs, pairs, st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_no_falling_curve_has_a_cllr_below_the_minimum(positive, negative, ratios):
    positive, negative = np.array(positive), np.array(negative)
    if not positive.sum() or not negative.sum():
        return
    distances = np.arange(6.0)
    curve = ScoreCalibration.fit(distances, positive[None], negative[None])
    falling = np.sort(ratios)[::-1]
    assert curve.min_cllr <= cllr(falling, positive, negative) + 1e-9
    assert (np.diff(curve.log_ratios) <= 1e-9).all()
    assert np.isfinite(curve.log_ratios).all()
