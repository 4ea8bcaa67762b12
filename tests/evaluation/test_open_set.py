"""Queries without a positive: how many of them a threshold accepts all the same."""

import concurrent.futures
import json
import math

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_distributed_evaluation import PickledParts

from keras_tcm import (
    Evaluation,
    ScoreNormalization,
    Threshold,
    choose_threshold,
    compare_embeddings,
    evaluate_embeddings,
)
from keras_tcm.evaluation._counting import open_set
from keras_tcm.relevance import ClassRelevance, HierarchyLevel, SharedLabel


def samples(seed, sizes, dim=5):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    x = np.random.default_rng(9).normal(size=(len(sizes), dim))[y]
    x = (x + 0.6 * rng.normal(size=x.shape)).astype("float32")
    order = rng.permutation(len(y))
    return x[order], y[order]


# Ten classes of several samples, and fifteen samples that are alone.
X, Y = samples(0, [6] * 10 + [1] * 15)
# The gallery has neither the last classes of the queries nor only theirs.
QUERIES, QUERY_LABELS = samples(1, [4] * 8 + [2] * 9)
GALLERY, GALLERY_LABELS = samples(2, [5] * 8 + [0] * 9 + [7] * 3)
AT = (0.05, 0.15, 0.3, 0.5, 0.9)
WITH_GALLERY = {"gallery_embeddings": GALLERY, "gallery_labels": GALLERY_LABELS}


def evaluate(x=X, y=Y, at_thresholds=AT, **options):
    return evaluate_embeddings(
        x, y, at_thresholds=at_thresholds, verbose=False, **options
    )


def expected_rates(nearest, thresholds):
    """The rates by loops in float64, at thresholds that leave no doubt."""
    known = sorted(nearest)
    assert all(oracles.is_decided(known, threshold) for threshold in thresholds)
    return [oracles.share_within(known, threshold) for threshold in thresholds]


def rates(result):
    return [point.open_set_far for point in result.at_thresholds]


def test_rates_are_those_of_loops_over_pairs():
    result = evaluate()
    nearest = oracles.nearest_of_unanswerable(X, Y)
    assert result.num_unanswerable == len(nearest) == 15
    assert rates(result) == expected_rates(nearest.values(), AT)
    assert 0 < result.at_thresholds[1].open_set_far < 1
    known = sorted(nearest.values())
    for point in result.operating_points:
        assert point.open_set_far == oracles.share_within(known, point.threshold)


@pytest.mark.parametrize("block_size", [None, 7, 16])
def test_gallery(block_size):
    result = evaluate(QUERIES, QUERY_LABELS, block_size=block_size, **WITH_GALLERY)
    nearest = oracles.nearest_of_unanswerable(
        QUERIES, QUERY_LABELS, GALLERY, GALLERY_LABELS
    )
    assert result.num_unanswerable == len(nearest) == 18
    assert rates(result) == expected_rates(nearest.values(), AT)


def test_gallery_that_includes_the_queries():
    """A query that is alone with itself in its class has no positive, and no match."""
    gallery = np.concatenate([GALLERY, QUERIES])
    labels = np.concatenate([GALLERY_LABELS, QUERY_LABELS])
    one_each = np.flatnonzero(QUERY_LABELS < 12)
    one_each = one_each[np.unique(QUERY_LABELS[one_each], return_index=True)[1]]
    x, y = QUERIES[one_each], QUERY_LABELS[one_each]
    kept = np.append(np.arange(len(GALLERY)), len(GALLERY) + one_each)
    own = len(GALLERY) + np.arange(len(x))
    nearest = oracles.nearest_of_unanswerable(x, y, gallery[kept], labels[kept], own)
    result = evaluate(
        x,
        y,
        gallery_embeddings=gallery[kept],
        gallery_labels=labels[kept],
        gallery_includes_queries=True,
        far_range=(0.05, 0.3),
    )
    assert result.num_unanswerable == len(nearest) == 4
    assert rates(result) == expected_rates(nearest.values(), AT)


def test_euclidean_distance():
    result = evaluate(distance="euclidean", at_thresholds=np.sqrt(2 * np.array(AT)))
    assert rates(result) == rates(evaluate())


def test_hierarchy_level():
    labels = np.column_stack([Y, np.arange(len(Y))])
    result = evaluate(X, labels, relevance=HierarchyLevel(0))
    assert rates(result) == rates(evaluate())
    assert result.at_thresholds[0].intervals == evaluate().at_thresholds[0].intervals


