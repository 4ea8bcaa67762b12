"""What a loss says of labels and predictions that cannot be meant."""

import copy
import pickle
import warnings

import keras
import numpy as np
import pytest

from keras_tcm import losses
from keras_tcm.relevance import ClassRelevance, HierarchyLevel, SharedLabel

BACKEND = keras.backend.backend()
X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
LABELS = np.arange(12) % 3
EACH = {
    "pairwise": lambda: losses.TCM(0.6, 0.1),
    "cosines": losses.CosFace,
    "sum": lambda: losses.MultiSimilarity() + 0.5 * losses.TCM(0.6, 0.1),
    "sum-with-cosines": lambda: losses.CosFace() + losses.TCM(0.6, 0.1),
    "hierarchy": lambda: losses.TCM(0.6, 0.1, relevance=HierarchyLevel(0)),
}


@pytest.fixture(params=EACH)
def loss(request):
    return EACH[request.param]()


def shaped(loss, labels):
    """Labels as the loss compares them."""
    is_hierarchy = getattr(loss, "relevance", None) is not None
    return labels[:, None] if is_hierarchy else labels


def warned(caught):
    return [str(x.message) for x in caught if issubclass(x.category, UserWarning)]


class TestLabels:
    def test_other_types_of_the_same_numbers(self, loss):
        expected = float(loss(shaped(loss, LABELS), X))
        for dtype in ("uint64", "uint8", "float64", "float16", "object"):
            labels = shaped(loss, LABELS.astype(dtype))
            assert float(loss(labels, X)) == expected
            assert float(loss(labels.tolist(), X)) == expected
        tensors = [keras.ops.convert_to_tensor(x) for x in shaped(loss, LABELS)]
        assert float(loss(tensors, X)) == expected

    def test_classes_2_to_the_32_apart(self, loss):
        if any(isinstance(x, losses.CosFace) for x in getattr(loss, "losses", [loss])):
            pytest.skip("class indices are below the number of classes")
        labels = shaped(loss, LABELS.astype("int64") * 2**32)
        if BACKEND == "jax":
            with pytest.raises(ValueError, match=r"`y_true` must fit int32.*\[1"):
                loss(labels, X)
            with pytest.raises(ValueError, match=r"`y_true` must fit int32.*\[1"):
                loss(labels.tolist(), X)
        else:
            assert float(loss(labels, X)) == float(loss(shaped(loss, LABELS), X))

    def test_large_floats_do_not_merge(self):
        labels = 2.0**24 + LABELS
        tcm = losses.TCM(0.6, 0.1)
        assert float(tcm(labels, X)) == float(tcm(LABELS, X))
        with pytest.raises(ValueError, match=r"`y_true` must be integers.*float32"):
            tcm(labels.astype("float32"), X)

    @pytest.mark.parametrize("value", [0.5, np.nan, 2.0**24, np.inf])
    def test_float_tensors(self, loss, value):
        labels = LABELS.astype("float32")
        expected = float(loss(shaped(loss, LABELS), X))
        tensor = keras.ops.convert_to_tensor(shaped(loss, labels))
        assert float(loss(tensor, X)) == pytest.approx(expected)
        labels[4] = value
        tensor = keras.ops.convert_to_tensor(shaped(loss, labels))
        with pytest.raises(ValueError, match=r"`y_true` must be .*y_true\[4"):
            loss(tensor, X)

    @pytest.mark.parametrize("value", [0.5, 2.0**24])
    def test_float_labels_in_a_compiled_step(self, loss, value, value_and_grad):
        """It cannot raise, but must not take two classes for one either."""
        if BACKEND == "torch":
            for _ in range(8):
                loss(shaped(loss, LABELS.astype("float64")), X)
                loss(keras.ops.convert_to_tensor(shaped(loss, LABELS) * 1.0), X)
        labels = LABELS.astype("float32")
        good, _ = value_and_grad(loss, shaped(loss, labels), X, jit=BACKEND != "torch")
        assert good == pytest.approx(float(loss(shaped(loss, LABELS), X)), rel=1e-5)
        labels[4] = value
        found, _ = value_and_grad(loss, shaped(loss, labels), X, jit=BACKEND != "torch")
        assert np.isnan(found)

    @pytest.mark.parametrize(
        "labels", [np.array(list("abcabcabcabc")), list("abc" * 4)]
    )
    def test_text(self, loss, labels):
        with pytest.raises(TypeError, match=r"`y_true` must be integers.*np.unique"):
            loss(labels, X)

    def test_text_in_a_graph(self, loss):
        if BACKEND != "tensorflow":
            pytest.skip("no other backend has tensors of text")
        labels = keras.ops.convert_to_tensor(np.array(list("abc" * 4)))
        with pytest.raises(TypeError, match=r"`y_true` must be integers.*string"):
            loss(labels, X)

    @pytest.mark.parametrize("name", ["pairwise", "cosines", "sum"])
    def test_one_hot(self, name):
        one_hot = np.eye(3, dtype="float32")[LABELS]
        with pytest.raises(ValueError, match=r"argmax.*SharedLabel.*\(12, 3\)"):
            EACH[name]()(one_hot, X)

    def test_one_hot_in_fit(self):
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
        model.compile("sgd", loss=losses.TCM())
        with pytest.raises(ValueError, match="argmax"):
            model.fit(X, np.eye(3, dtype="float32")[LABELS], verbose=0)

    @pytest.mark.parametrize("labels", [None, [None] * 12, [0] * 11 + [None]])
    def test_missing(self, loss, labels):
        with pytest.raises(ValueError, match=r"`y_true`.*missing.*Received: y_true"):
            loss(labels, X)

    def test_floats_of_a_function_stay(self):
        def near(anchors, partners):
            return keras.ops.abs(anchors[:, None] - partners[None, :]) < 0.2

        ages = np.array([0.0, 0.1, 0.5, 0.6], "float32")
        loss = losses.TCM(0.6, 0.1, relevance=near)
        expected = float(losses.TCM(0.6, 0.1)([0, 0, 1, 1], X[:4]))
        assert float(loss(ages, X[:4])) == pytest.approx(expected)
        assert float(loss(ages.tolist(), X[:4])) == pytest.approx(expected)
        # In one pass with a term that takes them for classes, it would not.
        together = loss + losses.TCM(0.6, 0.1, relevance=lambda a, b: near(a, b))
        assert float(together(ages, X[:4])) == pytest.approx(2 * expected)


