"""The memory of the metrics: a sliding window, and figures that follow it."""

import warnings

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tcm import OPIS, TCM, evaluate_embeddings
from keras_tcm.metrics import RecallAtK
from keras_tcm.metrics.nearest_neighbors import NearestNeighbors
from keras_tcm.metrics.pair_histograms import NUM_BINS, PairHistograms


def samples(num_samples=200, num_classes=15, dimension=16, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(num_classes, size=num_samples)
    centres = rng.normal(size=(num_classes, dimension))
    spread = rng.uniform(0.4, 1.2, size=(num_classes, 1))
    x = centres[y] + spread[y] * rng.normal(size=(num_samples, dimension))
    return x.astype("float32"), y


def unit(x):
    return oracles.normalize(x).astype("float32")


def feed(metric, x, y, batch_size):
    for start in range(0, len(x), batch_size):
        metric.update_state(
            y[start : start + batch_size], x[start : start + batch_size]
        )


# ---------------------------------------------------------------------- sliding window


@pytest.mark.filterwarnings("ignore:.*has seen:UserWarning")
@pytest.mark.parametrize(
    ("batch_size", "see_all_steps"),
    [(7, True), (64, False), (90, True), (100, False), (150, True), (400, True)],
)
def test_past_its_size_the_memory_holds_the_most_recent(batch_size, see_all_steps):
    x, y = samples(400)
    metrics = [OPIS(memory_size=100), RecallAtK(2, memory_size=100)]
    for start in range(0, len(x), batch_size):
        stop = start + batch_size
        for metric in metrics:
            metric.update_state(y[start:stop], x[start:stop])
            if see_all_steps:
                metric.result()
    expected = evaluate_embeddings(x[-100:], y[-100:], recall_at=(2,))
    assert float(metrics[0].result()) == pytest.approx(expected.opis, rel=0.01)
    assert float(metrics[1].result()) == pytest.approx(expected.recall[2], abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*has seen:UserWarning")
def test_evaluate_past_the_memory():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    model.compile(loss=TCM(), metrics=[OPIS(memory_size=120)])
    x, y = samples(250)
    logs = model.evaluate(x, y, batch_size=64, return_dict=True, verbose=0)
    expected = evaluate_embeddings(model.predict(x, verbose=0)[-120:], y[-120:])
    assert logs["opis"] == pytest.approx(expected.opis, rel=0.01)


@pytest.mark.parametrize("make", [OPIS, RecallAtK])
def test_leaving_samples_out_is_said_once(make):
    x, y = samples(120)
    metric = make(memory_size=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        metric.update_state(y[:100], x[:100])
        metric.result()
    metric.update_state(y[100:], x[100:])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        metric.result()
        feed(metric, x, y, 60)
        metric.result()
        metric.reset_state()
        feed(metric, x, y, 60)
        metric.result()
    caught = [w for w in caught if "more than memory_size=100" in str(w.message)]
    assert len(caught) == 1
    assert metric.name in str(caught[0].message)


def test_leaving_samples_out_is_said_once_in_fit():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    model.compile(loss=TCM(), metrics=[OPIS(memory_size=100)])
    x, y = samples(150)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0)
    assert sum("memory_size=100" in str(w.message) for w in caught) == 1


# ---------------------------------------------------------------- any order of updates


def test_asking_after_every_batch_changes_nothing():
    x, y = samples()
    for make in OPIS, lambda: OPIS(epsilon=0.2), lambda: RecallAtK(3):
        asked, silent, at_once = make(), make(), make()
        for start in range(0, 200, 20):
            asked.update_state(y[start : start + 20], x[start : start + 20])
            asked.result()
        feed(silent, x, y, 20)
        at_once.update_state(y, x)
        expected = float(at_once.result())
        assert float(asked.result()) == pytest.approx(expected, rel=1e-3)
        assert float(silent.result()) == pytest.approx(expected, rel=1e-3)


MEMORY = 24
CALIBRATION = (0.2, 1.4)
# A few sizes only: JAX compiles for each of them.
actions = st.lists(
    st.one_of(st.just("reset"), st.sampled_from([1, 5, 12, 40])), min_size=1, max_size=7
)


@pytest.mark.filterwarnings("ignore:.*has seen:UserWarning")
@settings(max_examples=12)
@given(actions=actions, seed=st.integers(0, 2**16))
def test_any_sequence_of_updates_and_resets(actions, seed):
    stream = samples(400, num_classes=4, dimension=4, seed=seed)
    opis = OPIS(calibration_range=CALIBRATION, memory_size=MEMORY)
    recall = RecallAtK(2, memory_size=MEMORY)
    first = last = 0
    for action in actions:
        if action == "reset":
            opis.reset_state()
            recall.reset_state()
            first = last
        else:
            batch = slice(last, last + action)
            opis.update_state(stream[1][batch], stream[0][batch])
            recall.update_state(stream[1][batch], stream[0][batch])
            last += action
        kept = slice(max(first, last - MEMORY), last)
        x, y = stream[0][kept], stream[1][kept]
        value = float(opis.result())
        # Another metric, fed at once.
        fresh = OPIS(calibration_range=CALIBRATION).compute(unit(x), y)
        assert value == pytest.approx(fresh, rel=1e-3, nan_ok=True)
        counts = np.bincount(y, minlength=1)
        if len(counts[counts > 0]) > 1 and (counts > 1).sum() > 1:
            expected = oracles.evaluate(
                x, y, calibration_range=CALIBRATION, far_targets=()
            )
            assert value == pytest.approx(expected.opis, rel=0.01, abs=1e-6)
        else:
            assert np.isnan(value)
        if (counts > 1).any():
            hits, _ = oracles.retrieval(x, y, ks=(2,))
            assert float(recall.result()) == pytest.approx(hits[2], abs=1e-6)
        else:
            assert np.isnan(float(recall.result()))


def test_memory_that_was_overwritten_without_a_look():
    """A full turn of the ring between two looks leaves nothing behind."""
    x, y = samples(300)
    metric = OPIS(memory_size=100)
    metric.update_state(y[:100], x[:100])
    metric.result()
    for start in 100, 200:
        metric.update_state(y[start : start + 100], x[start : start + 100])
    with pytest.warns(UserWarning, match="memory_size"):
        value = float(metric.result())
    expected = evaluate_embeddings(x[200:], y[200:]).opis
    assert value == pytest.approx(expected, rel=0.01)


# ----------------------------------------------- followed contents equal a fresh build


# Unit vectors whose products are exact in float32 in any order of summation.
_AXES = np.concatenate([np.eye(4), -np.eye(4)])
_HALVES = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 4), axis=-1).reshape(-1, 4)
EXACT_VECTORS = np.concatenate([_AXES, _HALVES]).astype("float32")

