"""The callback logs what the evaluator finds, where the other callbacks see it."""

import sys

import keras
import numpy as np
import pytest

from keras_tcm import TCM, evaluate_embeddings
from keras_tcm.callbacks import RetrievalEvaluation

BACKEND = keras.backend.backend()
NAMES = (
    "opis",
    "epsilon_opis",
    "map_at_r",
    "eer",
    "threshold",
    "frr",
    "recall_at_1",
    "recall_at_2",
    "recall_at_4",
    "recall_at_8",
)


def samples(num_classes=12, per_class=8, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    centres = rng.normal(size=(num_classes, 6))
    x = centres[y] + 0.7 * rng.normal(size=(len(y), 6))
    return x.astype("float32"), y


X, Y = samples()
X_VAL, Y_VAL = samples(seed=1)


def compiled_model(learning_rate=0.01):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(learning_rate), loss=TCM())
    return model


def fit(model, *callbacks, epochs=1, **options):
    options = {"batch_size": 48, "verbose": 0, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=list(callbacks), **options)


def end_epoch(callback):
    """What `fit` does at the end of the first epoch, without the training."""
    callback.set_model(MODEL)
    callback.on_epoch_end(0, {})


def figures(result):
    return {
        "opis": result.opis,
        "epsilon_opis": result.epsilon_opis,
        "map_at_r": result.map_at_r,
        "eer": result.eer,
        "threshold": result.operating_points[1].threshold,
        "frr": result.operating_points[1].frr,
        **{f"recall_at_{k}": value for k, value in result.recall.items()},
    }


MODEL = compiled_model()


class Recorder(keras.callbacks.Callback):
    """Evaluates after every epoch by itself, and keeps the logs it is given."""

    def __init__(self):
        super().__init__()
        self.logs, self.expected = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))
        embeddings = self.model.predict(X_VAL, verbose=0)
        self.expected.append(figures(evaluate_embeddings(embeddings, Y_VAL)))


def test_logs_are_those_of_the_evaluator_at_every_epoch():
    callback, recorder = RetrievalEvaluation(X_VAL, Y_VAL), Recorder()
    history = fit(compiled_model(), callback, recorder, epochs=3).history
    for epoch, expected in enumerate(recorder.expected):
        assert set(expected) == set(NAMES)
        for name, value in expected.items():
            assert history[f"val_{name}"][epoch] == pytest.approx(value, rel=1e-4)
            assert recorder.logs[epoch][f"val_{name}"] == history[f"val_{name}"][epoch]
    assert history["val_opis"][0] != history["val_opis"][2]
    assert callback.evaluation.opis == history["val_opis"][-1]
    assert all(isinstance(history[f"val_{name}"][0], float) for name in NAMES)


def test_prefix():
    callback = RetrievalEvaluation(X_VAL, Y_VAL, prefix="unseen_")
    history = fit(compiled_model(), callback).history
    assert set(history) == {"loss", *(f"unseen_{name}" for name in NAMES)}


def test_beside_validation_data():
    callback = RetrievalEvaluation(X_VAL, Y_VAL)
    history = fit(
        compiled_model(), callback, validation_data=(X_VAL, Y_VAL), epochs=2
    ).history
    assert set(history) == {"loss", "val_loss", *(f"val_{name}" for name in NAMES)}
    assert len(history["val_opis"]) == len(history["val_loss"]) == 2


def test_every_second_epoch():
    recorder = Recorder()
    callback = RetrievalEvaluation(X_VAL, Y_VAL, every=2)
    history = fit(compiled_model(), callback, recorder, epochs=5).history
    found = history["val_opis"]
    assert found == pytest.approx(
        [logs["val_opis"] for logs in recorder.logs], nan_ok=True
    )
    # The first epoch always: the others' callbacks begin there.
    for epoch in (0, 1, 3):
        expected = recorder.expected[epoch]["opis"]
        assert found[epoch] == pytest.approx(expected, rel=1e-4)
    for name in NAMES:
        assert np.isnan(history[f"val_{name}"])[[2, 4]].all()


