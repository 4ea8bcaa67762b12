"""What a matcher finds, against a double loop over all pairs in float64."""

import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_tcm
from keras_tcm import Matcher, ScoreNormalization, choose_threshold
from keras_tcm.evaluation import compared_dimension, normalize
from keras_tcm.threshold import gallery

DIMENSION = 8


def population(seed, num_classes=120, size=6):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), size)
    x = rng.normal(size=(num_classes, DIMENSION))[labels]
    return x + 0.45 * rng.normal(size=x.shape), labels


X, Y = population(0)
THRESHOLD = choose_threshold(X, Y, far=0.02)
EUCLIDEAN = choose_threshold(X, Y, far=0.02, distance="euclidean")
OTHERS, OTHER_LABELS = population(1)


def double_loop(queries, gallery, threshold):
    """Places of the matches of each query, best first, and their distances."""
    unit = [normalize(np.asarray(x)).astype(np.float64) for x in (queries, gallery)]
    found = []
    for a in unit[0]:
        near = []
        for place, b in enumerate(unit[1]):
            cosine = 1.0 - sum(x * y for x, y in zip(a, b, strict=True))
            is_euclidean = threshold.distance == "euclidean"
            distance = np.sqrt(max(2 * cosine, 0)) if is_euclidean else cosine
            # A threshold accepts what is a rounding error farther too.
            if cosine <= 1.0 - threshold.similarity + 2.5 / 2**21:
                near.append((distance, place))
        found.append(sorted(near))
    return found


def assert_matches(found, expected, ids, tolerance=2e-6):
    assert len(found) == len(expected)
    for matches, pairs in zip(found, expected, strict=True):
        assert matches.ids == tuple(ids[place] for _, place in pairs)
        assert len(matches) == len(pairs)
        assert matches.best == (matches.ids[0] if pairs else None)
        np.testing.assert_allclose(
            matches.distances, [distance for distance, _ in pairs], atol=tolerance
        )
        assert (np.diff(matches.distances) >= 0).all()
        assert (np.diff(matches.probabilities) <= 0).all()


@pytest.fixture(params=["backend", "faiss"])
def new_matcher(request):
    def make(threshold=THRESHOLD, **options):
        if request.param == "faiss":
            faiss = pytest.importorskip("faiss")
            dimension = compared_dimension(threshold.dimension, threshold.distance)
            options["index"] = faiss.IndexFlatIP(dimension)
        return Matcher(threshold, **options)

    return make


@pytest.mark.parametrize("threshold", [THRESHOLD, EUCLIDEAN], ids=["cosine", "l2"])
def test_matches_are_those_of_a_double_loop(new_matcher, threshold):
    matcher, gallery = new_matcher(threshold), OTHERS[:90]
    ids = [("person", place) for place in range(len(gallery))]
    matcher.add(ids, 3.0 * gallery)
    expected = double_loop(X[:80], gallery, threshold)
    # Some match nothing, some one and some several.
    assert {0, 1, 2} <= set(map(len, expected))
    # Roots of small distances are less exact.
    assert_matches(matcher.match(0.1 * X[:80]), expected, ids, tolerance=2e-3)


