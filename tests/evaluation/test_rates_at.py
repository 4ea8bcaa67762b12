"""FAR and FRR at thresholds that were asked for: counted, or refused."""

import concurrent.futures
import json

import numpy as np
import oracles
import pytest
import relevance_oracle

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.evaluation._counting import label_pairs, sampled_pairs
from keras_tcm.evaluation._walk import pair_walk
from keras_tcm.relevance import ClassRelevance, HierarchyLevel, SharedLabel

# From none to all of the pairs, and far outside of any calibration range.
THRESHOLDS = (0.9, 0.0, 0.05, 2.0, 0.3, 1.7, 0.3, 1.2)


def clusters(num_classes=8, size=7, seed=0, dim=6):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), size)
    spread = rng.uniform(0.3, 0.9, num_classes)[y, None]
    x = rng.normal(size=(num_classes, dim))[y] + spread * rng.normal(size=(len(y), dim))
    return x.astype("float32"), y


X, Y = clusters()
X[8] = X[0]  # A negative pair at distance 0,
X[1] = X[2]  # and a positive one.
MULTI_HOT = (
    np.eye(8, dtype=int)[Y] + np.eye(8, dtype=int)[(Y + 1) % 8] * (Y > 5)[:, None]
)
MATRIX = np.eye(8) + np.eye(8, k=4) + np.eye(8, k=-4)


def evaluate(x=X, y=Y, at=THRESHOLDS, **options):
    return evaluate_embeddings(x, y, at_thresholds=at, verbose=False, **options)


def all_pairs(x, y, gallery=None, gallery_labels=None):
    """(cosine distance, is positive, times for each class) of every pair."""
    has_gallery = gallery is not None
    return [
        (d, a == b, {c: (a == c) + (b == c and not has_gallery) for c in set(y)})
        for d, a, b in oracles.all_pairs(x, y, gallery, gallery_labels)
    ]


def assert_rates(rates, result, pairs):
    """The rates are the shares of these pairs, wherever float32 leaves no doubt."""
    distances = {
        (c, wanted): sorted(
            d
            for d, is_positive, times in pairs
            for _ in range(1 if c is None else times[c])
            if is_positive == wanted
        )
        for c in (None, *result.classes.tolist())
        for wanted in (False, True)
    }
    found = {(None, False): rates.far, (None, True): 1 - rates.frr}
    for place, c in enumerate(result.classes.tolist()):
        found[c, False] = rates.per_class_far[place]
        found[c, True] = 1 - rates.per_class_frr[place]
    assert found.keys() == distances.keys()
    num_decided = 0
    for key, shares in found.items():
        assert shares.shape == rates.thresholds.shape
        for threshold, share in zip(rates.thresholds, shares, strict=True):
            cosine = oracles.to_cosine(threshold, result.distance)
            if oracles.is_decided(distances[key], cosine):
                num_decided += 1
                expected = oracles.share_within(distances[key], cosine)
                assert share == pytest.approx(expected, abs=1e-12), (key, threshold)
    assert num_decided > 0.95 * len(found) * len(rates.thresholds)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distance": "euclidean"},
        {"frr_range": (0.05, 0.3)},
        {"calibration_range": (0.2, 0.21), "far_targets": ()},
        {"far_range": (0.5, 1.0), "block_size": 5},
    ],
    ids=str,
)
def test_rates_are_shares_of_the_pairs(options):
    result = evaluate(**options)
    rates = result.rates_at(THRESHOLDS)
    assert rates.thresholds.tolist() == list(THRESHOLDS)
    assert_rates(rates, result, all_pairs(X, Y.tolist()))
    assert (rates.far[3], rates.frr[3]) == (1.0, 0.0)
    assert rates.far[1] > 0


