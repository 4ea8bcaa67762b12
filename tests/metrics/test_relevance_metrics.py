"""The metrics where positives are not a matter of equal labels."""

import json

import keras
import numpy as np
import pytest
import relevance_oracle

from keras_tcm import OPIS, TCM, evaluate_embeddings
from keras_tcm.callbacks import RetrievalEvaluation
from keras_tcm.metrics import RecallAtK
from keras_tcm.relevance import (
    ClassRelevance,
    FunctionRelevance,
    HierarchyLevel,
    SharedLabel,
)

RING = np.eye(6) + np.roll(np.eye(6), 1, axis=1) + np.roll(np.eye(6), -1, axis=1)


@keras.saving.register_keras_serializable(package="tests_of_metrics")
def within_one(anchors, partners):
    return keras.ops.abs(anchors[:, None] - partners[None, :]) <= 1


def samples(num=90, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 6, num)
    x = rng.normal(size=(6, 10))[y] + rng.normal(size=(num, 10))
    return x.astype("float32"), y


def multi_hot(y):
    """Two labels for most, none for class 5."""
    return (np.eye(6) + np.roll(np.eye(6), 1, axis=1))[y] * (y < 5)[:, None]


def rows(y):
    return np.stack([y % 2, y // 2, y], axis=1)


# How labels look, what compares them, and the reference for it.
CASES = {
    "multi-hot": (multi_hot, SharedLabel(), relevance_oracle.Shared()),
    "level-0": (rows, HierarchyLevel(0), relevance_oracle.Levels(0)),
    "level-1": (rows, HierarchyLevel(1), relevance_oracle.Levels(1)),
    "matrix": (lambda y: y, ClassRelevance(RING), relevance_oracle.Matrix(RING)),
}


def feed(metric, labels, x, batch_size):
    for start in range(0, len(x), batch_size):
        batch = slice(start, start + batch_size)
        metric.update_state(labels[batch], x[batch])
    return float(metric.result())


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_definition(name):
    relabel, relevance, kind = CASES[name]
    x, y = samples()
    labels = relabel(y)
    expected = relevance_oracle.evaluate(x, labels.tolist(), kind, recall_at=(2,))
    value = feed(OPIS(relevance=relevance), labels, x, 40)
    assert value == pytest.approx(expected.opis, rel=1e-2)
    recall = feed(RecallAtK(2, relevance=relevance), labels, x, 40)
    assert recall == pytest.approx(expected.recall[2], abs=1e-6)


# JAX compiles for each of them.
@pytest.mark.slow
@pytest.mark.parametrize("name", ["multi-hot", "level-1"])
def test_training_and_evaluation(name):
    relabel, relevance, _ = CASES[name]
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(4)])
    x, y = samples()
    labels = relabel(y)
    model.compile(
        "sgd",
        loss=TCM(relevance=relevance),
        metrics=[OPIS(relevance=relevance), RecallAtK(relevance=relevance)],
    )
    # 90 samples: two batches of one shape everywhere.
    callback = RetrievalEvaluation(
        x, labels, batch_size=45, prefix="retrieval_", relevance=relevance
    )
    history = model.fit(
        x,
        labels,
        batch_size=45,
        validation_data=(x, labels),
        callbacks=[callback],
        verbose=0,
    ).history
    logs = model.evaluate(x, labels, batch_size=45, return_dict=True, verbose=0)
    expected = evaluate_embeddings(
        model.predict(x, batch_size=45, verbose=0),
        labels,
        relevance=relevance,
        recall_at=(1,),
    )
    assert logs["opis"] == pytest.approx(expected.opis, rel=1e-3)
    assert logs["recall_at_1"] == pytest.approx(expected.recall[1], abs=1e-6)
    for name in "val_opis", "retrieval_opis":
        assert history[name][0] == pytest.approx(expected.opis, rel=1e-3)
    assert callback.evaluation.opis == pytest.approx(expected.opis, rel=1e-3)


@pytest.mark.filterwarnings("ignore:.*has seen:UserWarning")
def test_past_its_size_the_memory_holds_the_most_recent():
    x, y = samples(200)
    labels = multi_hot(y)
    metrics = (
        OPIS(relevance=SharedLabel(), memory_size=80),
        RecallAtK(2, relevance=SharedLabel(), memory_size=80),
    )
    expected = evaluate_embeddings(
        x[-80:], labels[-80:], relevance=SharedLabel(), recall_at=(2,)
    )
    opis, recall = (feed(metric, labels, x, 30) for metric in metrics)
    assert opis == pytest.approx(expected.opis, rel=1e-4)
    assert recall == pytest.approx(expected.recall[2], abs=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "bool"])
def test_multi_hot_labels_of_any_dtype(dtype):
    x, y = samples()
    labels = multi_hot(y)
    expected = evaluate_embeddings(x, labels, relevance=SharedLabel()).opis
    value = feed(OPIS(relevance=SharedLabel()), labels.astype(dtype), x, 30)
    assert value == pytest.approx(expected, rel=1e-4)


