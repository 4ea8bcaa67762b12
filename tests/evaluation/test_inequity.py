"""Measures of inequity, against their formulas written out in loops."""

import dataclasses
import math

import numpy as np
import pytest

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation import (
    Inequity,
    fairness_discrepancy_rate,
    garbe,
    gini_coefficient,
    max_to_geometric_mean,
    max_to_min,
    mean_of_worst,
)
from keras_tcm.relevance import SharedLabel


def gini(values):
    n, mean = len(values), sum(values) / len(values)
    differences = sum(abs(a - b) for a in values for b in values)
    return n / (n - 1) * differences / (2 * n**2 * mean)


def rates(seed, size=7):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.001, 0.1, size), rng.uniform(0.01, 0.6, size)


@pytest.mark.parametrize("seed", range(5))
def test_formulas(seed):
    far, frr = rates(seed, size=2 + 5 * seed)
    pairs = np.full(len(far), 1000)
    assert max_to_min(far, pairs) == pytest.approx(max(far) / min(far))
    mean = math.prod(far) ** (1 / len(far))
    assert max_to_geometric_mean(far, pairs) == pytest.approx(max(far) / mean)
    assert gini_coefficient(far) == pytest.approx(gini(far))
    for alpha in (0.0, 0.3, 1.0):
        expected = alpha * gini(far) + (1 - alpha) * gini(frr)
        assert garbe(far, frr, alpha) == pytest.approx(expected)
        largest = [max(abs(a - b) for a in x for b in x) for x in (far, frr)]
        expected = 1 - (alpha * largest[0] + (1 - alpha) * largest[1])
        assert fairness_discrepancy_rate(far, frr, alpha) == pytest.approx(expected)
    worst = sorted(far, reverse=True)[: max(1, len(far) // 4)]
    assert mean_of_worst(far, share=0.25) == pytest.approx(np.mean(worst))


def test_all_of_them_at_once():
    far, frr = rates(9, size=20)
    found = Inequity.of(far, frr, np.full(20, 500), np.full(20, 50))
    assert found == Inequity(
        far_max_to_min=pytest.approx(max(far) / min(far)),
        far_max_to_geometric_mean=pytest.approx(max(far) / np.exp(np.log(far).mean())),
        far_gini=pytest.approx(gini(far)),
        far_of_worst_tenth=pytest.approx(np.sort(far)[-2:].mean()),
        frr_max_to_min=pytest.approx(max(frr) / min(frr)),
        frr_max_to_geometric_mean=pytest.approx(max(frr) / np.exp(np.log(frr).mean())),
        frr_gini=pytest.approx(gini(frr)),
        garbe=pytest.approx((gini(far) + gini(frr)) / 2),
        fairness_discrepancy_rate=pytest.approx(1 - np.ptp(far) / 2 - np.ptp(frr) / 2),
    )


class TestZeroErrors:
    def test_a_rate_of_zero_is_half_an_error(self):
        assert max_to_min([0.0, 0.1], [100, 10]) == pytest.approx(0.1 / 0.005)
        expected = 0.1 / math.sqrt(0.005 * 0.1)
        assert max_to_geometric_mean([0.0, 0.1], [100, 10]) == pytest.approx(expected)

    def test_but_never_more_than_the_largest_rate(self):
        # Half an error of 10 pairs would be 0.05.
        assert max_to_min([0.0, 0.01], [10, 1000]) == 1.0
        assert max_to_geometric_mean([0.0, 0.01], [10, 1000]) == pytest.approx(1.0)

    def test_no_error_at_all_is_equal(self):
        zeros = np.zeros(3)
        found = Inequity.of(zeros, zeros, [9, 99, 999], [9, 99, 999])
        assert dataclasses.astuple(found) == (1, 1, 0, 0, 1, 1, 0, 0, 1)

    def test_differences_take_zeros_as_they_are(self):
        assert gini_coefficient([0.0, 0.0, 0.0, 0.4]) == pytest.approx(1.0)
        assert fairness_discrepancy_rate([0.0, 0.4], [0.0, 0.0]) == pytest.approx(0.8)


class TestLaws:
    @pytest.mark.parametrize("measure", [max_to_min, max_to_geometric_mean])
    def test_ratios_do_not_change_with_scale_or_order(self, measure):
        far, pairs = rates(3)[0], np.full(7, 100)
        expected = pytest.approx(measure(far, pairs))
        assert measure(far / 3, pairs) == expected
        assert measure(far[::-1], pairs) == expected

    def test_gini_does_not_change_with_scale_or_order(self):
        far = rates(3)[0]
        assert gini_coefficient(far / 3) == pytest.approx(gini_coefficient(far))
        assert gini_coefficient(far[::-1]) == pytest.approx(gini_coefficient(far))

    def test_equal_rates(self):
        far, frr = np.full(12, 0.07), np.full(12, 0.3)
        found = Inequity.of(far, frr, np.full(12, 100), np.full(12, 100))
        expected = (1, 1, 0, 0.07, 1, 1, 0, 0, 1)
        np.testing.assert_allclose(dataclasses.astuple(found), expected, atol=1e-12)


class TestErrors:
    @pytest.mark.parametrize(
        "measure",
        [gini_coefficient, mean_of_worst, lambda x: max_to_min(x, np.ones(len(x)))],
    )
    def test_rates(self, measure):
        with pytest.raises(ValueError, match=r"`rates` must have shape .*\(1,\)"):
            measure([0.1])
        with pytest.raises(ValueError, match=r"`rates` must be rates.*1\.5"):
            measure([0.1, 1.5])
        with pytest.raises(ValueError, match=r"`rates` must be rates.*nan"):
            measure([0.1, math.nan])

    @pytest.mark.parametrize("measure", [garbe, fairness_discrepancy_rate])
    def test_both(self, measure):
        with pytest.raises(ValueError, match=r"`frr` must have one rate for each"):
            measure([0.1, 0.2], [0.1, 0.2, 0.3])
        with pytest.raises(ValueError, match=r"`alpha` must be .*alpha=2"):
            measure([0.1, 0.2], [0.1, 0.2], alpha=2)
        with pytest.raises(TypeError, match="`alpha` must be"):
            measure([0.1, 0.2], [0.1, 0.2], alpha="half")

    @pytest.mark.parametrize("pairs", [[10], [10, 0], [10, math.nan], 10])
    def test_pairs(self, pairs):
        with pytest.raises(ValueError, match="`pairs` must have one number above 0"):
            max_to_min([0.1, 0.2], pairs)

    def test_share(self):
        with pytest.raises(ValueError, match=r"`share` must be .*share=1"):
            mean_of_worst([0.1, 0.2], share=1)


def samples():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 5)
    x = rng.normal(size=(30, 6))[labels]
    return x + 0.7 * rng.normal(size=x.shape), labels


class TestOfClasses:
    def test_of_an_evaluation(self):
        x, y = samples()
        result = evaluate_embeddings(x, y, at_thresholds=(0.4,))
        for point in (*result.operating_points[1:], *result.at_thresholds):
            expected = Inequity.of(
                point.per_class_far,
                point.per_class_frr,
                np.full(30, 5 * 145),
                np.full(30, 10),
            )
            assert point.inequity == expected
            assert point.group_inequity is None

    def test_a_gallery(self):
        x, y = samples()
        first = np.arange(150) % 5 < 2
        result = evaluate_embeddings(
            x[first], y[first], gallery_embeddings=x[~first], gallery_labels=y[~first]
        )
        point = result.operating_point(0.01)
        expected = Inequity.of(
            point.per_class_far,
            point.per_class_frr,
            np.full(30, 2 * 87),
            np.full(30, 6),
        )
        assert point.inequity == expected

    def test_none_where_it_is_not_known(self):
        x, y = samples()
        assert (
            evaluate_embeddings(x, y, far_targets=(1e-9,)).operating_points[0].inequity
            is None
        )
        sampled = evaluate_embeddings(x, y, max_pairs=5000)
        assert sampled.operating_points[2].inequity is None
        rows = np.eye(30, dtype=int)[y]
        several = evaluate_embeddings(x, rows, relevance=SharedLabel())
        assert several.operating_points[2].inequity is None
