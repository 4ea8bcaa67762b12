"""What Keras' callbacks make of the epochs with and without an evaluation."""

import csv
import math

import keras
import numpy as np
import pytest

import keras_tcm
from keras_tcm.callbacks import RetrievalEvaluation

Y = np.repeat(np.arange(12), 8)
X = np.random.default_rng(0).normal(size=(12, 6))[Y] + np.random.default_rng(1).normal(
    size=(96, 6)
)
# The epochs, from 0, that `every=3` evaluates out of eight
EVALUATED = [0, 2, 5]


def compiled_model(learning_rate=0.01, **options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    optimizer = keras.optimizers.Adam(learning_rate)
    model.compile(optimizer, loss=keras_tcm.TCM(), **options)
    return model


def fit(*callbacks, model=None, every=3, epochs=8, **options):
    evaluation = RetrievalEvaluation(X, Y, every=every, verbose=False)
    return (model or compiled_model()).fit(
        X, Y, epochs=epochs, callbacks=[evaluation, *callbacks], verbose=0, **options
    )


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def is_evaluated(values):
    return [math.isfinite(float(value)) for value in values]


EXPECTED = [epoch in EVALUATED for epoch in range(8)]


def test_history_keeps_the_epochs_apart():
    history = fit().history
    assert is_evaluated(history["val_opis"]) == EXPECTED
    assert is_evaluated(history["val_recall_at_1"]) == EXPECTED
    assert len(history["loss"]) == 8


def test_csv_logger_has_all_columns(tmp_path):
    path = tmp_path / "log.csv"
    history = fit(keras.callbacks.CSVLogger(path)).history
    values = [float(row["val_opis"]) for row in rows_of(path)]
    assert is_evaluated(values) == EXPECTED
    np.testing.assert_array_equal(values, history["val_opis"])


def test_csv_logger_of_a_run_that_goes_on(tmp_path):
    path = tmp_path / "log.csv"
    model = compiled_model()
    fit(keras.callbacks.CSVLogger(path), model=model, epochs=2)
    logger = keras.callbacks.CSVLogger(path, append=True)
    fit(logger, model=model, initial_epoch=4, epochs=7)
    rows = rows_of(path)
    assert [int(row["epoch"]) for row in rows] == [0, 1, 4, 5, 6]
    found = is_evaluated(row["val_eer"] for row in rows)
    assert found == [True, False, True, True, False]


@pytest.mark.parametrize(
    ("name", "mode"), [("val_opis", "min"), ("val_recall_at_1", "max")]
)
def test_patience_counts_epochs(name, mode):
    """Nothing improves after epoch 0: five epochs later it stops."""
    stopping = keras.callbacks.EarlyStopping(name, mode=mode, patience=5)
    history = fit(stopping, model=compiled_model(0.0), epochs=12)
    assert history.epoch[-1] == 5
    assert math.isfinite(stopping.best)


def test_an_improvement_ends_the_waiting():
    """From where every class is alike, training improves by the next evaluation."""
    stopping = keras.callbacks.EarlyStopping("val_eer", mode="min", patience=4)
    history = fit(stopping, model=compiled_model(0.05), epochs=8)
    values = history.history["val_eer"]
    assert values[2] < values[0]
    assert history.epoch[-1] > 4


def test_plateau_counts_epochs():
    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_opis", mode="min", patience=4, factor=0.5
    )
    model = compiled_model(1e-30)
    rates = fit(plateau, model=model, epochs=7).history["learning_rate"]
    # It is logged before it is changed.
    np.testing.assert_allclose(np.array(rates) / 1e-30, [1] * 5 + [0.5] * 2, rtol=1e-6)


def test_checkpoint_keeps_the_best_evaluated_epoch(tmp_path):
    """No epoch without an evaluation takes its place."""
    path = tmp_path / "best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path,
        monitor="val_opis",
        mode="min",
        save_best_only=True,
        save_weights_only=True,
    )
    history = fit(checkpoint, model=compiled_model(0.1)).history["val_opis"]
    assert checkpoint.best == np.nanmin(history)
    best = compiled_model()
    best.load_weights(path)
    found = keras_tcm.evaluate_embeddings(best.predict(X, verbose=0), Y, verbose=False)
    assert found.opis == pytest.approx(np.nanmin(history), rel=1e-4)


def test_a_value_in_the_name_of_a_checkpoint(tmp_path):
    path = str(tmp_path / "{epoch}-{val_recall_at_1:.3f}.weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    history = fit(checkpoint, every=2, epochs=3).history["val_recall_at_1"]
    names = {f"{n + 1}-{value:.3f}.weights.h5" for n, value in enumerate(history)}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_the_bar_names_it_in_each_epoch(capsys):
    evaluation = RetrievalEvaluation(X, Y, every=2)
    compiled_model().fit(X, Y, epochs=3, callbacks=[evaluation], verbose=2)
    output = capsys.readouterr().out
    assert output.count("val_opis") == 3
    assert output.count("val_opis: nan") == 1


# -------------------------------------------------------------------------- other names


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (keras_tcm.OPIS, "val_opis"),
        (lambda: keras_tcm.metrics.RecallAtK(1), "val_recall_at_1"),
    ],
)
def test_a_compiled_metric_of_the_same_name_is_refused(metric, name):
    model = compiled_model(metrics=[metric()])
    with pytest.raises(ValueError, match=rf"`prefix` must .*retrieval_.*{name} alr"):
        fit(model=model, epochs=1, validation_data=(X, Y))


def test_other_names_stand_beside_it():
    """The metric of training is `opis`, that of validation is another than this one."""
    model = compiled_model(metrics=[keras_tcm.OPIS()])
    history = fit(model=model, epochs=1).history
    assert {"opis", "val_opis"} <= set(history)
    evaluation = RetrievalEvaluation(X, Y, prefix="retrieval_", verbose=False)
    history = model.fit(
        X, Y, validation_data=(X[:48], Y[:48]), callbacks=[evaluation], verbose=0
    ).history
    assert {"opis", "val_opis", "retrieval_opis"} <= set(history)
    assert math.isfinite(history["retrieval_opis"][0])


def test_two_of_the_same_prefix_are_refused():
    callbacks = [RetrievalEvaluation(X, Y, verbose=False) for _ in range(2)]
    with pytest.raises(ValueError, match=r"`prefix` must .*val_eer, val_epsilon_opis"):
        compiled_model().fit(X, Y, callbacks=callbacks, verbose=0)


def test_a_training_metric_of_the_same_name_is_refused():
    model = compiled_model(metrics=[keras_tcm.OPIS()])
    evaluation = RetrievalEvaluation(X, Y, prefix="", verbose=False)
    with pytest.raises(ValueError, match="have opis already"):
        model.fit(X, Y, callbacks=[evaluation], verbose=0)