def test_large_integers_of_a_hierarchy_stay_apart():
    x, y = samples()
    # float32 would make one class of two.
    labels = rows(y) + 2**24
    recall = feed(RecallAtK(relevance=HierarchyLevel(1)), labels, x, 30)
    expected = evaluate_embeddings(x, labels, relevance=HierarchyLevel(1)).recall[1]
    assert recall == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("relevance", [within_one, FunctionRelevance(within_one)])
def test_recall_of_a_function(relevance):
    x, y = samples()
    kind = relevance_oracle.Function(lambda a, b: abs(a - b) <= 1)
    expected, _ = relevance_oracle.retrieval(x, y.tolist(), kind, ks=(2,))
    value = feed(RecallAtK(2, relevance=relevance), y, x, 40)
    assert value == pytest.approx(expected[2], abs=1e-6)


def test_recall_of_a_matrix_without_symmetry():
    x, y = samples()
    matrix = np.roll(np.eye(6), 1, axis=1)
    kind = relevance_oracle.Matrix(matrix)
    expected, _ = relevance_oracle.retrieval(x, y.tolist(), kind, ks=(2,))
    value = feed(RecallAtK(2, relevance=ClassRelevance(matrix)), y, x, 40)
    assert value == pytest.approx(expected[2], abs=1e-6)


@pytest.mark.parametrize("make", [OPIS, RecallAtK])
def test_nan_where_undefined(make):
    x, y = samples()
    metric = make(relevance=SharedLabel())
    assert np.isnan(feed(metric, np.zeros((90, 6)), x, 30))
    metric.reset_state()
    assert np.isfinite(feed(metric, multi_hot(y), x, 30))


@pytest.mark.parametrize("make", [OPIS, RecallAtK])
@pytest.mark.parametrize("name", CASES)
def test_config_through_json(make, name):
    _, relevance, _ = CASES[name]
    metric = make(relevance=relevance)
    config = json.loads(json.dumps(keras.metrics.serialize(metric)))
    again = keras.metrics.deserialize(config)
    assert type(again) is make
    assert again.relevance == relevance
    assert again.get_config() == metric.get_config()


def test_config_without_relevance_or_with_a_function():
    assert OPIS().get_config()["relevance"] is None
    assert OPIS.from_config(OPIS().get_config()).relevance is None
    config = json.loads(json.dumps(RecallAtK(relevance=within_one).get_config()))
    again = RecallAtK.from_config(config)
    assert again.relevance == FunctionRelevance(within_one)


def test_saved_model(tmp_path):
    x, y = samples()
    labels = multi_hot(y)
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(4)])
    loss = TCM(relevance=SharedLabel(6))
    model.compile(loss=loss, metrics=[OPIS(relevance=SharedLabel(6))])
    value = model.evaluate(x, labels, return_dict=True, verbose=0)["opis"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    logs = loaded.evaluate(x, labels, return_dict=True, verbose=0)
    assert logs["opis"] == pytest.approx(value, rel=1e-4)


def raises(argument, message=""):
    return pytest.raises(
        (ValueError, TypeError), match=rf"(?s)`{argument}`.*{message}.*Received: "
    )


@pytest.mark.parametrize("make", [OPIS, RecallAtK])
class TestErrors:
    def test_no_relevance(self, make):
        with raises("relevance"):
            make(relevance="shared")

    @pytest.mark.parametrize(
        ("relevance", "labels"),
        [
            (SharedLabel(), np.zeros(90, int)),
            (SharedLabel(5), np.zeros((90, 6))),
            (HierarchyLevel(0), np.zeros(90, int)),
            (HierarchyLevel(3), np.zeros((90, 3), int)),
            (ClassRelevance(RING), np.zeros((90, 1), int)),
            (SharedLabel(), np.zeros((80, 6))),
            (None, np.zeros((90, 6))),
        ],
        ids=str,
    )
    def test_labels(self, make, relevance, labels):
        with raises("y_true"):
            make(relevance=relevance).update_state(labels, samples()[0])

    def test_another_width(self, make):
        x, y = samples()
        metric = make(relevance=SharedLabel())
        metric.update_state(multi_hot(y), x)
        with raises("y_true", "what is remembered.*6"):
            metric.update_state(multi_hot(y)[:, :5], x)


class TestNoOpis:
    @pytest.mark.parametrize("relevance", [within_one, FunctionRelevance(within_one)])
    def test_functions_make_no_classes(self, relevance):
        with raises("relevance", "function makes no classes"):
            OPIS(relevance=relevance)

    def test_matrix_without_symmetry(self):
        with raises("relevance", "symmetric"):
            OPIS(relevance=ClassRelevance(np.roll(np.eye(3), 1, axis=1)))