@pytest.mark.parametrize("method", ["shift", "as_norm"])
def test_normalized_scores(new_matcher, method, tmp_path):
    normalization = ScoreNormalization(population(2)[0], 20, method)
    options = {"score_normalization": normalization}
    threshold = choose_threshold(X, Y, far=0.02, **options)
    with pytest.raises(ValueError, match="`score_normalization` must be given"):
        Matcher(threshold)
    with pytest.raises(ValueError, match="`score_normalization` must be what"):
        Matcher(THRESHOLD, **options)
    matcher, gallery = new_matcher(threshold, **options), OTHERS[:90]
    assert matcher.match(X[:1])[0].ids == ()
    matcher.add(range(90), 3.0 * gallery)
    found = matcher.match(0.1 * X[:80])
    distances = 1 - (
        normalization.transform_queries(X[:80]).astype(np.float64)
        @ normalization.transform_gallery(gallery).T.astype(np.float64)
    )
    step = 3e-6 if method == "shift" else 1e-3
    for matches, expected in zip(found, distances, strict=True):
        near = np.flatnonzero(expected <= threshold.value)
        doubtful = np.abs(expected - threshold.value) < step
        assert set(matches.ids) ^ set(near.tolist()) <= set(np.flatnonzero(doubtful))
        places = list(matches.ids)
        np.testing.assert_allclose(matches.distances, expected[places], atol=step)
        assert (np.diff(matches.distances) >= 0).all()
    assert sum(map(len, found)) > 80
    matcher.save(tmp_path / "people")
    again = Matcher.load(tmp_path / "people")
    assert again.score_normalization.digest == normalization.digest
    assert [one.ids for one in again.match(X[:80])] == [
        one.ids for one in Matcher.load(tmp_path / "people").match(X[:80])
    ]
    assert [one.ids for one in again.match(0.1 * X[:80])] == [one.ids for one in found]
    # What a save has replaced is cleared away: an index, vectors and a cohort are left.
    again.save(tmp_path / "people")
    assert len(list((tmp_path / "people").iterdir())) == 3
    Matcher(THRESHOLD).save(tmp_path / "people")
    assert len(list((tmp_path / "people").iterdir())) == 2


def test_blocks_change_nothing(new_matcher, monkeypatch):
    for name, rows in (
        ("QUERY_ROWS", 32),
        ("GALLERY_ROWS", 64),
        ("LEAST_ROWS", 16),
        ("CHECKED_PAIRS", 7),
    ):
        monkeypatch.setattr(gallery, name, rows)
    matcher = new_matcher()
    # Bit by bit, so that blocks are half full in between.
    for first in range(0, len(OTHERS), 50):
        some = np.arange(first, min(first + 50, len(OTHERS)))
        matcher.add(some, OTHERS[some])
        matcher.match(X[:3])
    expected = double_loop(X[:70], OTHERS, THRESHOLD)
    assert_matches(matcher.match(X[:70]), expected, range(len(OTHERS)))


def test_equal_embeddings_match_in_the_order_in_which_they_came(new_matcher):
    matcher = new_matcher()
    # Rounding makes other unit vectors of multiples.
    matcher.add(["c", "a", "b"], np.repeat(X[:1], 3, axis=0) * [[1.3], [7.7], [0.5]])
    (found,) = matcher.match(X[:1])
    assert found.ids == ("c", "a", "b")
    matcher.remove(["c"])
    matcher.add(["c"], X[:1])
    (found,) = matcher.match(X[:1])
    assert found.ids == ("a", "b", "c")
    (found,) = matcher.match(X[:1], limit=2)
    assert found.ids == ("a", "b")
    assert len(found.distances) == len(found.probabilities) == 2


def test_what_is_removed_is_forgotten(new_matcher):
    matcher = new_matcher()
    ids = np.arange(len(OTHERS))
    matcher.add(ids, OTHERS)
    is_left = ids % 3 == 0
    matcher.remove(ids[~is_left])
    assert len(matcher) == is_left.sum()
    assert matcher.ids == ids[is_left].tolist()
    assert 3 in matcher
    assert 4 not in matcher
    expected = double_loop(X[:40], OTHERS[is_left], THRESHOLD)
    assert_matches(matcher.match(X[:40]), expected, ids[is_left].tolist())
    matcher.remove(ids[is_left])
    assert [len(found) for found in matcher.match(X[:2])] == [0, 0]
    matcher.add(["new"], X[:1])
    assert matcher.match(X[:1])[0].best == "new"


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 11)), max_size=30
    )
)
@settings(deadline=None, max_examples=30)
def test_any_order_of_adding_and_removing(steps):
    matcher, kept = Matcher(THRESHOLD), {}
    for what, one in steps:
        if what == "add" and one not in kept:
            matcher.add([one], OTHERS[one : one + 1])
            kept[one] = None
        elif what == "remove" and one in kept:
            matcher.remove([one])
            del kept[one]
    assert matcher.ids == list(kept)
    places = np.array(list(kept), int)
    expected = double_loop(OTHERS[:12], OTHERS[places], THRESHOLD)
    assert_matches(matcher.match(OTHERS[:12]), expected, list(kept))


