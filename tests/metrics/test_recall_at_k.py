"""Recall at k as a Keras metric is the hit rate over all samples seen."""

import json

import keras
import numpy as np
import oracles
import pytest

from keras_tcm.metrics import RecallAtK


def samples(num_classes=12, per_class=6, dimension=6, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(num_classes), per_class))
    centres = rng.normal(size=(num_classes, dimension))
    x = centres[y] + noise * rng.normal(size=(len(y), dimension))
    return x.astype("float32"), y


def measure(metric, x, y, batch_size=None):
    for start in range(0, len(x), batch_size or len(x)):
        stop = start + (batch_size or len(x))
        metric.update_state(y[start:stop], x[start:stop])
    return float(metric.result())


@pytest.mark.parametrize("k", [1, 2, 4, 30, 71, 500])
@pytest.mark.parametrize("batch_size", [10, 72])
def test_agrees_with_the_definition(k, batch_size):
    x, y = samples()
    expected, _ = oracles.retrieval(x, y, ks=(k,))
    value = measure(RecallAtK(k), x, y, batch_size)
    assert value == pytest.approx(expected[k], abs=1e-6)
    if k < 30:
        assert 0 < value < 1


def test_value_worked_by_hand():
    # By angle: a at 0, b at 10, b at 30, a at 45, c at 60 degrees. The nearest of each:
    # b, a, a (15 < 20), b or c (15 each), a. With two: a has {b, b}; b has {a, b}.
    angles = np.deg2rad([0.0, 10.0, 30.0, 45.0, 61.0])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    y = np.array([0, 1, 1, 0, 2])
    assert measure(RecallAtK(1), x, y) == 0.0
    assert measure(RecallAtK(2), x, y) == 0.5
    # At three, the last `a` has b, c, b; the first has b, b, a.
    assert measure(RecallAtK(3), x, y) == 0.75
    assert measure(RecallAtK(4), x, y) == 1.0


def test_samples_without_a_positive_are_no_queries():
    x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    assert measure(RecallAtK(1), x, np.array([0, 0, 1, 2])) == 1.0


def test_ties_count_against_the_query():
    x = np.ones((10, 4), "float32")
    y = np.arange(10) % 2
    assert measure(RecallAtK(1), x, y) == 0.0
    # 5 negatives come before the first positive.
    assert measure(RecallAtK(5), x, y) == 0.0
    assert measure(RecallAtK(6), x, y) == 1.0


@pytest.mark.parametrize(
    "relabel",
    [
        lambda y: y + 2**24,
        lambda y: -1 - y,
        lambda y: y.astype("float32")[:, None],
        lambda y: y.astype("uint8"),
    ],
    ids=["past float32", "negative", "float column", "uint8"],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_labels_and_dtypes(relabel, dtype):
    x, y = samples()
    rounded = keras.ops.cast(x, dtype)
    value = measure(RecallAtK(2), rounded, relabel(y), 30)
    x = keras.ops.convert_to_numpy(keras.ops.cast(rounded, "float32"))
    expected, _ = oracles.retrieval(x, y, ks=(2,))
    assert value == pytest.approx(expected[2], abs=1e-6)


def test_nan_where_undefined():
    metric = RecallAtK(1)
    assert np.isnan(float(metric.result()))
    x, y = samples()
    assert np.isnan(measure(metric, x, np.arange(len(x))))
    metric.reset_state()
    assert np.isnan(float(metric.result()))
    metric.reset_state()
    poisoned = x.copy()
    poisoned[3] = np.nan
    assert np.isnan(measure(metric, poisoned, y))
    metric.reset_state()
    assert 0 < measure(metric, x, y) < 1


def test_one_class_is_found_always():
    x, _ = samples()
    assert measure(RecallAtK(1), x, np.zeros(len(x), int)) == 1.0


def test_config_through_json():
    metric = RecallAtK(4, memory_size=50, dtype="float16")
    assert metric.name == "recall_at_4"
    config = json.loads(json.dumps(metric.get_config()))
    again = RecallAtK.from_config(config)
    assert again.get_config() == metric.get_config()
    assert (again.k, again.memory_size, again.dtype) == (4, 50, "float16")
    renamed = RecallAtK(4, name="hits")
    assert RecallAtK.from_config(renamed.get_config()).name == "hits"
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, RecallAtK)
    assert again.k == 4


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"k": 0}, "k"),
        ({"k": -1}, "k"),
        ({"k": 1.0}, "k"),
        ({"k": True}, "k"),
        ({"memory_size": 1}, "memory_size"),
        ({"memory_size": "many"}, "memory_size"),
    ],
)
def test_bad_arguments(options, argument):
    with pytest.raises((ValueError, TypeError), match=rf"`{argument}`.*Received: "):
        RecallAtK(**options)
