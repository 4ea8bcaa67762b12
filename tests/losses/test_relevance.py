"""Pairwise losses whose positive pairs are not those of equal labels."""

import keras
import numpy as np
import oracles
import pytest
from loss_references import PAIRWISE_LOSSES as LOSSES

from keras_tcm import losses
from keras_tcm.relevance import (
    ClassRelevance,
    FunctionRelevance,
    HierarchyLevel,
    SharedLabel,
)

NUM = 12
BACKEND = keras.backend.backend()


def embeddings(seed=0, num=NUM, dim=5):
    return np.random.default_rng(seed).normal(size=(num, dim)).astype("float32")


def one_hot(y):
    return np.eye(y.max() + 1, dtype="float32")[y]


def as_hierarchy(y):
    """Two coarse classes, in each of which the fine ids begin anew."""
    return np.stack([y % 2, y // 2], axis=1)


@keras.saving.register_keras_serializable(package="tests")
def same(anchors, partners):
    return anchors[:, None] == partners[None, :]


# Ways to say that labels are equal.
EQUALITIES = {
    "one-hot": (SharedLabel(), one_hot),
    "hierarchy": (HierarchyLevel(1), as_hierarchy),
    "matrix": (ClassRelevance(np.eye(4)), lambda y: y),
    "function": (same, lambda y: y),
}


@pytest.mark.parametrize(
    ("equality", "block_size"),
    [*((equality, None) for equality in EQUALITIES), ("one-hot", 5)],
)
@pytest.mark.parametrize("name", LOSSES)
def test_equality_in_other_words(value_and_grad, name, equality, block_size):
    loss, reference, options = LOSSES[name]
    relevance, relabel = EQUALITIES[equality]
    y = np.random.default_rng(1).integers(0, 4, NUM)
    y[0] = 3
    x, w = embeddings(), np.linspace(0, 2, NUM, dtype="float32")
    plain = value_and_grad(loss(**options), y, x, w)
    other = loss(relevance=relevance, block_size=block_size, **options)
    value, gradient = value_and_grad(other, relabel(y), x, w)
    assert value == pytest.approx(reference(x, y, w, **options), rel=2e-5)
    np.testing.assert_allclose(gradient, plain[1], rtol=1e-4, atol=1e-6)


def tcm_by_hand(x, matches, positive_margin=0.9, negative_margin=0.5):
    """TCM over the ordered pairs of different samples that match or do not."""
    s = oracles.similarities(x)
    positives, negatives = [], []
    for i in range(len(x)):
        for j in range(len(x)):
            if i == j:
                continue
            if matches[i, j] and s[i, j] <= positive_margin:
                positives.append(positive_margin - s[i, j])
            if not matches[i, j] and s[i, j] >= negative_margin:
                negatives.append(s[i, j] - negative_margin)
    return sum(np.mean(terms) for terms in (positives, negatives) if terms)


MULTI_HOT = np.array(
    [
        [1, 0, 0],
        [1, 1, 0],
        [0, 1, 0],
        [0, 1, 1],
        [0, 0, 1],
        [0, 0, 0],
        [1, 1, 1],
        [0, 0, 0],
    ]
)


@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_shared_labels_are_not_transitive(value_and_grad, dtype, block_size):
    x = embeddings(2, num=8, dim=3)
    matches = MULTI_HOT @ MULTI_HOT.T > 0
    loss = losses.TCM(
        0.8, -0.2, relevance=SharedLabel(num_labels=3), block_size=block_size
    )
    value, gradient = value_and_grad(loss, MULTI_HOT.astype(dtype), x)

    def by_hand(x):
        return tcm_by_hand(x, matches, 0.8, -0.2)

    assert value == pytest.approx(by_hand(x), rel=1e-5)
    expected = oracles.finite_differences(by_hand, x.astype("float64"))
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("block_size", [None, 3])
def test_one_sided_relevance(value_and_grad, block_size):
    """A pair may be positive from one end only."""
    matrix = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0]])
    relevance = ClassRelevance(matrix)
    assert not relevance.is_symmetric
    y = np.array([0, 1, 2, 2, 1, 0, 2, 1])
    x = embeddings(3, num=8, dim=3)
    loss = losses.TCM(0.8, -0.2, relevance=relevance, block_size=block_size)
    value, gradient = value_and_grad(loss, y, x)

    def by_hand(x):
        return tcm_by_hand(x, matrix[y][:, y] > 0, 0.8, -0.2)

    assert value == pytest.approx(by_hand(x), rel=1e-5)
    expected = oracles.finite_differences(by_hand, x.astype("float64"))
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_terms_of_a_sum_may_look_at_different_levels(value_and_grad):
    y = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [0, 0], [1, 1], [0, 1], [1, 1]])
    x = embeddings(4, num=8, dim=4)
    coarse = losses.MultiSimilarity(relevance=HierarchyLevel(0))
    fine = losses.TCM(0.6, 0.1, relevance=HierarchyLevel(1))
    value, gradient = value_and_grad(coarse + 0.5 * fine, y, x)
    of_coarse = value_and_grad(losses.MultiSimilarity(), y[:, 0], x)
    of_fine = value_and_grad(losses.TCM(0.6, 0.1), 2 * y[:, 0] + y[:, 1], x)
    assert value == pytest.approx(of_coarse[0] + 0.5 * of_fine[0], rel=1e-5)
    expected = of_coarse[1] + 0.5 * of_fine[1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("equality", EQUALITIES)
def test_trains_and_loads(equality, tmp_path):
    # With XLA where that is fast, and once where it is not.
    jit = {"torch": False, "jax": True}.get(BACKEND, equality == "one-hot")
    relevance, relabel = EQUALITIES[equality]
    y = relabel(np.arange(32) % 4)
    x = embeddings(5, num=32, dim=8)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6)])
    loss = losses.Contrastive(relevance=relevance) + losses.TCM(relevance=relevance)
    model.compile(keras.optimizers.Adam(0.01), loss=loss, jit_compile=jit)
    history = model.fit(x, y, batch_size=12, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    for term, own in zip(loaded.loss.losses, model.loss.losses, strict=True):
        assert term.relevance == own.relevance
    expected = model.evaluate(x, y, verbose=0)
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_function_becomes_a_relevance():
    loss = losses.TCM(relevance=same)
    assert isinstance(loss.relevance, FunctionRelevance)
    assert loss.relevance.function is same


@pytest.mark.parametrize(
    ("relevance", "y", "message"),
    [
        (SharedLabel(num_labels=3), np.ones((4, 2)), r"\(batch, 3\).*\(4, 2\)"),
        (SharedLabel(), np.ones(4), r"\(batch, num_labels\).*\(4,\)"),
        (HierarchyLevel(2), np.ones((4, 2)), r"more than 2 levels.*\(4, 2\)"),
        (ClassRelevance(np.eye(2)), np.ones((4, 2)), r"\(batch,\).*\(4, 2\)"),
        (SharedLabel(), np.ones((3, 2)), "as many rows as `y_pred`, 4"),
        (None, np.ones((4, 2)), r"\(batch, 1\).*\(4, 2\)"),
        (lambda a, b: a, np.ones(4), "anchors x partners"),
    ],
)
def test_wrong_labels(relevance, y, message):
    loss = losses.TCM(relevance=relevance)
    with pytest.raises(ValueError, match=message):
        loss(y, embeddings(num=4))


@pytest.mark.parametrize("wrong", ["shared", 3, SharedLabel, [[1, 0], [0, 1]]])
def test_wrong_relevance(wrong):
    with pytest.raises(TypeError, match="`relevance` must be"):
        losses.TCM(relevance=wrong)