def test_it_accepts_what_the_threshold_accepts(new_matcher):
    matcher = new_matcher()
    matcher.add(range(len(OTHERS)), OTHERS)
    for query, found in zip(X[:20], matcher.match(X[:20]), strict=True):
        accepted = np.flatnonzero(THRESHOLD.accepts(query, OTHERS))
        assert set(found.ids) == set(accepted.tolist())
        expected = THRESHOLD.distances(query, OTHERS)[list(found.ids)]
        np.testing.assert_array_equal(found.distances, expected)


def test_probabilities_are_those_of_the_threshold(new_matcher):
    matcher = new_matcher()
    matcher.add(range(99), OTHERS[:99])
    for prior, options in ((0.01, {}), (0.3, {"prior": 0.3})):
        for found in matcher.match(OTHERS[:10], **options):
            expected = THRESHOLD.probability(found.distances, prior=prior)
            np.testing.assert_array_equal(found.probabilities, expected)


@pytest.mark.parametrize("kind", ["list", "tensor", "float16"])
def test_embeddings_of_other_kinds(kind):
    made = {
        "list": X.tolist(),
        "tensor": keras.ops.convert_to_tensor(X.astype("float32")),
        "float16": X.astype("float16"),
    }[kind]
    matcher = Matcher(THRESHOLD)
    matcher.add(Y * 10 + np.arange(len(Y)) % 6, made)
    assert all(len(found) for found in matcher.match(made))


def test_none_to_add_and_none_to_match(new_matcher):
    matcher = new_matcher()
    matcher.add([], np.zeros((0, DIMENSION)))
    assert matcher.match(np.zeros((0, DIMENSION))) == matcher.match([]) == []
    matcher.add(["a"], X[:1])
    matcher.remove([])
    assert len(matcher) == 1


def test_ids_of_arrays_and_tensors():
    matcher = Matcher(THRESHOLD)
    matcher.add(np.array([1.5, 2.0]), X[:2])
    matcher.add(keras.ops.convert_to_tensor(np.array([7, 8])), X[2:4])
    matcher.add([np.int64(9), 2.5, "a"], X[4:7])
    assert matcher.ids == [1.5, 2.0, 7, 8, 9, 2.5, "a"]
    assert {type(one) for one in matcher.ids} == {float, int, str}
    assert np.int64(7) in matcher
    matcher.remove([2.5])
    matcher.remove(np.array([7, 8]))
    assert matcher.ids == [1.5, 2.0, 9, "a"]


def test_an_index_serves_one_matcher():
    index = pytest.importorskip("faiss").IndexFlatIP(DIMENSION)
    first, second = Matcher(THRESHOLD, index=index), Matcher(THRESHOLD, index=index)
    first.add(["a"], X[:1])
    with pytest.raises(RuntimeError, match="`index` must be this matcher's alone"):
        second.match(X[:1])


