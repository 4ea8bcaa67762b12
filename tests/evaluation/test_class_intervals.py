"""Intervals of an evaluation, against leaving classes out of the data."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.relevance import SharedLabel


def samples(seed, num_classes=40, size=5, spread=0.7):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), size)
    widths = spread * np.exp(0.3 * rng.normal(size=num_classes))[labels, None]
    x = rng.normal(size=(num_classes, 8))[labels]
    return x + widths * rng.normal(size=x.shape), labels


X, Y = samples(0)
RESULT = evaluate_embeddings(X, Y, at_thresholds=(0.3,))


def left_out(measure):
    """A measure without each class, and its standard error."""
    values = []
    for one in range(40):
        values.append(measure(evaluate_embeddings(X[one != Y], Y[one != Y])))
    values = np.array(values)
    return math.sqrt(39 * values.var())


T = stats.t.ppf(0.975, 39)


def half_width(interval, value, scale):
    low, high = (scale(end) - scale(value) for end in interval)
    assert low == pytest.approx(-high, rel=1e-6)
    return high / T


def test_threshold():
    # The distance at which other classes have the FAR that these have.
    point = RESULT.operating_point(0.1)
    found = half_width(point.intervals["threshold"], point.threshold, lambda x: x)
    exact = left_out(lambda result: result.operating_point(0.1).threshold)
    assert found == pytest.approx(exact, rel=0.1)


def test_equal_error_rate():
    found = half_width(
        RESULT.intervals["eer"], RESULT.eer, lambda x: np.log(x / (1 - x))
    )
    exact = left_out(lambda result: result.eer) / (RESULT.eer * (1 - RESULT.eer))
    assert found == pytest.approx(exact, rel=0.15)


def test_opis():
    # At one calibration range, and but for what a class does to the FAR of another.
    found = half_width(RESULT.intervals["opis"], RESULT.opis, np.log)
    values = []
    for one in range(40):
        result = evaluate_embeddings(
            X[one != Y], Y[one != Y], calibration_range=RESULT.calibration_range
        )
        values.append(result.opis)
    exact = math.sqrt(39 * np.var(values)) / RESULT.opis
    assert found == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("name", ["map_at_r", "recall_at_1", "recall_at_8"])
def test_retrieval_intervals_hold_the_rate_and_narrow_with_classes(name):
    more = evaluate_embeddings(*samples(1, num_classes=360))
    widths = []
    for result in (RESULT, more):
        low, high = result.intervals[name]
        value = result.map_at_r if name == "map_at_r" else result.recall[int(name[-1])]
        assert 0 <= low < value < high <= 1
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_rates_have_the_intervals_of_their_errors():
    (point,) = RESULT.at_thresholds
    for name in ("far", "frr"):
        low, high = point.intervals[name]
        assert low < getattr(point, name) < high
    # What else is asked for changes nothing.
    alone = evaluate_embeddings(X, Y)
    assert alone.intervals == RESULT.intervals
    assert alone.operating_points[2].intervals == RESULT.operating_points[2].intervals


def test_intervals_cover():
    # 40 draws of 60 classes; an interval that covers 95% does so in 33 or more.
    truth = evaluate_embeddings(*samples(99, num_classes=1500))
    held = {"opis": 0, "eer": 0}
    for seed in range(40):
        found = evaluate_embeddings(
            *samples(100 + seed, num_classes=60),
            calibration_range=truth.calibration_range,
        ).intervals
        for name, value in (("opis", truth.opis), ("eer", truth.eer)):
            held[name] += found[name][0] <= value <= found[name][1]
    assert held["opis"] >= 33
    assert held["eer"] >= 33


def test_the_summary_and_the_file_have_them(tmp_path):
    text = RESULT.summary()
    low, high = RESULT.intervals["opis"]
    assert f"({low:.6f} to {high:.6f})" in text
    assert "(95% intervals, for other classes of the same kind)" in text
    RESULT.save(tmp_path / "result.json")
    loaded = Evaluation.load(tmp_path / "result.json")
    assert loaded.intervals == RESULT.intervals
    assert loaded.operating_points[1].intervals == RESULT.operating_points[1].intervals
    assert loaded.summary() == text


def test_where_there_are_none():
    two = evaluate_embeddings(X[:10], Y[:10], far_range=(0.1, 0.5))
    assert two.intervals is None
    assert all(point.intervals is None for point in two.operating_points)
    sampled = evaluate_embeddings(X, Y, max_pairs=8000)
    assert sampled.intervals is None
    several = evaluate_embeddings(X, np.eye(40, dtype=int)[Y], relevance=SharedLabel())
    assert several.intervals is None
    assert "same kind" not in several.summary()


def test_a_gallery():
    result = evaluate_embeddings(
        X[::2], Y[::2], gallery_embeddings=X[1::2], gallery_labels=Y[1::2]
    )
    low, high = result.operating_point(0.1).intervals["far"]
    assert low < 0.1 < high
    # Both ends of a pair vary there too.
    (without,) = np.diff(RESULT.operating_point(0.1).intervals["far"])
    assert 0.8 < (high - low) / without < 1.6
