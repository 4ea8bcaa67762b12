"""Pairwise losses in blocks of anchors against the same losses in one matrix."""

import keras
import numpy as np
import oracles
import pytest
from loss_references import PAIRWISE_LOSSES as LOSSES

from keras_tcm import losses

SIZE = 11
BACKEND = keras.backend.backend()
# Blocks are compiled in any case on JAX, where one program of all takes least time.
COMPILES = BACKEND == "jax"


def batch(seed=0, num=SIZE, dim=6, num_classes=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num, dim)).astype("float32")
    return x, rng.integers(0, num_classes, num), rng.uniform(0.1, 2, num).astype("f")


@pytest.mark.parametrize(
    ("block_size", "jit"),
    [(1, False), (3, False), (3, True), (SIZE, False), (SIZE + 5, False)],
)
@pytest.mark.parametrize("name", LOSSES)
def test_same_value_and_gradient(value_and_grad, name, block_size, jit):
    if jit and BACKEND != "tensorflow":
        pytest.skip("torch runs eagerly, and JAX compiles all of these")
    jit = jit or COMPILES
    loss, oracle, options = LOSSES[name]
    x, y, w = batch()
    value, gradient = value_and_grad(loss(**options), y, x, w)
    in_blocks = value_and_grad(loss(block_size=block_size, **options), y, x, w, jit=jit)
    assert in_blocks[0] == pytest.approx(oracle(x, y, w, **options), rel=2e-5)
    assert in_blocks[0] == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(in_blocks[1], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_input(value_and_grad, dtype):
    x, y, _ = batch()
    value, gradient = value_and_grad(losses.TCM(), y, x, dtype=dtype)
    blocked, other = value_and_grad(losses.TCM(block_size=4), y, x, dtype=dtype)
    assert blocked == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(other, gradient, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "x", [np.zeros((5, 3)), np.ones((5, 3)), np.ones((1, 3))], ids=str
)
@pytest.mark.parametrize("name", LOSSES)
def test_corner_batches(value_and_grad, name, x):
    loss, _, options = LOSSES[name]
    y = np.zeros(len(x), np.int64)
    value, gradient = value_and_grad(loss(block_size=2, **options), y, x)
    expected, reference = value_and_grad(loss(**options), y, x)
    assert value == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(gradient, reference, atol=1e-6)


def test_nan_is_not_swallowed():
    x, y, _ = batch()
    x[2, 1] = np.nan
    for loss, _, options in LOSSES.values():
        assert np.isnan(float(loss(block_size=3, **options)(y, x)))
        assert np.isnan(float(loss(**options)(y, x)))


class TestSums:
    def test_terms_share_one_pass(self, value_and_grad, monkeypatch):
        from keras_tcm.losses import pairwise_loss

        x, y, w = batch()
        calls = []

        def map_anchors(*args):
            calls.append(args[4:6])
            return original(*args)

        original = pairwise_loss.map_anchors
        monkeypatch.setattr(pairwise_loss, "map_anchors", map_anchors)
        terms = [
            losses.MultiSimilarity(block_size=5),
            0.5 * losses.TCM(0.6, 0.1, block_size=3),
            keras.losses.Circle(),
        ]
        value, gradient = value_and_grad(terms[0] + terms[1] + terms[2], y, x, w)
        assert calls == [(3, False)]
        parts = [value_and_grad(term, y, x, w) for term in terms]
        assert value == pytest.approx(sum(part[0] for part in parts), rel=1e-6)
        np.testing.assert_allclose(
            gradient, sum(part[1] for part in parts), rtol=1e-4, atol=1e-6
        )

    def test_reductions_stay_apart(self):
        x, y, w = batch()
        terms = (
            losses.MultiSimilarity(reduction="sum", block_size=4),
            losses.TCM(0.6, 0.1, reduction="mean_with_sample_weight"),
        )
        total = float((terms[0] + terms[1])(y, x, w))
        assert total == pytest.approx(sum(float(term(y, x, w)) for term in terms))


class TestAutomaticBlocks:
    @pytest.fixture
    def small_limits(self, monkeypatch):
        from keras_tcm.ops import map_anchors

        monkeypatch.setattr(map_anchors, "_MAX_MATRIX", 64)
        monkeypatch.setattr(map_anchors, "_MAX_KEPT", 150)
        monkeypatch.setattr(map_anchors, "_BLOCK", 33)
        monkeypatch.setattr(map_anchors, "_BLOCK_ANEW", 33)
        used = []
        original = map_anchors._map_blocks

        def map_blocks(function, anchors, partners, inputs, size, are_kept):
            used.append((size, are_kept))
            return original(function, anchors, partners, inputs, size, are_kept)

        monkeypatch.setattr(map_anchors, "_map_blocks", map_blocks)
        return used

    @pytest.mark.parametrize("name", ["tcm", "multi-similarity"])
    @pytest.mark.parametrize(("num", "blocks"), [(11, (3, True)), (15, (2, False))])
    def test_large_batches(self, small_limits, value_and_grad, name, num, blocks):
        loss, oracle, options = LOSSES[name]
        x, y, w = batch(num=num)
        value, gradient = value_and_grad(loss(**options), y, x, w)
        assert small_limits == [blocks]
        assert value == pytest.approx(oracle(x, y, w, **options), rel=2e-5)
        expected = oracles.finite_differences(lambda x: oracle(x, y, w, **options), x)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)

    def test_rows_with_any_upstream(self, small_limits, value_and_grad):
        """The short cut to the gradient of TCM holds for anchors of any weight."""
        x, y, w = batch()
        factors = np.random.default_rng(1).normal(size=SIZE).astype("float32")

        def loss(y, x, sample_weight=None):
            rows = losses.TCM(0.6, 0.1, reduction="none")(y, x, sample_weight)
            return keras.ops.sum(rows * keras.ops.convert_to_tensor(factors))

        def in_one_matrix(y, x, sample_weight=None):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("keras_tcm.ops.map_anchors._MAX_MATRIX", 10**6)
                return loss(y, x, sample_weight)

        value, gradient = value_and_grad(loss, y, x, w)
        assert small_limits == [(3, True)]
        expected, reference = value_and_grad(in_one_matrix, y, x, w)
        assert len(small_limits) == 1
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-6)

    def test_smooth_ap_needs_more(self, small_limits, value_and_grad):
        x, y, _ = batch()
        value, _ = value_and_grad(losses.SmoothAP(), y, x)
        assert small_limits == [(1, False)]
        assert value == pytest.approx(oracles.smooth_ap(x, y), rel=1e-5)

    def test_small_batches_in_one_matrix(self, small_limits):
        losses.TCM()(np.zeros(8), np.ones((8, 2)))
        assert small_limits == []