def test_relevance_without_single_classes():
    """The same positive pairs, said in another way; intervals there are none."""
    expected = evaluate()
    hot = np.eye(Y.max() + 1, dtype=int)
    for labels, relevance in (
        (hot[Y], SharedLabel()),
        (Y, ClassRelevance(np.eye(Y.max() + 1, dtype=int))),
    ):
        result = evaluate(X, labels, relevance=relevance)
        assert result.num_unanswerable == 15
        assert rates(result) == rates(expected)
        assert result.at_thresholds[0].intervals is None
    result = evaluate(
        QUERIES,
        hot[QUERY_LABELS],
        gallery_embeddings=GALLERY,
        gallery_labels=hot[GALLERY_LABELS],
        relevance=SharedLabel(),
    )
    assert rates(result) == rates(evaluate(QUERIES, QUERY_LABELS, **WITH_GALLERY))


@pytest.mark.parametrize("method", ["shift", "as_norm"])
def test_normalised_scores(method):
    normalization = ScoreNormalization(GALLERY, top=5, method=method)
    left = normalization.transform_queries(X).astype("float64")
    right = normalization.transform_gallery(X).astype("float64")
    distances = 1 - left @ right.T
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)[Y >= 10]
    at = np.quantile(nearest, [0.11, 0.53, 0.77]).tolist()
    result = evaluate(at_thresholds=at, score_normalization=normalization)
    assert rates(result) == [np.mean(nearest <= threshold) for threshold in at]


def test_files(tmp_path):
    paths = []
    for number, rows in enumerate(np.array_split(X, 3)):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], rows)
    np.save(tmp_path / "whole.npy", X)
    expected = evaluate().to_dict()
    assert evaluate(paths).to_dict() == expected
    assert evaluate(np.load(tmp_path / "whole.npy", mmap_mode="r")).to_dict() == (
        expected
    )


@pytest.mark.parametrize("options", [{}, WITH_GALLERY], ids=["itself", "gallery"])
def test_other_processes_find_the_same(options, tmp_path):
    x, y = (QUERIES, QUERY_LABELS) if options else (X, Y)
    expected = evaluate(x, y, block_size=16, **options).to_dict()
    for client in PickledParts(), concurrent.futures.ThreadPoolExecutor(2):
        result = evaluate(x, y, block_size=16, client=client, **options)
        assert result.to_dict() == expected
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    result = evaluate(mapped, y, block_size=16, client=PickledParts(), **options)
    assert result.to_dict() == expected


class TestNone:
    def test_nothing_is_compared(self, monkeypatch):
        monkeypatch.setattr(open_set, "products", None)
        result = evaluate(X[Y < 10], Y[Y < 10])
        assert result.num_unanswerable == 0
        assert np.isnan(rates(result)).all()
        assert "open_set_far" not in result.at_thresholds[0].intervals
        assert "Open-set" not in result.summary()
        assert result.to_dict()["at_thresholds"][0]["open_set_far"] is None

    def test_sample(self):
        labels = np.repeat(np.arange(10), 10)
        x = np.random.default_rng(0).normal(size=(100, 3))
        result = evaluate(x, labels, max_pairs=32 * 100)
        assert result.at_thresholds[0].standard_errors.keys() == {"far", "frr"}

    def test_unresolved_point(self):
        point = evaluate(far_targets=(1e-9,)).operating_points[0]
        assert math.isnan(point.open_set_far)