def test_early_stopping_and_checkpoint_listed_after_it(tmp_path):
    """Without learning nothing improves after the first epoch."""
    path = tmp_path / "best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path,
        monitor="val_opis",
        mode="min",
        save_best_only=True,
        save_weights_only=True,
    )
    stopping = keras.callbacks.EarlyStopping("val_opis", mode="min", patience=2)
    history = fit(
        compiled_model(learning_rate=0.0),
        RetrievalEvaluation(X_VAL, Y_VAL),
        stopping,
        checkpoint,
        epochs=9,
    ).history
    assert len(history["val_opis"]) == 3
    assert stopping.best == checkpoint.best == pytest.approx(history["val_opis"][0])
    assert path.exists()


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_model_with_a_dictionary_of_outputs():
    inputs = keras.Input((6,))
    outputs = {
        "other": keras.layers.Dense(3, name="other")(inputs),
        "embedding": keras.layers.Dense(4, name="embedding")(inputs),
    }
    model = keras.Model(inputs, outputs)
    model.compile(loss={"embedding": TCM()})
    callbacks = [
        RetrievalEvaluation(X_VAL, Y_VAL),
        RetrievalEvaluation(X_VAL, Y_VAL, output="other", prefix="other_"),
    ]
    history = model.fit(X, {"embedding": Y}, callbacks=callbacks, verbose=0).history
    predictions = model.predict(X_VAL, verbose=0)
    for prefix, output in ("val_", "embedding"), ("other_", "other"):
        expected = evaluate_embeddings(predictions[output], Y_VAL).opis
        assert history[prefix + "opis"][0] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(KeyError, match="missing"):
        model.fit(
            X,
            {"embedding": Y},
            callbacks=[RetrievalEvaluation(X_VAL, Y_VAL, output="missing")],
            verbose=0,
        )


def test_options_are_those_of_the_evaluator():
    options = {
        "far_range": (0.05, 0.3),
        "distance": "euclidean",
        "beta": 2.0,
        "epsilon": 0.3,
        "recall_at": (1, 3),
    }
    model = compiled_model()
    history = fit(model, RetrievalEvaluation(X_VAL, Y_VAL, **options)).history
    expected = evaluate_embeddings(model.predict(X_VAL, verbose=0), Y_VAL, **options)
    assert set(history) == {
        "loss",
        *(f"val_{name}" for name in (*NAMES[:6], "recall_at_1", "recall_at_3")),
    }
    for name, value in figures(expected).items():
        assert history[f"val_{name}"][0] == pytest.approx(value, rel=1e-4)


def test_threshold_at_another_far():
    model = compiled_model()
    callback = RetrievalEvaluation(
        X_VAL, Y_VAL, far_target=0.05, far_targets=(0.2, 0.05)
    )
    history = fit(model, callback).history
    embeddings = model.predict(X_VAL, verbose=0)
    expected = evaluate_embeddings(embeddings, Y_VAL, far_targets=(0.05,))
    (point,) = expected.operating_points
    assert history["val_threshold"][0] == pytest.approx(point.threshold, abs=1e-5)
    assert history["val_frr"][0] == pytest.approx(point.frr, abs=1e-6)
    assert [p.far_target for p in callback.evaluation.operating_points] == [0.2, 0.05]


def test_threshold_that_the_pairs_do_not_resolve_is_nan():
    callback = RetrievalEvaluation(X_VAL, Y_VAL, far_target=1e-6, far_targets=())
    history = fit(compiled_model(), callback).history
    assert np.isnan(history["val_threshold"]).all()
    assert np.isnan(history["val_frr"]).all()
    assert np.isfinite(history["val_opis"]).all()


@pytest.mark.parametrize(
    ("fit_verbose", "verbose", "is_printed"),
    [(2, "auto", True), (0, "auto", False), (0, True, True), (2, False, False)],
)
def test_a_line_after_each_epoch(capsys, fit_verbose, verbose, is_printed):
    callback = RetrievalEvaluation(X_VAL, Y_VAL, verbose=verbose)
    history = fit(compiled_model(), callback, epochs=2, verbose=fit_verbose).history
    lines = capsys.readouterr().out.splitlines()
    found = [line for line in lines if line.startswith("Epoch") and "R@1" in line]
    expected = [
        f"Epoch {epoch + 1}: R@1 {history['val_recall_at_1'][epoch]:.4f}, "
        f"OPIS {history['val_opis'][epoch]:.6f}, "
        f"threshold {history['val_threshold'][epoch]:.4f} at FAR 0.01"
        for epoch in range(2)
    ]
    assert found == (expected if is_printed else [])
    if is_printed and fit_verbose:
        # Below what Keras prints of the same epoch.
        keras_line = next(i for i, line in enumerate(lines) if "val_opis" in line)
        assert lines[keras_line + 1] == expected[0]


def test_scalars_and_figures_in_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util.tensor_util import make_ndarray

    evaluation = RetrievalEvaluation(X_VAL, Y_VAL, every=2, log_dir=tmp_path / "val")
    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    history = fit(compiled_model(), evaluation, board, epochs=4).history
    events = event_accumulator.EventAccumulator(
        str(tmp_path / "validation"), {event_accumulator.TENSORS: 0}
    )
    events.Reload()
    scalars = events.Tensors("epoch_opis")
    assert [event.step for event in scalars] == [0, 1, 2, 3]
    values = [float(make_ndarray(event.tensor_proto)) for event in scalars]
    assert values == pytest.approx(history["val_opis"], nan_ok=True)
    events = event_accumulator.EventAccumulator(
        str(tmp_path / "val"), {event_accumulator.TENSORS: 0}
    )
    events.Reload()
    for name in "utility", "error_rates":
        images = events.Tensors(name)
        assert [event.step for event in images] == [0, 1, 3]
        width, height, first, *_ = images[0].tensor_proto.string_val
        assert (int(width), int(height)) == (700, 460)
        assert first.startswith(b"\x89PNG")
        assert first != images[1].tensor_proto.string_val[2]