class TestUnknownShapes:
    """In graphs of TensorFlow."""

    @pytest.fixture(autouse=True)
    def _tensorflow_only(self):
        if BACKEND != "tensorflow":
            pytest.skip("the shapes of other backends are known")

    @staticmethod
    def call(loss, labels_shape, embeddings_shape):
        import tensorflow as tf

        @tf.function(
            input_signature=[
                tf.TensorSpec(labels_shape, "int64"),
                tf.TensorSpec(embeddings_shape, "float32"),
            ]
        )
        def step(y, x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(y, x)
            return value, tape.gradient(value, x)

        return step(LABELS, X)

    @pytest.mark.parametrize("shape", [(None, None), (12, None), (None, 5)])
    @pytest.mark.parametrize(
        "loss", [losses.TCM(0.6, 0.1), losses.MultiSimilarity(), losses.SmoothAP()]
    )
    def test_width(self, loss, shape, value_and_grad):
        value, gradient = value_and_grad(loss, LABELS, X)
        found, slopes = self.call(loss, (None,), shape)
        assert float(found) == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(slopes, gradient, rtol=1e-4, atol=1e-5)

    def test_rank(self):
        with pytest.raises(ValueError, match=r"`y_pred` must have a known number"):
            self.call(losses.TCM(), (None,), None)
        with pytest.raises(ValueError, match=r"`y_true` must have a known number"):
            self.call(losses.TCM(), None, (None, 5))


class TestPairs:
    """A batch without a positive, or without a negative pair."""

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.arange(12), "12 samples in which no pair is positive"),
            (np.full(12, 7), "12 samples in which no pair is negative.*sorted"),
        ],
    )
    @pytest.mark.parametrize("name", ["pairwise", "sum", "hierarchy"])
    def test_warns_once(self, name, labels, message):
        loss = EACH[name]()
        with pytest.warns(
            UserWarning, match=rf"{message}.*ClassBalancedSampler"
        ) as own:
            loss(shaped(loss, labels), X)
        assert len(own) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for _ in range(3):
                loss(shaped(loss, labels), X)

    def test_each_loss_for_itself(self):
        for _ in range(2):
            with pytest.warns(UserWarning, match="no pair is positive"):
                losses.TCM()(np.arange(12), X)

    @pytest.mark.parametrize(
        ("loss", "labels"),
        [
            (losses.TCM(), LABELS),
            (losses.TCM(), [0, 0, *range(1, 11)]),
            (losses.TCM(), [0, *[1] * 11]),
            (losses.CosFace(), np.zeros(12, int)),
            (losses.TCM(relevance=SharedLabel()), np.eye(12) + np.eye(12)[::-1]),
            (losses.TCM(relevance=ClassRelevance(np.eye(3))), LABELS),
        ],
    )
    def test_enough_pairs(self, loss, labels):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            loss(labels, X)

    def test_one_sample_is_the_rest_of_an_epoch(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            losses.TCM()([0], X[:1])

    def test_relevance(self):
        loss = losses.TCM(relevance=SharedLabel())
        with pytest.warns(UserWarning, match="no pair is negative"):
            loss(np.ones((12, 2)), X)
        loss = losses.TCM(relevance=ClassRelevance(np.zeros((3, 3))))
        with pytest.warns(UserWarning, match="no pair is positive"):
            loss(LABELS, X)

    def test_samples_of_weight_zero_are_in_no_pair(self):
        weights = np.r_[np.ones(3), np.zeros(9)].astype("float32")
        with pytest.warns(UserWarning, match="3 samples in which no pair is positive"):
            losses.TCM()(LABELS, X, sample_weight=weights)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            losses.TCM()(LABELS, X, sample_weight=np.zeros(12, "float32"))

    @pytest.mark.parametrize(
        ("earlier", "is_looked_at"), [(7, True), (8, False), (20, False), (31, True)]
    )
    def test_looks_grow_rare(self, earlier, is_looked_at):
        loss = losses.TCM()
        for _ in range(earlier):
            loss(LABELS, X)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss(np.arange(12), X)
        assert bool(warned(caught)) == is_looked_at

    def test_compiled_steps_are_left_alone(self, value_and_grad):
        if BACKEND == "torch":
            pytest.skip("torch runs eagerly")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value_and_grad(losses.TCM(), np.arange(12), X, jit=True)
        assert not warned(caught)

    @pytest.mark.parametrize("eagerly", [False, True])
    def test_fit_of_sorted_data(self, eagerly):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
        model.compile("sgd", loss=EACH["sum"](), run_eagerly=eagerly)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, np.arange(12) // 4, batch_size=4, shuffle=False, verbose=0)
        messages = [x for x in warned(caught) if "no pair is negative" in x]
        assert len(messages) == (eagerly or BACKEND == "torch")

    def test_copies_and_pickles(self):
        loss = pickle.loads(pickle.dumps(copy.deepcopy(losses.TCM())))
        with pytest.warns(UserWarning, match="no pair is positive"):
            loss(np.arange(12), X)


class TestSoftmax:
    PROBABILITIES = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    @pytest.mark.parametrize("name", ["pairwise", "cosines", "sum"])
    def test_warns_once(self, name, dtype):
        loss = EACH[name]()
        with pytest.warns(UserWarning, match="softmax") as own:
            loss(LABELS, self.PROBABILITIES.astype(dtype))
        assert len(own) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            loss(LABELS, self.PROBABILITIES)

    @pytest.mark.parametrize(
        "x",
        [
            X,
            np.abs(X),
            np.abs(X) / np.linalg.norm(X, axis=1, keepdims=True),
            np.eye(5, dtype="float32")[np.arange(12) % 5],
            np.ones((12, 1), "float32"),
            np.zeros((12, 5), "float32"),
            X - X.mean(axis=1, keepdims=True) + 0.2,
        ],
        ids=["any", "relu", "unit", "one-hot", "width-1", "zero", "sums-to-1"],
    )
    def test_no_false_alarm(self, x):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            losses.TCM()(LABELS, x)


def test_sum_of_a_list():
    terms = [losses.MultiSimilarity(), losses.TCM(0.6, 0.1), keras.losses.Circle()]
    total = sum(terms)
    assert total.losses == tuple(terms)
    assert total.weights == (1.0, 1.0, 1.0)
    assert sum(terms[:1]) is terms[0]
    expected = sum(float(term(LABELS, X)) for term in terms)
    assert float(total(LABELS, X)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("wrong", [False, 0.0, 1, None, "0"])
def test_nothing_else_is_no_loss(wrong):
    with pytest.raises(TypeError):
        wrong + losses.TCM()


class TestStrings:
    """What the page on losses says of them."""

    @pytest.mark.parametrize("name", ["TCM", "tcm", "keras_tcm>TCM"])
    def test_keras_knows_its_own_names_only(self, name):
        with pytest.raises(ValueError, match="Could not interpret loss identifier"):
            keras.losses.get(name)

    def test_configuration(self):
        loss = losses.TCM(0.7, 0.3)
        config = keras.saving.serialize_keras_object(loss)
        assert keras.losses.get(config).get_config() == loss.get_config()