contents = st.lists(
    st.tuples(st.integers(0, len(EXACT_VECTORS) - 1), st.integers(-2, 3)), max_size=14
)


@st.composite
def edited_memories(draw):
    """Contents of a memory as they change: some rows, or all of it."""
    history = [draw(contents)]
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            history.append(draw(contents))
            continue
        rows = list(history[-1])
        edits = st.tuples(st.integers(0, 13), st.integers(0, 23), st.integers(-2, 3))
        for row, vector, label in draw(st.lists(edits, max_size=4)):
            if row < len(rows):
                rows[row] = (vector, label)
        history.append(rows + draw(contents)[:3])
    return [
        (
            EXACT_VECTORS[[vector for vector, _ in rows]].reshape(-1, 4),
            np.array([label for _, label in rows], dtype="int64"),
        )
        for rows in history
    ]


def histograms_by_hand(x, y):
    """Counts of every class: all its pairs, and those inside the class."""
    counts = {}
    for i in range(len(y)):
        for j in range(len(y)):
            if i == j:
                continue
            euclidean = np.sqrt(2.0 - 2.0 * np.dot(x[i], x[j]))
            place = min(int(euclidean / 2 * NUM_BINS), NUM_BINS - 1)
            both, inside = counts.setdefault(y[i].item(), ({}, {}))
            both[place] = both.get(place, 0) + 1
            if y[i] == y[j]:
                inside[place] = inside.get(place, 0) + 1
    return {label: value for label, value in counts.items() if value[0]}


def nonzero_rows(histograms):
    """The same from the two arrays, whatever the order of their rows."""
    rows = []
    for both, inside in zip(histograms.all_pairs, histograms.positive, strict=True):
        if both.any() or inside.any():
            places = np.flatnonzero(both), np.flatnonzero(inside)
            rows.append(
                (
                    dict(
                        zip(places[0].tolist(), both[places[0]].tolist(), strict=True)
                    ),
                    dict(
                        zip(places[1].tolist(), inside[places[1]].tolist(), strict=True)
                    ),
                )
            )
    return sorted(rows, key=repr_of_counts)


def repr_of_counts(row):
    return [sorted(part.items()) for part in row]


@settings(max_examples=60)
@given(memories=edited_memories())
def test_pair_histograms_follow_any_edit(memories):
    histograms = PairHistograms()
    for x, y in memories:
        histograms.follow(x, y)
        expected = sorted(histograms_by_hand(x, y).values(), key=repr_of_counts)
        assert nonzero_rows(histograms) == expected


def test_pair_histograms_of_rounded_products_stay_close():
    """What is taken back was counted in another block, so it may round to the side."""
    rng = np.random.default_rng(0)
    x, y = unit(rng.normal(size=(300, 33))), rng.integers(6, size=300)
    followed = PairHistograms()
    followed.follow(x, y)
    for start in range(0, 3000, 50):
        rows = np.arange(start, start + 50) % 300
        x, y = x.copy(), y.copy()
        x[rows] = unit(rng.normal(size=(50, 33)))
        y[rows] = rng.integers(6, size=50)
        followed.follow(x, y)
    fresh = PairHistograms()
    fresh.follow(x, y)
    assert followed.all_pairs.sum() == fresh.all_pairs.sum() == 300 * 299
    assert followed.positive.sum() == fresh.positive.sum()
    difference = followed.all_pairs.sum(axis=0) - fresh.all_pairs.sum(axis=0)
    assert np.abs(difference).sum() < 0.001 * fresh.all_pairs.sum()
    assert np.abs(np.cumsum(difference)).max() < 0.0005 * fresh.all_pairs.sum()


