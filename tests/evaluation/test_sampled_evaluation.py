"""evaluate_embeddings with max_pairs against the evaluation of all pairs."""

import functools
import re

import numpy as np
import pytest

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.evaluation import UndefinedError
from keras_tcm.evaluation._counting import label_pairs

SIZES = np.random.default_rng(0).poisson(8, 75) + 2


def classes_of_uneven_spread(sizes, seed=0, dim=16):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    spreads = rng.uniform(0.5, 1.5, len(sizes))
    x = rng.normal(size=(len(sizes), dim))[labels]
    x = x + spreads[labels, None] * rng.normal(size=(len(labels), dim))
    return x.astype("float32"), labels


X, Y = classes_of_uneven_spread(SIZES)
QUERIES, QUERY_LABELS = classes_of_uneven_spread(SIZES[::-1], seed=0)
PAIRS = 96 * len(Y)


def evaluate(x=X, y=Y, **options):
    return evaluate_embeddings(x, y, verbose=False, **options)


@functools.cache
def all_pairs(**options):
    return evaluate(**options)


@functools.cache
def sampled(seed, **options):
    return evaluate(max_pairs=PAIRS, seed=seed, **options)


def scores(result):
    values = {
        "opis": result.opis,
        "epsilon_opis": result.epsilon_opis,
        "eer": result.eer,
        "map_at_r": result.map_at_r,
    }
    values |= {f"recall_at_{k}": value for k, value in result.recall.items()}
    for point in result.operating_points:
        values[f"threshold_{point.far_target}"] = point.threshold
        values[f"frr_{point.far_target}"] = point.frr
    return values


def errors(result):
    values = dict(result.standard_errors)
    for point in result.operating_points:
        for name in ("threshold", "frr"):
            values[f"{name}_{point.far_target}"] = point.standard_errors[name]
    return values


@pytest.mark.parametrize(
    "options",
    [{}, {"distance": "euclidean"}, {"calibration_range": (0.3, 0.6)}],
    ids=["far-range", "euclidean", "calibration-range"],
)
def test_estimates_are_within_their_errors(options):
    truth, result = scores(all_pairs(**options)), sampled(0, **options)
    for name, error in errors(result).items():
        assert 0 < error < 0.5
        assert abs(scores(result)[name] - truth[name]) < 5 * error, name


def test_frr_range():
    options = {"frr_range": (0.2, 0.6)}
    truth, result = evaluate(**options), evaluate(max_pairs=PAIRS, **options)
    # Positive pairs are all counted.
    assert result.calibration_range == truth.calibration_range
    assert result.opis == pytest.approx(
        truth.opis, abs=5 * result.standard_errors["opis"]
    )


@pytest.mark.slow
def test_estimates_are_unbiased_and_errors_hold():
    truth = scores(all_pairs())
    results = [sampled(seed) for seed in range(32)]
    for name in ("opis", "epsilon_opis", "eer", "map_at_r", "threshold_0.1"):
        values = np.array([scores(result)[name] for result in results])
        stated = np.array([errors(result)[name] for result in results])
        spread = values.std(ddof=1)
        assert abs(values.mean() - truth[name]) < 4 * spread / np.sqrt(32), name
        assert np.sqrt(np.mean(stated**2)) == pytest.approx(spread, rel=0.5), name
        # 95% of a t distribution with 31 degrees of freedom; fewer than
        # 0.8 of 32 runs would be a chance of 1 in 1,000.
        assert np.mean(np.abs(values - truth[name]) < 2.04 * stated) > 0.8, name


def test_opis_would_be_too_large_without_correction():
    """The classes' own errors look like inconsistency."""
    uncorrected = []
    for seed in range(8):
        utility = sampled(seed).utility
        uncorrected.append(((utility - utility.mean(axis=0)) ** 2).mean(axis=0).mean())
    corrected = np.mean([sampled(seed).opis for seed in range(8)])
    assert np.mean(uncorrected) > corrected
    np.testing.assert_allclose(
        sampled(0).opis_per_class.mean(), sampled(0).opis, rtol=1e-12
    )


def test_far_error_is_that_of_the_rate_at_the_threshold():
    result = sampled(1)
    for point in result.operating_points[1:]:
        cosine_distance = point.threshold
        x = X / np.linalg.norm(X, axis=1, keepdims=True)
        negative = (1.0 - x @ x.T)[Y[:, None] != Y]
        far = np.mean(negative <= cosine_distance)
        assert abs(far - point.far) < 5 * point.standard_errors["far"]


def test_more_pairs_give_smaller_errors():
    more = evaluate(max_pairs=3 * PAIRS).standard_errors
    fewer = sampled(0).standard_errors
    assert more["opis"] < fewer["opis"]
    assert more["recall_at_1"] < fewer["recall_at_1"]


