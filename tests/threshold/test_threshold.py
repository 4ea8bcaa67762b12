"""What a threshold does once it has been chosen."""

import json
import math
import pathlib

import numpy as np
import oracles
import pytest

from keras_tcm import Threshold, choose_threshold


def samples(seed, num_classes=120, size=6, shift=0.0, spread=0.5):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), size)
    x = rng.normal(size=(num_classes, 10))[labels]
    return x + spread * rng.normal(size=x.shape) + shift, labels


X, Y = samples(0)
THRESHOLD = choose_threshold(X, Y, far=0.02)


class TestPairs:
    def test_accepts_what_is_near(self):
        similarities = oracles.similarities(X[:40])
        for i, j in ((0, 1), (0, 7), (3, 20), (12, 13)):
            expected = 1.0 - similarities[i, j] <= THRESHOLD.value
            assert THRESHOLD.accepts(X[i], X[j]) == expected
            assert THRESHOLD.distances(X[i], X[j]) == pytest.approx(
                1.0 - similarities[i, j], abs=1e-6
            )
        many = THRESHOLD.accepts(X[:40], X[0])
        np.testing.assert_array_equal(many, 1 - similarities[:, 0] <= THRESHOLD.value)
        np.testing.assert_array_equal(THRESHOLD.accepts(X[:5], X[5:10]).shape, (5,))

    def test_the_far_is_the_share_that_it_accepts(self):
        i, j = np.nonzero(Y[:, None] < Y)
        accepted = THRESHOLD.accepts(X[i], X[j])
        assert accepted.mean() == pytest.approx(THRESHOLD.far, rel=1e-9)

    def test_norms_do_not_matter_and_a_zero_vector_is_far_from_all(self):
        assert THRESHOLD.accepts(1e-3 * X[0], 1e3 * X[0])
        assert not THRESHOLD.accepts(np.zeros(10), X[0])

    def test_the_similarity_is_where_pairs_begin_to_be_accepted(self):
        angle = math.acos(THRESHOLD.similarity)
        for factor, expected in ((0.999, True), (1.001, False)):
            turned = np.zeros(10)
            turned[:2] = math.cos(factor * angle), math.sin(factor * angle)
            assert THRESHOLD.accepts(np.eye(10)[0], turned) == expected

    def test_bad_embeddings(self):
        with pytest.raises(ValueError, match="`b` must have the dimension"):
            THRESHOLD.accepts(X[0], X[0, :5])
        with pytest.raises(ValueError, match="`a` must be finite"):
            THRESHOLD.accepts(np.full(10, np.nan), X[0])
        with pytest.raises(ValueError, match="`b` must be one embedding"):
            THRESHOLD.accepts(X[:3], X[:2])


