"""What the metrics show while Keras goes through the steps of an epoch."""

import contextlib

import keras
import numpy as np
import pytest

from keras_tcm import OPIS, TCM, evaluate_embeddings, losses
from keras_tcm.metrics import RecallAtK
from keras_tcm.relevance import ClassRelevance, HierarchyLevel, SharedLabel

BACKEND = keras.backend.backend()
EAGER = [
    False,
    # JAX without compilation dispatches one operation at a time.
    pytest.param(True, marks=[pytest.mark.slow] if BACKEND == "jax" else []),
]
RING = np.eye(12) + np.roll(np.eye(12), 1, axis=1) + np.roll(np.eye(12), -1, axis=1)


def samples(num_classes=12, per_class=8, dimension=16, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    spread = rng.uniform(0.5, 1.5, size=(num_classes, 1))
    x = rng.normal(size=(num_classes, dimension))[y]
    x += spread[y] * rng.normal(size=(len(y), dimension))
    return x.astype("float32"), y


def linear_model(metrics, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8)])
    # Nothing is learnt, so that what the steps see can be computed afterwards.
    model.compile(keras.optimizers.SGD(0.0), loss=TCM(), metrics=metrics, **options)
    return model


class Steps(keras.callbacks.Callback):
    """The logs of every training step."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))


class Counting(OPIS):
    calls = 0

    def compute(self, embeddings, labels):
        self.calls += 1
        return super().compute(embeddings, labels)


# ------------------------------------------------------------------- one batch, exactly


OPIS_OPTIONS = {
    "plain": {},
    "worst_tenth": {"epsilon": 0.1},
    "worst_half": {"epsilon": 0.5},
    "euclidean": {"distance": "euclidean"},
    "beta_2": {"beta": 2.0},
    "given_range": {"calibration_range": (0.3, 0.9)},
    "far_range": {"far_range": (0.02, 0.3)},
}
LABELS = {
    "labels": (lambda y: y, None),
    "multi-hot": (
        lambda y: (np.eye(12) + np.roll(np.eye(12), 1, axis=1))[y] * (y < 11)[:, None],
        SharedLabel(),
    ),
    "level": (lambda y: np.stack([y % 3, y // 3], axis=1), HierarchyLevel(0)),
    "matrix": (lambda y: y, ClassRelevance(RING)),
}


def in_step(metric, labels, x):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    labels = keras.ops.convert_to_tensor(np.asarray(labels))
    return float(metric.compute_in_step(keras.ops.convert_to_tensor(unit), labels))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", OPIS_OPTIONS.values(), ids=OPIS_OPTIONS)
def test_opis_of_a_batch_is_that_of_the_evaluator(options, seed):
    x, y = samples(3 + 5 * seed, 9 - seed, seed=seed)
    # A class of one sample is in the negatives only.
    y[0] = 77
    metric = OPIS(**options)
    epsilon = options.get("epsilon")
    result = evaluate_embeddings(x, y, **{**options, "epsilon": epsilon or 0.1})
    expected = result.opis if epsilon is None else result.epsilon_opis
    assert in_step(metric, y, x) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("name", LABELS)
def test_any_relevance_of_a_batch(name):
    relabel, relevance = LABELS[name]
    x, y = samples(seed=3)
    labels = relabel(y)
    result = evaluate_embeddings(x, labels, relevance=relevance, recall_at=(1, 3))
    value = in_step(OPIS(relevance=relevance), labels, x)
    assert value == pytest.approx(result.opis, rel=2e-3)
    for k in 1, 3:
        value = in_step(RecallAtK(k, relevance=relevance), labels, x)
        assert value == pytest.approx(result.recall[k], abs=1e-6)


def test_ties_count_against_the_query():
    # Two equal neighbours of the first sample, a positive and a negative.
    x = np.array([[1, 0], [1, 1], [1, 1], [-1, 0.1]], "float32")
    # Only 1 asks as well: its nearest is 2.
    assert in_step(RecallAtK(1), [0, 0, 1, 2], x) == 0.0
    assert in_step(RecallAtK(2), [0, 0, 1, 2], x) == 1.0


@pytest.mark.parametrize("run_eagerly", EAGER)
def test_train_and_test_on_batch_give_the_metric_of_the_batch(run_eagerly):
    model = linear_model([OPIS(), RecallAtK(2)], run_eagerly=run_eagerly)
    for seed in 0, 1:
        x, y = samples(seed=seed)
        expected = evaluate_embeddings(model.predict(x, verbose=0), y, recall_at=(2,))
        for step in model.train_on_batch, model.test_on_batch:
            # As later versions of Keras do it themselves.
            model.reset_metrics()
            logs = step(x, y, return_dict=True)
            assert logs["opis"] == pytest.approx(expected.opis, rel=2e-3)
            assert logs["recall_at_2"] == pytest.approx(expected.recall[2], abs=1e-6)
        exact = model.get_metrics_result()
        assert float(exact["opis"]) == pytest.approx(expected.opis, rel=1e-4)


# ------------------------------------------------------------------------ a whole epoch


def test_steps_show_the_first_batch_and_then_the_epoch_before():
    model = linear_model([OPIS()])
    x, y = samples()
    steps = Steps()
    history = model.fit(
        x, y, batch_size=48, epochs=3, shuffle=False, verbose=0, callbacks=[steps]
    ).history["opis"]
    embeddings = model.predict(x, verbose=0)
    first = evaluate_embeddings(embeddings[:48], y[:48]).opis
    shown = [logs["opis"] for logs in steps.logs]
    expected = [first, first, first, history[0], first, history[1]]
    assert shown == pytest.approx(expected, rel=2e-3)
    # Nothing but the steps' logs is the batch's.
    exact = evaluate_embeddings(embeddings, y).opis
    assert history == pytest.approx([exact] * 3, rel=1e-4)
    assert abs(first / exact - 1) > 0.05


def _wrapped(model):
    """As what trains in several processes may do."""
    results = model.get_metrics_result
    model.get_metrics_result = lambda: results()


@pytest.mark.parametrize("change", [None, _wrapped], ids=["plain", "wrapped"])
@pytest.mark.parametrize("run_eagerly", EAGER)
def test_an_epoch_looks_at_all_pairs_once(change, run_eagerly):
    if run_eagerly and BACKEND != "torch":
        pytest.skip("there it looks at every step, as the description says")
    metric = Counting()
    model = linear_model([metric], run_eagerly=run_eagerly)
    if change:
        change(model)
    x, y = samples()
    model.fit(x, y, batch_size=24, epochs=2, validation_data=(x, y), verbose=0)
    assert metric.calls == 4
    model.evaluate(x, y, batch_size=24, verbose=0)
    assert metric.calls == 5


def test_after_training_the_metric_can_be_used_by_hand():
    metric = OPIS()
    model = linear_model([metric])
    x, y = samples()
    model.fit(x, y, epochs=1, verbose=0)
    x = model.predict(x, verbose=0)
    metric.reset_state()
    # PyTorch cannot tell tensors from those of a step.
    give = np.asarray if BACKEND == "torch" else keras.ops.convert_to_tensor
    metric.update_state(y[:50], give(x[:50]))
    metric.update_state(y[50:], give(x[50:]))
    expected = evaluate_embeddings(x, y).opis
    assert float(metric.result()) == pytest.approx(expected, rel=1e-4)


# ------------------------------------------------------------- undefined, but not a NaN


@pytest.mark.parametrize("spoil", ["one class", "no positive", "collapsed", "nan"])
def test_what_is_undefined_is_the_worst_value_in_a_step_and_nan_after_it(spoil):
    x, y = samples()
    if spoil == "collapsed":
        x = np.ones_like(x)
    if spoil == "nan":
        x[5] = np.nan
    labels = {"one class": np.zeros_like(y), "no positive": np.arange(len(y))}
    y = labels.get(spoil, y)
    model = linear_model([OPIS(), OPIS(epsilon=0.2, name="worst"), RecallAtK(1)])
    logs = model.test_on_batch(x, y, return_dict=True)
    exact = model.get_metrics_result()
    assert logs["opis"] == logs["worst"] == 1.0
    assert np.isnan(float(exact["opis"]))
    assert np.isnan(float(exact["worst"]))
    if spoil in ("no positive", "nan"):
        assert logs["recall_at_1"] == 0.0
        assert np.isnan(float(exact["recall_at_1"]))


@contextlib.contextmanager
def looking_for_nans():
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_debug_nans", True)
        try:
            yield
        finally:
            jax.config.update("jax_debug_nans", False)
    else:
        import tensorflow as tf

        tf.debugging.enable_check_numerics()
        try:
            yield
        finally:
            tf.debugging.disable_check_numerics()


@pytest.mark.skipif(BACKEND == "torch", reason="torch looks for NaN in gradients only")
def test_training_goes_on_while_nans_are_looked_for():
    x, y = samples()
    with looking_for_nans():
        model = linear_model([OPIS(), OPIS(epsilon=0.2, name="worst"), RecallAtK(1)])
        # Batches with and without pairs, in epochs with and without a value.
        for labels in y, np.zeros_like(y), np.arange(len(y)), y:
            history = model.fit(x, labels, validation_data=(x, labels), verbose=0)
    assert np.isfinite(history.history["opis"]).all()
    assert np.isfinite(history.history["val_recall_at_1"]).all()


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="torch looks for NaN in gradients only")
@pytest.mark.parametrize(
    "loss",
    [
        losses.TCM(),
        losses.MultiSimilarity(),
        losses.SmoothAP(),
        losses.RecallAtK(),
        losses.SupervisedContrastive(),
        losses.Contrastive(),
        losses.TripletMargin(mining="batch_hard"),
        losses.TripletMargin(mining="semi_hard"),
        losses.TripletMargin(mining="all"),
    ],
    ids=lambda loss: f"{loss.name}-{getattr(loss, 'mining', '')}",
)
def test_losses_work_while_nans_are_looked_for(value_and_grad, loss):
    x, y = samples()
    with looking_for_nans():
        for labels in y, np.arange(len(y)):
            # XLA does not know what TensorFlow adds to the graph.
            value, gradient = value_and_grad(loss, labels, x, jit=BACKEND == "jax")
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()