class TestSample:
    LABELS = np.concatenate([np.repeat(np.arange(20), 6), np.arange(100, 250)])
    X = np.random.default_rng(3).normal(size=(270, 4)).astype("float32")

    def evaluate(self, **options):
        return evaluate(self.X, self.LABELS, at_thresholds=(0.001, 0.01), **options)

    def test_all_that_are_few_enough_are_compared(self):
        x, y = self.X[:140], self.LABELS[:140]
        result = evaluate(x, y, max_pairs=32 * 140)
        assert result.num_unanswerable == 20 < 32
        assert rates(result) == rates(evaluate(x, y))
        assert result.at_thresholds[0].standard_errors["open_set_far"] == 0

    def test_of_more_a_sample_with_its_error(self):
        exact = self.evaluate().at_thresholds[1].open_set_far
        found = [self.evaluate(max_pairs=32 * 270, seed=seed) for seed in (0, 1, 0)]
        assert rates(found[0]) == rates(found[2]) != rates(found[1])
        for result in found:
            assert result.num_unanswerable == 150
            point = result.at_thresholds[1]
            # 32 of the 150 queries.
            assert (32 * point.open_set_far) % 1 == 0
            error = point.standard_errors["open_set_far"]
            assert 0 < abs(point.open_set_far - exact) < 3 * error
            assert f"{point.open_set_far:.2%} ± {error:.2%}" in result.summary()

    def test_the_error_is_that_of_samples_of_the_queries(self):
        rng = np.random.default_rng(0)
        nearest = np.where(np.arange(200) < 60, 0, 9)
        found = [
            open_set.OpenSet(200, rng.choice(nearest, 80, replace=False))
            for _ in range(400)
        ]
        spread = np.std([one.rates(np.array([5]))[0] for one in found])
        stated = np.mean([one.standard_errors(np.array([5]))[0] for one in found])
        assert stated == pytest.approx(spread, rel=0.12)

    def test_a_sample_without_errors_has_an_error(self):
        sample = open_set.OpenSet(400, np.full(20, 9))
        found = sample.standard_errors(np.array([5, 9]))
        expected = math.sqrt(0.95 * 0.025 * 0.975 / 19)
        assert found == pytest.approx([expected, expected])


class TestLaws:
    @settings(max_examples=8)
    @given(st.integers(0, 2**31), st.integers(1, 6))
    def test_it_grows_with_the_threshold_and_bounds_the_far(self, seed, size):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(12 + size, 3))
        y = np.append(np.repeat(np.arange(4), 3), 10 + np.arange(size))
        at = np.sort(rng.uniform(0, 2, 8)).tolist()
        result = evaluate(x, y, at_thresholds=(0, *at, 2), far_range=(0.1, 0.9))
        found = rates(result)
        assert found == sorted(found)
        assert (found[0], found[-1]) == (0, 1)
        # A query is accepted if any of its pairs is: at least as often as a pair, and
        # at most as often as pairs are.
        lone = evaluate_pairs(x, y, at)
        for rate, share in zip(found[1:-1], lone, strict=True):
            assert share <= rate + 1e-12
            assert rate <= share * (len(y) - 1) + 1e-12

    def test_one_query_is_accepted_with_its_nearest_pair(self):
        x = np.eye(3)[[0, 0, 1, 1, 2]]
        y = [0, 0, 1, 1, 2]
        result = evaluate(x, y, at_thresholds=(0.5, 1.0), calibration_range=(0.1, 0.9))
        assert rates(result) == [0, 1]

    def test_order_does_not_matter(self):
        order = np.random.default_rng(0).permutation(len(Y))
        assert rates(evaluate(X[order], Y[order])) == rates(evaluate())


def evaluate_pairs(x, y, thresholds):
    """Share of the pairs of the samples of the classes from 10 on, by loops."""
    s = oracles.similarities(x)
    shares = []
    for threshold in thresholds:
        of_each = [
            np.mean([1 - s[i, j] <= threshold for j in range(len(y)) if j != i])
            for i in range(len(y))
            if y[i] >= 10
        ]
        shares.append(np.mean(of_each))
    return shares