class TestProbability:
    def test_it_is_calibrated_on_other_classes(self):
        x, y = samples(1, num_classes=60)
        i, j = np.triu_indices(len(x), 1)
        prior = np.mean(y[i] == y[j])
        found = THRESHOLD.probability(THRESHOLD.distances(x[i], x[j]), prior=prior)
        positive = y[i] == y[j]
        for low, high in ((0.0, 0.05), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
            some = (found >= low) & (found < high)
            assert some.sum() > 20
            assert positive[some].mean() == pytest.approx(found[some].mean(), abs=0.15)

    def test_it_does_not_rise_with_the_distance(self):
        found = THRESHOLD.probability(np.linspace(0, 2, 500))
        assert (np.diff(found) <= 1e-12).all()
        assert found[0] > 0.95
        assert found[-1] < 0.05

    def test_the_prior(self):
        even, rare = (THRESHOLD.probability(0.2, prior=p) for p in (0.5, 0.001))
        odds = even / (1 - even) * 0.001 / 0.999
        assert rare == pytest.approx(odds / (1 + odds))

    def test_bad_input(self):
        with pytest.raises(ValueError, match="`prior` must be a number in"):
            THRESHOLD.probability(0.2, prior=1)
        with pytest.raises(ValueError, match="`distance` must be in"):
            THRESHOLD.probability([0.1, np.nan])


class TestSearch:
    def test_false_matches(self):
        assert THRESHOLD.expected_false_matches(1000) == 1000 * THRESHOLD.far
        size = THRESHOLD.largest_gallery(0.5)
        assert THRESHOLD.expected_false_matches(size) == pytest.approx(0.5)
        with pytest.raises(ValueError, match="`false_matches` must be"):
            THRESHOLD.largest_gallery(0)


class TestChecks:
    def test_on_other_classes_of_the_same_kind(self):
        x, y = samples(2, num_classes=500)
        check = THRESHOLD.check(x, y)
        assert check.verdict == "holds"
        assert check.far_interval[0] < check.far < check.far_interval[1]
        assert "The promise: holds" in check.summary()
        i, j = np.nonzero(y[:, None] < y)
        accepted = THRESHOLD.accepts(x[i], x[j])
        assert check.far == pytest.approx(accepted.mean(), rel=1e-9)
        assert check.per_class_far.shape == check.classes.shape == (500,)

    def test_on_classes_of_another_kind(self):
        x, y = samples(3, num_classes=500, shift=0.4)
        check = THRESHOLD.check(x, y)
        assert check.verdict == "broken"
        assert check.far_interval[0] > 0.02

    def test_on_a_few_classes(self):
        x, y = samples(4, num_classes=5)
        assert THRESHOLD.check(x, y).verdict == "too few classes to tell"

    def test_on_a_frr_that_is_broken(self):
        threshold = choose_threshold(X, Y, frr=0.1)
        x, y = samples(5, num_classes=300, spread=1.2)
        assert threshold.check(x, y).verdict == "broken"
        assert threshold.check(*samples(6, num_classes=500)).verdict != "broken"

    def test_the_promise_for_classes(self):
        threshold = choose_threshold(X, Y, far=0.05, promise="class", class_share=0.9)
        good = threshold.check(*samples(7, num_classes=400))
        assert good.verdict == "holds"
        assert good.share_kept > 0.9
        bad = threshold.check(*samples(7, num_classes=400, shift=0.6))
        assert bad.verdict == "broken"
        assert bad.share_kept < 0.9

    def test_other_dimensions(self):
        with pytest.raises(ValueError, match="must have the dimension of"):
            THRESHOLD.check(X[:, :5], Y)


class TestUnlabelled:
    def test_the_same_kind_is_seldom_called_moved(self):
        # Other numbers of classes too: how many pairs are positive does not matter.
        verdicts = [
            THRESHOLD.check_unlabelled(samples(10 + seed, num_classes=n)[0]).verdict
            for seed in range(15)
            for n in (40, 120)
        ]
        assert verdicts.count("moved") <= 1

    def test_another_kind_has_moved(self):
        check = THRESHOLD.check_unlabelled(samples(9, shift=0.5)[0])
        assert check.verdict == "moved"
        assert check.p_value < 0.01
        assert "moved" in check.summary()

    def test_bad_embeddings(self):
        with pytest.raises(ValueError, match=r"at least 10 rows\. Received: 9"):
            THRESHOLD.check_unlabelled(X[:9])
        with pytest.raises(ValueError, match="must have the dimension of"):
            THRESHOLD.check_unlabelled(X[:, :5])


class TestFiles:
    @pytest.mark.parametrize(
        "options",
        [
            {"far": 0.05},
            {"frr": 0.3, "distance": "euclidean"},
            {"far": 0.05, "promise": "class", "class_share": 0.9},
        ],
    )
    def test_a_saved_threshold_is_the_same(self, options, tmp_path):
        threshold = choose_threshold(X, Y, **options)
        path = tmp_path / "threshold.json"
        threshold.save(path)
        loaded = Threshold.load(path)
        assert loaded.to_dict() == threshold.to_dict()
        assert loaded.summary() == threshold.summary()
        assert loaded.accepts(X[0], X[1]) == threshold.accepts(X[0], X[1])
        assert loaded.check(X, Y).summary() == threshold.check(X, Y).summary()
        first, second = (t.check_unlabelled(X).p_value for t in (loaded, threshold))
        assert first == second

    def test_other_files_are_refused(self, tmp_path):
        path = tmp_path / "threshold.json"
        values = THRESHOLD.to_dict()
        missing = {name: value for name, value in values.items() if name != "far"}
        bad = (
            ("[1, 2]", "what `Threshold.to_dict` returns"),
            ("{", "`path` must be a file that `Threshold.save` wrote"),
            (json.dumps(values | {"format": "keras_tcm.Evaluation"}), "with format="),
            (json.dumps(values | {"version": 99}), "must be of version 3"),
            (json.dumps(missing), "must have format, version, value"),
            (json.dumps(values | {"sketch": {}}), "of other forms"),
        )
        for text, message in bad:
            path.write_text(text)
            with pytest.raises(ValueError, match=message):
                Threshold.load(path)

    def test_a_save_that_is_interrupted_leaves_the_old_file(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "threshold.json"
        THRESHOLD.save(path)
        before = path.read_text()
        write = pathlib.Path.write_text

        def stop(self, text, **options):
            write(self, text[:100], **options)
            raise KeyboardInterrupt

        monkeypatch.setattr(pathlib.Path, "write_text", stop)
        with pytest.raises(KeyboardInterrupt):
            choose_threshold(X, Y, far=0.05).save(path)
        monkeypatch.undo()
        assert path.read_text() == before
        assert list(tmp_path.iterdir()) == [path]


def test_the_summary_says_what_is_promised():
    text = THRESHOLD.summary()
    assert "FAR at most 0.02 for other classes of the same kind" in text
    assert "with 95% confidence" in text
    assert "120 classes" in text