class TestModel:
    def make(self):
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(DIMENSION)])

    def threshold(self, model):
        rng = np.random.default_rng(0)
        inputs = rng.normal(size=(120, 5))[Y] + 0.2 * rng.normal(size=(len(Y), 5))
        inputs = inputs.astype("float32")
        embeddings = model.predict(inputs, verbose=0)
        return choose_threshold(embeddings, Y, far=0.05, model=model), inputs

    def test_it_takes_the_inputs_of_its_model(self):
        model = self.make()
        threshold, inputs = self.threshold(model)
        matcher, plain = Matcher(threshold, model=model), Matcher(threshold)
        embeddings = model.predict(inputs, verbose=0)
        matcher.add(range(50), inputs[:50])
        plain.add(range(50), embeddings[:50])
        for one, other in zip(
            matcher.match(inputs[50:60]), plain.match(embeddings[50:60]), strict=True
        ):
            assert one.ids == other.ids

    def test_threads_share_a_model(self):
        model = self.make()
        threshold, inputs = self.threshold(model)
        matcher = Matcher(threshold, model=model)
        matcher.add(range(20), inputs[:20])
        expected = [found.ids for found in matcher.match(inputs[:20])]

        def match(_):
            return [found.ids for found in matcher.match(inputs[:20])]

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert list(pool.map(match, range(12))) == [expected] * 12

    def test_another_model_is_refused(self, tmp_path):
        model = self.make()
        threshold, inputs = self.threshold(model)
        Matcher(threshold, model=model).save(tmp_path / "matcher")
        model.layers[0].bias.assign(np.ones(DIMENSION))
        with pytest.raises(ValueError, match="`model` must have the weights"):
            Matcher(threshold, model=model)
        with pytest.raises(ValueError, match="`model` must have the weights"):
            Matcher.load(tmp_path / "matcher", model=model)
        # Changed under the hands of the matcher.
        model.layers[0].bias.assign(np.zeros(DIMENSION))
        matcher = Matcher(threshold, model=model)
        canaries = inputs[threshold.canaries.rows]
        embeddings = model.predict(canaries, verbose=0)
        matcher.check_canaries(canaries)
        Matcher(threshold).check_canaries(embeddings)
        model.layers[0].bias.assign(np.ones(DIMENSION))
        for one, samples in (
            (matcher, canaries),
            (Matcher(threshold), model.predict(canaries, verbose=0)),
        ):
            with pytest.raises(ValueError, match="choose a threshold anew"):
                one.check_canaries(samples)
        with pytest.raises(TypeError, match=r"`model` must be a `keras.Model`"):
            Matcher(threshold, model="model")


class TestBadInput:
    def test_ids(self):
        matcher = Matcher(THRESHOLD)
        matcher.add(["ada"], X[:1])
        with pytest.raises(ValueError, match=r"`ids` must be new.*'ada', which is in"):
            matcher.add(["ida", "ada"], X[:2])
        with pytest.raises(ValueError, match=r"`ids` must be new.*'ida', which is twi"):
            matcher.add(["ida", "ida"], X[:2])
        with pytest.raises(
            ValueError, match="`ids` must have one id for each embedding"
        ):
            matcher.add(["ida"], X[:2])
        for one in (None, float("nan"), ["a"], np.datetime64("NaT")):
            with pytest.raises(ValueError, match="`ids` must be hashable"):
                matcher.add([one], X[:1])
        with pytest.raises(ValueError, match=r"`ids` must have shape \(n,\)"):
            matcher.add(np.ones((1, 1)), X[:1])
        with pytest.raises(TypeError, match="`ids` must be"):
            matcher.add("ada", X[:3])
        with pytest.raises(KeyError, match=r"`ids` must be in the gallery.*'ida'"):
            matcher.remove(["ada", "ida"])
        with pytest.raises(ValueError, match="`ids` must be different"):
            matcher.remove(["ada", "ada"])
        # What has failed has changed nothing.
        assert matcher.ids == ["ada"]
        assert matcher.match(X[:1])[0].ids == ("ada",)

    def test_embeddings(self):
        matcher = Matcher(THRESHOLD)
        for name, call in (
            ("embeddings", lambda x: matcher.add([1, 2], x)),
            ("queries", matcher.match),
        ):
            with pytest.raises(
                ValueError, match=rf"`{name}` must have the dimension.*8"
            ):
                call(np.ones((2, 5)))
            with pytest.raises(ValueError, match=f"`{name}` must be finite"):
                call(np.full((2, DIMENSION), np.nan))
            with pytest.raises(ValueError, match=f"`{name}` must have shape"):
                call(np.ones(DIMENSION))
        assert len(matcher) == 0

    def test_options(self):
        matcher = Matcher(THRESHOLD)
        with pytest.raises(ValueError, match="`limit` must be"):
            matcher.match(X[:1], limit=0)
        with pytest.raises(ValueError, match="`prior` must be"):
            matcher.match(X[:1], prior=1)
        with pytest.raises(TypeError, match="`threshold` must be"):
            Matcher(0.5)

    def test_indexes(self):
        faiss = pytest.importorskip("faiss")
        with pytest.raises(TypeError, match="`index` must be an index of faiss"):
            Matcher(THRESHOLD, index=[])
        filled = faiss.IndexFlatIP(DIMENSION)
        filled.add(np.ones((3, DIMENSION), np.float32))
        for index in (faiss.IndexFlatIP(5), faiss.IndexFlatL2(DIMENSION), filled):
            with pytest.raises(ValueError, match="`index` must be empty and for inner"):
                Matcher(THRESHOLD, index=index)