@pytest.mark.parametrize("first", [900, 4_000_000])
def test_a_pilot_that_misleads(first, monkeypatch):
    """However far the first counts go, the rates are those of the pairs."""
    pilot = np.arange(first, first + 1000)
    monkeypatch.setattr(label_pairs, "_pilot", lambda space: pilot)
    result = evaluate()
    assert_rates(result.rates_at(THRESHOLDS), result, all_pairs(X, Y.tolist()))
    assert result.opis == evaluate().opis


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_gallery(distance):
    gallery = {"gallery_embeddings": X[20:], "gallery_labels": Y[20:]}
    result = evaluate(X[:30], Y[:30], distance=distance, **gallery)
    pairs = all_pairs(X[:30], Y[:30].tolist(), X[20:], Y[20:].tolist())
    assert_rates(result.rates_at(THRESHOLDS), result, pairs)


@pytest.mark.parametrize("with_gallery", [False, True])
@pytest.mark.parametrize(
    ("relevance", "labels", "kind"),
    [
        (SharedLabel(), MULTI_HOT, relevance_oracle.Shared()),
        (ClassRelevance(MATRIX), Y, relevance_oracle.Matrix(MATRIX)),
        (
            HierarchyLevel(1),
            np.stack([Y // 4, Y % 4], axis=1),
            relevance_oracle.Levels(1),
        ),
    ],
    ids=["multi-hot", "matrix", "levels"],
)
def test_relevance(relevance, labels, kind, with_gallery):
    split = 30 if with_gallery else len(X)
    options, gallery = {}, ()
    if with_gallery:
        options = {"gallery_embeddings": X[20:], "gallery_labels": labels[20:]}
        gallery = X[20:], labels[20:].tolist()
    result = evaluate(X[:split], labels[:split], relevance=relevance, **options)
    pairs = relevance_oracle.pairs_of(
        X[:split], labels[:split].tolist(), kind, *gallery
    )
    assert_rates(result.rates_at(THRESHOLDS), result, pairs)


def test_sources_of_embeddings(tmp_path):
    expected = evaluate().to_dict()
    for number, rows in enumerate(np.split(X, [10, 33])):
        np.save(tmp_path / f"{number}.npy", rows)
    np.save(tmp_path / "all.npy", X)
    mapped = np.load(tmp_path / "all.npy", mmap_mode="r")
    assert evaluate(mapped).to_dict() == expected
    assert evaluate([tmp_path / f"{i}.npy" for i in range(3)]).to_dict() == expected


def test_client():
    x, y = clusters(30, 12)
    with concurrent.futures.ThreadPoolExecutor(2) as client:
        result = evaluate(x, y, block_size=50, client=client)
    assert result.to_dict() == evaluate(x, y, block_size=50).to_dict()


@pytest.mark.parametrize("use_numba", [False, True])
def test_classes_are_counted_even_where_others_are_read_off_bins(
    use_numba, monkeypatch
):
    if use_numba:
        pytest.importorskip("numba")
        monkeypatch.setattr(pair_walk, "_NUMBA_PAIRS", 0)
    monkeypatch.setattr(label_pairs, "_MAX_ERROR", 1.0)
    walks = []
    walk = label_pairs.walk_pairs
    monkeypatch.setattr(
        label_pairs, "walk_pairs", lambda *args: walks.append(1) or walk(*args)
    )
    x, y = clusters(10, 30, seed=2)
    result = evaluate(x, y)
    assert len(walks) == 1
    pairs = all_pairs(x, y.tolist())
    assert_rates(result.rates_at(THRESHOLDS), result, pairs)
    with pytest.raises(AssertionError):
        # The bins are coarse: at other thresholds the classes do differ.
        assert_rates(result.rates_at(result.thresholds[5:50]), result, pairs)


def test_nothing_else_depends_on_it():
    with_rates, without = evaluate().to_dict(), evaluate(at=()).to_dict()
    assert len(with_rates.pop("at_thresholds")) == len(set(THRESHOLDS))
    assert without.pop("at_thresholds") == []
    assert with_rates == without


class TestShapes:
    def test_one(self):
        result = evaluate()
        one, several = result.rates_at(0.3), result.rates_at([0.3])
        assert float(one.far) == several.far[0]
        assert float(one.frr) == several.frr[0]
        assert float(one.thresholds) == 0.3
        assert one.per_class_far.shape == one.per_class_frr.shape == (8,)
        np.testing.assert_array_equal(one.per_class_frr, several.per_class_frr[:, 0])
        assert one.utility(1.0).shape == (8,)

    @pytest.mark.parametrize(
        "asked",
        [np.array(THRESHOLDS), THRESHOLDS[2:3], [], np.array([0.9, 0.05], "float32")],
    )
    def test_several(self, asked):
        rates = evaluate().rates_at(asked)
        size = (len(asked),)
        assert rates.thresholds.shape == rates.far.shape == rates.frr.shape == size
        assert rates.per_class_far.shape == rates.per_class_frr.shape == (8, *size)
        assert rates.per_class_far.dtype == np.float64

    def test_order_and_duplicates_do_not_matter(self):
        once = evaluate(at=sorted(set(THRESHOLDS)))
        assert once.to_dict() == evaluate().to_dict()
        found = [point.threshold for point in once.at_thresholds]
        assert found == sorted(set(THRESHOLDS))


class TestOtherThresholds:
    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    def test_operating_points(self, distance):
        result = evaluate(far_targets=(1e-6, 0.03, 0.2, 1.0), distance=distance)
        assert not result.operating_points[0].resolved
        for point in result.operating_points[1:]:
            rates = result.rates_at(point.threshold)
            assert (rates.far, rates.frr) == (point.far, point.frr)
            np.testing.assert_array_equal(rates.per_class_far, point.per_class_far)
            np.testing.assert_array_equal(rates.per_class_frr, point.per_class_frr)

    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    def test_a_threshold_taken_along_has_the_rates_that_it_had(self, distance):
        """Also where its square root has been rounded on the way."""
        targets = tuple(np.linspace(0.02, 0.9, 60))
        points = evaluate(far_targets=targets, distance=distance).operating_points
        again = evaluate(at=[p.threshold for p in points], distance=distance)
        rates = again.rates_at([point.threshold for point in points])
        np.testing.assert_array_equal(rates.far, [point.far for point in points])
        np.testing.assert_array_equal(rates.frr, [point.frr for point in points])

    def test_thresholds_of_the_error_rates(self):
        result = evaluate(at=())
        expected = result.error_rates
        rates = result.rates_at(expected.thresholds)
        for name in ("thresholds", "far", "frr"):
            np.testing.assert_array_equal(getattr(rates, name), getattr(expected, name))
        np.testing.assert_allclose(rates.per_class_far, expected.per_class_far, 1e-6)

    @pytest.mark.parametrize("place", ["between", "below", "above"])
    def test_refused(self, place):
        result = evaluate(at=(0.05, 1.7))
        low, high = result.error_rates.thresholds[[0, -1]]
        threshold = {
            "between": float(np.mean(result.thresholds[4:6])),
            "below": low - 0.01,
            "above": high + 0.01,
        }[place]
        with pytest.raises(ValueError, match="`thresholds` must have been") as error:
            result.rates_at([0.05, threshold])
        message = str(error.value)
        for known in (0.05, 1.7, result.operating_points[1].threshold, low, high):
            assert repr(float(known)) in message
        assert message.endswith(f"Received: {float(threshold)!r}")


class TestArguments:
    @pytest.mark.parametrize("value", [-0.1, 2.1, np.nan, np.inf])
    def test_range(self, value):
        message = r"`{}` must be a number in \[0, 2\]"
        with pytest.raises(ValueError, match=message.format("at_thresholds")):
            evaluate(at=(0.3, value))
        with pytest.raises(ValueError, match=message.format("thresholds")):
            evaluate().rates_at(value)

    @pytest.mark.parametrize("value", [0.3, "0.3", None, ("a",), (True,), ((0.3,),)])
    def test_type(self, value):
        with pytest.raises(TypeError, match="`at_thresholds` must be"):
            evaluate(at=value)

    @pytest.mark.parametrize("value", ["0.3", None, True, [[0.3]]])
    def test_type_of_what_is_asked(self, value):
        with pytest.raises(TypeError, match="`thresholds` must be"):
            evaluate().rates_at(value)


def test_files_keep_the_rates(tmp_path):
    for options in {}, {"max_pairs": 12_000}:
        x, y = clusters(20, 10)
        result = evaluate(x, y, **options)
        result.save(tmp_path / "result.json")
        loaded = Evaluation.load(tmp_path / "result.json")
        assert loaded.to_dict() == result.to_dict()
        found, expected = loaded.rates_at(THRESHOLDS), result.rates_at(THRESHOLDS)
        for field in ("far", "frr", "per_class_far", "per_class_frr"):
            np.testing.assert_array_equal(
                getattr(found, field), getattr(expected, field)
            )
        errors = [point.standard_errors for point in loaded.at_thresholds]
        assert errors == [point.standard_errors for point in result.at_thresholds]
        json.dumps(result.to_dict(), allow_nan=False)


def test_summary():
    result = evaluate()
    lines = [x for x in result.summary().splitlines() if x.startswith("At ")]
    assert len(lines) == len(set(THRESHOLDS))
    rates = result.rates_at(0.3)
    (far, frr) = lines[2].split(", ")
    assert far.startswith(f"At 0.3000       FAR {rates.far:.4%} (")
    assert frr.startswith(f"FRR {rates.frr:.2%} (")


class TestSample:
    at = (0.02, 0.3, 0.6, 0.9, 1.3)

    def sampled(self, seed, **options):
        x, y = clusters(40, 12, seed=3, dim=16)
        # Little else to measure, in little time.
        options = {"num_thresholds": 3, "far_targets": (), **options}
        return evaluate(x, y, self.at, max_pairs=96 * len(y), seed=seed, **options)

    @pytest.mark.slow
    def test_estimates_and_their_errors(self):
        x, y = clusters(40, 12, seed=3, dim=16)
        truth = evaluate(x, y, self.at).rates_at(self.at)
        results = [self.sampled(seed) for seed in range(24)]
        rates = [result.rates_at(self.at) for result in results]
        for one in rates:
            # Positive pairs are all counted.
            np.testing.assert_array_equal(one.frr, truth.frr)
            np.testing.assert_array_equal(one.per_class_frr, truth.per_class_frr)
        errors = np.array(
            [
                [point.standard_errors["far"] for point in result.at_thresholds]
                for result in results
            ]
        )
        deviations = np.array([one.far for one in rates]) - truth.far
        assert (np.abs(deviations) <= 5 * errors).all()
        spread = np.sqrt(np.mean(deviations[:, 1:] ** 2, axis=0))
        stated = np.sqrt(np.mean(errors[:, 1:] ** 2, axis=0))
        np.testing.assert_allclose(stated, spread, rtol=0.6)
        assert f"± {errors[0][1]:.4%}" in results[0].summary()

    def test_classes_of_the_sample_are_counted(self, monkeypatch):
        """They do not depend on the bins, off which others are read."""
        many = self.sampled(0)
        monkeypatch.setattr(sampled_pairs, "_MAX_BINS", 8)
        few = self.sampled(0)
        np.testing.assert_array_equal(
            few.rates_at(self.at).per_class_far, many.rates_at(self.at).per_class_far
        )
        assert not np.array_equal(few.utility, many.utility)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_the_largest_distance_accepts_opposite_vectors(distance):
    x = np.array([[3, 0], [2, 0], [-1, 0], [-5, 0], [0, 1], [0, -2]], "float32")
    at, labels = [1.99, 2.0], [0, 0, 1, 1, 2, 2]
    result = evaluate(x, labels, at, distance=distance, calibration_range=(0.5, 1.5))
    rates = result.rates_at(at)
    # 4 of 12 negative pairs are opposite, and 1 of 3 positive ones.
    np.testing.assert_allclose(rates.far, [8 / 12, 1])
    np.testing.assert_allclose(rates.frr, [1 / 3, 0], atol=1e-12)
