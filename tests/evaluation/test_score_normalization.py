"""Normalised scores: the formulas, and what is evaluated and decided by them."""

import concurrent.futures
import dataclasses
import gc
import os
import weakref
import zipfile

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_distributed_evaluation import PickledParts, assert_same
from test_evaluate_embeddings import assert_matches

from keras_tcm import (
    OPIS,
    Matcher,
    ScoreNormalization,
    callbacks,
    choose_threshold,
    compare_embeddings,
    evaluate_embeddings,
)
from keras_tcm.evaluation import STRETCHES, from_cosine
from keras_tcm.evaluation._counting import label_pairs
from keras_tcm.evaluation._inputs import samples
from keras_tcm.relevance import ClassRelevance, HierarchyLevel

METHODS = ["shift", "as_norm"]
TOP = 7


def clusters(num_classes, size, seed, dim=6):
    """Classes some of which lie close together."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(num_classes), size)
    centers = rng.normal(size=(num_classes, dim))
    centers[: num_classes // 2] = 0.6 * centers[: num_classes // 2] + 1.5
    x = centers[y] + 0.5 * rng.normal(size=(len(y), dim))
    return x.astype("float32"), y


X, Y = clusters(8, 7, seed=0)
X[3] = 0.0
GALLERY, GALLERY_LABELS = clusters(8, 5, seed=1)
COHORT, _ = clusters(20, 6, seed=2)


def scores(x, gallery=None, method="shift", cohort=COHORT, top=TOP):
    """The formulas, as loops in float64."""
    ends = []
    for some in (x, x if gallery is None else gallery):
        found = []
        for row in oracles.similarities(some, cohort):
            nearest = sorted(row, reverse=True)[:top]
            mean = sum(nearest) / top
            variance = sum((value - mean) ** 2 for value in nearest) / top
            found.append((mean, max(np.sqrt(variance), 1 / 256)))
        ends.append(found)
    matrix = oracles.similarities(x, gallery)
    for i, (mean, deviation) in enumerate(ends[0]):
        for j, (other_mean, other_deviation) in enumerate(ends[1]):
            s = matrix[i, j]
            if method == "shift":
                matrix[i, j] = s - (mean + other_mean) / 2
            else:
                matrix[i, j] = (s - mean) / deviation / 2
                matrix[i, j] += (s - other_mean) / other_deviation / 2
    return matrix


def normalization(method="shift", cohort=COHORT, top=TOP):
    return ScoreNormalization(cohort, top, method)


def evaluate(x=X, y=Y, method="shift", **options):
    return evaluate_embeddings(
        x, y, score_normalization=normalization(method), verbose=False, **options
    )


@pytest.mark.parametrize("method", METHODS)
def test_transformed_vectors(method):
    known = normalization(method)
    queries, gallery = known.transform_queries(X), known.transform_gallery(GALLERY)
    assert queries.dtype == gallery.dtype == np.float32
    width = X.shape[1] if method == "shift" else 2 * X.shape[1]
    assert queries.shape == (len(X), width + 2)
    np.testing.assert_allclose(
        queries @ gallery.T, scores(X, GALLERY, method), rtol=1e-5, atol=2e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_compared_vectors_have_unit_length(method):
    rows = normalization(method).rows(X)
    queries, gallery = rows[:], rows.flipped[:]
    for vectors in (queries, gallery):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    distances = 1 - queries.astype("float64") @ gallery.T.astype("float64")
    np.testing.assert_allclose(
        from_cosine(distances, method),
        1 - scores(X, method=method),
        rtol=1e-5,
        atol=STRETCHES[method] * 3e-7,
    )


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(METHODS), st.integers(2, 30), st.integers(0, 10**6), st.booleans()
)
def test_properties(method, top, seed, is_tied):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 4)).astype("float32")
    cohort = np.tile(x[:2], (20, 1)) if is_tied else rng.normal(size=(40, 4))
    known = ScoreNormalization(cohort, top, method)
    found = known.transform_queries(x) @ known.transform_gallery(x).T
    # Whichever end is the query, and whatever the norm.
    np.testing.assert_allclose(found, found.T, rtol=1e-4, atol=1e-3)
    other = known.transform_queries(8 * x) @ known.transform_gallery(x / 4).T
    np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-3)
    low = 1 - 2 * STRETCHES[method]
    assert np.isfinite(found).all()
    assert (found >= low).all()
    assert (np.abs(found) <= STRETCHES[method]).all()
    # The order of the cohort does not matter.
    shuffled = ScoreNormalization(cohort[rng.permutation(len(cohort))], top, method)
    np.testing.assert_allclose(
        shuffled.transform_queries(x), known.transform_queries(x), rtol=1e-3, atol=1e-3
    )


OPTIONS = {
    "itself": {},
    "frr-range": {"frr_range": (0.2, 0.5)},
    "gallery": {"gallery": GALLERY, "gallery_labels": GALLERY_LABELS},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_evaluation(name, monkeypatch):
    options = dict(OPTIONS[name])
    # The oracle has distances of 1 less a similarity.
    with monkeypatch.context() as patch:
        patch.setattr(oracles, "similarities", _scores_once(oracles.similarities))
        expected = oracles.evaluate(X, Y, **options)
    if "gallery" in options:
        options["gallery_embeddings"] = options.pop("gallery")
    result = evaluate(**options)
    assert result.distance == "shift"
    assert_matches(dataclasses.replace(result, distance="cosine"), expected)


def _scores_once(similarities):
    """What is in place of the similarities of the oracle, and needs these itself."""

    def replaced(x, gallery=None):
        if gallery is COHORT:
            return similarities(x, gallery)
        oracles.similarities = similarities
        try:
            return scores(x, gallery)
        finally:
            oracles.similarities = replaced

    return replaced


def test_evaluation_by_standard_scores():
    distances = 1 - scores(X, method="as_norm")
    is_upper = np.triu(np.ones_like(distances, bool), 1)
    is_same = Y[:, None] == Y
    negative = np.sort(distances[is_upper & ~is_same])
    result = evaluate(method="as_norm", at_thresholds=(float(negative[40]) + 0.01,))
    assert result.distance == "as_norm"
    np.testing.assert_allclose(
        result.calibration_range, np.quantile(negative, [0.01, 0.1]), atol=2e-3
    )
    point = result.at_thresholds[0]
    assert point.far == pytest.approx((negative <= point.threshold).mean(), abs=2e-3)
    positive = distances[is_upper & is_same]
    assert point.frr == pytest.approx((positive > point.threshold).mean(), abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_parts_and_files(method, tmp_path):
    """The same from tiles, in parts that travel, and from files."""
    x, y = clusters(30, 9, seed=3)
    alone = evaluate(x, y, method)
    small = evaluate(x, y, method, block_size=128)
    assert small.opis == pytest.approx(alone.opis, rel=1e-6)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    client = PickledParts()
    for source in (x, np.load(tmp_path / "x.npy", mmap_mode="r")):
        parts = evaluate(source, y, method, block_size=128, client=client)
        assert_same(parts, small)
    files = [os.fspath(tmp_path / "x.npy")]
    assert_same(evaluate(files, y, method, block_size=128), small)


@pytest.mark.parametrize("known", [None, normalization()], ids=["cosine", "shift"])
def test_vectors_go_with_their_evaluation(known, monkeypatch):
    made = []
    init = samples.UnitVectors.__init__

    def remembered(self, *args, **options):
        init(self, *args, **options)
        made.append(weakref.ref(self))

    monkeypatch.setattr(samples.UnitVectors, "__init__", remembered)
    gc.disable()
    try:
        evaluate_embeddings(X, Y, score_normalization=known, verbose=False)
        assert made
        assert [one() for one in made if one() is not None] == []
    finally:
        gc.enable()


def test_embeddings_of_scored_rows(tmp_path):
    np.save(tmp_path / "x.npy", X)
    files = samples.open_shards("x", [os.fspath(tmp_path / "x.npy")])
    for source in (X, files):
        vectors = samples.unsorted_samples(normalization().rows(source)).vectors
        unit = samples.normalize(X)
        np.testing.assert_array_equal(vectors.embeddings[:], unit)
        part = vectors.at(slice(10, 20))
        np.testing.assert_array_equal(part.embeddings[:], unit[10:20])
        np.testing.assert_array_equal(part.flipped[:], vectors.flipped[10:20])


def test_one_query_is_as_in_a_batch():
    known = normalization()
    whole = known.transform_queries(X)
    for place in (0, 3, 50):
        one = known.transform_queries(X[place : place + 1])
        np.testing.assert_array_equal(one[0], whole[place])


@pytest.mark.parametrize(("method", "margin"), [("shift", 3e-6), ("as_norm", 1e-3)])
def test_other_engines_find_what_a_matcher_finds(method, margin):
    """With the margins of docs/vector_databases.md."""
    x, y = clusters(60, 8, seed=5)
    known = normalization(method)
    threshold = choose_threshold(x, y, far=0.05, score_normalization=known)
    matcher = Matcher(threshold, score_normalization=known)
    matcher.add(range(len(x)), x)
    products = known.transform_queries(x) @ known.transform_gallery(x).T
    for row, found in zip(products, matcher.match(x), strict=True):
        ids, beyond = set(found.ids), row - threshold.similarity
        assert ids <= set(np.flatnonzero(beyond >= -margin))
        assert ids >= set(np.flatnonzero(beyond >= margin))


def test_parts_hold_no_more_than_they_compare():
    x, _ = clusters(30, 9, seed=3)
    rows = normalization().rows(x)
    some = rows.some(np.arange(20, 30))
    assert len(some) == len(some.embeddings) == len(some.offset) == 10
    np.testing.assert_array_equal(some[:], rows[20:30])


@pytest.mark.parametrize(
    "options",
    [
        {"max_pairs": 10_000},
        {"groups": np.arange(270) // 45},
        {"groups": np.arange(270) // 45, "group_pairs": "one_end"},
        {"relevance": HierarchyLevel(0)},
        {"relevance": ClassRelevance(np.eye(30))},
    ],
    ids=["sampled", "groups", "one-end", "hierarchy", "matrix"],
)
def test_other_roads(options):
    """Whatever counts the pairs, it counts the scores that are asked for."""
    x, y = clusters(30, 9, seed=3)
    if isinstance(options.get("relevance"), HierarchyLevel):
        y = np.stack([y, np.arange(len(y))], axis=1)
    known = normalization()
    result = evaluate(x, y, **options)
    plain = evaluate_embeddings(x, y, verbose=False, **options)
    assert result.opis != pytest.approx(plain.opis, rel=1e-3)
    distances = 1 - known.transform_queries(x) @ known.transform_gallery(x).T
    labels = y if y.ndim == 1 else y[:, 0]
    is_same = labels[:, None] == labels
    is_other = ~np.eye(len(labels), dtype=bool)
    point = result.operating_points[-1]
    found = (distances[is_same & is_other] > point.threshold).mean()
    assert point.frr == pytest.approx(found, abs=2e-3)
    for group in result.groups:
        inside = options["groups"] == group.label
        # Of pairs with one end, each is counted from its end in the group.
        others = inside if result.group_pairs == "both_ends" else slice(None)
        there = (distances[inside][:, others], is_same[inside][:, others])
        expected = (there[0][~there[1]] <= point.threshold).mean()
        assert group.operating_points[-1].far == pytest.approx(expected, abs=2e-3)
    far = (distances[~is_same] <= point.threshold).mean()
    assert point.far == pytest.approx(far, abs=0.02 if "max_pairs" in options else 2e-3)


def test_long_classes_are_counted_in_strips(monkeypatch):
    monkeypatch.setattr(label_pairs, "_TILE_ROWS", 16)
    x, y = clusters(4, 60, seed=4)
    known = normalization()
    distances = 1 - known.transform_queries(x) @ known.transform_gallery(x).T
    result = evaluate(x, y, calibration_range=(0.7, 1.2))
    place = np.argmin(np.abs(result.thresholds - 1.0))
    same = (y[:, None] == y) & ~np.eye(len(y), dtype=bool)
    point = evaluate(x, y, at_thresholds=(result.thresholds[place],)).at_thresholds[0]
    found = (distances[same] > point.threshold).mean()
    assert point.frr == pytest.approx(found, abs=1e-4)


def test_tensors():
    """Embeddings and cohorts of the backend."""
    known = ScoreNormalization(keras.ops.convert_to_tensor(COHORT), TOP)
    found = known.transform_queries(keras.ops.convert_to_tensor(X))
    np.testing.assert_array_equal(found, normalization().transform_queries(X))


@pytest.mark.backend_free
def test_large_cohorts_are_compared_in_parts(monkeypatch):
    from keras_tcm.evaluation import score_normalization

    whole = normalization().transform_queries(X)
    monkeypatch.setattr(score_normalization, "_COHORT_ROWS", 16)
    monkeypatch.setattr(score_normalization, "_ROWS", 8)
    np.testing.assert_allclose(normalization().transform_queries(X), whole, atol=1e-6)


@pytest.mark.backend_free
@pytest.mark.parametrize("method", METHODS)
def test_save_and_load(method, tmp_path):
    known = normalization(method)
    known.save(tmp_path / "cohort.npz")
    again = ScoreNormalization.load(tmp_path / "cohort.npz")
    assert again.digest == known.digest
    np.testing.assert_array_equal(
        again.transform_queries(X), known.transform_queries(X)
    )
    assert known.digest != normalization(method, top=TOP + 1).digest
    assert known.digest != normalization(method, cohort=COHORT[1:]).digest
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.npz"]


@pytest.mark.backend_free
def test_the_digest_is_of_the_vectors():
    known = normalization()
    for cohort in (COHORT.astype("float64"), known.cohort, known.cohort.tolist()):
        assert normalization(cohort=cohort).digest == known.digest
    with pytest.raises(AttributeError):
        known.top = 5
    with pytest.raises(ValueError, match="read-only"):
        known.cohort[0] = 0.0


@pytest.mark.backend_free
def test_files_of_other_kinds(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.npz.*cohort\.json"):
        normalization().save(tmp_path / "cohort.json")
    np.savez(tmp_path / "other.npz", x=X)
    (tmp_path / "text.npz").write_text("no archive")
    objects = np.array([None])
    np.savez(tmp_path / "objects.npz", cohort=objects, top=objects, method=objects)
    with zipfile.ZipFile(tmp_path / "words.npz", "w") as archive:
        for name in ("cohort", "top", "method"):
            archive.writestr(name, "words")
    for name in ("other", "text", "objects", "words"):
        with pytest.raises(ValueError, match=r"`ScoreNormalization.save` wrote"):
            ScoreNormalization.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        ScoreNormalization.load(tmp_path / "none.npz")


@pytest.mark.backend_free
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "z_norm"}, ValueError, "`method`.*z_norm"),
        ({"top": 0}, ValueError, "`top`.*top=0"),
        ({"top": 2.5}, TypeError, "`top`.*2.5"),
        ({"top": 1, "method": "as_norm"}, ValueError, "`top`.*top=1"),
        ({"top": 121}, ValueError, "size of the cohort, 120.*top=121"),
        ({"cohort": COHORT[0]}, ValueError, "`cohort`"),
        ({"cohort": COHORT * np.nan}, ValueError, "`cohort` must be finite"),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        normalization(**options)


@pytest.mark.backend_free
def test_wrong_use():
    with pytest.raises(ValueError, match=r"`distance`.*euclidean"):
        evaluate(distance="euclidean")
    with pytest.raises(ValueError, match=r"`distance`.*shift"):
        evaluate_embeddings(X, Y, distance="shift")
    with pytest.raises(ValueError, match=r"`distance`.*shift"):
        compare_embeddings(X, X, Y, distance="shift")
    with pytest.raises(ValueError, match=r"`distance`.*as_norm"):
        OPIS(distance="as_norm")
    with pytest.raises(ValueError, match=r"`score_normalization`.*still trained"):
        callbacks.RetrievalEvaluation(X, Y, score_normalization=normalization())
    with pytest.raises(TypeError, match=r"`score_normalization`.*'shift'"):
        evaluate_embeddings(X, Y, score_normalization="shift")
    with pytest.raises(ValueError, match=r"dimension of the cohort, 6.*5"):
        evaluate(X[:, :5])
    with pytest.raises(ValueError, match=r"dimension of the cohort, 6.*5"):
        normalization().transform_gallery(X[:, :5])
    with pytest.raises(ValueError, match=r"`at_thresholds`.*\[-1.25, 3.25\].*4.0"):
        evaluate(at_thresholds=(4.0,))


def test_threshold():
    x, y = clusters(60, 8, seed=5)
    known = normalization()
    threshold = choose_threshold(x, y, far=0.05, score_normalization=known)
    again = type(threshold).from_dict(threshold.to_dict())
    assert again.distance == "shift"
    assert again.normalization_digest == known.digest
    assert threshold.dimension == x.shape[1]
    expected = 1 - np.diag(scores(x[:20], x[20:40]))
    found = again.distances(x[:20], x[20:40], score_normalization=known)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(
        again.accepts(x[:20], x[20:40], score_normalization=known),
        expected <= threshold.value,
    )
    one = again.distances(x[0], x[20], score_normalization=known)
    assert one == pytest.approx(expected[0], abs=2e-6)
    # For other engines.
    products = known.transform_queries(x[:20]) @ known.transform_gallery(x[20:40]).T
    np.testing.assert_array_equal(
        np.diag(products) >= threshold.similarity, expected <= threshold.value
    )
    check = again.check(x, y, score_normalization=known, verbose=False)
    assert (check.far, check.frr) == pytest.approx((threshold.far, threshold.frr))
    assert again.check_unlabelled(x, known).verdict == "no change seen"
    opposite = np.concatenate([x, -x])
    assert again.check_unlabelled(opposite, known).verdict == "moved"
    again.check_canaries(x[again.canaries.rows])
    assert "shift distance; accept scores from" in again.summary()
    assert again.probability(threshold.value - 0.3) > again.probability(1.5)
    with pytest.raises(ValueError, match=r"`distance` must be in \[-1.25, 3.25\]"):
        again.probability(4.0)


def test_threshold_refuses_other_normalizations():
    x, y = clusters(60, 8, seed=5)
    known = normalization()
    threshold = choose_threshold(x, y, far=0.05, score_normalization=known)
    plain = choose_threshold(x, y, far=0.05)
    for use in (
        lambda one, other: one.accepts(x[0], x[1], other),
        lambda one, other: one.distances(x[0], x[1], other),
        lambda one, other: one.check(x, y, score_normalization=other),
        lambda one, other: one.check_unlabelled(x, other),
    ):
        with pytest.raises(ValueError, match=r"`score_normalization` must be given"):
            use(threshold, None)
        with pytest.raises(ValueError, match="what the threshold was chosen with"):
            use(threshold, normalization(top=3))
        with pytest.raises(ValueError, match="chosen with, none"):
            use(plain, known)
    with pytest.raises(TypeError, match=r"`score_normalization`"):
        threshold.accepts(x[0], x[1], "shift")
    values = threshold.to_dict()
    with pytest.raises(ValueError, match=r"`distance`"):
        type(threshold).from_dict({**values, "distance": "cosine"})


def test_threads_share_a_normalization():
    known = normalization()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(known.transform_queries, [X] * 8))
    for one in found:
        np.testing.assert_array_equal(one, found[0])
