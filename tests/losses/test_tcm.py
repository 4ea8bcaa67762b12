"""TCM against the float64 reference, a peer library and the laws it must obey."""

import json

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_tcm.losses import TCM

MARGINS = [
    pytest.param(0.9, 0.5, id="defaults"),
    pytest.param(0.3, -0.2, id="low"),
    pytest.param(1.0, -1.0, id="all-pairs-hard"),
    pytest.param(1.0, 1.0, id="both-at-one"),
    pytest.param(-1.0, -1.0, id="both-at-minus-one"),
    pytest.param(0.0, 0.0, id="both-at-zero"),
]


def embeddings(seed=0, num=12, dim=5):
    return np.random.default_rng(seed).normal(size=(num, dim)).astype("float32")


def _cases():
    """Name: embeddings, labels, weights."""
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 4, 2])
    zeros = embeddings(3)
    zeros[[0, 5]] = 0.0
    identical = np.repeat(embeddings(4)[:1], 12, axis=0)
    antipodal = np.concatenate([identical[:6], -identical[:6]])
    weights = np.array([1, 0, 2, 0.5, 1, 1, 0, 3, 1, 0.1, 1, 1], "float32")
    return {
        "random": (embeddings(0), labels, None),
        "unit-norm": (oracles.normalize(embeddings(1)), labels, None),
        "weights": (embeddings(2), labels, weights),
        "weights-all-zero": (embeddings(2), labels, np.zeros(12, "float32")),
        "weights-one-sample": (embeddings(2), labels, np.eye(12)[3]),
        "no-positive-pair": (embeddings(0), np.arange(12), None),
        "no-negative-pair": (embeddings(0), np.full(12, 7), None),
        "one-sample": (embeddings(0, num=1), np.array([3]), None),
        "two-samples": (embeddings(0, num=2), np.array([3, 3]), None),
        "all-identical": (identical, labels, None),
        "antipodal": (antipodal, labels, None),
        "zero-vectors": (zeros, labels, None),
        "all-zero": (np.zeros((12, 5), "float32"), labels, None),
        "labels-negative": (embeddings(5), -labels, None),
        "labels-beyond-float32": (embeddings(6), labels + 2**24, None),
        "labels-at-int32-limit": (embeddings(6), 2**31 - 5 + labels % 5, None),
        "norms-mixed": (embeddings(7) * np.logspace(-3, 3, 12)[:, None], labels, None),
        "one-dimension": (embeddings(8, dim=1), labels, None),
    }


CASES = _cases()


@pytest.fixture(params=CASES, scope="module")
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize(("positive_margin", "negative_margin"), MARGINS)
def test_value_and_gradient(case, value_and_grad, positive_margin, negative_margin):
    x, y, w = case
    options = {"positive_margin": positive_margin, "negative_margin": negative_margin}
    expected, gradient = oracles.tcm_value_and_gradient(x, y, w, **options)
    value, actual = value_and_grad(TCM(**options), y, x, w)
    assert value == pytest.approx(expected, abs=1e-5)
    # Gradients scale with 1 / norm.
    scale = np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    np.testing.assert_allclose(actual * scale, gradient * scale, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["random", "weights", "zero-vectors", "no-positive-pair", "one-sample"]
)
def test_compiled_value_and_gradient(value_and_grad, name):
    if keras.backend.backend() == "torch":
        pytest.skip("torch runs eagerly; see test_torch_compile")
    x, y, w = CASES[name]
    expected, gradient = oracles.tcm_value_and_gradient(x, y, w)
    value, actual = value_and_grad(TCM(), y, x, w, jit=True)
    assert value == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(actual, gradient, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("torch_compiler")
def test_torch_compile(value_and_grad):
    x, y, w = CASES["weights"]
    expected, gradient = oracles.tcm_value_and_gradient(x, y, w)
    value, actual = value_and_grad(TCM(), y, x, w, jit=True)
    assert value == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(actual, gradient, atol=1e-5)


def test_gradient_by_finite_differences(value_and_grad):
    x, y, w = CASES["weights"]
    expected = oracles.finite_differences(lambda x: oracles.tcm(x, y, w), x)
    np.testing.assert_allclose(value_and_grad(TCM(), y, x, w)[1], expected, atol=1e-5)


def test_term_weights(value_and_grad):
    x, y, _ = CASES["random"]
    options = {"positive_weight": 0.3, "negative_weight": 2.5}
    expected, gradient = oracles.tcm_value_and_gradient(x, y, **options)
    value, actual = value_and_grad(TCM(**options), y, x)
    assert value == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(actual, gradient, atol=1e-5)
    assert value_and_grad(TCM(positive_weight=0, negative_weight=0), y, x)[0] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_peer(value_and_grad, pml, seed):
    import torch
    from pytorch_metric_learning import losses

    x = embeddings(seed, num=32, dim=8)
    y = np.random.default_rng(seed).integers(5, size=32)
    tensor = torch.tensor(x, requires_grad=True)
    peer = losses.ThresholdConsistentMarginLoss()(tensor, torch.tensor(y))
    peer.backward()
    value, gradient = value_and_grad(TCM(), y, x)
    assert value == pytest.approx(peer.item(), abs=1e-5)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), atol=1e-5)


