"""A gallery in which the queries are: said so, or noticed."""

import concurrent.futures
import warnings

import numpy as np
import oracles
import pytest
import relevance_oracle
from test_evaluate_embeddings import assert_matches

from keras_tcm import evaluate_embeddings
from keras_tcm.evaluation._counting import label_pairs
from keras_tcm.evaluation._inputs import pair_space
from keras_tcm.evaluation._inputs.pair_space import find_queries
from keras_tcm.evaluation._walk import pair_walk
from keras_tcm.relevance import ClassRelevance, HierarchyLevel, SharedLabel


def clusters(sizes, seed=0, dim=6):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    spread = rng.uniform(0.3, 1.2, len(sizes))[y, None]
    x = rng.normal(size=(len(sizes), dim))[y] + spread * rng.normal(size=(len(y), dim))
    order = rng.permutation(len(y))
    return x[order].astype("float32"), y[order]


X, Y = clusters([9, 8, 7, 1, 6, 8, 9, 5])
# Two samples of a class are equal, and two of different classes.
FIRST, SECOND = np.flatnonzero(Y == 0)[:2]
X[SECOND] = X[FIRST]
X[np.flatnonzero(Y == 5)[0]] = X[np.flatnonzero(Y == 6)[0]]
EXTRA, EXTRA_LABELS = clusters([4, 3, 6, 5, 2, 3, 4, 5, 6], seed=0)
EXTRA += 0.3
ORDER = np.random.default_rng(2).permutation(len(Y) + len(EXTRA))
GALLERY = np.concatenate([X, EXTRA])[ORDER]
GALLERY_LABELS = np.concatenate([Y, EXTRA_LABELS])[ORDER]
# Where each query is in it.
OWN = np.argsort(ORDER)[: len(Y)]


def evaluate(x=X, y=Y, gallery=None, gallery_labels=None, **options):
    return evaluate_embeddings(
        x,
        y,
        gallery_embeddings=gallery,
        gallery_labels=gallery_labels,
        verbose=False,
        **options,
    )


def includes(x=X, y=Y, gallery=GALLERY, gallery_labels=GALLERY_LABELS, **options):
    return evaluate(
        x, y, gallery, gallery_labels, gallery_includes_queries=True, **options
    )


