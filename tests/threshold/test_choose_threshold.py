"""Which threshold is chosen, and what it promises."""

import concurrent.futures
import json
import math
import re

import keras
import numpy as np
import oracles
import pytest
from scipy import stats

import keras_tcm
from keras_tcm import choose_threshold, evaluate_embeddings
from keras_tcm.evaluation import UndefinedError
from keras_tcm.relevance import HierarchyLevel


def population(seed, num_classes, sizes=(4, 8), dimension=12):
    """Classes of unequal centrality and spread."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(sizes[0], sizes[1] + 1, num_classes)
    labels = np.repeat(np.arange(num_classes), counts)
    centers = rng.normal(size=(num_classes, dimension)) / math.sqrt(dimension)
    centers[:, 0] += rng.uniform(0, 0.6, num_classes)
    spread = 0.5 * np.exp(0.3 * rng.normal(size=num_classes))[labels, None]
    noise = rng.normal(size=(len(labels), dimension)) / math.sqrt(dimension)
    return (centers[labels] + spread * noise).astype("float32"), labels


X, Y = population(0, 150)


def class_rates(x, labels, threshold):
    """FAR and FRR of each class and in all, from the whole matrix."""
    distances = 1.0 - oracles.similarities(x)
    accepted = distances <= threshold + 1e-6
    other = ~np.eye(len(x), dtype=bool)
    same = labels[:, None] == labels
    far, frr = [], []
    for one in np.unique(labels):
        rows = (labels == one)[:, None]
        far.append(accepted[rows & ~same].mean())
        frr.append(1.0 - accepted[rows & same & other].mean())
    return np.array(far), np.array(frr), accepted[~same].mean()


def upper_limit(x, labels, threshold, confidence):
    """Upper limit of the FAR, by leaving classes out, and bisection."""
    distances = 1.0 - oracles.similarities(x)
    accepted = distances <= threshold + 1e-6
    same = labels[:, None] == labels
    classes = np.unique(labels)
    rate = accepted[~same].mean()
    left = []
    for one in classes:
        kept = labels != one
        pairs = kept[:, None] & kept & ~same
        left.append(accepted[pairs].mean())
    deviation = math.sqrt((len(classes) - 1) * np.var(left))
    t = stats.t.ppf(confidence, len(classes) - 1)
    scale = deviation / (rate * (1 - rate))
    low, high = rate, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if middle - rate > t * scale * middle * (1 - middle):
            high = middle
        else:
            low = middle
    return high


class TestPopulation:
    def test_the_upper_limit_is_just_below_the_target(self):
        threshold = choose_threshold(X, Y, far=0.05)
        limit = upper_limit(X, Y, threshold.value, 0.95)
        assert 0.97 * 0.05 < limit <= 0.05 + 1e-9
        assert threshold.far < 0.05

    def test_the_rates_are_those_of_the_threshold(self):
        threshold = choose_threshold(X, Y, far=0.02, frr=0.9)
        far, frr, rate = class_rates(X, Y, threshold.value)
        assert threshold.far == pytest.approx(rate, rel=1e-9)
        for quantile, value in threshold.per_class_far.items():
            assert value == pytest.approx(np.quantile(far, quantile), abs=3e-4)
        for quantile, value in threshold.per_class_frr.items():
            assert value == pytest.approx(np.quantile(frr, quantile), abs=1e-9)
        result = evaluate_embeddings(X, Y, at_thresholds=(threshold.value,))
        assert threshold.frr == pytest.approx(result.rates_at(threshold.value).frr)
        assert threshold.num_positive_pairs == result.num_positive_pairs
        assert threshold.num_negative_pairs == result.num_negative_pairs

    def test_it_is_stricter_than_the_empirical_one(self):
        point = evaluate_embeddings(X, Y, far_targets=(0.02,)).operating_points[0]
        assert choose_threshold(X, Y, far=0.02).value < point.threshold

    def test_more_confidence_is_stricter(self):
        values = [
            choose_threshold(X, Y, far=0.05, confidence=c).value
            for c in (0.6, 0.9, 0.99)
        ]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 3

    def test_a_lower_target_is_stricter(self):
        values = [choose_threshold(X, Y, far=far).value for far in (0.01, 0.03, 0.1)]
        assert values == sorted(values)
        assert len(set(values)) == 3

    def test_the_frr_is_kept_by_the_strictest_threshold(self):
        threshold = choose_threshold(X, Y, frr=0.3)
        assert threshold.frr_interval[0] < threshold.frr < 0.3
        assert threshold.far_target is None
        stricter = choose_threshold(X, Y, frr=0.4)
        assert stricter.value < threshold.value

    def test_both_targets(self):
        far_alone = choose_threshold(X, Y, far=0.05)
        high = far_alone.frr_interval[1]
        both = choose_threshold(X, Y, far=0.05, frr=high + 0.02)
        # Candidates differ by what both targets ask for, by no more than this.
        assert abs(both.far - far_alone.far) <= 0.05 / 32
        assert (both.far_target, both.frr_target) == (0.05, high + 0.02)
        with pytest.raises(UndefinedError, match=r"`frr` must be what a threshold"):
            choose_threshold(X, Y, far=0.05, frr=far_alone.frr / 2)

    def test_the_promise_is_kept_and_the_empirical_rule_breaks_it(self):
        # 60 draws: 57 are expected to keep it, and 52 would be too few to believe.
        far = 0.05
        others, _ = population(1000, 5000, sizes=(1, 1))
        unit = others / np.linalg.norm(others, axis=1, keepdims=True)
        upper = np.triu_indices(len(unit), 1)
        distances = np.sort(1.0 - (unit @ unit.T)[upper])
        kept, kept_by_point = 0, 0
        for seed in range(60):
            x, y = population(2000 + seed, 60, sizes=(3, 6))
            threshold = choose_threshold(x, y, far=far, verbose=False)
            point = evaluate_embeddings(x, y, far_targets=(far,), verbose=False)
            for value, name in (
                (threshold.value, "kept"),
                (point.operating_points[0].threshold, "point"),
            ):
                true_far = np.searchsorted(distances, value) / len(distances)
                if name == "kept":
                    kept += true_far <= far
                else:
                    kept_by_point += true_far <= far
        assert kept >= 53
        assert kept_by_point <= 45


class TestClasses:
    def test_fewer_than_k_classes_exceed_the_target_in_a_gallery(self):
        gallery, names = population(5, 150)
        threshold = choose_threshold(
            X,
            Y,
            far=0.05,
            promise="class",
            class_share=0.9,
            gallery_embeddings=gallery,
            gallery_labels=names,
        )
        rank = max(k for k in range(1, 150) if stats.binom.sf(k - 1, 150, 0.1) >= 0.95)
        distances = 1.0 - oracles.similarities(X, gallery)
        negative = Y[:, None] != names
        far = np.array(
            [
                (distances[c == Y] <= threshold.value + 1e-6)[negative[c == Y]].mean()
                for c in range(150)
            ]
        )
        assert (far > 0.05).sum() == rank - 1
        assert threshold.class_share == 0.9

    def test_it_is_stricter_than_the_promise_for_the_population(self):
        strict = choose_threshold(X, Y, far=0.05, promise="class")
        assert strict.value < choose_threshold(X, Y, far=0.05).value
        loose = choose_threshold(X, Y, far=0.05, promise="class", class_share=0.7)
        assert strict.value < loose.value

    def test_the_number_of_classes_that_it_takes(self):
        x, y = population(6, 71)
        with pytest.raises(UndefinedError, match="takes about 72 classes"):
            choose_threshold(x, y, far=0.2, promise="class")
        x, y = population(6, 72)
        threshold = choose_threshold(x, y, far=0.2, promise="class")
        assert threshold.per_class_far[1.0] <= 0.2


class TestInputs:
    def test_ties_in_form_do_not_matter(self, tmp_path):
        expected = choose_threshold(X, Y, far=0.03)
        np.save(tmp_path / "x.npy", X)
        forms = (
            keras.ops.convert_to_tensor(X),
            np.load(tmp_path / "x.npy", mmap_mode="r"),
            [tmp_path / "x.npy"],
        )
        for form in forms:
            found = choose_threshold(form, Y, far=0.03, verbose=False)
            assert found.value == expected.value
            assert found.data_digest == expected.data_digest
        order = np.random.default_rng(0).permutation(len(X))
        named = [f"class {y:03}" for y in Y[order]]
        found = choose_threshold(5.0 * X[order], named, far=0.03)
        assert found.value == pytest.approx(expected.value, abs=2e-6)
        assert found.far == pytest.approx(expected.far, abs=1e-6)

    def test_the_other_distance(self):
        cosine = choose_threshold(X, Y, far=0.03)
        euclidean = choose_threshold(X, Y, far=0.03, distance="euclidean")
        assert euclidean.value == pytest.approx(math.sqrt(2 * cosine.value), abs=1e-6)
        assert euclidean.similarity == pytest.approx(cosine.similarity, abs=1e-6)

    def test_levels_of_a_hierarchy(self):
        levels = np.column_stack([Y // 3, Y])
        found = choose_threshold(X, levels, far=0.05, relevance=HierarchyLevel(0))
        assert found.value == choose_threshold(X, Y // 3, far=0.05).value

    def test_an_executor(self):
        with concurrent.futures.ThreadPoolExecutor(2) as executor:
            found = choose_threshold(X, Y, far=0.05, client=executor)
        assert found.value == choose_threshold(X, Y, far=0.05).value

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, r"`far` or `frr` must be given"),
            ({"far": 0}, r"`far` must be a number in \(0, 1\). Received: far=0"),
            ({"far": 1.0}, r"`far` must be a number in \(0, 1\)"),
            ({"far": 0.1, "frr": 2}, r"`frr` must be a number in \(0, 1\)"),
            ({"far": 0.1, "confidence": 1}, r"`confidence` must be a number in"),
            ({"far": 0.1, "confidence": 0.5}, r"`confidence` must be a number in"),
            ({"far": 0.1, "promise": "all"}, r"`promise` must be one of 'population'"),
            ({"far": 0.1, "class_share": 0}, r"`class_share` must be a number in"),
            ({"far": 0.1, "distance": "l2"}, r"`distance` must be one of"),
        ],
    )
    def test_arguments_out_of_range(self, options, message):
        with pytest.raises(ValueError, match=message):
            choose_threshold(X, Y, **options)

    def test_arguments_of_another_type(self):
        with pytest.raises(TypeError, match="`far` must be a number"):
            choose_threshold(X, Y, far="1%")
        with pytest.raises(TypeError, match="`model` must be a Keras model"):
            choose_threshold(X, Y, far=0.1, model="resnet50")

    def test_one_class(self):
        with pytest.raises(UndefinedError, match="at least two classes"):
            choose_threshold(X[:6], np.zeros(6, int), far=0.1)

    def test_two_classes(self):
        with pytest.raises(UndefinedError, match=r"Received: far=0\.1, with 2 classes"):
            choose_threshold(X[:8], np.arange(8) % 2, far=0.1)

    def test_a_gallery_without_the_classes(self):
        with pytest.raises(UndefinedError, match="at least two classes"):
            choose_threshold(
                X, Y, far=0.1, gallery_embeddings=X[::2], gallery_labels=Y[::2] + 1000
            )

    def test_too_few_classes(self):
        x, y = population(3, 20)
        with pytest.raises(UndefinedError) as error:
            choose_threshold(x, y, far=0.0005)
        text = str(error.value)
        pattern = r"takes about ([\d,]+) classes .*these bear far=([\d.e-]+)\. "
        found = re.search(pattern, text)
        assert found is not None, text
        assert int(found[1].replace(",", "")) > 20
        assert text.endswith("Received: far=0.0005, with 20 classes")
        # What it says that they can bear, they can.
        rate = float(found[2])
        assert choose_threshold(x, y, far=rate * 1.06).far < rate

    def test_collapsed_embeddings(self):
        with pytest.raises(UndefinedError, match="`far` must be a rate that some"):
            choose_threshold(np.ones((60, 4)), np.repeat(np.arange(20), 3), far=0.1)


def test_the_model_and_the_canaries():
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(6)])
    inputs, labels = population(4, 120)
    embeddings = model.predict(inputs, verbose=0)
    threshold = choose_threshold(embeddings, labels, far=0.1, model=model)
    threshold.check_model(model)
    rows = threshold.canaries.rows
    threshold.check_canaries(7.0 * model.predict(inputs[rows], verbose=0))
    kernel = model.layers[0].kernel
    kernel.assign(keras.ops.convert_to_numpy(kernel)[:, ::-1])
    with pytest.raises(ValueError, match="`model` must have the weights"):
        threshold.check_model(model)
    with pytest.raises(ValueError, match="`embeddings` must be what the model of"):
        threshold.check_canaries(model.predict(inputs[rows], verbose=0))
    with pytest.raises(ValueError, match=r"those of the samples `canaries\.rows`"):
        threshold.check_canaries(embeddings[:2])
    with pytest.raises(ValueError, match="`model` can be checked where"):
        choose_threshold(embeddings, labels, far=0.1).check_model(model)


def test_it_is_public():
    assert keras_tcm.choose_threshold is choose_threshold
    text = json.dumps(choose_threshold(X, Y, far=0.05).to_dict(), allow_nan=False)
    assert len(text) < 100_000