def test_by_hand():
    # s = 0.8 in the positive pair; 0 and 0.6 in the negative pairs.
    x = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    assert float(TCM()([0, 0, 1], x)) == pytest.approx(0.2, abs=1e-6)
    assert float(TCM(0.9, 0.0)([0, 0, 1], x)) == pytest.approx(0.1 + 0.3, abs=1e-6)


class TestDtypes:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
    @pytest.mark.parametrize("jit", [False, True])
    def test_half_precision_input(self, value_and_grad, dtype, jit):
        if jit and keras.backend.backend() == "torch":
            pytest.skip("torch runs eagerly")
        x, y, w = CASES["weights"]
        rounded = keras.ops.cast(keras.ops.convert_to_tensor(x), dtype)
        rounded = keras.ops.convert_to_numpy(keras.ops.cast(rounded, "float32"))
        expected, gradient = oracles.tcm_value_and_gradient(rounded, y, w)
        value, actual = value_and_grad(TCM(), y, x, w, dtype=dtype, jit=jit)
        assert value == pytest.approx(expected, abs=1e-5)
        # The gradient comes back in the dtype of the embeddings.
        relative = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-4}[dtype]
        np.testing.assert_allclose(actual, gradient, rtol=relative, atol=1e-5)

    @pytest.mark.parametrize(
        "dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"]
    )
    @pytest.mark.parametrize("shape", [(12,), (12, 1)])
    def test_label_dtype_and_shape(self, dtype, shape):
        x, y, _ = CASES["random"]
        value = TCM()(y.astype(dtype).reshape(shape), x)
        assert float(value) == pytest.approx(oracles.tcm(x, y), abs=1e-5)

    @pytest.mark.parametrize("offset", [250, 2040, 2**24])
    def test_neighbouring_labels_stay_apart(self, offset):
        # They collide in bfloat16, float16 and float32.
        x = embeddings(9)
        y = offset + np.arange(12)
        loss = TCM(dtype="bfloat16" if offset == 250 else None)
        expected = oracles.tcm(x, np.arange(12))
        assert float(loss(y, x)) == pytest.approx(expected, abs=1e-2)
        assert float(TCM()(y, x)) == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
    def test_result_dtype(self, dtype):
        x, y, _ = CASES["random"]
        value = TCM(dtype=dtype)(y, x)
        assert keras.backend.standardize_dtype(value.dtype) == dtype


@pytest.mark.parametrize("norm", [1e-20, 1e-12, 1e12, 1e20])
def test_norm_does_not_matter(value_and_grad, norm):
    x, y, w = CASES["weights"]
    unit = oracles.normalize(x)
    expected, gradient = oracles.tcm_value_and_gradient(unit, y, w)
    value, actual = value_and_grad(TCM(), y, unit * norm, w)
    assert value == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(actual * norm, gradient, atol=1e-5)