def test_counts_are_those_of_the_population():
    result, truth = sampled(0), all_pairs()
    assert result.num_positive_pairs == truth.num_positive_pairs
    assert result.num_negative_pairs == truth.num_negative_pairs
    np.testing.assert_array_equal(result.classes, truth.classes)
    np.testing.assert_array_equal(result.class_counts, truth.class_counts)


def test_enough_pairs_for_all_is_exact():
    num_pairs = len(Y) * (len(Y) - 1) // 2
    result = evaluate(max_pairs=num_pairs)
    assert result.standard_errors is None
    assert result.operating_points[0].standard_errors is None
    assert scores(result) == scores(all_pairs())
    assert evaluate(max_pairs=num_pairs - 1).standard_errors is not None


def test_seed():
    again = evaluate(max_pairs=PAIRS, seed=0)
    assert scores(again) == scores(sampled(0))
    assert scores(again) != scores(sampled(1))


def test_block_size_does_not_matter():
    assert scores(sampled(0, block_size=50)) == pytest.approx(scores(sampled(0)))


def test_ranks_of_many_positives_in_several_walks(monkeypatch):
    monkeypatch.setattr(label_pairs, "MAX_HELD", 200)
    assert scores(evaluate(max_pairs=PAIRS)) == pytest.approx(scores(sampled(0)))


GALLERY = {"gallery_embeddings": X, "gallery_labels": Y}


class TestGallery:
    def test_estimates_are_within_their_errors(self):
        truth = scores(evaluate(QUERIES, QUERY_LABELS, **GALLERY))
        result = evaluate(QUERIES, QUERY_LABELS, max_pairs=2 * PAIRS, **GALLERY)
        for name, error in errors(result).items():
            assert abs(scores(result)[name] - truth[name]) < 5 * error, name

    def test_uneven_sizes(self):
        few = slice(None, None, 4)
        truth = scores(evaluate(QUERIES[few], QUERY_LABELS[few], **GALLERY))
        result = evaluate(QUERIES[few], QUERY_LABELS[few], max_pairs=PAIRS, **GALLERY)
        for name, error in errors(result).items():
            assert abs(scores(result)[name] - truth[name]) < 5 * error, name


def test_memmap(tmp_path):
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
    mapped[:] = X
    assert scores(evaluate(mapped, max_pairs=PAIRS)) == pytest.approx(
        scores(sampled(0))
    )


def test_save_and_load(tmp_path):
    path = tmp_path / "result.json"
    # The smallest target is not resolved: its errors are NaN.
    result = evaluate(max_pairs=PAIRS, far_targets=(1e-7, 0.01))
    result.save(path)
    loaded = Evaluation.load(path)
    assert loaded.standard_errors == result.standard_errors
    assert loaded.operating_points[0].standard_errors is None
    assert (
        loaded.operating_points[1].standard_errors
        == result.operating_points[1].standard_errors
    )


def test_summary_shows_errors():
    summary = sampled(0).summary()
    assert "sample of the pairs" in summary
    assert re.search(r"^OPIS .* ± 0\.\d+$", summary, re.MULTILINE)
    assert summary.count("±") == 17
    assert "±" not in all_pairs().summary()


class TestErrors:
    def test_too_few_pairs(self):
        with pytest.raises(ValueError, match=rf"`max_pairs` .* {32 * len(Y)} .*=1000"):
            evaluate(max_pairs=1000)

    @pytest.mark.parametrize("max_pairs", [0, -1])
    def test_no_pairs(self, max_pairs):
        with pytest.raises(ValueError, match="`max_pairs`"):
            evaluate(max_pairs=max_pairs)

    def test_type(self):
        with pytest.raises(TypeError, match="`max_pairs`"):
            evaluate(max_pairs=1e6)
        with pytest.raises(TypeError, match="`seed`"):
            evaluate(max_pairs=PAIRS, seed="0")

    def test_class_with_too_few_sampled_negatives(self):
        labels = np.zeros(800, np.int64)
        labels[:2] = 1
        x = np.random.default_rng(0).normal(size=(800, 4))
        with pytest.raises(UndefinedError, match="`max_pairs` must be larger: a class"):
            evaluate(x, labels, max_pairs=32 * 800)

    def test_no_sampled_query_with_a_positive(self):
        labels = np.arange(4000)
        labels[[1, 3]] = labels[[0, 2]]
        x = np.random.default_rng(0).normal(size=(4000, 4))
        with pytest.raises(UndefinedError, match="`max_pairs` must be larger: none"):
            evaluate(x, labels, max_pairs=32 * 4000)
