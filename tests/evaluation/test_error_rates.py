"""FAR and FRR at many thresholds, against all pairs, and between files."""

import dataclasses
import json

import numpy as np
import oracles
import pytest

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.evaluation import ErrorRates


def clusters(num_classes=8, size=7, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), size)
    spread = rng.uniform(0.3, 0.9, num_classes)[y, None]
    x = rng.normal(size=(num_classes, 6))[y] + spread * rng.normal(size=(len(y), 6))
    return x.astype("float32"), y


X, Y = clusters()


def evaluate(**options):
    return evaluate_embeddings(X, Y, verbose=False, **options)


def shares(distances, thresholds):
    """Share of cosine distances up to each, and where float32 leaves no doubt."""
    distances = sorted(distances)
    decided = [oracles.is_decided(distances, threshold) for threshold in thresholds]
    accepted = [oracles.share_within(distances, threshold) for threshold in thresholds]
    return np.array(accepted), np.array(decided)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distance": "euclidean"},
        {"far_targets": (0.004, 0.05, 0.6, 1.0)},
        {"far_targets": ()},
        {"calibration_range": (0.2, 0.21), "far_targets": (0.3,)},
        {"frr_range": (0.05, 0.3), "num_thresholds": 31},
    ],
    ids=str,
)
def test_rates_are_shares_of_the_pairs(options):
    result = evaluate(**options)
    rates = result.error_rates
    cosine = [oracles.to_cosine(d, result.distance) for d in rates.thresholds]
    pairs = oracles.all_pairs(X, Y.tolist())
    expected = [
        (rates.far, [d for d, a, b in pairs if a != b]),
        (1 - rates.frr, [d for d, a, b in pairs if a == b]),
    ]
    for label, far, frr in zip(
        result.classes, rates.per_class_far, rates.per_class_frr, strict=True
    ):
        expected += [
            (far, [d for d, a, b in pairs if (a == label) != (b == label)]),
            (1 - frr, [d for d, a, b in pairs if a == b == label]),
        ]
    for found, distances in expected:
        accepted, decided = shares(distances, cosine)
        assert decided.mean() > 0.9
        np.testing.assert_allclose(found[decided], accepted[decided], atol=1e-7)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_thresholds_span_calibration_range_and_operating_points(distance):
    result = evaluate(far_targets=(1e-6, 0.002, 0.03, 0.12, 1.0), distance=distance)
    rates, points = result.error_rates, result.operating_points
    assert (np.diff(rates.thresholds) > 0).all()
    assert np.isin(result.thresholds, rates.thresholds).all()
    # The first target is unresolved, and the last accepts every pair.
    inside = [point.threshold for point in points[1:4]]
    assert np.isin(inside, rates.thresholds).all()
    assert rates.thresholds[0] == inside[0]
    # FAR and FRR cross beyond the last target inside.
    assert inside[-1] < rates.thresholds[-1]
    assert (rates.far - rates.frr > 0).tolist().index(True) == len(rates.thresholds) - 1
    step = result.thresholds[1] - result.thresholds[0]
    assert np.diff(rates.thresholds).max() <= step * (1 + 1e-9)
    for point in points[1:4]:
        (place,) = np.flatnonzero(rates.thresholds == point.threshold)
        assert rates.far[place] == point.far
        assert rates.frr[place] == point.frr
        np.testing.assert_allclose(
            rates.per_class_far[:, place], point.per_class_far, rtol=1e-6
        )


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("far_range", [(0.01, 0.1), (0.1, 0.4), (0.5, 0.9)])
def test_thresholds_reach_the_equal_error_rate(far_range, distance):
    """Above, inside and below the calibration range."""
    result = evaluate(far_range=far_range, far_targets=(), distance=distance)
    rates = result.error_rates
    pairs = oracles.all_pairs(X, Y.tolist())
    positive = sorted(d for d, a, b in pairs if a == b)
    negative = sorted(d for d, a, b in pairs if a != b)
    expected = oracles.equal_error_rate(positive, negative)
    place = np.abs(rates.far - rates.frr).argmin()
    assert (rates.far[place] + rates.frr[place]) / 2 == pytest.approx(expected)
    # It is the distance of a pair.
    cosine = oracles.to_cosine(rates.thresholds[place], distance)
    assert np.abs(np.array(positive + negative) - cosine).min() < 1e-6
    reached = [*result.calibration_range, rates.thresholds[place]]
    assert rates.thresholds[[0, -1]].tolist() == [min(reached), max(reached)]


def test_a_narrow_calibration_range_does_not_make_the_thresholds_many():
    rates = evaluate(calibration_range=(0.5, 0.5001)).error_rates
    assert len(rates.thresholds) < 4 * 101


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_utility_is_that_of_the_evaluation(beta):
    result = evaluate(beta=beta)
    rates = result.error_rates
    places = np.searchsorted(rates.thresholds, result.thresholds)
    np.testing.assert_allclose(
        rates.utility(beta)[:, places], result.utility, atol=1e-6
    )


def test_rates_of_a_sample_of_the_pairs_estimate_those_of_all():
    x, y = clusters(num_classes=40, size=30, seed=1)
    exact = evaluate_embeddings(x, y, verbose=False)
    sampled = evaluate_embeddings(x, y, max_pairs=100_000, verbose=False).error_rates
    assert sampled.per_class_far.shape == (40, len(sampled.thresholds))
    far = np.interp(
        sampled.thresholds, exact.error_rates.thresholds, exact.error_rates.far
    )
    np.testing.assert_allclose(sampled.far[10:-10], far[10:-10], rtol=0.2)


def test_files_keep_the_rates(tmp_path):
    result = evaluate()
    result.save(tmp_path / "result.json")
    loaded = Evaluation.load(tmp_path / "result.json")
    for field in dataclasses.fields(ErrorRates):
        found = getattr(loaded.error_rates, field.name)
        expected = getattr(result.error_rates, field.name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_targets_that_accept_everything_do_not_stretch_the_thresholds():
    """Wherever they stand among the others."""
    expected = evaluate(far_targets=(0.5,)).error_rates.to_dict()
    for targets in (1.0, 0.5), (0.5, 1.0), (1.0, 0.5, 1e-9), (1e-9, 1.0, 0.5):
        assert evaluate(far_targets=targets).error_rates.to_dict() == expected


@pytest.mark.parametrize("field", ["error_rates", "at_thresholds"])
def test_a_file_without_a_field(tmp_path, field):
    values = evaluate().to_dict()
    del values[field]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=f"`path` must be a file .* have .*{field}"):
        Evaluation.load(path)


def test_a_range_of_two_neighbouring_floats():
    low = 0.5
    high = np.nextafter(low, 1.0)
    result = evaluate(calibration_range=(low, high), far_targets=(0.01, 0.5))
    assert set(result.thresholds) == {low, high}
    thresholds = result.error_rates.thresholds
    assert (np.diff(thresholds) > 0).all()
    assert {low, *(p.threshold for p in result.operating_points)} <= set(thresholds)
    # The utility does not change from one to the next.
    mean_over_range = result.utility.mean(axis=1)
    assert result.opis == pytest.approx(mean_over_range.var(), rel=1e-9)


@pytest.mark.parametrize(
    "damage",
    [
        lambda rates: rates.pop("far"),
        lambda rates: rates.update(per_class_far="AAAA"),
        lambda rates: rates.update(more=1),
    ],
)
def test_damaged_rates(tmp_path, damage):
    values = evaluate().to_dict()
    damage(values["error_rates"])
    path = tmp_path / "result.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="`path` must be a file that"):
        Evaluation.load(path)