def test_zero_vectors_get_a_zero_gradient(value_and_grad):
    x, y, _ = CASES["zero-vectors"]
    _, gradient = value_and_grad(TCM(1.0, -1.0), y, x)
    assert np.all(gradient[[0, 5]] == 0.0)
    assert np.any(gradient[1] != 0.0)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        pytest.param(np.eye(12), np.arange(12), id="no-hard-negative"),
        pytest.param(np.ones((12, 5)), np.zeros(12, int), id="no-hard-positive"),
        pytest.param(np.ones((1, 5)), np.zeros(1, int), id="one-sample"),
    ],
)
def test_no_hard_pair_is_zero_with_zero_gradient(value_and_grad, x, y):
    value, gradient = value_and_grad(TCM(), y, x)
    assert value == 0.0
    assert np.all(gradient == 0.0)


def test_nan_embeddings_are_not_swallowed():
    x, y, _ = CASES["random"]
    x = x.copy()
    x[3, 1] = np.nan
    assert np.isnan(float(TCM()(y, x)))


class TestReductions:
    @pytest.mark.parametrize("name", ["random", "weights", "no-positive-pair"])
    def test_rows_and_sums(self, name):
        x, y, w = CASES[name]
        expected = oracles.tcm(x, y, w)
        for reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight"):
            value = TCM(reduction=reduction)(y, x, sample_weight=w)
            assert float(value) == pytest.approx(expected, abs=1e-5)
        rows = TCM(reduction="none")(y, x, sample_weight=w)
        rows = keras.ops.convert_to_numpy(rows)
        assert rows.shape == (12,)
        assert rows.mean() == pytest.approx(expected, abs=1e-5)
        value = TCM(reduction="sum")(y, x, sample_weight=w)
        assert float(value) == pytest.approx(12 * expected, abs=1e-4)

    def test_rows_belong_to_their_samples(self):
        # Only the pair of samples 2 and 4 is hard.
        x = np.eye(6)
        y = [0, 1, 2, 3, 2, 5]
        rows = keras.ops.convert_to_numpy(TCM(reduction="none")(y, x))
        np.testing.assert_allclose(rows, [0, 0, 2.7, 0, 2.7, 0], atol=1e-6)


class TestWeights:
    @pytest.mark.parametrize("reduction", ["mean_with_sample_weight", "mean"])
    def test_zero_weight_equals_removal(self, value_and_grad, reduction):
        x, y, w = CASES["weights"]
        kept = w > 0
        loss = TCM(reduction=reduction)
        value, gradient = value_and_grad(loss, y, x, w)
        alone, gradient_alone = value_and_grad(loss, y[kept], x[kept], w[kept])
        assert value == pytest.approx(alone, abs=1e-6)
        np.testing.assert_allclose(gradient[kept], gradient_alone, atol=1e-6)
        assert np.all(gradient[~kept] == 0.0)

    def test_scale_of_the_weights_does_not_matter(self):
        x, y, w = CASES["weights"]
        value = float(TCM()(y, x, sample_weight=w))
        scaled = float(TCM()(y, x, sample_weight=8 * w))
        assert scaled == pytest.approx(value, abs=1e-6)

    def test_column_of_weights(self):
        x, y, w = CASES["weights"]
        value = float(TCM()(y[:, None], x, sample_weight=w[:, None]))
        assert value == pytest.approx(oracles.tcm(x, y, w), abs=1e-5)


