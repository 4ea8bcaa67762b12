"""evaluate_embeddings where positives are not a matter of equal labels."""

import functools
import math

import keras
import numpy as np
import pytest
import relevance_oracle
from test_evaluate_embeddings import assert_matches

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.evaluation import Histogram, UndefinedError, recall_at_k
from keras_tcm.evaluation._counting import relevance_pairs
from keras_tcm.evaluation.criteria import equal_error
from keras_tcm.relevance import (
    ClassRelevance,
    FunctionRelevance,
    HierarchyLevel,
    SharedLabel,
)

# Classes 0 and 1 look alike, and so do 2, 3 and 4, but not all of them; 6 does not even
# match itself.
MATRIX = np.array(
    [
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
)


def multi_hot(num=48, num_labels=6, seed=0):
    """Vectors near the mean of their labels' centres; every eighth has no label."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((num, num_labels)) < 0.3).astype("int64")
    labels[::8] = 0
    x = labels @ rng.normal(size=(num_labels, 8)) + 0.7 * rng.normal(size=(num, 8))
    return x.astype("float32"), labels


def hierarchy(num=48, seed=1):
    """Rows of three levels; the ids begin anew in every branch."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, [3, 2, 2], size=(num, 3))
    place = labels @ [4, 2, 1]
    x = rng.normal(size=(12, 8))[place] + rng.normal(size=(6, 8))[place // 2]
    return (x + 0.7 * rng.normal(size=(num, 8))).astype("float32"), labels


def classes(num=48, num_classes=7, seed=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num)
    x = rng.normal(size=(num_classes, 8))[labels] + rng.normal(size=(num, 8))
    return x.astype("float32"), labels


def _cases():
    alone_x, alone = multi_hot(seed=3)
    # One label with a single sample, one without any, and one that most have.
    alone[:, 1:3], alone[5, 1], alone[12:, 3] = 0, 1, 1
    x, y = classes(seed=4)
    return {
        "multi-hot": (*multi_hot(), SharedLabel(), relevance_oracle.Shared()),
        "multi-hot-extremes": (
            alone_x,
            alone,
            SharedLabel(6),
            relevance_oracle.Shared(),
        ),
        "level-0": (*hierarchy(), HierarchyLevel(0), relevance_oracle.Levels(0)),
        "level-1": (*hierarchy(), HierarchyLevel(1), relevance_oracle.Levels(1)),
        "level-2": (*hierarchy(), HierarchyLevel(2), relevance_oracle.Levels(2)),
        "matrix": (
            *classes(),
            ClassRelevance(MATRIX),
            relevance_oracle.Matrix(MATRIX),
        ),
        # Labels that the matrix does not know, one of which is 0 in 32 bits.
        "matrix-unknown-labels": (
            x,
            np.where(y == 4, 2**32, np.where(y == 2, -1, y)),
            ClassRelevance(MATRIX > 0),
            relevance_oracle.Matrix(MATRIX),
        ),
    }


CASES = _cases()


@functools.cache
def expected(name, **options):
    x, labels, _, kind = CASES[name]
    return relevance_oracle.evaluate(x, labels.tolist(), kind, **options)


def evaluate(x, labels, relevance, **options):
    return evaluate_embeddings(x, labels, relevance=relevance, verbose=False, **options)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("name", CASES)
def test_reference(name, distance):
    x, labels, relevance, _ = CASES[name]
    result = evaluate(x, labels, relevance, distance=distance)
    assert_matches(result, expected(name, distance=distance))


@pytest.mark.parametrize("name", ["multi-hot", "matrix"])
@pytest.mark.parametrize(
    "options",
    [
        {"beta": 2.0, "epsilon": 0.5},
        {"frr_range": (0.1, 0.6)},
        {"calibration_range": (0.2, 0.9), "num_thresholds": 7},
        {"recall_at": (40, 3, 1000), "far_targets": (0.05, 0.5)},
    ],
    ids=str,
)
def test_options(name, options):
    x, labels, relevance, _ = CASES[name]
    assert_matches(evaluate(x, labels, relevance, **options), expected(name, **options))


@pytest.mark.parametrize(
    ("name", "block_size"),
    [
        ("multi-hot", 1),
        ("multi-hot", 7),
        ("multi-hot", 1000),
        ("level-1", 7),
        ("matrix", 7),
        ("matrix", 1000),
    ],
)
def test_block_size_does_not_matter(name, block_size):
    x, labels, relevance, _ = CASES[name]
    result = evaluate(x, labels, relevance, block_size=block_size)
    assert_matches(result, expected(name))


def test_few_pairs_at_a_time(monkeypatch):
    monkeypatch.setattr(relevance_pairs, "_HELD_PAIRS", 250)
    x, labels, relevance, _ = CASES["multi-hot"]
    assert_matches(evaluate(x, labels, relevance), expected("multi-hot"))


@pytest.mark.parametrize("has_gallery", [False, True])
@pytest.mark.parametrize("kind", ["multi-hot", "matrix", "levels"])
@pytest.mark.parametrize("seed", range(3))
def test_random_sets_full_of_ties(seed, kind, has_gallery):
    """Vectors of signs have few distances, which float32 holds exactly."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 1.0], size=(34, 16)).astype("float32")
    if kind == "multi-hot":
        labels = (rng.random((34, 5)) < 0.3).astype(int)
        relevance, reference = SharedLabel(), relevance_oracle.Shared()
    elif kind == "matrix":
        matrix = rng.random((5, 5)) < 0.3
        matrix |= matrix.T
        labels = rng.integers(-1, 6, 34)
        relevance, reference = ClassRelevance(matrix), relevance_oracle.Matrix(matrix)
    else:
        labels = rng.integers(0, 2, (34, 3))
        relevance, reference = HierarchyLevel(seed), relevance_oracle.Levels(seed)
    options = {"calibration_range": (0.31, 1.31), "num_thresholds": 11}
    first = 15 if has_gallery else 34
    gallery = (x[first:], labels[first:]) if has_gallery else (None, None)
    result = evaluate(
        x[:first],
        labels[:first],
        relevance,
        gallery_embeddings=gallery[0],
        gallery_labels=gallery[1],
        block_size=13,
        **options,
    )
    others = (gallery[0], gallery[1].tolist()) if has_gallery else ()
    known = labels[:first].tolist()
    assert_matches(
        result,
        relevance_oracle.evaluate(x[:first], known, reference, *others, **options),
    )


class TestGallery:
    @pytest.mark.parametrize("block_size", [None, 7])
    @pytest.mark.parametrize("name", CASES)
    def test_reference(self, name, block_size):
        x, labels, relevance, kind = CASES[name]
        result = evaluate(
            x[:18],
            labels[:18],
            relevance,
            gallery_embeddings=x[18:],
            gallery_labels=labels[18:],
            block_size=block_size,
        )
        reference = relevance_oracle.evaluate(
            x[:18], labels[:18].tolist(), kind, x[18:], labels[18:].tolist()
        )
        assert_matches(result, reference)

    def test_rows_of_the_matrix_are_the_classes_of_the_queries(self):
        x, labels, _, _ = CASES["matrix"]
        upper = np.triu(MATRIX)
        gallery = {"gallery_embeddings": x[18:], "gallery_labels": labels[18:]}
        result = evaluate(x[:18], labels[:18], ClassRelevance(upper), **gallery)
        reference = relevance_oracle.evaluate(
            x[:18],
            labels[:18].tolist(),
            relevance_oracle.Matrix(upper),
            x[18:],
            labels[18:].tolist(),
        )
        assert_matches(result, reference)
        turned = evaluate(x[:18], labels[:18], ClassRelevance(upper.T), **gallery)
        assert turned.num_positive_pairs != result.num_positive_pairs

    @pytest.mark.parametrize("name", ["multi-hot", "level-1", "matrix"])
    def test_same_object_is_no_gallery(self, name):
        x, labels, relevance, _ = CASES[name]
        result = evaluate(
            x, labels, relevance, gallery_embeddings=x, gallery_labels=labels
        )
        assert result.to_dict() == evaluate(x, labels, relevance).to_dict()
        with pytest.raises(ValueError, match="`gallery_labels` must equal `labels`"):
            evaluate(
                x,
                labels,
                relevance,
                gallery_embeddings=x,
                gallery_labels=np.roll(labels, 1, axis=0),
            )


class TestEqualLabels:
    """What comes down to equal labels gives what equal labels give."""

    def samples(self):
        """Products of signs: float32 holds all distances exactly, in any order."""
        rng = np.random.default_rng(5)
        y = rng.permutation(np.repeat(np.arange(7), [9, 8, 7, 6, 6, 3, 1]))
        centres = rng.choice([-1.0, 1.0], size=(7, 64))
        flips = rng.choice([-1.0, 1.0], size=(40, 64), p=[0.25, 0.75])
        return (centres[y] * flips).astype("float32"), y

    @pytest.mark.parametrize("distance", ["cosine", "euclidean"])
    @pytest.mark.parametrize("with_gallery", [False, True])
    @pytest.mark.parametrize(
        ("relevance", "relabel"),
        [
            (SharedLabel(), lambda y: np.eye(7)[y]),
            (ClassRelevance(np.eye(7)), lambda y: y),
            (HierarchyLevel(0), lambda y: y[:, None]),
        ],
        ids=["one-hot", "identity", "one-level"],
    )
    def test_every_field(self, relevance, relabel, with_gallery, distance):
        x, y = self.samples()
        options = {"distance": distance, "verbose": False}
        queries, gallery = (x, y), ()
        if with_gallery:
            queries, gallery = (x[:25], y[:25]), (x[25:], y[25:])
        names = ("gallery_embeddings", "gallery_labels")
        plain = evaluate_embeddings(
            *queries, **options, **dict(zip(names, gallery, strict=False))
        )
        if gallery:
            gallery = gallery[0], relabel(gallery[1])
        result = evaluate_embeddings(
            queries[0],
            relabel(queries[1]),
            relevance=relevance,
            **options,
            **dict(zip(names, gallery, strict=False)),
        )
        first, second = result.to_dict(), plain.to_dict()
        for values in (first, second):
            # A sample may have several classes under some of these relevances.
            for part in (values, *values["operating_points"]):
                del part["intervals"]
            for point in values["operating_points"]:
                del point["inequity"]
        assert_close(first, second)

    def test_random_vectors(self):
        x, y = classes()
        plain = evaluate_embeddings(x, y, verbose=False)
        for result in (
            evaluate(x, np.eye(7)[y], SharedLabel()),
            evaluate(x, y, ClassRelevance(np.eye(7))),
            evaluate(x, y[:, None], HierarchyLevel(0)),
        ):
            assert result.opis == pytest.approx(plain.opis, rel=1e-2)
            assert result.map_at_r == pytest.approx(plain.map_at_r, abs=1e-9)
            assert result.num_negative_pairs == plain.num_negative_pairs

    def test_levels_are_the_same_as_tuples(self):
        x, rows = hierarchy(120)
        names = [tuple(row[:2]) for row in rows.tolist()]
        for max_pairs in None, 5000:
            result = evaluate(x, rows, HierarchyLevel(1), max_pairs=max_pairs)
            plain = evaluate_embeddings(x, names, verbose=False, max_pairs=max_pairs)
            assert result.to_dict() == plain.to_dict()
            assert (result.standard_errors is None) == (max_pairs is None)
        assert result.classes[0] == (0, 0)


def assert_close(result, plain):
    """Equal within 1e-6, whatever is nested in what."""
    assert type(result) is type(plain)
    if isinstance(plain, dict):
        assert result.keys() == plain.keys()
        for key, value in plain.items():
            assert_close(result[key], value)
    elif isinstance(plain, list):
        assert len(result) == len(plain)
        for one, other in zip(result, plain, strict=True):
            assert_close(one, other)
    elif isinstance(plain, float):
        assert result == pytest.approx(plain, abs=1e-6)
    else:
        assert result == plain


def test_equal_error_rate_is_the_first_of_equal_gaps():
    positive, negative = np.zeros((2, 60), int)
    positive[[10, 30, 50]] = negative[[20, 40]] = 1
    # At 20, FAR 1/2 and FRR 2/3; at 30, 1/2 and 1/3: gaps of 1/6, before rounding.
    crossing, value = equal_error(Histogram.of(positive), Histogram.of(negative))
    assert crossing == 20
    assert value == pytest.approx(7 / 12)


class TestByHand:
    def plane(self, *degrees):
        angles = np.deg2rad(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def test_shared_labels(self):
        # Samples at 0, 30, 60, 90 degrees with the labels a; a and b; b; none.
        x = self.plane(0, 30, 60, 90)
        labels = [[1, 0], [1, 1], [0, 1], [0, 0]]
        result = evaluate(
            x, labels, SharedLabel(), calibration_range=(0.1, 0.2), num_thresholds=2
        )
        # Positive: 0-30, 30-60 (1 - cos 30 = 0.134). Negative: 0-60, 0-90, 30-90 and
        # 60-90, of which only the last is as near.
        assert (result.num_positive_pairs, result.num_negative_pairs) == (2, 4)
        assert list(result.classes) == [0, 1]
        assert list(result.class_counts) == [2, 2]
        # At 0.2, a accepts its one pair and rejects its negatives (0-60, 0-90, 30-90);
        # b accepts 60-90 of 30-90, 60-90 and 60-0: specificity 2/3, utility 0.8.
        np.testing.assert_allclose(result.utility, [[0, 1], [0, 0.8]])
        # The sample at 60 has a tie between 30 and 90, and ties count against it.
        assert result.recall[1] == pytest.approx(2 / 3)
        assert result.map_at_r == pytest.approx((1 + 1 + 0) / 3)

    def test_a_pair_inside_two_classes_counts_in_both(self):
        # The first two share both labels; each label has a third sample.
        x = self.plane(0, 60, 180, 185, 90)
        labels = [[1, 1], [1, 1], [1, 0], [0, 1], [0, 0]]
        result = evaluate(
            x, labels, SharedLabel(), calibration_range=(0.5, 0.6), num_thresholds=2
        )
        # 0-60 is nearest of three positive pairs of both classes.
        assert result.num_positive_pairs == 1 + 2 + 2
        sensitivity = 1 / 3
        # Negatives of the first label: 180-185 and 60-90, which are accepted as well,
        # 0-90 and 180-90.
        specificity = 2 / 4
        assert result.utility[0, 1] == pytest.approx(
            2 * sensitivity * specificity / (sensitivity + specificity)
        )

    def test_matrix(self):
        # Classes 0 and 1 match each other and themselves, class 2 itself.
        x = self.plane(0, 10, 20, 90, 100)
        result = evaluate(
            x,
            [0, 0, 1, 2, 2],
            ClassRelevance([[1, 1, 0], [1, 1, 0], [0, 0, 1]]),
            calibration_range=(0.0, 0.02),
            num_thresholds=2,
        )
        assert (result.num_positive_pairs, result.num_negative_pairs) == (4, 6)
        # 1 - cos 10 = 0.0152. Of class 0: 0-10 counts from both ends, 0-20 and 10-20
        # from one: 3 of 4 at 0.02. Of class 1: 10-20 of two.
        sensitivity = np.array([3 / 4, 1 / 2, 1])
        expected = 2 * sensitivity / (1 + sensitivity)
        np.testing.assert_allclose(result.utility[:, 1], expected)


class TestLabels:
    def test_any_number_above_zero_is_a_label(self):
        x, labels, _, _ = CASES["multi-hot"]
        plain = evaluate(x, labels, SharedLabel()).to_dict()
        scores = np.where(labels > 0, 0.25, -1.0).astype("float32")
        for same in (
            scores,
            labels.astype(bool),
            labels.astype("uint8"),
            labels.tolist(),
            keras.ops.convert_to_tensor(scores),
        ):
            assert evaluate(x, same, SharedLabel()).to_dict() == plain

    @pytest.mark.parametrize("level", [0, 1])
    def test_levels_of_strings_and_mixed(self, level):
        x, rows = hierarchy()
        names = np.array(["ant", "bee", "cat"])
        mixed = [(str(names[row[0]]), row[1], None) for row in rows.tolist()]
        strings = np.stack([names[rows[:, 0]], rows[:, 1].astype(str)], axis=1)
        plain = evaluate(x, rows, HierarchyLevel(level))
        for same in mixed, strings, strings.tolist(), strings.astype(object):
            result = evaluate(x, same, HierarchyLevel(level))
            assert result.opis == plain.opis
        assert list(evaluate(x, mixed, HierarchyLevel(0)).classes) == list(names)
        assert evaluate(x, mixed, HierarchyLevel(1)).classes[-1] == ("cat", 1)

    def test_large_levels_stay_apart(self):
        x, rows = hierarchy()
        plain = evaluate(x, rows, HierarchyLevel(1))
        assert evaluate(x, rows + 2**53, HierarchyLevel(1)).opis == plain.opis

    def test_result_is_saved(self, tmp_path):
        x, rows = hierarchy()
        result = evaluate(x, rows, HierarchyLevel(1))
        result.save(tmp_path / "result.json")
        loaded = Evaluation.load(tmp_path / "result.json")
        assert list(loaded.classes) == [repr(label) for label in result.classes]

    def test_memmap(self, tmp_path):
        x, labels, relevance, _ = CASES["multi-hot"]
        np.save(tmp_path / "x.npy", x)
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert_matches(evaluate(mapped, labels, relevance), expected("multi-hot"))

    def test_progress_is_shown(self, capsys):
        x, labels, relevance, _ = CASES["multi-hot"]
        evaluate_embeddings(x, labels, relevance=relevance, verbose=True, block_size=12)
        assert "4/4" in capsys.readouterr().out


def raises(argument, message=""):
    return pytest.raises(
        (ValueError, TypeError), match=rf"(?s)`{argument}`.*{message}.*Received: "
    )


class TestErrors:
    @pytest.mark.parametrize(
        "relevance", [lambda a, b: a[:, None] == b, FunctionRelevance(np.equal)]
    )
    def test_functions_make_no_classes(self, relevance):
        with raises("relevance", "function makes no classes"):
            evaluate(*classes(), relevance)

    @pytest.mark.parametrize("relevance", ["shared", 3, SharedLabel])
    def test_no_relevance(self, relevance):
        with raises("relevance"):
            evaluate(*classes(), relevance)

    def test_matrix_without_symmetry(self):
        x, y = classes()
        relevance = ClassRelevance(np.triu(MATRIX))
        with raises("relevance", "symmetric"):
            evaluate(x, y, relevance)
        with raises("relevance", "symmetric"):
            evaluate(x, y, relevance, gallery_embeddings=x, gallery_labels=y)

    @pytest.mark.parametrize("name", ["multi-hot", "matrix"])
    def test_no_sampling(self, name):
        x, labels, relevance, _ = CASES[name]
        with raises("max_pairs"):
            evaluate(x, labels, relevance, max_pairs=10**6)

    @pytest.mark.parametrize(
        ("labels", "relevance"),
        [
            pytest.param(np.zeros(48, int), SharedLabel(), id="shared-rank-1"),
            pytest.param(np.zeros((48, 2, 2)), SharedLabel(), id="shared-rank-3"),
            pytest.param(np.zeros((48, 5)), SharedLabel(6), id="shared-width"),
            pytest.param(np.zeros((47, 6)), SharedLabel(), id="shared-rows"),
            pytest.param([[1, 0]] * 47 + [[1]], SharedLabel(), id="shared-ragged"),
            pytest.param([["a", "b"]] * 48, SharedLabel(), id="shared-strings"),
            pytest.param(np.full((48, 6), np.nan), SharedLabel(), id="shared-nan"),
            pytest.param(np.zeros(48, int), HierarchyLevel(0), id="level-rank-1"),
            pytest.param(np.zeros((48, 2), int), HierarchyLevel(2), id="level-width"),
            pytest.param(np.zeros((47, 2), int), HierarchyLevel(1), id="level-rows"),
            pytest.param(
                [("a", 1)] * 47 + [("b",)], HierarchyLevel(1), id="level-ragged"
            ),
            pytest.param(["ab"] * 48, HierarchyLevel(0), id="level-strings"),
            pytest.param(np.full((48, 2), 0.5), HierarchyLevel(1), id="level-fraction"),
            pytest.param(
                [("a", math.nan)] * 48, HierarchyLevel(1), id="level-nan-beside-text"
            ),
            pytest.param([("a", {})] * 48, HierarchyLevel(1), id="level-unhashable"),
            pytest.param(
                np.zeros((48, 1), int), ClassRelevance(MATRIX), id="matrix-rank-2"
            ),
            pytest.param(["a"] * 48, ClassRelevance(MATRIX), id="matrix-strings"),
            pytest.param(np.full(48, 0.5), ClassRelevance(MATRIX), id="matrix-half"),
            pytest.param(np.zeros(47, int), ClassRelevance(MATRIX), id="matrix-rows"),
            pytest.param(None, SharedLabel(), id="nothing"),
        ],
    )
    def test_labels(self, labels, relevance):
        with raises("labels"):
            evaluate(classes()[0], labels, relevance)

    @pytest.mark.parametrize("name", ["multi-hot", "level-1"])
    def test_gallery_of_another_width(self, name):
        x, labels, relevance, _ = CASES[name]
        wider = np.concatenate([labels, labels], axis=1)
        with raises("gallery_labels", "as wide as `labels`"):
            evaluate(
                x, labels, relevance, gallery_embeddings=x.copy(), gallery_labels=wider
            )

    @pytest.mark.parametrize(
        ("labels", "relevance"),
        [
            pytest.param(np.ones((48, 3)), SharedLabel(), id="no-negative-pair"),
            pytest.param(np.zeros((48, 3)), SharedLabel(), id="no-label"),
            pytest.param(np.eye(48), SharedLabel(), id="no-positive-pair"),
            pytest.param(np.eye(3)[[0] * 46 + [1, 2]], SharedLabel(), id="one-class"),
            pytest.param(
                np.arange(48) % 7, ClassRelevance(np.ones((7, 7))), id="all-match"
            ),
            pytest.param(
                np.arange(48) % 7, ClassRelevance(np.zeros((7, 7))), id="none-match"
            ),
            pytest.param(np.arange(48) + 7, ClassRelevance(MATRIX), id="unknown"),
            pytest.param(np.zeros((48, 2), int), HierarchyLevel(1), id="one-row"),
        ],
    )
    def test_fewer_than_two_eligible_classes(self, labels, relevance):
        with pytest.raises(UndefinedError, match=r"`labels`.*two classes.*Received: "):
            evaluate(classes()[0], labels, relevance)

    def test_far_range_that_the_negative_pairs_do_not_resolve(self):
        x, labels, relevance, _ = CASES["multi-hot"]
        with pytest.raises(UndefinedError, match=r"`far_range` must be resolvable"):
            evaluate(x, labels, relevance, far_range=(1e-6, 0.1))

    def test_collapsed_embeddings(self):
        _, labels, relevance, _ = CASES["multi-hot"]
        with pytest.raises(UndefinedError, match="`far_range` must span"):
            evaluate(np.ones((48, 3)), labels, relevance)


class TestRecall:
    @pytest.mark.parametrize("k", [1, 3, 60])
    @pytest.mark.parametrize("name", CASES)
    def test_reference(self, name, k):
        x, labels, relevance, kind = CASES[name]
        recall, _ = relevance_oracle.retrieval(x, labels.tolist(), kind, ks=(k,))
        assert recall_at_k(x, labels, k, relevance) == pytest.approx(recall[k])

    def test_function(self):
        x, labels = classes()

        def follows(a, b):
            return keras.ops.equal(a[:, None] + 1, b[None, :])

        kind = relevance_oracle.Function(lambda a, b: a + 1 == b)
        recall, _ = relevance_oracle.retrieval(x, labels.tolist(), kind, ks=(2,))
        value = recall_at_k(x, labels, 2, FunctionRelevance(follows))
        assert value == pytest.approx(recall[2])

    def test_matrix_without_symmetry(self):
        x, labels = classes()
        kind = relevance_oracle.Matrix(np.triu(MATRIX))
        recall, _ = relevance_oracle.retrieval(x, labels.tolist(), kind, ks=(2,))
        relevance = ClassRelevance(np.triu(MATRIX))
        assert recall_at_k(x, labels, 2, relevance) == pytest.approx(recall[2])

    def test_nan_without_a_positive(self):
        x, labels = multi_hot()
        assert math.isnan(recall_at_k(x, 0 * labels, 1, SharedLabel()))