def _named(folder):
    return json.loads((folder / "matcher.json").read_text())["vectors"]


IDS = ["ada", 2, 3.5, True, ("ada", 2), (("a", 1), "b"), "é\n"]


class TestFiles:
    def test_what_is_saved_matches_as_before(self, new_matcher, tmp_path):
        matcher = new_matcher()
        matcher.add(range(len(OTHERS)), OTHERS)
        matcher.remove(range(0, 100, 3))
        matcher.save(tmp_path / "matcher")
        assert len(list((tmp_path / "matcher").iterdir())) == 2
        loaded = Matcher.load(tmp_path / "matcher")
        assert loaded.ids == matcher.ids
        assert loaded.threshold.to_dict() == THRESHOLD.to_dict()
        for one, other in zip(matcher.match(X), loaded.match(X), strict=True):
            assert one.ids == other.ids
            np.testing.assert_array_equal(one.distances, other.distances)
        # It goes on.
        loaded.add(["new"], X[:1])
        loaded.save(tmp_path / "matcher")
        assert len(list((tmp_path / "matcher").iterdir())) == 2
        assert Matcher.load(tmp_path / "matcher").ids == [*matcher.ids, "new"]

    def test_an_index_is_filled(self, tmp_path):
        faiss = pytest.importorskip("faiss")
        matcher = Matcher(THRESHOLD)
        matcher.add(Y.astype(str) + np.char.mod("-%d", np.arange(len(Y))), X)
        matcher.save(tmp_path / "matcher")
        index = faiss.IndexFlatIP(DIMENSION)
        loaded = Matcher.load(tmp_path / "matcher", index=index)
        assert index.ntotal == len(X)
        for one, other in zip(matcher.match(X), loaded.match(X), strict=True):
            assert one.ids == other.ids

    def test_ids_of_many_kinds(self, tmp_path):
        matcher = Matcher(THRESHOLD)
        matcher.add(IDS, X[: len(IDS)])
        matcher.save(tmp_path / "matcher")
        loaded = Matcher.load(tmp_path / "matcher")
        assert loaded.ids == IDS
        assert [type(one) for one in loaded.ids] == [type(one) for one in IDS]
        assert ("ada", 2) in loaded

    @pytest.mark.parametrize("one", [frozenset("ab"), ("a", float("inf"))])
    def test_ids_that_json_does_not_have(self, tmp_path, one):
        matcher = Matcher(THRESHOLD)
        matcher.add([one], X[:1])
        with pytest.raises(TypeError, match="`ids` must be strings, finite numbers"):
            matcher.save(tmp_path / "matcher")
        assert not (tmp_path / "matcher").exists()

    def test_an_empty_one(self, tmp_path):
        Matcher(THRESHOLD).save(tmp_path / "matcher")
        loaded = Matcher.load(tmp_path / "matcher")
        assert len(loaded) == 0
        loaded.add([1], X[:1])
        assert loaded.match(X[:1])[0].best == 1

    def saved(self, tmp_path):
        matcher = Matcher(THRESHOLD)
        matcher.add(range(10), X[:10])
        matcher.save(tmp_path / "matcher")
        (vectors,) = (tmp_path / "matcher").glob("*.npy")
        return tmp_path / "matcher", vectors

    def changed(self, folder, **values):
        path = folder / "matcher.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    @pytest.mark.parametrize(
        "text", ["{", "[]", '{"vectors": null, "score_normalization": "x"}']
    )
    def test_what_is_broken_is_replaced(self, tmp_path, text):
        folder, _ = self.saved(tmp_path)
        (folder / "matcher.json").write_text(text)
        Matcher(THRESHOLD).save(folder)
        assert len(Matcher.load(folder)) == 0

    def test_files_of_something_else(self, tmp_path):
        folder, vectors = self.saved(tmp_path)
        right = (folder / "matcher.json").read_text()
        for values, message in (
            ({"format": "other"}, "format='keras_tcm.Matcher'"),
            ({"version": 1}, "version 2"),
            ({"ids": [1, 2]}, r"shape \(2, 8\)"),
            ({"ids": [{}] * 10}, "ids must be texts"),
            ({"ids": [0] * 10}, "ids must be different"),
            ({"ids": "abcdefghij"}, "ids must be a list"),
            ({"vectors": "../vectors.npy"}, "vectors must be in a file"),
            ({"vectors": None}, "vectors must be in a file"),
            ({"score_normalization": []}, "score_normalization must be null or"),
            ({"score_normalization": {"top": 3}}, "score_normalization must be null"),
            (
                {
                    "score_normalization": {
                        "cohort": vectors.name,
                        "shape": [10, 8],
                        "top": 3,
                        "method": "shift",
                    }
                },
                "`score_normalization` must be what the threshold was chosen with",
            ),
            ({"threshold": {}}, r"Threshold.to_dict"),
            ({"threshold": {**THRESHOLD.to_dict(), "value": None}}, "other forms"),
            ({"threshold": {**THRESHOLD.to_dict(), "value": 2.5}}, "`value` must be"),
            ({"threshold": {**THRESHOLD.to_dict(), "distance": "l1"}}, "`distance`"),
        ):
            self.changed(folder, **values)
            with pytest.raises(ValueError, match=message):
                Matcher.load(folder)
            (folder / "matcher.json").write_text(right)
        for damage in (
            lambda data: data[:-40],
            lambda data: data[:-1] + b"\0",
            lambda data: b"",
            lambda data: b"PK\x03\x04" + data,
            # More than there is memory for.
            lambda data: data.replace(b"(10, 8)", b"(9" + b"0" * 9 + b", 8)"),
        ):
            whole = vectors.read_bytes()
            vectors.write_bytes(damage(whole))
            with pytest.raises(ValueError, match="`path` must be a file that `Matcher"):
                Matcher.load(folder)
            vectors.write_bytes(whole)
        assert len(Matcher.load(folder)) == 10
        vectors.unlink()
        with pytest.raises(FileNotFoundError):
            Matcher.load(folder)
        with pytest.raises(FileNotFoundError):
            Matcher.load(tmp_path / "missing")

    def test_nothing_is_unpickled(self, tmp_path):
        folder, vectors = self.saved(tmp_path)
        np.save(vectors, np.array([print, 1], object), allow_pickle=True)
        with pytest.raises(ValueError, match="must hold float32 vectors"):
            Matcher.load(folder)
        (folder / "matcher.json").write_text("[" * 100_000)
        with pytest.raises(ValueError, match="`path` must be a file that `Matcher"):
            Matcher.load(folder)

    @pytest.mark.parametrize("place", ["vectors", "index"])
    def test_a_save_that_is_killed_leaves_the_old_one(self, tmp_path, place):
        folder, _ = self.saved(tmp_path)
        stop = {
            "vectors": "files.np.lib.format.write_array = die",
            "index": "files.artefacts.save = die",
        }[place]
        program = f"""
import os, sys
import numpy as np
from keras_tcm import Matcher
from keras_tcm.threshold import gallery_files as files
def die(file, *args, **options):
    if hasattr(file, "write"):
        file.write(b"half")
        file.flush()
    os._exit(9)
matcher = Matcher.load({str(folder)!r})
matcher.remove([0, 1])
{stop}
matcher.save({str(folder)!r})
"""
        done = subprocess.run([sys.executable, "-c", program], env=os.environ)
        assert done.returncode == 9
        left = Matcher.load(folder)
        assert left.ids == list(range(10))
        # What it has left is cleared away when nobody can be writing it any more.
        (orphan,) = set(folder.glob("vectors-*")) - set(folder.glob(_named(folder)))
        left.save(folder)
        assert orphan.exists()
        os.utime(orphan, (0, 0))
        (folder / "vectors-of-mine.npy").touch()
        os.utime(folder / "vectors-of-mine.npy", (0, 0))
        left.save(folder)
        assert not orphan.exists()
        names = {path.name for path in folder.iterdir()}
        assert names == {"matcher.json", "vectors-of-mine.npy", _named(folder)}

    def test_several_save_while_others_read(self, tmp_path):
        """Readers get one of them, whole."""
        folder = tmp_path / "matcher"
        matchers = []
        for number in range(3):
            matcher = Matcher(THRESHOLD)
            matcher.add(range(10 * number + 5), X[: 10 * number + 5])
            matchers.append(matcher)
        matchers[0].save(folder)
        stop = threading.Event()

        def read():
            sizes = set()
            while not stop.is_set():
                sizes.add(len(Matcher.load(folder)))
            return sizes

        def write(matcher):
            for _ in range(15):
                matcher.save(folder)

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                list(pool.map(write, matchers))
            finally:
                stop.set()
            assert set.union(*(reader.result() for reader in readers)) <= {5, 15, 25}
        assert len(Matcher.load(folder)) in (5, 15, 25)