class TestLaws:
    @settings(max_examples=15)
    @given(st.permutations(range(12)))
    def test_order_of_samples(self, order):
        x, y, w = CASES["weights"]
        order = np.array(order)
        value = float(TCM()(y, x, sample_weight=w))
        permuted = float(TCM()(y[order], x[order], sample_weight=w[order]))
        assert permuted == pytest.approx(value, abs=1e-6)

    @settings(max_examples=15)
    @given(
        st.lists(st.floats(1e-3, 1e3), min_size=12, max_size=12),
        st.lists(st.integers(-(2**31), 2**31 - 1), min_size=5, max_size=5, unique=True),
    )
    def test_norms_and_names_of_classes(self, scales, names):
        x, y, w = CASES["weights"]
        value = float(TCM()(y, x, sample_weight=w))
        renamed = np.array(names)[y]
        scaled = x * np.array(scales, "float32")[:, None]
        other = float(TCM()(renamed, scaled, sample_weight=w))
        assert other == pytest.approx(value, abs=1e-5)

    @settings(max_examples=25)
    @given(st.integers(0, 10**6), st.floats(-1, 1), st.floats(-1, 1))
    def test_random_batches(self, seed, one, other):
        # A similarity within rounding of a margin may fall on either side of it.
        negative_margin, positive_margin = sorted((round(one, 3), round(other, 3)))
        x = embeddings(seed)
        y = np.random.default_rng(seed).integers(4, size=12)
        s = oracles.similarities(x)[~np.eye(12, dtype=bool)]
        if min(np.abs(s - m).min() for m in (negative_margin, positive_margin)) < 1e-5:
            return
        expected = oracles.tcm(
            x, y, positive_margin=positive_margin, negative_margin=negative_margin
        )
        value = float(TCM(positive_margin, negative_margin)(y, x))
        assert value == pytest.approx(expected, abs=1e-5)


class TestConfiguration:
    def test_round_trip(self):
        loss = TCM(
            positive_margin=0.8,
            negative_margin=-0.3,
            positive_weight=0.5,
            negative_weight=2.0,
            reduction="sum",
            name="margins",
            dtype="float16",
        )
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
        restored = keras.saving.deserialize_keras_object(config)
        assert type(restored) is TCM
        assert restored.get_config() == loss.get_config()
        attributes = (
            "positive_margin",
            "negative_margin",
            "positive_weight",
            "negative_weight",
            "reduction",
            "name",
            "dtype",
        )
        for name in attributes:
            assert getattr(restored, name) == getattr(loss, name)
            assert name in loss.get_config()

    def test_defaults(self):
        loss = TCM()
        assert (loss.positive_margin, loss.negative_margin) == (0.9, 0.5)
        assert (loss.positive_weight, loss.negative_weight) == (1.0, 1.0)
        assert (loss.reduction, loss.name) == ("sum_over_batch_size", "tcm")

    @pytest.mark.parametrize(
        ("options", "argument"),
        [
            ({"positive_margin": 1.4}, "positive_margin"),
            ({"positive_margin": float("nan")}, "positive_margin"),
            ({"positive_margin": "high"}, "positive_margin"),
            ({"negative_margin": -1.1}, "negative_margin"),
            ({"positive_margin": 0.2, "negative_margin": 0.4}, "negative_margin"),
            ({"positive_weight": -1.0}, "positive_weight"),
            ({"negative_weight": float("inf")}, "negative_weight"),
            ({"negative_weight": None}, "negative_weight"),
            ({"reduction": "median"}, "reduction"),
        ],
    )
    def test_wrong_argument(self, options, argument):
        with pytest.raises(
            (ValueError, TypeError), match=rf"(?s)`{argument}`.*Received: {argument}="
        ):
            TCM(**options)

    @pytest.mark.parametrize(
        ("y_shape", "x_shape", "w_shape", "argument"),
        [
            ((4,), (4,), None, "y_pred"),
            ((4,), (4, 3, 2), None, "y_pred"),
            ((3,), (4, 2), None, "y_true"),
            ((4, 2), (4, 2), None, "y_true"),
            ((4,), (4, 2), (3,), "sample_weight"),
            ((4,), (4, 2), (4, 2), "sample_weight"),
        ],
    )
    def test_wrong_shape(self, y_shape, x_shape, w_shape, argument):
        w = None if w_shape is None else np.ones(w_shape)
        with pytest.raises(ValueError, match=rf"(?s)`{argument}`.*Received: "):
            TCM()(np.zeros(y_shape, int), np.ones(x_shape), sample_weight=w)
