"""Sums and multiples of losses."""

import json

import keras
import loss_references
import numpy as np
import oracles
import pytest

from keras_tcm import layers, losses

LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 4, 2])
WEIGHTS = np.array([1, 0, 2, 0.5, 1, 1, 0, 3, 1, 0.1, 1, 1], "float32")
X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")


def tcm():
    return losses.TCM(0.8, 0.3)


def multi_similarity():
    return losses.MultiSimilarity()


def circle():
    # Circle expects unit-norm embeddings only for its scale; any rows will do here.
    return keras.losses.Circle()


# Name: how the sum is written, and its terms as (factor, loss).
SUMS = {
    "a + b": (
        lambda: multi_similarity() + tcm(),
        [(1, multi_similarity), (1, tcm)],
    ),
    "WeightedSum([a, b])": (
        lambda: losses.WeightedSum([multi_similarity(), tcm()]),
        [(1, multi_similarity), (1, tcm)],
    ),
    "0.5 * a": (lambda: 0.5 * tcm(), [(0.5, tcm)]),
    "a * 2": (lambda: tcm() * 2, [(2, tcm)]),
    "0 * a": (lambda: 0 * tcm(), [(0, tcm)]),
    "-1 * a + b": (
        lambda: -1 * tcm() + multi_similarity(),
        [(-1, tcm), (1, multi_similarity)],
    ),
    "keras + a": (lambda: circle() + tcm(), [(1, circle), (1, tcm)]),
    "a + keras": (lambda: 0.5 * tcm() + circle(), [(0.5, tcm), (1, circle)]),
    "nested": (
        lambda: 0.5 * (multi_similarity() + 2 * tcm()) + (circle() + 3 * tcm()),
        [(0.5, multi_similarity), (1, tcm), (1, circle), (3, tcm)],
    ),
    "three pairwise": (
        lambda: losses.SmoothAP() + losses.SupervisedContrastive() + 0.1 * tcm(),
        [(1, losses.SmoothAP), (1, losses.SupervisedContrastive), (0.1, tcm)],
    ),
    "contrastive": (
        lambda: losses.Contrastive() + tcm(),
        [(1, losses.Contrastive), (1, tcm)],
    ),
    "triplet": (
        lambda: losses.TripletMargin() + tcm(),
        [(1, losses.TripletMargin), (1, tcm)],
    ),
    "recall at k": (
        lambda: losses.RecallAtK() + tcm(),
        [(1, losses.RecallAtK), (1, tcm)],
    ),
}


@pytest.fixture(params=SUMS)
def case(request):
    build, terms = SUMS[request.param]
    return build(), terms


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_value_and_gradient(case, value_and_grad, weights):
    total, terms = case
    value, gradient = value_and_grad(total, LABELS, X, weights)
    parts = [
        (factor, value_and_grad(term(), LABELS, X, weights)) for factor, term in terms
    ]
    expected = sum(factor * part[0] for factor, part in parts)
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)
    expected = sum(factor * part[1] for factor, part in parts)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


def test_against_the_references():
    value = (losses.MultiSimilarity() + 0.3 * losses.TCM(0.8, 0.3))(LABELS, X)
    expected = oracles.multi_similarity(X, LABELS) + 0.3 * oracles.tcm(
        X, LABELS, positive_margin=0.8, negative_margin=0.3
    )
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_is_a_loss(case):
    assert isinstance(case[0], keras.losses.Loss)


def test_round_trip(case):
    total, _ = case
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(total)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(total)
    assert restored.get_config() == total.get_config()
    assert float(restored(LABELS, X)) == pytest.approx(float(total(LABELS, X)))


def test_from_config_leaves_the_configuration_alone():
    total = multi_similarity() + 0.5 * tcm()
    config = total.get_config()
    for _ in range(2):
        assert type(total).from_config(config).get_config() == total.get_config()


@pytest.mark.parametrize("terms", ["keras + a", "a + keras"])
def test_weights_stay_as_they_are(terms):
    # Under PyTorch, Circle multiplies the tensor of weights it is given in place.
    weights = keras.ops.convert_to_tensor(WEIGHTS)
    SUMS[terms][0]()(LABELS, X, sample_weight=weights)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(weights), WEIGHTS)


def test_compiled(value_and_grad):
    if keras.backend.backend() == "torch":
        pytest.skip("torch runs eagerly")
    total = multi_similarity() + 0.5 * tcm()
    value, gradient = value_and_grad(total, LABELS, X)
    compiled, compiled_gradient = value_and_grad(total, LABELS, X, jit=True)
    assert compiled == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(compiled_gradient, gradient, atol=1e-4)


