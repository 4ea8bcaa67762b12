"""Intervals of the open-set FAR: what they hold, and how wide they are."""

import numpy as np
import pytest
from scipy import stats

from keras_tcm.evaluation._counting.open_set import OpenSet
from keras_tcm.evaluation.class_intervals import open_set_intervals

# Queries that are accepted lie at 0, the others at 10.
CUT = np.array([5])


def interval(accepted, codes, confidence=0.95):
    nearest = np.where(accepted, 0, 10)
    found = open_set_intervals(
        OpenSet(len(nearest), nearest, np.asarray(codes)), CUT, confidence
    )
    return found[0]


def wilson(rate, trials, quantile):
    """The roots of (rate - p)^2 = quantile^2 p (1 - p) / trials."""
    square = quantile**2 / trials
    return np.sort(np.roots([1 + square, -2 * rate - square, rate**2]))


@pytest.mark.parametrize("number", [1, 7, 20, 39])
def test_one_query_a_class_is_wilson(number):
    """Such queries are independent trials, and clustering changes nothing."""
    found = interval(np.arange(40) < number, np.arange(40))
    expected = wilson(number / 40, 40, stats.t.ppf(0.975, 39))
    np.testing.assert_allclose(found, expected, atol=0.005)
    assert found[0] >= expected[0] - 1e-12
    assert found[1] <= expected[1] + 1e-12


@pytest.mark.parametrize("size", [1, 8])
def test_none_and_all(size):
    """The rule: Clopper and Pearson's limit, with a trial for each class."""
    codes = np.repeat(np.arange(30), size)
    limit = 1 - 0.025 ** (1 / 30)
    np.testing.assert_allclose(interval(np.zeros(30 * size), codes), [0, limit])
    np.testing.assert_allclose(interval(np.ones(30 * size), codes), [1 - limit, 1])


def test_it_mirrors():
    rng = np.random.default_rng(0)
    codes = np.sort(rng.integers(0, 25, 90))
    accepted = rng.random(90) < 0.2
    low, high = interval(accepted, codes)
    np.testing.assert_allclose(interval(~accepted, codes), [1 - high, 1 - low])


def test_queries_that_are_alike_count_once():
    """Eight copies of a query in its class tell no more than one."""
    accepted = np.arange(40) % 7 == 0
    one = interval(accepted, np.arange(40))
    np.testing.assert_allclose(
        interval(np.repeat(accepted, 8), np.repeat(np.arange(40), 8)), one, rtol=1e-9
    )
    # Those that differ tell more.
    mixed = np.arange(320) % 7 == 0
    low, high = interval(mixed, np.repeat(np.arange(40), 8))
    assert one[0] < low < high < one[1]


def test_few_classes_have_none():
    nearest = np.array([0, 10, 10, 0])
    for codes in ([0, 0, 1, 1], [0, 0, 0, 0]):
        found = open_set_intervals(OpenSet(4, nearest, np.array(codes)), CUT)
        assert found is None
    assert open_set_intervals(OpenSet(4, nearest), CUT) is None
    nothing = np.zeros(0, np.int64)
    assert open_set_intervals(OpenSet(0, nothing, nothing), CUT) is None


@pytest.mark.parametrize(
    ("num_classes", "size", "rate", "correlation"),
    [
        (40, 1, 0.05, 0.0),
        (200, 1, 0.3, 0.0),
        (30, 6, 0.1, 0.05),
        (30, 6, 0.4, 0.5),
        (100, 6, 0.02, 0.5),
    ],
)
def test_coverage_over_classes(num_classes, size, rate, correlation):
    """Classes are drawn anew, each with a rate of its own, and then their queries."""
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(num_classes), size)
    runs, held = 300, 0
    for _ in range(runs):
        rates = np.full(num_classes, rate)
        if correlation:
            total = (1 - correlation) / correlation
            rates = rng.beta(rate * total, (1 - rate) * total, num_classes)
        low, high = interval(rng.random(len(codes)) < rates[codes], codes)
        held += low <= rate <= high
    # Three standard errors of 300 runs below 95%.
    assert held / runs > 0.912