def test_figures_need_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match="`log_dir` needs TensorFlow, TensorBoard"):
        RetrievalEvaluation(X_VAL, Y_VAL, log_dir=tmp_path)


def test_gallery_option():
    model = compiled_model(learning_rate=0.0)
    gallery = model.predict(X, verbose=0)
    options = {"gallery_embeddings": gallery, "gallery_labels": Y}
    history = fit(model, RetrievalEvaluation(X_VAL, Y_VAL, **options)).history
    expected = evaluate_embeddings(model.predict(X_VAL, verbose=0), Y_VAL, **options)
    assert history["val_opis"][0] == pytest.approx(expected.opis, rel=1e-4)


def test_string_labels_and_batch_size():
    labels = [f"class {label}" for label in Y_VAL]
    model = compiled_model()
    callback = RetrievalEvaluation(X_VAL, labels, batch_size=7)
    history = fit(model, callback).history
    expected = evaluate_embeddings(model.predict(X_VAL, verbose=0), Y_VAL)
    assert history["val_opis"][0] == pytest.approx(expected.opis, rel=1e-4)
    assert "class 3" in callback.evaluation.classes


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return X_VAL[16 * index : 16 * (index + 1)]


def test_samples_in_a_py_dataset():
    model = compiled_model()
    history = fit(model, RetrievalEvaluation(Batches(), Y_VAL)).history
    expected = evaluate_embeddings(model.predict(X_VAL, verbose=0), Y_VAL)
    assert history["val_opis"][0] == pytest.approx(expected.opis, rel=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.data is TensorFlow's")
def test_samples_in_a_tf_dataset():
    import tensorflow as tf

    model = compiled_model()
    dataset = tf.data.Dataset.from_tensor_slices(X_VAL).batch(20)
    history = fit(model, RetrievalEvaluation(dataset, Y_VAL)).history
    expected = evaluate_embeddings(model.predict(X_VAL, verbose=0), Y_VAL)
    assert history["val_opis"][0] == pytest.approx(expected.opis, rel=1e-4)


@pytest.mark.parametrize("collapsed_to", [1.0, np.nan])
def test_undefined_is_nan_with_a_warning_and_training_goes_on(collapsed_to):
    model = compiled_model(learning_rate=0.0)
    kernel, bias = model.layers[-1].weights
    kernel.assign(np.zeros(kernel.shape))
    bias.assign(np.full(bias.shape, collapsed_to))
    callback, recorder = RetrievalEvaluation(X_VAL, Y_VAL), Recorder()
    recorder.on_epoch_end = lambda epoch, logs=None: recorder.logs.append(dict(logs))
    with pytest.warns(UserWarning, match="has no evaluation") as caught:
        history = fit(model, callback, recorder, epochs=2).history
    messages = [str(warning.message) for warning in caught]
    assert sum(message.startswith("Epoch ") for message in messages) == 2
    assert len(history["loss"]) == 2
    for name in NAMES:
        assert np.isnan(history[f"val_{name}"]).all()
        assert np.isnan(recorder.logs[0][f"val_{name}"])
    assert callback.evaluation is None


def test_a_mistake_in_the_labels_is_an_error():
    with pytest.raises(ValueError, match=r"`y` must have one label .*96.*: 95 labels"):
        RetrievalEvaluation(X_VAL, Y_VAL[:-1])
    with pytest.raises(ValueError, match="`labels`") as error:
        end_epoch(RetrievalEvaluation(Batches(), Y_VAL[:-1]))
    (note,) = error.value.__notes__
    assert "`labels` are its `y`" in note


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"every": 0}, "every"),
        ({"every": 1.5}, "every"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": "all"}, "batch_size"),
        ({"far_target": 0.0}, "far_target"),
        ({"far_target": 1.5}, "far_target"),
        ({"far_targets": 0.1}, "far_targets"),
        ({"verbose": "yes"}, "verbose"),
    ],
)
def test_bad_arguments(options, argument):
    with pytest.raises((ValueError, TypeError), match=rf"`{argument}`.*Received: "):
        RetrievalEvaluation(X_VAL, Y_VAL, **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"recal_at": (1,)}, "recal_at"),
        ({"far_range": (0.1, 0.01)}, r"`far_range`.*Received: "),
        ({"recall_at": (0,)}, r"`recall_at`.*Received: "),
    ],
)
def test_bad_options_of_the_evaluator_are_errors(options, named):
    """They are mistakes, unlike embeddings that leave a figure undefined."""
    with pytest.raises((ValueError, TypeError), match=named):
        end_epoch(RetrievalEvaluation(X_VAL, Y_VAL, **options))
