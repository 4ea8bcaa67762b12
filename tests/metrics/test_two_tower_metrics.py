"""The metrics of two towers are those of the evaluator with a gallery."""

import keras
import numpy as np
import pytest

import keras_tcm
from keras_tcm import layers, losses, metrics

METRICS = {
    "opis": (metrics.OPIS, {}, lambda result: result.opis),
    "epsilon": (metrics.OPIS, {"epsilon": 0.2}, lambda result: result.epsilon_opis),
    "euclidean": (metrics.OPIS, {"distance": "euclidean"}, lambda result: result.opis),
    "recall": (metrics.RecallAtK, {"k": 2}, lambda result: result.recall[2]),
}


def samples(num=120, num_classes=12, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(num_classes, size=num)
    centres = rng.normal(size=(num_classes, 2, 6))
    x = centres[y] + rng.normal(size=(num, 2, 6))
    x[:, 1] += centres[y, 0]
    return x.astype("float32"), y


def expected(x, y, options):
    known = {"epsilon", "distance", "k"} & options.keys()
    options = {name: options[name] for name in known - {"k"}}
    return keras_tcm.evaluate_embeddings(
        x[:, 0],
        y,
        gallery_embeddings=x[:, 1],
        gallery_labels=y,
        recall_at=(1, 2),
        verbose=False,
        **{"epsilon": 0.2, **options},
    )


@pytest.mark.parametrize("name", METRICS)
class TestMetrics:
    def test_equals_the_evaluator(self, name):
        make, options, read = METRICS[name]
        x, y = samples()
        metric = make(**options)
        for rows in np.split(np.arange(120), [50, 61, 100]):
            metric.update_state(y[rows], x[rows])
        value = read(expected(x, y, options))
        assert float(metric.result()) == pytest.approx(value, rel=1e-4)

    def test_of_a_batch(self, name):
        """What a compiled step shows of one batch."""
        make, options, read = METRICS[name]
        x, y = samples()
        unit = keras_tcm.ops.l2_normalize(x)
        labels = keras.ops.convert_to_tensor(y)
        found = make(**options).compute_in_step(unit, labels)
        value = read(expected(x, y, options))
        assert float(found) == pytest.approx(value, rel=2e-2)


def test_in_compile():
    x, y = samples()
    inputs = [keras.Input((6,)), keras.Input((6,))]
    dense = [keras.layers.Dense(6)(each) for each in inputs]
    model = keras.Model(inputs, layers.StackTowers(scale=10.0)(dense))
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=losses.InfoNCE(temperature=None),
        metrics=[metrics.OPIS(), metrics.RecallAtK(2)],
    )
    data = [x[:, 0], x[:, 1]]
    history = model.fit(data, y, batch_size=60, verbose=0).history
    result = expected(model.predict(data, verbose=0), y, {})
    assert history["opis"][-1] == pytest.approx(result.opis, rel=1e-3)
    assert history["recall_at_2"][-1] == pytest.approx(result.recall[2], rel=1e-5)
    found = model.evaluate(data, y, batch_size=60, verbose=0, return_dict=True)
    assert found["opis"] == pytest.approx(result.opis, rel=1e-3)


def test_shapes():
    x, y = samples()
    metric = metrics.OPIS()
    with pytest.raises(ValueError, match=r"\(batch, 2, dimension\) for two towers"):
        metric.update_state(y, np.concatenate([x, x], axis=1))
    metric.update_state(y, x)
    with pytest.raises(ValueError, match=r"what is remembered, \(batch, 2, 6\)"):
        metric.update_state(y, x[:, 0])