def test_terms_keep_their_options():
    total = losses.TCM(0.9, 0.1) + losses.TCM(0.2, -0.2, reduction="sum")
    expected = oracles.tcm(X, LABELS, positive_margin=0.9, negative_margin=0.1)
    second = oracles.tcm(X, LABELS, positive_margin=0.2, negative_margin=-0.2)
    assert float(total(LABELS, X)) == pytest.approx(expected + 12 * second, rel=1e-5)


def test_rows():
    total = losses.TCM(reduction="none") + 2 * losses.MultiSimilarity(reduction="none")
    rows = keras.ops.convert_to_numpy(total(LABELS, X))
    expected = oracles.tcm(X, LABELS) + 2 * oracles.multi_similarity(X, LABELS)
    assert rows.shape == (12,)
    assert rows.mean() == pytest.approx(expected, rel=1e-5)


def test_sum_leaves_its_terms_alone():
    term = tcm()
    before = term.get_config()
    total = 3 * (term + term)
    assert term.get_config() == before
    assert float(total(LABELS, X)) == pytest.approx(
        6 * float(term(LABELS, X)), rel=1e-5
    )


def test_sum_of_cosine_losses():
    cosines = np.random.default_rng(1).uniform(-0.9, 0.9, (12, 5)).astype("float32")
    terms = [
        losses.ArcFace(),
        0.5 * losses.NormalizedSoftmax(),
        losses.CosFace(),
        losses.ProxyAnchor(),
        losses.TCM(),
    ]
    total = sum(terms[1:], start=terms[0])
    expected = oracles.arcface(cosines, LABELS)
    expected += 0.5 * oracles.normalized_softmax(cosines, LABELS)
    expected += loss_references.cos_face(cosines, LABELS)
    expected += loss_references.proxy_anchor(cosines, LABELS)
    expected += oracles.tcm(cosines, LABELS)
    assert float(total(LABELS, cosines)) == pytest.approx(expected, rel=1e-5)


def test_values_of_the_terms():
    total = circle() + 0.5 * multi_similarity() + 3 * tcm() + losses.ArcFace()
    cosines = np.clip(X, -0.9, 0.9)
    values = total.values(LABELS, cosines, WEIGHTS)
    expected = [
        float(term(LABELS, cosines, WEIGHTS))
        for term in (circle(), multi_similarity(), tcm(), losses.ArcFace())
    ]
    assert [float(value) for value in values] == pytest.approx(expected, rel=1e-5)


def test_a_pass_checks_its_arguments_once(monkeypatch):
    calls = []
    original = losses.EmbeddingLoss.standardize

    def standardize(self, *args):
        calls.append(self.name)
        return original(self, *args)

    monkeypatch.setattr(losses.EmbeddingLoss, "standardize", standardize)
    (multi_similarity() + tcm() + losses.Contrastive())(LABELS, X)
    assert calls == ["multi_similarity"]
    (multi_similarity() + tcm())(LABELS, X, WEIGHTS)
    assert calls == ["multi_similarity"] * 2


def test_numpy_factors():
    for factor in (np.float32(0.5), np.float64(0.5), np.int64(2)):
        total = tcm() * factor
        expected = float(factor) * float(tcm()(LABELS, X))
        assert float(total(LABELS, X)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: a + 3,
        lambda a: 3 + a,
        lambda a: a + None,
        lambda a: a + "tcm",
        lambda a: "x" * a,
        lambda a: a * "x",
        lambda a: a * a,
        lambda a: None * a,
        lambda a: a * [1.0],
    ],
)
def test_wrong_operand(wrong):
    with pytest.raises(TypeError):
        wrong(tcm())


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_factor_must_be_finite(factor):
    with pytest.raises(ValueError, match=r"(?s)weights.*Received"):
        factor * tcm()


@pytest.mark.parametrize(
    "base",
    [
        multi_similarity,
        losses.Contrastive,
        losses.RecallAtK,
        lambda: losses.TripletMargin(1.0, "batch_hard"),
    ],
)
def test_trains_a_model(base):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    model.compile(
        keras.optimizers.SGD(0.1), loss=base() + 0.5 * tcm(), jit_compile=False
    )
    labels = LABELS.astype("int32")
    history = model.fit(X, labels, batch_size=12, epochs=9, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < history.history["loss"][0]


@pytest.mark.parametrize("base", [losses.CosFace, losses.ProxyAnchor])
def test_trains_a_model_with_cosines(base):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    embedding = keras.layers.Dense(4)(inputs)
    cosines = layers.CosineClassifier(5, name="cosines")(embedding)
    model = keras.Model(inputs, {"embedding": embedding, "cosines": cosines})
    model.compile(
        keras.optimizers.SGD(0.01),
        loss={"embedding": tcm(), "cosines": base()},
        jit_compile=False,
    )
    targets = dict.fromkeys(("embedding", "cosines"), LABELS.astype("int32"))
    history = model.fit(X, targets, batch_size=12, epochs=3, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < history.history["loss"][0]
