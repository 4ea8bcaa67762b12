"""Everything that trains and measures, under any `floatx` and dtype policy."""

import keras
import numpy as np
import pytest

from keras_tcm import TCM, data, evaluate_embeddings, layers, losses, metrics, models
from keras_tcm.callbacks import RetrievalEvaluation
from keras_tcm.relevance import ClassRelevance

PAIRWISE = [
    losses.TCM,
    losses.MultiSimilarity,
    losses.SmoothAP,
    losses.RecallAtK,
    losses.SupervisedContrastive,
    losses.Contrastive,
    losses.TripletMargin,
]
ON_COSINES = [
    losses.ArcFace,
    losses.CosFace,
    losses.NormalizedSoftmax,
    losses.ProxyAnchor,
]
FLOATX = ["float16", "bfloat16", "float64"]


@pytest.fixture(params=FLOATX)
def floatx(request):
    """Another `floatx`, which is also the policy of new layers."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(request.param)
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16", "float64"])
def policy(request):
    """Another policy, under the usual `floatx`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def samples(num_classes=12, per_class=6, dimension=16):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    x = rng.normal(size=(num_classes, dimension))[y]
    x += rng.normal(size=(len(y), dimension))
    return x.astype("float32"), y


def all_values():
    """Losses, whole and in blocks, sums, and metrics, of the same samples."""
    x, y = samples()
    cosines = x[:, :12] / 8
    values = {}
    for make in PAIRWISE:
        for options in {}, {"block_size": 7}:
            values[make.__name__, *options] = float(make(**options)(y, x))
    for make in ON_COSINES:
        values[make.__name__,] = float(make()(y, cosines))
    total = losses.MultiSimilarity() + 0.3 * TCM()
    values["sum",] = float(total(y, x, sample_weight=np.linspace(0, 1, len(y))))
    held = np.array([True, False])[y % 2]
    values["bool",] = float(TCM()(held, x))
    ring = ClassRelevance(
        np.eye(12) + np.roll(np.eye(12), 1, 0) + np.roll(np.eye(12), -1, 0)
    )
    values["matrix",] = float(TCM(relevance=ring)(y, x))
    recall = metrics.RecallAtK(1, relevance=ring)
    recall.update_state(y, x)
    values["metric", "matrix"] = float(recall.result())
    batch = data.ClassBalancedSampler(x, y, 4, 2, seed=0)[0]
    values["sampler",] = float(TCM()(batch[1], batch[0]))
    # Batches past the end of the memory.
    made = [metrics.OPIS(), metrics.OPIS(epsilon=0.3), metrics.RecallAtK(2, 50)]
    for metric in made:
        for start in range(0, len(x), 20):
            metric.update_state(y[start : start + 20], x[start : start + 20])
    for number, metric in enumerate(made):
        values["metric", number] = float(metric.result())
    labels = keras.ops.convert_to_tensor(y)
    unit = keras.ops.convert_to_tensor(
        x / np.linalg.norm(x, axis=1, keepdims=True), "float32"
    )
    for number, metric in enumerate([*made, recall]):
        values["in step", number] = float(metric.compute_in_step(unit, labels))
    return values


USUAL = None


@pytest.mark.filterwarnings("ignore:.*memory_size:UserWarning")
def test_values_under_any_floatx(floatx):
    values = all_values()
    keras.config.set_floatx("float32")
    global USUAL
    USUAL = USUAL or all_values()
    # Metrics and scalars of losses come in `floatx`.
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float64": 1e-5}[floatx]
    for name, value in USUAL.items():
        assert values[name] == pytest.approx(value, rel=tolerance, abs=1e-6), name


def train():
    """Train a model with all that has state, for two epochs."""
    x, y = samples()
    inputs = keras.Input((16,))
    hidden = keras.layers.Reshape((4, 4, 1))(inputs)
    hidden = keras.layers.Conv2D(8, 2, activation="relu")(hidden)
    hidden = keras.layers.Dense(8)(layers.GeMPooling()(hidden))
    model = keras.Model(inputs, layers.UnitNorm()(hidden))
    trainer = models.CrossBatchMemory(model, memory_size=50)
    trainer.compile(
        keras.optimizers.SGD(1e-2),
        loss=losses.MultiSimilarity() + 0.1 * TCM(),
        metrics=[metrics.OPIS(), metrics.RecallAtK(1)],
    )
    callback = RetrievalEvaluation(x, y, prefix="exact_", batch_size=24, verbose=False)
    history = trainer.fit(
        x,
        y,
        batch_size=24,
        epochs=2,
        validation_data=(x, y),
        callbacks=[callback],
        verbose=0,
    ).history
    for name, values in history.items():
        assert all(np.isfinite(float(value)) for value in values), name
    embeddings = keras.ops.convert_to_tensor(model.predict(x, batch_size=24, verbose=0))
    expected = evaluate_embeddings(embeddings, y)
    assert float(history["exact_opis"][-1]) == pytest.approx(expected.opis, rel=1e-6)
    assert float(history["val_opis"][-1]) == pytest.approx(expected.opis, rel=0.1)


def test_training_under_any_floatx(floatx):
    train()


def test_training_under_any_policy(policy):
    train()


def test_cosine_losses_train_under_any_floatx(floatx):
    x, y = samples()
    inputs = keras.Input((16,))
    model = keras.Model(inputs, layers.CosineClassifier(12)(inputs))
    for make in losses.ArcFace, losses.ProxyAnchor:
        model.compile(keras.optimizers.SGD(1e-2), loss=make())
        history = model.fit(x, y, batch_size=24, epochs=2, verbose=0).history
        assert all(np.isfinite(float(value)) for value in history["loss"])