class TestTwoProducts:
    """Where the anchors are the partners, value and gradient take no third product."""

    @pytest.mark.parametrize("num", [96, 130, 161])
    def test_number(self, num):
        if BACKEND != "jax":
            pytest.skip("reads the program that JAX makes")
        import jax

        x, y, _ = batch(num=num, dim=8, num_classes=20)
        for loss in (
            losses.TCM(),
            losses.MultiSimilarity() + losses.TCM(),
            losses.Contrastive() + losses.TripletMargin(mining="batch_hard"),
        ):
            program = jax.make_jaxpr(
                jax.value_and_grad(lambda x, loss=loss: loss(y, x))
            )
            assert str(program(x)).count("dot_general[") == 2

    @pytest.mark.parametrize("name", ["tcm", "multi-similarity", "contrastive"])
    def test_compiled(self, value_and_grad, name):
        """From a batch of 129 on, what is compiled is in blocks that are kept."""
        loss, _, options = LOSSES[name]
        x, y, w = batch(num=131, num_classes=40)

        def total(**block):
            one_sided = losses.TCM(0.7, 0.2, relevance=older, **block)
            return loss(**block, **options) + 0.5 * one_sided

        jit = BACKEND != "torch"
        value, gradient = value_and_grad(total(block_size=50), y, x, w, jit=COMPILES)
        for _ in range(2):
            compiled = value_and_grad(total(), y, x, w, jit=jit)
            assert compiled[0] == pytest.approx(value, rel=1e-5)
            np.testing.assert_allclose(compiled[1], gradient, rtol=1e-4, atol=1e-6)


def older(labels, others):
    """Positive from one end only."""
    return labels[:, None] <= others[None, :]


class TestLimits:
    def test_no_matrix_of_the_batch_squared(self):
        if BACKEND != "jax":
            pytest.skip("reads the program that JAX makes")
        import jax

        loss = losses.MultiSimilarity(block_size=16) + losses.TCM(block_size=16)
        x, y = np.ones((96, 8), "float32"), np.zeros(96, "int32")
        program = jax.make_jaxpr(jax.value_and_grad(lambda x: loss(y, x)))(x)
        assert "f32[16,96]" in str(program)
        assert "[96,96]" not in str(program)
        whole = losses.MultiSimilarity() + losses.TCM()
        program = jax.make_jaxpr(jax.value_and_grad(lambda x: whole(y, x)))(x)
        assert "f32[96,96]" in str(program)

    @pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
    @pytest.mark.parametrize("block_size", [4, None])
    def test_unknown_batch_size(self, monkeypatch, block_size, jit):
        if BACKEND != "tensorflow":
            pytest.skip("only graphs of TensorFlow leave the batch size open")
        import tensorflow as tf

        # Without a block size: 3 samples in one block, the others in several.
        monkeypatch.setattr("keras_tcm.ops.map_anchors._BLOCK", 200)
        loss = losses.SmoothAP(block_size=block_size) + losses.TCM(0.6, 0.1)

        @tf.function(
            jit_compile=jit,
            input_signature=[
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([None, 6], tf.float32),
            ],
        )
        def compute(y, x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(y, x)
            return value, tape.gradient(value, x)

        for num in (3, 8, 10):
            x, y, _ = batch(num=num)
            value, gradient = compute(tf.constant(y), tf.constant(x))
            expected = oracles.smooth_ap(x, y) + oracles.tcm(
                x, y, positive_margin=0.6, negative_margin=0.1
            )
            assert float(value) == pytest.approx(expected, rel=1e-5)
            assert gradient.shape == x.shape


# TensorFlow alone trains fast in both ways.
@pytest.mark.parametrize(
    "jit",
    {"jax": [True], "tensorflow": [False, True], "torch": [False]}[BACKEND],
)
def test_trains_a_model(jit):
    x, y, _ = batch(num=50, num_classes=5)
    histories = []
    for block_size in (None, 7):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(4)])
        loss = losses.MultiSimilarity(block_size=block_size) + losses.TCM()
        model.compile("sgd", loss=loss, jit_compile=jit)
        # The last batch has 18 samples.
        history = model.fit(x, y, batch_size=32, epochs=3, verbose=0, shuffle=False)
        histories.append(history.history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-5)
    assert histories[0][-1] < histories[0][0]


@pytest.mark.parametrize("name", LOSSES)
def test_config(name):
    loss, _, _ = LOSSES[name]
    config = loss(block_size=128).get_config()
    assert config["block_size"] == 128
    assert loss.from_config(config).block_size == 128
    with pytest.raises(ValueError, match=r"`block_size` .*=0"):
        loss(block_size=0)
    with pytest.raises(TypeError, match="`block_size`"):
        loss(block_size=0.5)
