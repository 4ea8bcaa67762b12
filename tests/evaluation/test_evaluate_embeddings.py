"""evaluate_embeddings against the float64 reference and the laws it must obey."""

import functools
import math

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tcm import Evaluation, evaluate_embeddings

RESULTS = ("opis", "epsilon_opis", "eer", "map_at_r")


def clusters(sizes, seed=0, dim=6, spread=0.5):
    """Noisy classes of the given sizes, every class with its own spread."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    spreads = spread * rng.uniform(0.4, 1.6, len(sizes))
    x = rng.normal(size=(len(sizes), dim))[labels]
    x = x + spreads[labels, None] * rng.normal(size=(len(labels), dim))
    order = rng.permutation(len(labels))
    return x[order].astype("float32"), labels[order]


def _sets():
    x, y = clusters([6] * 8)
    duplicates = x.copy()
    # Copies within classes and across classes: pairs at distance 0 of both kinds.
    duplicates[:6] = duplicates[6:12]
    zeros = x.copy()
    zeros[[0, 7]] = 0.0
    rng = np.random.default_rng(5)
    return {
        "clusters": (x, y),
        "overlapping": clusters([5] * 9, seed=1, spread=1.5),
        "separated": clusters([6] * 6, seed=2, spread=0.1, dim=12),
        "unbalanced": clusters([20, 2, 2, 3, 9, 2, 4, 5], seed=3),
        "classes-of-one": clusters([5, 1, 6, 1, 4, 1, 7, 8], seed=4),
        "two-classes": clusters([12, 13], seed=6, spread=1.0),
        "twenty-one-classes": clusters([3] * 21, seed=7, spread=0.8),
        "duplicates": (duplicates, y),
        "zero-vectors": (zeros, y),
        "norms-mixed": (x * np.logspace(-15, 15, 48, dtype="float32")[:, None], y),
        "plane": clusters([6] * 6, seed=8, dim=2, spread=0.8),
        # Few distinct distances, each shared by many pairs of both kinds.
        "ties": (rng.integers(-1, 2, (40, 4)).astype("float32"), y[:40]),
        "larger": clusters([15, 25, 2, 1, 40, 30, 20, 17], seed=9, spread=1.2),
    }


SETS = _sets()


@functools.cache
def expected(name, **options):
    x, y = SETS[name]
    return oracles.evaluate(x, y.tolist(), **options)


def assert_matches(result, expected):
    assert isinstance(result, Evaluation)
    assert list(result.classes) == expected.classes
    assert list(result.class_counts) == expected.class_counts
    assert result.num_excluded_classes == expected.num_excluded_classes
    assert result.num_positive_pairs == expected.num_positive_pairs
    assert result.num_negative_pairs == expected.num_negative_pairs
    np.testing.assert_allclose(
        result.calibration_range, expected.calibration_range, atol=1e-5
    )
    np.testing.assert_allclose(result.thresholds, expected.thresholds, atol=1e-5)
    # Pairs within rounding of a threshold may fall on either side of it.
    assert expected.decided.mean() > 0.98
    utility = np.where(expected.decided, expected.utility, result.utility)
    np.testing.assert_allclose(result.utility, utility, atol=1e-9)
    opis_per_class, epsilon_opis = oracles.opis(
        utility, expected.thresholds, result.epsilon
    )
    np.testing.assert_allclose(
        result.opis_per_class, opis_per_class, rtol=1e-4, atol=1e-12
    )
    assert result.opis == pytest.approx(np.mean(opis_per_class), rel=1e-4)
    assert result.epsilon_opis == pytest.approx(epsilon_opis, rel=1e-4)
    assert result.opis == pytest.approx(expected.opis, rel=1e-2)
    assert result.epsilon_opis == pytest.approx(expected.epsilon_opis, rel=1e-2)
    assert result.eer == pytest.approx(expected.eer, abs=1e-9)
    assert result.recall == pytest.approx(expected.recall, abs=1e-9)
    assert result.map_at_r == pytest.approx(expected.map_at_r, abs=1e-9)
    assert len(result.operating_points) == len(expected.operating_points)
    for point, reference in zip(
        result.operating_points, expected.operating_points, strict=True
    ):
        assert point.resolved == reference.resolved
        if not reference.resolved:
            assert math.isnan(point.threshold)
            assert math.isnan(point.far)
            assert math.isnan(point.frr)
            continue
        # Just below the first negative too many; what float32 resolves is a cosine.
        assert point.threshold <= reference.threshold
        gap = oracles.to_cosine(reference.threshold, result.distance)
        gap -= oracles.to_cosine(point.threshold, result.distance)
        assert gap <= 1e-5
        assert point.far <= point.far_target
        assert point.far == pytest.approx(reference.far, abs=1e-9)
        assert point.frr == pytest.approx(reference.frr, abs=1e-9)
        np.testing.assert_allclose(
            point.per_class_far, reference.per_class_far, atol=1e-9
        )
        np.testing.assert_allclose(
            point.per_class_frr, reference.per_class_frr, atol=1e-9
        )


def evaluate(x, y, *args, **options):
    return evaluate_embeddings(x, y, *args, verbose=False, **options)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", SETS)
def test_reference(name, distance):
    x, y = SETS[name]
    result = evaluate(x, y, distance=distance)
    assert_matches(result, expected(name, distance=distance))
    assert result.utility.shape == (len(result.classes), 101)
    assert result.opis == pytest.approx(result.opis_per_class.mean())


@pytest.mark.parametrize("name", ["clusters", "unbalanced"])
@pytest.mark.parametrize(
    "options",
    [
        {"beta": 0.5},
        {"beta": 2.0},
        {"beta": 2.0, "distance": "euclidean"},
        {"epsilon": 0.5},
        {"epsilon": 0.99},
        {"far_range": (0.05, 0.6)},
        {"far_range": (0.5, 1.0)},
        {"frr_range": (0.05, 0.3)},
        {"frr_range": (0.0, 1.0)},
        {"frr_range": (0.1, 0.6), "distance": "euclidean"},
        {"calibration_range": (0.1, 0.9)},
        {"calibration_range": (0.5, 1.25), "distance": "euclidean"},
        {"num_thresholds": 2},
        {"num_thresholds": 37},
        {"recall_at": (3,)},
        {"recall_at": (16, 1)},
        {"far_targets": (0.005, 0.25, 0.5)},
        {"far_targets": ()},
    ],
    ids=str,
)
def test_options(name, options):
    x, y = SETS[name]
    assert_matches(evaluate(x, y, **options), expected(name, **options))


@pytest.mark.parametrize(
    ("name", "block_size"),
    [
        ("two-classes", 1),
        ("unbalanced", 7),
        ("unbalanced", 1000),
        ("duplicates", 7),
        ("classes-of-one", 7),
        ("larger", 150),
        ("larger", 61),
    ],
)
def test_block_size_does_not_matter(name, block_size):
    # The largest class of "unbalanced" has 20 samples, more than a block.
    x, y = SETS[name]
    assert_matches(evaluate(x, y, block_size=block_size), expected(name))


class TestGallery:
    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    @pytest.mark.parametrize("block_size", [None, 5])
    def test_reference(self, distance, block_size):
        x, y = clusters([6] * 8, seed=10)
        queries, gallery = (x[:20], y[:20]), (x[20:], y[20:])
        # Gallery samples of a class that no query has are negatives only; a query
        # without a match in the gallery is left out.
        gallery[1][:3] = 99
        queries[1][:2] = 77
        options = {"distance": distance, "far_range": (0.02, 0.2)}
        result = evaluate(
            *queries,
            gallery_embeddings=gallery[0],
            gallery_labels=gallery[1],
            block_size=block_size,
            **options,
        )
        reference = oracles.evaluate(
            queries[0], queries[1].tolist(), gallery[0], gallery[1].tolist(), **options
        )
        assert reference.num_excluded_classes > 0
        assert_matches(result, reference)

    def test_gallery_larger_than_the_queries(self):
        x, y = clusters([20] * 5, seed=11, spread=1.0)
        result = evaluate(
            x[:12], y[:12], gallery_embeddings=x[12:], gallery_labels=y[12:]
        )
        reference = oracles.evaluate(x[:12], y[:12].tolist(), x[12:], y[12:].tolist())
        assert_matches(result, reference)

    @pytest.mark.parametrize("name", ["clusters", "duplicates", "classes-of-one"])
    def test_same_object_leaves_self_pairs_out(self, name):
        x, y = SETS[name]
        result = evaluate(x, y, gallery_embeddings=x, gallery_labels=y)
        alone = evaluate(x, y)
        reference = oracles.evaluate(x, y.tolist(), x, y.tolist())
        assert result.recall == alone.recall == pytest.approx(reference.recall)
        assert result.map_at_r == alone.map_at_r == pytest.approx(reference.map_at_r)
        # Ordered pairs have the shares of unordered ones; interpolated quantiles of
        # twice as many distances move a little.
        assert result.eer == pytest.approx(reference.eer, abs=1e-9)
        assert result.opis == pytest.approx(reference.opis, rel=0.05)


class TestTies:
    def test_negative_as_near_as_a_positive_ranks_first(self):
        # For the first two samples the positive and a negative are equally near.
        x = np.array([[1, 0], [0, 1], [1, 1], [-1, 0], [-1, 0.1]], "float32")
        y = [0, 0, 1, 1, 1]
        result = evaluate(
            np.concatenate([x, x[:1]]), [*y, 1], calibration_range=(0.1, 0.9)
        )
        assert result.recall[1] < 1.0
        same = np.ones((4, 3), "float32")
        result = evaluate(same, [0, 0, 1, 1], calibration_range=(0.1, 0.9))
        # Two negatives rank before the only positive.
        assert result.recall == {1: 0.0, 2: 0.0, 4: 1.0, 8: 1.0}
        assert result.map_at_r == 0.0
        assert result.eer == 0.5

    def test_threshold_accepts_a_distance_equal_to_it(self):
        # All positive distances are 0.5 and 1 - 0.8; negatives are at 1.
        x = np.zeros((4, 4), "float32")
        x[0, 0] = x[2, 2] = 1
        x[1, :2] = 0.5, math.sqrt(0.75)
        x[3, 2:] = 0.8, 0.6
        result = evaluate(
            x, [0, 0, 1, 1], calibration_range=(0.2, 0.5), num_thresholds=4
        )
        np.testing.assert_allclose(result.utility, [[0, 0, 0, 1], [1, 1, 1, 1]])

    @pytest.mark.parametrize("seed", range(6))
    def test_rounding_does_not_reject_a_distance_equal_to_the_threshold(self, seed):
        # One positive pair at each end of the range; negatives are at distance 1.
        near, far = np.sort(np.random.default_rng(seed).uniform(0.05, 0.9, 2))
        x = np.zeros((4, 4))
        x[0, 0] = x[2, 2] = 1
        x[1, :2] = 1 - near, math.sqrt(1 - (1 - near) ** 2)
        x[3, 2:] = 1 - far, math.sqrt(1 - (1 - far) ** 2)
        result = evaluate(
            x, [0, 0, 1, 1], calibration_range=(near, far), num_thresholds=2
        )
        np.testing.assert_array_equal(result.utility, [[1, 1], [0, 1]])


class TestOperatingPoints:
    def test_never_on_the_wrong_side_of_the_target(self):
        x, y = SETS["larger"]
        targets = tuple(np.linspace(0.001, 0.999, 60))
        reference = expected("larger", far_targets=targets)
        result = evaluate(x, y, far_targets=targets)
        assert_matches(result, reference)
        negatives = [
            1 - s
            for i, row in enumerate(oracles.similarities(x))
            for j, s in enumerate(row)
            if y[i] != y[j]
        ]
        for point in result.operating_points:
            # The threshold can be used as it is: no tolerance on the user's side.
            assert np.mean(np.array(negatives) <= point.threshold) <= point.far_target

    def test_target_of_one_accepts_all(self):
        x, y = SETS["clusters"]
        (point,) = evaluate(x, y, far_targets=(1.0,)).operating_points
        assert (point.resolved, point.far, point.frr) == (True, 1.0, 0.0)

    def test_exact_share_is_kept(self):
        # 10 x 10 negative pairs: a FAR of 0.29 is 29 pairs, although in floating
        # point 0.29 * 100 < 29.
        x, y = clusters([10, 10], seed=12, spread=2.0)
        (point,) = evaluate(x, y, far_targets=(0.29,)).operating_points
        assert point.far == pytest.approx(0.29)

    def test_unresolved_is_nan(self):
        x, y = clusters([10, 10], seed=12, spread=2.0)
        result = evaluate(x, y, far_targets=(0.0099, 0.01))
        below, at = result.operating_points
        assert (below.resolved, at.resolved) == (False, True)
        assert math.isnan(below.threshold)
        assert below.per_class_far.shape == below.per_class_frr.shape == (2,)
        assert np.isnan(below.per_class_far).all()

    def test_tied_negatives_at_zero_are_unresolved(self):
        # Half of the negative pairs are at distance 0: no threshold accepts a tenth.
        x = np.repeat(np.eye(2, dtype="float32"), 6, axis=0)
        y = np.tile([0, 1], 6)
        (point,) = evaluate(
            x, y, far_targets=(0.1,), calibration_range=(0.1, 0.5)
        ).operating_points
        assert not point.resolved

    def test_largest_threshold_stays_below_tied_negatives(self):
        # All negative pairs tie at distance 1, all positive pairs are nearer.
        x = np.eye(3, dtype="float32")[[0, 0, 1, 1, 2, 2]]
        (point,) = evaluate(
            x, [0, 0, 1, 1, 2, 2], far_targets=(0.5,), calibration_range=(0.1, 0.5)
        ).operating_points
        assert point.resolved
        assert (point.far, point.frr) == (0.0, 0.0)
        assert 1 - 1e-5 <= point.threshold < 1


class TestLabels:
    @pytest.mark.parametrize(
        "names",
        [
            pytest.param(["ant", "bee", "cat", "dog"], id="strings"),
            pytest.param([("a", 1), ("a", 2), ("b", 0), ("b", 1)], id="tuples"),
            pytest.param([-7, -1, 0, 3], id="negative"),
            pytest.param([2**24, 2**24 + 1, 2**53, 2**53 + 1], id="large"),
            pytest.param([-1, 2**63, 2**63 + 1, 2**64 + 1], id="larger-than-int64"),
            pytest.param([b"a", b"b", b"c", b"d"], id="bytes"),
        ],
    )
    def test_any_hashable(self, names):
        x, y = clusters([6] * 4, seed=13)
        result = evaluate(x, [names[label] for label in y])
        assert list(result.classes) == sorted(names)
        order = np.argsort([names.index(name) for name in result.classes])
        reference = oracles.evaluate(x, y.tolist())
        assert result.opis == pytest.approx(reference.opis, rel=1e-4)
        np.testing.assert_allclose(
            result.opis_per_class[order], reference.opis_per_class, rtol=1e-4
        )

    def test_unlike_labels_stay_apart(self):
        x, y = clusters([6] * 4, seed=13)
        names = [1, "1", b"1", (1,)]
        result = evaluate(x, [names[label] for label in y])
        assert set(result.classes) == set(names)
        reference = oracles.evaluate(x, y.tolist())
        assert result.opis == pytest.approx(reference.opis, rel=1e-4)

    @pytest.mark.parametrize(
        "dtype", ["int8", "uint8", "int16", "int64", "uint64", "float32", "U8", "O"]
    )
    @pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
    def test_dtype_and_shape(self, dtype, shape):
        x, y = SETS["clusters"]
        result = evaluate(x, y.astype(dtype).reshape(shape))
        assert result.opis == pytest.approx(expected("clusters").opis, rel=1e-4)

    def test_strings_in_a_gallery(self):
        x, y = clusters([10] * 4, seed=14, spread=1.0)
        names = np.array(["a", "bb", "ccc", "dddd"])[y]
        options = {"far_range": (0.05, 0.2)}
        result = evaluate(
            x[:20],
            names[:20].tolist(),
            gallery_embeddings=x[20:],
            gallery_labels=names[20:],
            **options,
        )
        reference = oracles.evaluate(
            x[:20], names[:20].tolist(), x[20:], names[20:].tolist(), **options
        )
        assert_matches(result, reference)


class TestInputs:
    def test_tensors(self):
        x, y = SETS["clusters"]
        tensors = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
        assert_matches(evaluate(*tensors), expected("clusters"))

    def test_memmap(self, tmp_path):
        x, y = SETS["clusters"]
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        labels = np.load(tmp_path / "y.npy", mmap_mode="r")
        assert isinstance(mapped, np.memmap)
        assert_matches(evaluate(mapped, labels, block_size=7), expected("clusters"))

    def test_lists(self):
        x, y = SETS["clusters"]
        assert_matches(evaluate(x.tolist(), y.tolist()), expected("clusters"))

    def test_views(self):
        x, y = SETS["clusters"]
        wide = np.zeros((96, 12), "float32")
        wide[::2, ::2] = x
        assert_matches(evaluate(wide[::2, ::2], y), expected("clusters"))
        flipped = np.asfortranarray(x)
        assert_matches(evaluate(flipped, y), expected("clusters"))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    def test_dtypes(self, dtype):
        x, y = SETS["clusters"]
        tensor = keras.ops.cast(keras.ops.convert_to_tensor(x), dtype)
        rounded = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
        reference = oracles.evaluate(rounded, y.tolist())
        assert_matches(evaluate(tensor, y), reference)
        if dtype != "bfloat16":
            assert_matches(evaluate(x.astype(dtype), y), reference)

    def test_integers(self):
        x, y = SETS["ties"]
        assert_matches(evaluate(x.astype("int32"), y), expected("ties"))

    def test_inputs_stay_as_they_are(self):
        x, y = SETS["norms-mixed"]
        copies = x.copy(), y.copy()
        evaluate(x, y)
        np.testing.assert_array_equal(x, copies[0])
        np.testing.assert_array_equal(y, copies[1])

    @pytest.mark.parametrize("norm", [1e-30, 1e30])
    def test_extreme_norms(self, norm):
        x, y = SETS["clusters"]
        assert_matches(evaluate(x * np.float32(norm), y), expected("clusters"))


def assert_same_results(result, expected, tolerance=1e-3):
    """Equal but for pairs whose distance rounds to the other side of a threshold."""
    for name in RESULTS:
        assert getattr(result, name) == pytest.approx(
            getattr(expected, name), rel=tolerance, abs=1e-6
        )
    assert result.recall == pytest.approx(expected.recall)
    np.testing.assert_allclose(result.thresholds, expected.thresholds, atol=1e-5)


@functools.cache
def evaluated(name):
    return evaluate(*SETS[name])


class TestLaws:
    @settings(max_examples=6)
    @given(st.permutations(range(48)))
    def test_order_of_samples(self, order):
        x, y = SETS["clusters"]
        order = np.array(order)
        result = evaluate(x[order], y[order])
        assert_same_results(result, evaluated("clusters"))
        np.testing.assert_allclose(
            result.opis_per_class, evaluated("clusters").opis_per_class, rtol=1e-3
        )

    @settings(max_examples=6)
    @given(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8, unique=True)
    )
    def test_names_of_classes(self, names):
        x, y = SETS["clusters"]
        result = evaluate(x, np.array(names)[y])
        assert_same_results(result, evaluated("clusters"))
        assert list(result.classes) == sorted(names)
        order = np.argsort(names)
        np.testing.assert_allclose(
            result.opis_per_class,
            evaluated("clusters").opis_per_class[order],
            rtol=1e-3,
        )

    @settings(max_examples=6)
    @given(st.lists(st.floats(1e-6, 1e6), min_size=48, max_size=48))
    def test_norms_of_embeddings(self, norms):
        x, y = SETS["clusters"]
        result = evaluate(x * np.array(norms, "float32")[:, None], y)
        assert_same_results(result, evaluated("clusters"))

    @settings(max_examples=6)
    @given(st.integers(5, 60))
    def test_block_sizes(self, block_size):
        result = evaluate(*SETS["classes-of-one"], block_size=block_size)
        assert_same_results(result, evaluated("classes-of-one"))

    @settings(max_examples=15)
    @given(
        st.lists(st.integers(2, 7), min_size=2, max_size=7),
        st.integers(0, 10**6),
        st.floats(0.05, 2.0),
    )
    def test_random_sets(self, sizes, seed, spread):
        x, y = clusters(sizes, seed=seed, spread=spread)
        options = {"far_range": (0.25, 0.75), "num_thresholds": 31}
        reference = oracles.evaluate(x, y.tolist(), **options)
        assert_same_results(evaluate(x, y, **options), reference, tolerance=0.02)

    @settings(max_examples=8)
    @given(
        st.integers(2, 6),
        st.integers(2, 5),
        st.integers(0, 10**6),
        st.sampled_from(["cosine", "euclidean"]),
    )
    def test_opis_is_zero_where_all_curves_coincide(
        self, classes, size, seed, distance
    ):
        # Every class is the first one rotated by a whole number of steps.
        rng = np.random.default_rng(seed)
        first = rng.normal(size=(size, 4))
        x = []
        for k in range(classes):
            c, s = (
                math.cos(2 * math.pi * k / classes),
                math.sin(2 * math.pi * k / classes),
            )
            turned = first.copy()
            turned[:, 0] = c * first[:, 0] - s * first[:, 1]
            turned[:, 1] = s * first[:, 0] + c * first[:, 1]
            x.append(turned)
        y = np.repeat(np.arange(classes), size)
        result = evaluate(
            np.concatenate(x), y, calibration_range=(0.1, 1.3), distance=distance
        )
        np.testing.assert_allclose(
            result.utility, np.broadcast_to(result.utility[0], result.utility.shape)
        )
        assert result.opis == pytest.approx(0.0, abs=1e-12)
        assert result.epsilon_opis == pytest.approx(0.0, abs=1e-12)


def test_perfect_separation():
    x = np.eye(5, dtype="float32")[np.repeat(np.arange(5), 4)]
    y = np.repeat(np.arange(5), 4)
    result = evaluate(x, y, calibration_range=(0.1, 0.9))
    assert (result.opis, result.epsilon_opis, result.eer) == (0.0, 0.0, 0.0)
    assert result.map_at_r == 1.0
    assert result.recall == {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}
    np.testing.assert_array_equal(result.utility, 1.0)


def test_peer_retrieval(pml):
    import torch

    accuracy = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.inference import CustomKNN

    x, y = SETS["larger"]
    peer = accuracy.AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=CustomKNN(CosineSimilarity()),
    ).get_accuracy(torch.tensor(x), torch.tensor(y))
    result = evaluate(x, y)
    assert result.recall[1] == pytest.approx(peer["precision_at_1"])
    assert result.map_at_r == pytest.approx(peer["mean_average_precision_at_r"])


def test_save_and_load(tmp_path):
    x, y = SETS["classes-of-one"]
    result = evaluate(x, y, far_targets=(1e-6, 0.1))
    result.save(tmp_path / "result.json")
    loaded = Evaluation.load(tmp_path / "result.json")
    assert loaded.to_dict() == result.to_dict()
    assert loaded.recall == result.recall
    np.testing.assert_array_equal(loaded.utility, result.utility)
    unresolved, resolved = loaded.operating_points
    assert math.isnan(unresolved.threshold)
    assert not unresolved.resolved
    assert resolved.threshold == result.operating_points[1].threshold


def test_summary_names_the_results():
    x, y = SETS["classes-of-one"]
    result = evaluate(x, y)
    summary = result.summary()
    for part in ("OPIS", "R@1", "mAP@R", "EER", f"{result.map_at_r:.3f}"):
        assert part in summary
