"""The memory of the metrics: a sliding window over any order of updates."""

import warnings

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tcm import OPIS, TCM, evaluate_embeddings
from keras_tcm.metrics import RecallAtK


def samples(num_samples=200, num_classes=15, dimension=16, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(num_classes, size=num_samples)
    centres = rng.normal(size=(num_classes, dimension))
    spread = rng.uniform(0.4, 1.2, size=(num_classes, 1))
    x = centres[y] + spread[y] * rng.normal(size=(num_samples, dimension))
    return x.astype("float32"), y


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
    assert float(metrics[0].result()) == pytest.approx(expected.opis, rel=1e-4)
    assert float(metrics[1].result()) == pytest.approx(expected.recall[2], abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*has seen:UserWarning")
@pytest.mark.parametrize("batch_size", [1, 7, 20, 33])
def test_no_counter_grows_with_the_stream(batch_size):
    """One that does loses its place in the memory after 2^31 samples."""
    x, y = samples(120)
    metric = RecallAtK(memory_size=20)
    for start in range(0, len(x), batch_size):
        stop = min(start + batch_size, len(x))
        metric.update_state(y[start:stop], x[start:stop])
        counters = [
            int(keras.ops.convert_to_numpy(variable))
            for variable in metric.variables
            if variable.shape == () and keras.backend.is_int_dtype(variable.dtype)
        ]
        assert len(counters) == 1
        assert max(counters) <= 2 * 20
        kept = slice(max(stop - 20, 0), stop)
        if len(np.unique(y[kept])) < len(y[kept]):
            expected = oracles.retrieval(x[kept], y[kept], ks=(1,))[0][1]
            assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*has seen:UserWarning")
def test_evaluate_past_the_memory():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    model.compile(loss=TCM(), metrics=[OPIS(memory_size=120)])
    x, y = samples(250)
    logs = model.evaluate(x, y, batch_size=64, return_dict=True, verbose=0)
    expected = evaluate_embeddings(model.predict(x, verbose=0)[-120:], y[-120:])
    assert logs["opis"] == pytest.approx(expected.opis, rel=1e-4)


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
        assert float(asked.result()) == pytest.approx(expected, rel=1e-4)
        assert float(silent.result()) == pytest.approx(expected, rel=1e-4)


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
        counts = np.bincount(y, minlength=1)
        if len(counts[counts > 0]) > 1 and (counts > 1).sum() > 1:
            expected = oracles.evaluate(
                x, y, calibration_range=CALIBRATION, far_targets=()
            )
            assert value == pytest.approx(expected.opis, rel=1e-4, abs=1e-6)
        else:
            assert np.isnan(value)
        if (counts > 1).any():
            hits, _ = oracles.retrieval(x, y, ks=(2,))
            assert float(recall.result()) == pytest.approx(hits[2], abs=1e-6)
        else:
            assert np.isnan(float(recall.result()))


def test_an_epoch_computes_once():
    """Keras asks after every step too: a look at all pairs would be too slow there."""

    class Counting(OPIS):
        calls = 0

        def compute(self, embeddings, labels):
            self.calls += 1
            return super().compute(embeddings, labels)

    metric = Counting()
    model = keras.Sequential([keras.layers.Dense(4)])
    model.compile("sgd", loss=TCM(), metrics=[metric])
    x, y = samples()
    history = model.fit(
        x, y, batch_size=50, epochs=3, validation_data=(x, y), verbose=0
    ).history
    assert np.isfinite(history["opis"] + history["val_opis"]).all()
    assert metric.calls == 6


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
    assert value == pytest.approx(expected, rel=1e-4)


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