@pytest.mark.parametrize("has_index", [False, True])
def test_threads_that_read_while_one_writes(has_index):
    """What was there all the time is found; what was never there is not."""
    options = {}
    if has_index:
        options["index"] = pytest.importorskip("faiss").IndexFlatIP(DIMENSION)
    matcher = Matcher(THRESHOLD, **options)
    fixed = np.arange(100)
    matcher.add(fixed, OTHERS[:100])
    expected = double_loop(X[:30], OTHERS[:100], THRESHOLD)
    coming = double_loop(X[:30], OTHERS[100:], THRESHOLD)
    stop = threading.Event()

    def read():
        number = 0
        while not stop.is_set() or not number:
            found = matcher.match(X[:30])
            for matches, always, perhaps in zip(found, expected, coming, strict=True):
                there = [one for one in matches.ids if one < 100]
                assert there == [place for _, place in always]
                others = {one for one in matches.ids if one >= 100}
                assert others <= {place + 100 for _, place in perhaps}
            number += 1
        return number

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(8)]
        try:
            for _ in range(5):
                for one in range(100, 160):
                    matcher.add([one], OTHERS[one : one + 1])
                matcher.remove(range(100, 160))
        finally:
            stop.set()
        assert all(reader.result() > 0 for reader in readers)
    assert matcher.ids == fixed.tolist()


def test_a_threshold_of_many_matches_holds_no_matrix_of_them():
    """Pairs are looked at again some at a time."""
    loose = dataclasses.replace(THRESHOLD, value=2.0)
    matcher = Matcher(loose)
    matcher.add(range(len(OTHERS)), OTHERS)
    found = matcher.match(X, limit=3)
    assert all(len(matches) == 3 for matches in found)


def test_it_is_public():
    assert keras_tcm.Matcher is Matcher