def nearest_by_hand(x, y, k):
    """Sets of the k nearest; between equals the negative is nearer."""
    s = oracles.similarities(x)
    nearest = []
    for i in range(len(y)):
        others = [j for j in range(len(y)) if j != i]
        others.sort(key=lambda j: (-round(s[i, j], 5), y[i] == y[j]))
        nearest.append(set(others[:k]))
    return nearest


@settings(max_examples=60)
@given(memories=edited_memories(), k=st.integers(1, 6))
def test_nearest_neighbors_follow_any_edit(memories, k):
    """Equal distances leave a choice of neighbours, but not of hits."""
    followed = NearestNeighbors(k)
    for x, y in memories:
        followed.follow(x, y)
        expected = nearest_by_hand(x, y, k)
        assert followed.indices.shape == (len(y), k)
        for i, row in enumerate(followed.indices):
            found = row[row >= 0]
            assert len(set(found.tolist())) == len(found) == len(expected[i])
            assert i not in found
            similarities = np.sort(x[found] @ x[i])
            np.testing.assert_array_equal(
                similarities, np.sort(x[sorted(expected[i])] @ x[i])
            )
            hit = bool(np.any(y[found] == y[i]))
            assert hit == any(y[j] == y[i] for j in expected[i])


def test_pair_histograms_drop_classes_that_have_left():
    """A window that slides over ever new classes keeps counts of a few only."""
    x, _ = samples(400)
    x = unit(x).astype("float32")
    histograms = PairHistograms()
    for end in range(40, 401, 4):
        window = slice(end - 40, end)
        y = np.arange(end - 40, end) // 2
        histograms.follow(x[window], y)
        assert len(histograms.all_pairs) <= 2 * 20 + 2
    assert histograms.all_pairs.sum() == 40 * 39
    assert histograms.positive.sum() == 40


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), k=st.integers(1, 4))
def test_nearest_neighbors_without_ties_follow_any_edit(seed, k):
    rng = np.random.default_rng(seed)
    size = 3
    x, y = unit(rng.normal(size=(30, 5))), rng.integers(4, size=30)
    followed = NearestNeighbors(k)
    for _ in range(6):
        rows = rng.integers(30, size=rng.integers(12))
        x, y = x.copy(), y.copy()
        x[rows] = unit(rng.normal(size=(len(rows), 5)))
        y[rng.integers(30, size=3)] = 9
        size = int(rng.integers(size, 31)) if rng.random() < 0.8 else 3
        followed.follow(x[:size], y[:size])
        fresh = NearestNeighbors(k)
        fresh.follow(x[:size], y[:size])
        np.testing.assert_array_equal(
            np.sort(followed.indices, axis=1), np.sort(fresh.indices, axis=1)
        )


def test_a_changed_label_alone_is_noticed():
    x, y = samples(150)
    x = unit(x)
    metric = OPIS()
    before = metric.compute(x, y)
    changed = y.copy()
    changed[:30] = (changed[:30] + 1) % 15
    expected = evaluate_embeddings(x, changed).opis
    assert metric.compute(x, changed) == pytest.approx(expected, rel=0.01)
    assert expected != pytest.approx(before, rel=0.05)


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("make", [OPIS, RecallAtK])
class TestBadUpdates:
    def test_sample_weight(self, make):
        x, y = samples(20)
        with pytest.raises(ValueError, match=r"`sample_weight` must be None.*Received"):
            make().update_state(y, x, sample_weight=np.ones(20))

    def test_weighted_metrics(self, make):
        model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
        model.compile(loss=TCM(), weighted_metrics=[make()])
        x, y = samples(20)
        with pytest.raises(ValueError, match="`sample_weight` must be None"):
            model.evaluate(x, y, sample_weight=np.ones(20), verbose=0)

    def test_predictions_that_are_no_vectors(self, make):
        x, y = samples(20)
        with pytest.raises(ValueError, match=r"`y_pred`.*Received: y_pred.shape"):
            make().update_state(y, x[:, :, None])

    def test_one_hot_labels(self, make):
        x, y = samples(20)
        with pytest.raises(ValueError, match=r"`y_true`.*Received: y_true.shape"):
            make().update_state(np.eye(15)[y], x)

    def test_another_dimension(self, make):
        x, y = samples(20)
        metric = make()
        metric.update_state(y, x)
        with pytest.raises(ValueError, match=r"`y_pred`.*16.*Received: y_pred.shape"):
            metric.update_state(y, x[:, :8])

    @pytest.mark.parametrize(("labels", "vectors"), [(10, 20), (20, 10), (20, 1)])
    def test_labels_and_predictions_of_different_length(self, make, labels, vectors):
        x, y = samples(20)
        with pytest.raises(ValueError, match=r"`y_(true|pred)`.*Received: "):
            make().update_state(y[:labels], x[:vectors])
