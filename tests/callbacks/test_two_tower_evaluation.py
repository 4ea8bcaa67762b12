"""Evaluation of two towers at the end of an epoch, each through its own."""

import sys

import keras
import numpy as np
import pytest

import keras_tcm
from keras_tcm import layers, losses, models
from keras_tcm.callbacks import RetrievalEvaluation

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(12, 2, 5))


def samples(num, first=0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(first, 12, size=num)
    x = CENTRES[y] + 0.5 * rng.normal(size=(num, 2, 5))
    return [x[:, 0].astype("float32"), x[:, 1].astype("float32")], y


X, Y = samples(96)
# More texts than images, and texts that no image answers.
(TEXTS, _), Y_TEXTS = samples(80, seed=1)
(_, IMAGES), Y_IMAGES = samples(60, first=3, seed=2)


def two_towers(has_memory=False):
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((5,), name="text"), keras.Input((5,), name="image")]
    outputs = [keras.layers.Dense(4)(each) for each in inputs]
    model = keras.Model(inputs, layers.StackTowers(scale=10.0)(outputs))
    if has_memory:
        model = models.CrossBatchMemory(model, 64)
    model.compile("adam", loss=keras_tcm.AutoTCM(losses.InfoNCE(temperature=None)))
    return model


@pytest.mark.parametrize("has_memory", [False, True])
def test_gallery(has_memory):
    model = two_towers(has_memory)
    callback = RetrievalEvaluation(TEXTS, Y_TEXTS, gallery=(IMAGES, Y_IMAGES))
    history = model.fit(X, Y, batch_size=32, verbose=0, callbacks=[callback]).history
    text_tower, image_tower = models.towers(model)
    expected = keras_tcm.evaluate_embeddings(
        text_tower.predict(TEXTS, verbose=0),
        Y_TEXTS,
        gallery_embeddings=image_tower.predict(IMAGES, verbose=0),
        gallery_labels=Y_IMAGES,
        verbose=False,
    )
    assert history["val_opis"][0] == pytest.approx(expected.opis, rel=1e-4)
    assert history["val_recall_at_1"][0] == pytest.approx(expected.recall[1])
    assert callback.evaluation.num_unanswerable == np.sum(Y_TEXTS < 3)


class Recorder(keras.callbacks.Callback):
    """Embeds by the model itself after every epoch."""

    def __init__(self):
        super().__init__()
        self.embeddings = []

    def on_epoch_end(self, epoch, logs=None):
        self.embeddings.append(self.model.predict(X, verbose=0))


def test_every_epoch_has_its_weights_and_the_same_towers(monkeypatch):
    module = sys.modules[RetrievalEvaluation.__module__]
    made = []
    monkeypatch.setattr(
        module, "towers", lambda model: made.append(model) or models.towers(model)
    )
    model = two_towers()
    callback = RetrievalEvaluation(X[0], Y, gallery=(X[1], Y))
    recorder = Recorder()
    options = {"batch_size": 32, "epochs": 3, "verbose": 0}
    history = model.fit(X, Y, callbacks=[callback, recorder], **options).history
    for opis, embeddings in zip(history["val_opis"], recorder.embeddings, strict=True):
        expected = keras_tcm.evaluate_embeddings(embeddings, Y, verbose=False)
        assert opis == pytest.approx(expected.opis, rel=1e-4)
    assert len(set(history["val_opis"])) == 3
    # New ones would be compiled anew.
    assert made == [model]


def test_rows_that_belong_together():
    model = two_towers()
    callback = RetrievalEvaluation(X, Y)
    history = model.fit(X, Y, batch_size=32, verbose=0, callbacks=[callback]).history
    found = model.predict(X, verbose=0)
    expected = keras_tcm.evaluate_embeddings(found, Y, verbose=False)
    assert history["val_opis"][0] == pytest.approx(expected.opis, rel=1e-4)


def test_one_tower_has_a_gallery_too():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    model.compile("adam", loss=losses.MultiSimilarity())
    callback = RetrievalEvaluation(X[0], Y, gallery=(IMAGES, Y_IMAGES))
    history = model.fit(X[0], Y, verbose=0, callbacks=[callback]).history
    expected = keras_tcm.evaluate_embeddings(
        model.predict(X[0], verbose=0),
        Y,
        gallery_embeddings=model.predict(IMAGES, verbose=0),
        gallery_labels=Y_IMAGES,
        verbose=False,
    )
    assert history["val_opis"][0] == pytest.approx(expected.opis, rel=1e-4)


@pytest.mark.parametrize(
    ("error", "options", "match"),
    [
        (ValueError, {"gallery": IMAGES}, "samples and their labels"),
        (TypeError, {"gallery": (IMAGES, None)}, "one label per row"),
        (ValueError, {"gallery": (IMAGES, Y_IMAGES[:-1])}, "one label per row"),
        (
            ValueError,
            {
                "gallery": (IMAGES, Y_IMAGES),
                "gallery_embeddings": IMAGES,
                "gallery_labels": Y_IMAGES,
            },
            "`gallery_embeddings` must be None",
        ),
    ],
    ids=["array", "no labels", "fewer labels", "two"],
)
def test_arguments(error, options, match):
    with pytest.raises(error, match=match):
        RetrievalEvaluation(TEXTS, Y_TEXTS, **options)