class TestWhereItIsShown:
    def test_summary(self):
        result = evaluate(QUERIES, QUERY_LABELS, at_thresholds=(0.3,), **WITH_GALLERY)
        (line,) = [x for x in result.summary().split("\n") if "Open-set" in x]
        points = (*result.operating_points, *result.at_thresholds)
        for point in points:
            low, high = point.intervals["open_set_far"]
            text = f"{point.open_set_far:.2%} ({low:.2%} to {high:.2%})"
            assert text in line
        assert line.endswith("(18 queries without a positive)")

    def test_summary_of_an_unresolved_point(self):
        text = evaluate(far_targets=(1e-9,)).summary()
        assert "Open-set FAR    not resolved, " in text

    def test_files_keep_it(self, tmp_path):
        result = evaluate(at_thresholds=(0.3,))
        path = tmp_path / "result.json"
        result.save(path)
        loaded = Evaluation.load(path)
        assert loaded.to_dict() == result.to_dict()
        assert loaded.summary() == result.summary()
        assert loaded.num_unanswerable == 15
        assert loaded.at_thresholds[0].open_set_far == rates(result)[0]

    def test_files_of_the_version_before(self, tmp_path):
        values = evaluate().to_dict()
        values["version"] = 1
        del values["num_unanswerable"]
        for point in (*values["operating_points"], *values["at_thresholds"]):
            del point["open_set_far"]
            if point["intervals"] is not None:
                del point["intervals"]["open_set_far"]
        path = tmp_path / "old.json"
        path.write_text(json.dumps(values))
        old = Evaluation.load(path)
        assert old.num_unanswerable is None
        assert np.isnan(rates(old)).all()
        assert "Open-set" not in old.summary()
        assert old.opis == evaluate().opis
        old.to_html(tmp_path / "old.html")
        assert "Open-set" not in (tmp_path / "old.html").read_text()
        old.save(path)
        assert Evaluation.load(path).to_dict() == old.to_dict()

    def test_page(self, tmp_path):
        result = evaluate(far_targets=(0.1, 1e-9))
        result.to_html(tmp_path / "page.html")
        text = (tmp_path / "page.html").read_text()
        assert ">Open-set FAR</th>" in text
        assert f'<td class="number">{result.operating_points[0].open_set_far:.2%} ' in (
            text
        )
        assert 'colspan="4" class="number">not resolved' in text
        assert "Unanswerable queries" in text

    def test_compared_models(self):
        comparison = compare_embeddings(X, X[:, ::-1] + 0.1, Y, num_resamples=100)
        assert comparison.first.num_unanswerable == 15
        (expected,) = expected_rates(
            oracles.nearest_of_unanswerable(X, Y).values(),
            [comparison.first.operating_point(0.1).threshold],
        )
        assert comparison.first.operating_point(0.1).open_set_far == expected

    def test_groups_leave_it_as_it_is(self):
        result = evaluate(groups=Y % 2)
        assert rates(result) == rates(evaluate())


class TestThreshold:
    X, Y = samples(4, [5] * 60 + [1] * 40, dim=12)

    def test_it_is_that_of_the_evaluation(self):
        threshold = choose_threshold(self.X, self.Y, far=0.05, verbose=False)
        result = evaluate(self.X, self.Y, at_thresholds=(threshold.value,))
        (point,) = result.at_thresholds
        assert threshold.num_unanswerable == 40
        assert threshold.open_set_far == point.open_set_far
        assert threshold.open_set_far_interval == point.intervals["open_set_far"]
        assert f"Open-set FAR {point.open_set_far:.3%} (" in threshold.summary()
        check = threshold.check(self.X, self.Y)
        assert check.open_set_far == threshold.open_set_far
        assert check.open_set_far_interval == threshold.open_set_far_interval
        assert "of 40 queries without a positive" in check.summary()

    def test_none(self, tmp_path):
        some = self.Y < 60
        threshold = choose_threshold(self.X[some], self.Y[some], far=0.05)
        assert threshold.num_unanswerable == 0
        assert threshold.open_set_far is threshold.open_set_far_interval is None
        threshold.save(tmp_path / "threshold.json")
        loaded = Threshold.load(tmp_path / "threshold.json")
        assert loaded.to_dict() == threshold.to_dict()
        assert "Open-set" not in loaded.summary()
        assert "Open-set" not in loaded.check(self.X[some], self.Y[some]).summary()

    def test_files_of_the_version_before(self, tmp_path):
        threshold = choose_threshold(self.X, self.Y, far=0.05)
        values = threshold.to_dict()
        values["version"] = 2
        for name in "num_unanswerable", "open_set_far", "open_set_far_interval":
            del values[name]
        path = tmp_path / "old.json"
        path.write_text(json.dumps(values))
        old = Threshold.load(path)
        assert old.value == threshold.value
        assert old.num_unanswerable is old.open_set_far is None
        assert "Open-set" not in old.summary()
        old.save(path)
        assert Threshold.load(path).to_dict() == old.to_dict()


def test_nothing_is_compared_that_nobody_asks_for(monkeypatch):
    """As in the metric of an epoch: OPIS, and no threshold."""
    asked = []
    monkeypatch.setattr(
        open_set, "nearest_steps", lambda *args: asked.append(args) or args
    )
    for options in ({}, {"max_pairs": 2400}):
        result = evaluate(at_thresholds=(), far_targets=(), **options)
        assert result.num_unanswerable == 15
    assert asked == []