@pytest.fixture(autouse=True)
def _no_warning():
    """Nothing is said where there is nothing to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def copies(folder):
    """The queries again, each in another guise."""
    np.save(folder / "all.npy", X)
    np.save(folder / "first.npy", X[:20])
    np.save(folder / "rest.npy", X[20:])
    wide = np.zeros((len(X), 12), "float32")
    wide[:, ::2] = X
    return {
        "copy": X.copy(),
        "view": X[:],
        "strides": wide[:, ::2],
        "float64": X.astype("float64"),
        "list": X.tolist(),
        "memmap": np.load(folder / "all.npy", mmap_mode="r"),
        "shards": [folder / "first.npy", folder / "rest.npy"],
    }


COPIES = ["copy", "view", "strides", "float64", "list", "memmap", "shards"]


class TestWord:
    @pytest.mark.parametrize("name", COPIES)
    def test_a_copy(self, name, tmp_path):
        with pytest.warns(UserWarning, match="finds itself") as said:
            result = evaluate(gallery=copies(tmp_path)[name], gallery_labels=Y.copy())
        (word,) = said
        number = f"{len(Y)} of {len(Y)} queries are in the gallery"
        assert str(word.message).startswith(number)
        assert "gallery_includes_queries=True" in str(word.message)
        assert word.filename == __file__
        assert result.recall[1] > 0.95 > evaluate().recall[1]

    def test_how_many(self):
        gallery = np.concatenate([X[5:8], EXTRA])
        labels = np.concatenate([Y[5:8], EXTRA_LABELS])
        with pytest.warns(UserWarning, match=f"^3 of {len(Y)} queries .* finds itself"):
            evaluate(gallery=gallery, gallery_labels=labels)

    def test_equal_vectors_with_other_labels_are_other_samples(self):
        evaluate(gallery=X.copy(), gallery_labels=(Y + 3) % 8)

    def test_nearly_equal_vectors_are_other_samples(self):
        evaluate(gallery=X * np.float32(1.001), gallery_labels=Y)

    @pytest.mark.parametrize("relevance", [SharedLabel(), HierarchyLevel(0)])
    def test_relevance(self, relevance):
        labels = np.eye(8, dtype=int)[Y] if isinstance(relevance, SharedLabel) else Y
        labels = labels.reshape(len(Y), -1)
        with pytest.warns(UserWarning, match=f"{len(Y)} of {len(Y)} queries"):
            evaluate(X, labels, X.copy(), labels.copy(), relevance=relevance)


class TestTheQueriesAndNoOthers:
    """The result is that without a gallery, down to the last bit."""

    @pytest.mark.parametrize("name", COPIES)
    def test_a_copy(self, name, tmp_path):
        result = includes(gallery=copies(tmp_path)[name], gallery_labels=Y.copy())
        assert result.to_dict() == evaluate().to_dict()

    def test_the_same_object(self):
        result = includes(gallery=X, gallery_labels=Y)
        assert result.to_dict() == evaluate().to_dict()

    def test_another_order(self):
        order = np.random.default_rng(0).permutation(len(Y))
        names = np.array(["a", "b", "c", "d", "e", "f", "g", "h"])[Y]
        result = includes(X, names, X[order], names[order].tolist())
        assert result.to_dict() == evaluate(X, names).to_dict()

    @pytest.mark.parametrize(
        ("relevance", "labels"),
        [
            (SharedLabel(), np.eye(8)[Y] + np.eye(8)[(Y + 1) % 8]),
            (ClassRelevance(np.eye(8)), Y),
            (HierarchyLevel(1), np.stack([Y // 4, Y % 4], axis=1)),
        ],
        ids=["multi-hot", "matrix", "levels"],
    )
    def test_relevance(self, relevance, labels):
        result = includes(X, labels, X.copy(), labels.copy(), relevance=relevance)
        assert result.to_dict() == evaluate(X, labels, relevance=relevance).to_dict()


def reference(**options):
    return oracles.evaluate(
        X, Y.tolist(), GALLERY, GALLERY_LABELS.tolist(), own=OWN, **options
    )


class TestOthersBesides:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"distance": "euclidean"},
            {"frr_range": (0.05, 0.3)},
            {"recall_at": (3, 1, 1000)},
        ],
        ids=str,
    )
    def test_reference(self, options):
        result = includes(**options)
        assert result.recall[1 if 1 in result.recall else 3] < 1.0
        assert_matches(result, reference(**options))

    @pytest.mark.parametrize("block_size", [None, 7, 1000])
    def test_large_classes_in_blocks(self, block_size, monkeypatch):
        monkeypatch.setattr(label_pairs, "_LARGE_CLASS_PAIRS", 20)
        monkeypatch.setattr(label_pairs, "_TILE_ROWS", 4)
        assert_matches(includes(block_size=block_size), reference())

    def test_numba_and_positives_in_groups(self, monkeypatch):
        pytest.importorskip("numba")
        monkeypatch.setattr(pair_walk, "_NUMBA_PAIRS", 0)
        monkeypatch.setattr(label_pairs, "MAX_HELD", 200)
        assert_matches(includes(block_size=20), reference())

    def test_client(self):
        with concurrent.futures.ThreadPoolExecutor(2) as client:
            result = includes(block_size=20, client=client)
        assert result.to_dict() == includes(block_size=20).to_dict()

    def test_some_of_the_queries(self):
        """Queries are seldom all that is in the gallery, nor in its order."""
        some = np.random.default_rng(3).permutation(len(Y))[:30]
        some = some[Y[some] != 3]
        result = includes(X[some], Y[some], X, Y)
        expected = oracles.evaluate(
            X[some], Y[some].tolist(), X, Y.tolist(), own=some.tolist()
        )
        assert_matches(result, expected)

    @pytest.mark.parametrize("block_size", [None, 7])
    @pytest.mark.parametrize(
        ("relevance", "relabel", "kind"),
        [
            (
                SharedLabel(),
                lambda y: np.eye(10)[y] + np.eye(10)[(y + 1) % 8],
                relevance_oracle.Shared(),
            ),
            (
                # Classes match each other, and the first not even itself.
                ClassRelevance(np.eye(9)[::-1]),
                lambda y: y,
                relevance_oracle.Matrix(np.eye(9)[::-1]),
            ),
            (
                HierarchyLevel(1),
                lambda y: np.stack([y // 4, y % 4], axis=1),
                relevance_oracle.Levels(1),
            ),
        ],
        ids=["multi-hot", "matrix", "levels"],
    )
    def test_relevance(self, relevance, relabel, kind, block_size):
        labels, others = relabel(Y), relabel(GALLERY_LABELS)
        result = includes(
            X, labels, GALLERY, others, relevance=relevance, block_size=block_size
        )
        expected = relevance_oracle.evaluate(
            X, labels.tolist(), kind, GALLERY, others.tolist(), own=OWN
        )
        assert_matches(result, expected)

    def test_sample_of_the_pairs(self):
        x, y = clusters([12] * 20, seed=5, dim=16)
        extra, extra_labels = clusters([6] * 20, seed=5, dim=16)
        gallery = np.concatenate([x, extra + 0.2]), np.concatenate([y, extra_labels])
        exact = includes(x, y, *gallery)
        sampled = includes(x, y, *gallery, max_pairs=60_000)
        # Positive pairs are all counted.
        assert sampled.num_positive_pairs == exact.num_positive_pairs
        for name in ("opis", "eer", "map_at_r"):
            error = 5 * sampled.standard_errors[name]
            assert getattr(sampled, name) == pytest.approx(
                getattr(exact, name), abs=error
            )
        error = 5 * sampled.standard_errors["recall_at_1"]
        assert sampled.recall[1] == pytest.approx(exact.recall[1], abs=error)
        assert sampled.recall[1] < 0.999


class TestRefused:
    def test_a_query_that_is_not_there(self):
        x = X.copy()
        x[[4, 9]] += 0.01
        with pytest.raises(ValueError, match="must hold every query") as error:
            includes(x, Y)
        assert f"without 2 of {len(Y)} queries, the first at index 4" in str(
            error.value
        )

    def test_a_query_with_another_label(self):
        labels = GALLERY_LABELS.copy()
        place = np.flatnonzero(Y == 2)[0]
        labels[OWN[place]] += 1
        with pytest.raises(ValueError, match=f"without 1 of .* at index {place}$"):
            includes(gallery_labels=labels)

    def test_two_queries_that_are_one_sample(self):
        """Equal queries are as many samples of the gallery."""
        kept = np.arange(len(GALLERY)) != OWN[SECOND]
        with pytest.raises(ValueError, match=f"without 1 of .* at index {SECOND}$"):
            includes(gallery=GALLERY[kept], gallery_labels=GALLERY_LABELS[kept])

    def test_no_gallery(self):
        with pytest.raises(ValueError, match="must be False without a gallery"):
            evaluate(gallery_includes_queries=True)

    def test_no_truth_value(self):
        with pytest.raises(
            ValueError, match="`gallery_includes_queries` must be one of"
        ):
            evaluate(gallery=X, gallery_labels=Y, gallery_includes_queries="yes")


@pytest.mark.parametrize("seed", range(20))
def test_search(seed):
    """Against lists of what is left, first come, first served."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 40, 2)
    vectors = [rng.choice([-1.0, 0.0, -0.0, 1.0], size=(size, 2)) for size in sizes]
    codes = [rng.integers(0, 2, size) for size in sizes]
    left = {}
    for place, key in enumerate(zip(map(tuple, vectors[1]), codes[1], strict=True)):
        left.setdefault(key, []).append(place)
    expected = [
        left[key].pop(0) if left.get(key) else -1
        for key in zip(map(tuple, vectors[0]), codes[0], strict=True)
    ]
    assert find_queries(vectors, codes).tolist() == expected


def test_large_files_are_read_in_blocks(monkeypatch):
    monkeypatch.setattr(pair_space, "CHUNK_ROWS", 7)
    largest = []

    class Stored:
        def __init__(self, rows):
            self.rows = rows

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            largest.append(len(self.rows[index]))
            return self.rows[index]

    found = find_queries([Stored(X), Stored(GALLERY)], [Y, GALLERY_LABELS])
    assert max(largest) == 7
    np.testing.assert_array_equal(GALLERY[found], X)
    np.testing.assert_array_equal(GALLERY_LABELS[found], Y)
    assert len(set(found.tolist())) == len(Y)
