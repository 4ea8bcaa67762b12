"""OPIS as a Keras metric agrees with the exact evaluator and with the definition."""

import json

import keras
import numpy as np
import oracles
import pytest

from keras_tcm import OPIS, TCM, evaluate_embeddings
from keras_tcm.metrics import RecallAtK

BACKEND = keras.backend.backend()
# JAX without compilation dispatches one operation at a time.
JIT = [
    pytest.param(False, marks=[pytest.mark.slow] if BACKEND == "jax" else []),
    *([] if BACKEND == "torch" else [True]),
]
OPTIONS = {
    "plain": {},
    "worst_tenth": {"epsilon": 0.1},
    "euclidean": {"distance": "euclidean"},
    "beta_2": {"beta": 2.0},
    "given_range": {"calibration_range": (0.3, 0.9)},
}


def samples(num_classes=20, per_class=10, dimension=16, noise=0.8, seed=0):
    """Classes of different spread, in random order."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    centres = rng.normal(size=(num_classes, dimension))
    spread = noise * rng.uniform(0.5, 1.5, size=(num_classes, 1))
    x = centres[y] + spread[y] * rng.normal(size=(len(y), dimension))
    return x.astype("float32"), y


def exact(x, y, epsilon=None, **options):
    result = evaluate_embeddings(x, y, epsilon=epsilon or 0.1, verbose=False, **options)
    return result.opis if epsilon is None else result.epsilon_opis


def by_definition(x, y, epsilon=None, **options):
    result = oracles.evaluate(x, y, epsilon=epsilon or 0.1, **options)
    return result.opis if epsilon is None else result.epsilon_opis


def measure(metric, x, y, batch_size=None):
    for start in range(0, len(x), batch_size or len(x)):
        stop = start + (batch_size or len(x))
        metric.update_state(y[start:stop], x[start:stop])
    return float(metric.result())


def linear_model(seed=0, dtype=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((16,)), keras.layers.Dense(8, dtype=dtype)])


# ------------------------------------------------------------------ all pairs, exactly


@pytest.fixture(scope="module")
def compiled():
    """A model with every kind of metric, its data, and what the evaluator finds."""
    model = linear_model()
    metrics = [OPIS(name=name, **options) for name, options in OPTIONS.items()]
    model.compile(loss=TCM(), metrics=[*metrics, RecallAtK(1), RecallAtK(4)])
    x, y = samples(23, 10)
    embeddings = model.predict(x, verbose=0)
    recall = evaluate_embeddings(embeddings, y, recall_at=(1, 4)).recall
    return model, x, y, embeddings, recall


@pytest.mark.parametrize("batch_size", [13, 1000])
def test_evaluate_is_exact_whatever_the_batches(compiled, batch_size):
    model, x, y, embeddings, recall = compiled
    assert len(x) % batch_size, "the last batch must be a partial one"
    logs = model.evaluate(x, y, batch_size=batch_size, return_dict=True, verbose=0)
    for name, options in OPTIONS.items():
        assert logs[name] == pytest.approx(exact(embeddings, y, **options), rel=1e-4)
    assert logs["recall_at_1"] == pytest.approx(recall[1], abs=1e-6)
    assert logs["recall_at_4"] == pytest.approx(recall[4], abs=1e-6)
    assert 0 < recall[1] < recall[4] <= 1


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("batch_size", [7, 150])
def test_direct_updates_follow_the_definition(options, batch_size):
    x, y = samples(15, 10, seed=1)
    expected = by_definition(x, y, **options)
    assert expected > 0
    value = measure(OPIS(**options), x, y, batch_size)
    assert value == pytest.approx(expected, rel=1e-4)


def test_combined_options_follow_the_definition():
    options = {
        "far_range": (0.02, 0.3),
        "distance": "euclidean",
        "beta": 0.5,
        "epsilon": 0.25,
    }
    x, y = samples(15, 10, seed=2)
    expected = by_definition(x, y, **options)
    assert measure(OPIS(**options), x, y, 40) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    ("num_classes", "per_class", "seed"), [(3, 6, 0), (4, 8, 2), (4, 8, 1), (5, 12, 0)]
)
def test_few_samples_are_exact_too(num_classes, per_class, seed, options):
    x, y = samples(num_classes, per_class, dimension=32, seed=seed)
    expected = exact(x, y, **options)
    assert measure(OPIS(**options), x, y) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_rare_classes_are_exact_too(options):
    """Steps of the curves of classes with one positive pair are not smeared."""
    x, y = samples(60, 2, dimension=32, noise=0.5, seed=3)
    expected = exact(x, y, **options)
    assert measure(OPIS(**options), x, y) == pytest.approx(expected, rel=1e-4)


def test_well_separated_classes_are_exact_too():
    """Where OPIS is small, single pairs decide."""
    options = {"beta": 2.0}
    for seed in range(8):
        x, y = samples(100, 4, dimension=32, noise=0.5, seed=seed)
        expected = exact(x, y, **options)
        assert measure(OPIS(**options), x, y) == pytest.approx(expected, rel=1e-4)


def test_classes_without_a_positive_pair_are_negatives_only():
    x, y = samples(12, 10, seed=4)
    y[:20] = 100 + np.arange(20)
    expected = by_definition(x, y)
    assert expected != pytest.approx(by_definition(x[20:], y[20:]), rel=1e-4)
    assert measure(OPIS(), x, y, 50) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearly_collapsed_embeddings_are_nearly_exact(distance):
    """At distances of some 1e-4, the rounding of the unit vectors shows."""
    x, y = samples(20, 10, seed=5)
    common = np.zeros(16, "float32")
    common[0] = 1
    x = common + 0.003 * x
    distances = 1 - oracles.similarities(x)
    assert distances.max() < 1e-3
    options = {"distance": distance}
    expected = exact(x, y, **options)
    assert expected == pytest.approx(by_definition(x, y, **options), rel=0.1)
    assert measure(OPIS(**options), x, y, 64) == pytest.approx(expected, rel=1e-3)
    options = {"calibration_range": (1e-4, 3e-4)}
    expected = exact(x, y, **options)
    assert measure(OPIS(**options), x, y, 64) == pytest.approx(expected, rel=1e-3)


def test_calibration_range_may_span_all_distances():
    x, y = samples(10, 10)
    for distance in "cosine", "euclidean":
        options = {"calibration_range": (0, 2), "distance": distance}
        expected = exact(x, y, **options)
        assert measure(OPIS(**options), x, y) == pytest.approx(expected, rel=1e-4)


def test_value_depends_on_neither_norms_order_nor_names_of_classes():
    x, y = samples()
    expected = measure(OPIS(), x, y)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    scaled = x * 10.0 ** rng.integers(-12, 12, size=(len(x), 1))
    renamed = rng.permutation(20)[y] * 7 - 50
    value = measure(OPIS(), scaled[order].astype("float32"), renamed[order])
    assert value == pytest.approx(expected, rel=1e-3)


# ------------------------------------------------------------------------- in training


@pytest.mark.parametrize("jit_compile", JIT)
def test_history_without_learning_equals_the_evaluator(jit_compile):
    model = linear_model()
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=TCM(),
        metrics=[OPIS(), RecallAtK(1)],
        jit_compile=jit_compile,
    )
    x, y = samples(seed=0)
    x_val, y_val = samples(15, 8, seed=1)
    history = model.fit(
        x, y, batch_size=100, epochs=2, validation_data=(x_val, y_val), verbose=0
    ).history
    for prefix, inputs, labels in ("", x, y), ("val_", x_val, y_val):
        expected = evaluate_embeddings(model.predict(inputs, verbose=0), labels)
        assert history[prefix + "opis"] == pytest.approx([expected.opis] * 2, rel=1e-4)
        assert history[prefix + "recall_at_1"] == pytest.approx(
            [expected.recall[1]] * 2, abs=1e-6
        )


def check_training(jit_compile):
    """One batch an epoch: the metric sees the embeddings before each step."""
    model = linear_model()
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=TCM(),
        metrics=[OPIS()],
        jit_compile=jit_compile,
    )
    x, y = samples()
    x_val, y_val = samples(15, 8, seed=1)
    before = exact(model.predict(x, verbose=0), y)
    history = model.fit(
        x, y, batch_size=len(x), epochs=3, validation_data=(x_val, y_val), verbose=0
    ).history
    assert np.isfinite(history["opis"] + history["val_opis"]).all()
    assert history["opis"][0] == pytest.approx(before, rel=1e-4)
    assert history["opis"][2] != pytest.approx(before, rel=0.001)
    after = exact(model.predict(x_val, verbose=0), y_val)
    assert history["val_opis"][-1] == pytest.approx(after, rel=1e-4)


def test_history_while_learning_equals_a_recomputation():
    # In the way that is fast: the test without learning has both.
    check_training(jit_compile=BACKEND == "jax")


@pytest.mark.slow
@pytest.mark.usefixtures("torch_compiler")
def test_torch_compile():
    check_training(True)


def test_metric_of_one_output_of_several():
    inputs = keras.Input((16,))
    outputs = {
        "embedding": keras.layers.Dense(8, name="embedding")(inputs),
        "other": keras.layers.Dense(1, name="other")(inputs),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        loss={"embedding": TCM(), "other": "mse"}, metrics={"embedding": [OPIS()]}
    )
    x, y = samples()
    logs = model.evaluate(
        x, {"embedding": y, "other": y[:, None] / 20.0}, return_dict=True, verbose=0
    )
    expected = exact(model.predict(x, verbose=0)["embedding"], y)
    assert logs["embedding_opis"] == pytest.approx(expected, rel=1e-4)


# ------------------------------------------------------------------- labels and dtypes


@pytest.fixture(scope="module")
def ten_classes():
    x, y = samples(10, 10)
    return x, y, by_definition(x, y)


@pytest.mark.parametrize(
    "relabel",
    [
        lambda y: y + 2**24,
        lambda y: y - 2**30,
        lambda y: -1 - y,
        lambda y: y.astype("float32")[:, None],
        lambda y: y[:, None],
        lambda y: y.astype("int32"),
        lambda y: y.astype("uint8"),
        lambda y: y.astype("int16"),
        lambda y: y.tolist(),
    ],
    ids=[
        "past float32",
        "large negative",
        "negative",
        "float column",
        "column",
        "int32",
        "uint8",
        "int16",
        "list",
    ],
)
def test_labels_of_any_integer_kind_are_kept_apart(relabel, ten_classes):
    x, y, expected = ten_classes
    value = measure(OPIS(), x, relabel(y), 30)
    assert value == pytest.approx(expected, rel=1e-4)


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has int32 labels unless x64 is on")
def test_labels_past_int32_are_kept_apart(ten_classes):
    x, y, expected = ten_classes
    assert measure(OPIS(), x, y * 2**32, 30) == pytest.approx(expected, rel=1e-4)


def test_labels_of_a_wider_type_than_the_first_are_kept_apart():
    x, y = samples(10, 10)
    metric = OPIS()
    metric.update_state(y[:50].astype("uint8"), x[:50])
    # 256 would become 0 among 8-bit labels.
    metric.update_state(y[50:] + 256, x[50:])
    y[50:] += 256
    expected = by_definition(x, y)
    assert float(metric.result()) == pytest.approx(expected, rel=1e-4)


def test_large_labels_are_kept_apart_in_evaluate():
    model = linear_model()
    model.compile(loss=TCM(), metrics=[OPIS()])
    x, y = samples()
    logs = model.evaluate(x, y + 2**24, batch_size=64, return_dict=True, verbose=0)
    expected = exact(model.predict(x, verbose=0), y)
    assert logs["opis"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_predictions(dtype):
    x, y = samples(15, 10)
    rounded = keras.ops.cast(x, dtype)
    value = measure(OPIS(), rounded, y, 40)
    x = keras.ops.convert_to_numpy(keras.ops.cast(rounded, "float32"))
    assert value == pytest.approx(by_definition(x, y), rel=1e-4)


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_policy(policy):
    model = linear_model(dtype=policy)
    model.compile(loss=TCM(), metrics=[OPIS()])
    x, y = samples()
    history = model.fit(x, y, batch_size=50, validation_data=(x, y), verbose=0).history
    predictions = keras.ops.convert_to_tensor(
        model.predict(x, batch_size=50, verbose=0)
    )
    assert keras.ops.dtype(predictions) == policy.removeprefix("mixed_")
    expected = exact(predictions, y)
    # A compiled step may leave out the rounding to half precision.
    assert history["val_opis"][0] == pytest.approx(expected, rel=0.03)
    assert np.isfinite(history["opis"][0])


def test_dtype_of_the_metric_is_that_of_the_result():
    x, y = samples()
    metric = OPIS(dtype="float64" if BACKEND != "jax" else "float32")
    metric.update_state(y, x)
    assert keras.ops.dtype(metric.result()) == metric.dtype
    half = OPIS(dtype="float16")
    assert measure(half, x, y) == pytest.approx(by_definition(x, y), rel=1e-3)


# --------------------------------------------------------------- undefined is not zero


def test_nan_before_the_first_update_and_after_a_reset():
    metric = OPIS()
    assert np.isnan(float(metric.result()))
    x, y = samples()
    assert np.isfinite(measure(metric, x, y))
    metric.reset_state()
    assert np.isnan(float(metric.result()))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "relabel",
    [
        lambda y: np.zeros_like(y),
        lambda y: np.arange(len(y)),
        lambda y: np.where(y == 0, 0, np.arange(len(y)) + 10),
    ],
    ids=["one class", "no positive pair", "one class with a positive pair"],
)
def test_nan_with_fewer_than_two_classes_to_compare(relabel, options):
    x, y = samples()
    assert np.isnan(measure(OPIS(**options), x, relabel(y)))


def test_nan_until_the_negatives_resolve_the_far_range():
    x, _ = samples(2, 7)
    # 7 x 7 = 49 negative pairs resolve a FAR of 1/49, not one of 1%.
    y = np.arange(14) % 2
    assert np.isnan(measure(OPIS(), x, y))
    assert np.isfinite(measure(OPIS(far_range=(0.05, 0.5)), x, y))
    x, _ = samples(2, 11)
    # 11 x 11 = 121 do.
    assert np.isfinite(measure(OPIS(), x, np.arange(22) % 2))


@pytest.mark.parametrize("vector", [np.ones(16), np.zeros(16), np.eye(16)[0]])
def test_nan_for_collapsed_embeddings(vector):
    _, y = samples()
    x = np.tile(vector, (len(y), 1)).astype("float32")
    assert np.isnan(measure(OPIS(), x, y, 64))
    assert np.isnan(measure(OPIS(epsilon=0.1, distance="euclidean"), x, y))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_for_embeddings_that_are_not_finite(bad):
    x, y = samples()
    poisoned = x.copy()
    poisoned[17, 3] = bad
    metric = OPIS(memory_size=len(x))
    assert np.isnan(measure(metric, poisoned, y, 50))
    # Once the bad sample has left the memory, there is a value again.
    metric.update_state(y[:50], x[:50])
    with pytest.warns(UserWarning, match="memory_size"):
        metric.result()
    assert float(metric.result()) == pytest.approx(by_definition(x, y), rel=1e-4)


def test_nan_reaches_the_history_and_training_goes_on():
    model = linear_model()
    model.compile(loss=TCM(), metrics=[OPIS()])
    x, y = samples()
    history = model.fit(
        x,
        np.zeros_like(y),
        batch_size=50,
        validation_data=(x, y),
        epochs=2,
        verbose=0,
    ).history
    assert np.isnan(history["opis"]).all()
    assert np.isfinite(history["val_opis"]).all()


# ---------------------------------------------------------------- config and callbacks


def test_config_through_json():
    options = {
        "far_range": (0.02, 0.2),
        "calibration_range": (0.1, 0.7),
        "beta": 2.0,
        "epsilon": 0.3,
        "distance": "euclidean",
        "memory_size": 77,
        "name": "mine",
        "dtype": "float16",
    }
    metric = OPIS(**options)
    config = json.loads(json.dumps(metric.get_config()))
    assert set(options) <= set(config)
    again = OPIS.from_config(config)
    assert again.get_config() == metric.get_config()
    for name in options:
        assert getattr(again, name) == getattr(metric, name)
    assert again.far_range == (0.02, 0.2)
    assert OPIS.from_config(OPIS().get_config()).calibration_range is None


def test_serialization_by_registered_name():
    metric = OPIS(epsilon=0.2)
    again = keras.metrics.deserialize(
        json.loads(json.dumps(keras.metrics.serialize(metric)))
    )
    assert isinstance(again, OPIS)
    assert again.epsilon == 0.2
    assert keras.saving.get_registered_name(OPIS) == "keras_tcm>OPIS"


def test_saved_model_evaluates_the_same_and_goes_on_training(tmp_path):
    model = linear_model()
    model.compile("adam", loss=TCM(), metrics=[OPIS(epsilon=0.2), RecallAtK(3)])
    x, y = samples()
    options = {"batch_size": 50, "verbose": 0}
    model.fit(x, y, **options)
    before = model.evaluate(x, y, return_dict=True, **options)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    after = loaded.evaluate(x, y, return_dict=True, **options)
    assert set(after) == {"loss", "opis", "recall_at_3"}
    for name, value in before.items():
        assert after[name] == pytest.approx(value, rel=1e-4)
    history = loaded.fit(x, y, **options).history
    assert np.isfinite(history["opis"]).all()
    assert int(loaded.optimizer.iterations) == 2 * 4


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [("val_opis", 0.1, 0.3), ("val_recall_at_1", 0.3, 0.1)],
)
def test_callbacks_find_the_direction_by_themselves(tmp_path, name, better, worse):
    model = linear_model()
    model.compile("adam", loss=TCM(), metrics=[OPIS(), RecallAtK(1)])
    x, y = samples()
    model.fit(x, y, batch_size=50, validation_data=(x, y), verbose=0)
    path = tmp_path / "best.weights.h5"
    stopping = keras.callbacks.EarlyStopping(name, patience=1)
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor=name, save_best_only=True, save_weights_only=True
    )
    for callback in stopping, checkpoint:
        callback.set_model(model)
        callback.on_train_begin()
        model.stop_training = False
        callback.on_epoch_end(0, {name: 0.2})
        callback.on_epoch_end(1, {name: better})
        assert callback.best == better
        assert not model.stop_training
        callback.on_epoch_end(2, {name: worse})
        assert callback.best == better
    stopping.on_epoch_end(3, {name: worse})
    assert model.stop_training
    assert path.exists()


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"memory_size": 1}, "memory_size"),
        ({"memory_size": 100.0}, "memory_size"),
        ({"memory_size": True}, "memory_size"),
        ({"far_range": (0.1, 0.01)}, "far_range"),
        ({"far_range": (0.1, 0.1)}, "far_range"),
        ({"far_range": (0.0, 0.1)}, "far_range"),
        ({"far_range": (0.1, 1.5)}, "far_range"),
        ({"far_range": 0.1}, "far_range"),
        ({"calibration_range": (0.5, 0.2)}, "calibration_range"),
        ({"calibration_range": (0.5, 2.2)}, "calibration_range"),
        ({"beta": 0.0}, "beta"),
        ({"beta": "one"}, "beta"),
        ({"epsilon": 1.5}, "epsilon"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 1.0}, "epsilon"),
        ({"distance": "l1"}, "distance"),
        ({"distance": None}, "distance"),
    ],
)
def test_bad_arguments(options, argument):
    with pytest.raises((ValueError, TypeError), match=rf"`{argument}`.*Received: "):
        OPIS(**options)
