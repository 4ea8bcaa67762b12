"""TCM that sets itself, against the rule written out in float64."""

import json
import warnings

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_references import contrastive

import keras_tcm
from keras_tcm import losses, models
from keras_tcm.losses import AutoTCM, auto_tcm

# Five classes, one of them with a single sample; and samples of no or little weight.
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 4, 2])
WEIGHTS = np.array([1, 0, 2, 0.5, 1, 1, 0, 3, 1, 0.1, 1, 1], "float32")
X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")


def of_directions(slopes, x):
    """The gradient with respect to the directions of the rows of `x`."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    unit = x / lengths
    return lengths * (slopes - (slopes * unit).sum(axis=1, keepdims=True) * unit)


def tcm_of(settings):
    """TCM as `AutoTCM` set it."""
    return losses.TCM(
        settings["positive_margin"],
        settings["negative_margin"],
        negative_weight=settings["negative_weight"],
    )


def size(slopes):
    return np.linalg.norm(slopes, axis=1).mean()


def longest(slopes):
    return np.linalg.norm(slopes, axis=1).max()


def rule(x, y, w, base, strength=0.5, far_range=(0.01, 0.1), negative_weight=None):
    """Value, gradient and settings, from the definition."""
    s, w1 = oracles.similarities(x), oracles.unit_weights(w, len(y))
    negatives = [
        s[i, j]
        for i in range(len(y))
        for j in range(i)
        if y[i] != y[j] and w1[i] > 0 and w1[j] > 0
    ]
    high, low = np.quantile(negatives, [1 - far_range[0], 1 - far_range[1]])
    margins = {"positive_margin": high, "negative_margin": low}
    slopes = oracles.finite_differences(lambda x: base(x, y, w), x)

    def of_tcm(**options):
        value, slopes = oracles.tcm_value_and_gradient(x, y, w, **margins, **options)
        return value, slopes, of_directions(slopes, x)

    of_base = of_directions(slopes, x)
    pull, push = of_tcm(negative_weight=0.0)[2], of_tcm(positive_weight=0.0)[2]
    alignment = (of_base * pull).sum() / np.sqrt((of_base**2).sum() * (pull**2).sum())
    is_free = negative_weight is None
    if is_free:
        neutral = -(pull * push).sum() / (push**2).sum()
        negative_weight = min(max(neutral, 6 * (alignment - 0.5), 0.0), 1.5)
    tcm, tcm_slopes, tcm_of_directions = of_tcm(negative_weight=negative_weight)
    ratio = size(of_base) / size(tcm_of_directions)
    weight = strength * ratio
    if is_free:
        loudest = longest(of_base) / longest(tcm_of_directions)
        weight = min(weight, 2 * strength * loudest)
    settings = {
        **margins,
        "tcm_weight": weight,
        "negative_weight": negative_weight,
        "gradient_ratio": ratio,
        "gradient_alignment": alignment,
    }
    return base(x, y, w) + weight * tcm, slopes + weight * tcm_slopes, settings


def push(x, y, w):
    return oracles.tcm(x, y, w, negative_margin=-0.99, positive_weight=0.0)


def smooth_ap(temperature):
    return lambda x, y, w: oracles.smooth_ap(x, y, w, temperature)


# Base loss, its definition, the seed of samples on which it is an example, and of what:
# what TCM adds rests on how far the base pulls positive pairs together by itself.
BASES = {
    "pulls most": (
        *(losses.SmoothAP(0.1), smooth_ap(0.1), 0),
        lambda alignment, negative_weight: negative_weight == 1.5,
    ),
    "pulls and pushes": (
        *(losses.MultiSimilarity(), oracles.multi_similarity, 0),
        lambda alignment, negative_weight: 0 < negative_weight < 1.5,
    ),
    "pulls, which would draw negative pairs nearer": (
        *(losses.SmoothAP(0.1), smooth_ap(0.1), 2),
        lambda alignment, negative_weight: (
            0.25 < alignment < 0.5 and negative_weight > 0
        ),
    ),
    "pulls little": (
        *(losses.SmoothAP(), smooth_ap(0.01), 1),
        lambda alignment, negative_weight: (
            0 < alignment < 0.25 and negative_weight == 0
        ),
    ),
    "pushes": (
        *(losses.TCM(0.9, -0.99, positive_weight=0.0), push, 2),
        lambda alignment, negative_weight: alignment < 0,
    ),
}


class TestRule:
    @pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
    @pytest.mark.parametrize("name", BASES)
    def test_value_and_gradient(self, value_and_grad, name, weights):
        loss, base, seed, is_there = BASES[name]
        x = np.random.default_rng(seed).normal(size=(12, 5)).astype("float32")
        loss = AutoTCM(loss)
        expected, slopes, settings = rule(x, LABELS, weights, base)
        value, gradient = value_and_grad(loss, LABELS, x, weights)
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=1e-5)
        found = loss.settings(LABELS, x, weights)
        for name, setting in settings.items():
            assert float(found[name]) == pytest.approx(setting, rel=1e-4, abs=1e-6)
        assert weights is not None or is_there(
            settings["gradient_alignment"], settings["negative_weight"]
        )

    @pytest.mark.parametrize("negative_weight", [0.0, 1.5])
    def test_options(self, value_and_grad, negative_weight):
        loss = AutoTCM(
            losses.SmoothAP(0.1),
            strength=0.2,
            far_range=(0.1, 0.5),
            negative_weight=negative_weight,
        )

        def base(x, y, w):
            return oracles.smooth_ap(x, y, w, temperature=0.1)

        value, gradient = value_and_grad(loss, LABELS, X)
        expected, slopes, _ = rule(
            X, LABELS, None, base, 0.2, (0.1, 0.5), negative_weight
        )
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=1e-5)

    def test_the_lengths_of_embeddings_are_left_to_the_base(self, value_and_grad):
        """A base that changes directions, and lengths, which TCM does not see."""
        towards = -np.arange(5, dtype="float32")

        class Towards(keras.losses.Loss):
            def call(self, y_true, y_pred):
                return keras.ops.matmul(y_pred, towards)

        value, gradient = value_and_grad(AutoTCM(Towards()), LABELS, X)
        expected, slopes, settings = rule(
            X, LABELS, None, lambda x, y, w: (x @ towards).mean()
        )
        assert settings["tcm_weight"] > 0
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=1e-5)

    def test_few_hard_pairs_do_not_shout(self, value_and_grad):
        """A base that pulls all pairs alike, and one sample that is out of place."""
        y = np.arange(30) // 3
        x = np.random.default_rng(0).normal(size=(30, 10), scale=0.2) + np.eye(10)[y]
        x[0] += x[3]
        x = x.astype("float32")
        expected, slopes, settings = rule(x, y, None, contrastive)
        assert 0 < settings["tcm_weight"] < 0.8 * 0.5 * settings["gradient_ratio"]
        loss = AutoTCM(losses.Contrastive())
        value, gradient = value_and_grad(loss, y, x)
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=2e-4, atol=1e-5)
        of_base, both = (
            longest(of_directions(value_and_grad(one, y, x)[1], x))
            for one in (loss.base, loss)
        )
        assert both <= 2 * of_base * (1 + 1e-4)
        # Held fixed, the terms have the weight of their mean lengths.
        fixed = AutoTCM(losses.Contrastive(), negative_weight=0.0).settings(y, x)
        assert float(fixed["tcm_weight"]) == pytest.approx(
            0.5 * float(fixed["gradient_ratio"]), rel=1e-5
        )

    def test_is_a_sum_with_margins_and_weight_held_fixed(self, value_and_grad):
        base = keras.losses.Circle(gamma=8)
        loss = AutoTCM(base)
        found = {k: float(v) for k, v in loss.settings(LABELS, X).items()}
        fixed = base + found["tcm_weight"] * tcm_of(found)
        value, gradient = value_and_grad(loss, LABELS, X)
        expected, slopes = value_and_grad(fixed, LABELS, X)
        assert value == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=1e-5)

    def test_shares_of_hard_pairs(self):
        found = AutoTCM(losses.MultiSimilarity()).settings(LABELS, X)
        s = oracles.similarities(X)
        pairs = [(i, j) for i in range(12) for j in range(i)]
        high, low = (
            float(found[f"{sign}_margin"]) for sign in ("positive", "negative")
        )
        positive = [s[i, j] <= high for i, j in pairs if LABELS[i] == LABELS[j]]
        negative = [s[i, j] >= low for i, j in pairs if LABELS[i] != LABELS[j]]
        assert float(found["hard_positives"]) == pytest.approx(np.mean(positive))
        assert float(found["hard_negatives"]) == pytest.approx(np.mean(negative))

    @pytest.mark.parametrize("factor", [1e-3, 1e4])
    def test_scale_of_the_base_does_not_matter(self, value_and_grad, factor):
        value, gradient = value_and_grad(AutoTCM(losses.Contrastive()), LABELS, X)
        scaled = AutoTCM(factor * losses.Contrastive())
        scaled_value, scaled_gradient = value_and_grad(scaled, LABELS, X)
        assert scaled_value == pytest.approx(factor * value, rel=1e-4)
        np.testing.assert_allclose(
            scaled_gradient, factor * gradient, rtol=1e-3, atol=1e-5 * factor
        )

    @settings(max_examples=20)
    @given(seed=st.integers(0, 99), strength=st.floats(0, 2))
    def test_length_of_the_gradients(self, seed, strength):
        x = np.random.default_rng(seed).normal(size=(12, 5)).astype("float32")
        found = AutoTCM(losses.MultiSimilarity(), strength).settings(LABELS, x)
        most = strength * float(found["gradient_ratio"])
        assert 0 <= float(found["tcm_weight"]) <= most * (1 + 1e-6)
        assert -1 <= float(found["gradient_alignment"]) <= 1
        assert -1 <= float(found["negative_margin"]) <= float(found["positive_margin"])
        assert float(found["positive_margin"]) <= 1 + 1e-6

    @settings(max_examples=20)
    @given(seed=st.integers(0, 99))
    def test_draws_no_hard_negative_pair_nearer(self, seed):
        x = np.random.default_rng(seed).normal(size=(12, 5)).astype("float32")
        # A direction that they have in common, as before a training.
        x += seed % 3
        found = AutoTCM(losses.MultiSimilarity()).settings(LABELS, x)
        found = {k: float(v) for k, v in found.items()}
        margins = {k: found[k] for k in ("positive_margin", "negative_margin")}
        tcm, push = (
            of_directions(
                oracles.tcm_value_and_gradient(x, LABELS, **margins, **weights)[1], x
            )
            for weights in (
                {"negative_weight": found["negative_weight"]},
                {"positive_weight": 0.0},
            )
        )
        cosine = (tcm * push).sum() / np.linalg.norm(tcm) / np.linalg.norm(push)
        assert cosine > -1e-4 or found["negative_weight"] == 1.5

    def test_no_strength(self, value_and_grad):
        loss = AutoTCM(losses.MultiSimilarity(), strength=0)
        value, gradient = value_and_grad(loss, LABELS, X)
        expected, slopes = value_and_grad(losses.MultiSimilarity(), LABELS, X)
        assert value == pytest.approx(expected, rel=1e-6)
        np.testing.assert_allclose(gradient, slopes, atol=1e-6)

    def test_large_batches_take_evenly_spaced_samples(self):
        rng = np.random.default_rng(0)
        y = np.arange(600) // 3
        x = rng.normal(size=(200, 8))[y] + rng.normal(size=(600, 8))
        found = AutoTCM(losses.MultiSimilarity()).settings(y, x.astype("float32"))
        some = np.arange(256) * 600 // 256
        *_, expected = rule(x[some], y[some], None, lambda x, y, w: x.sum())
        for name in "positive_margin", "negative_margin":
            assert float(found[name]) == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "x", "weights"),
    [
        pytest.param(np.arange(12), X, None, id="no positive pair"),
        pytest.param(np.zeros(12, int), X, None, id="no negative pair"),
        pytest.param(LABELS, np.ones((12, 5), "float32"), None, id="identical"),
        pytest.param(LABELS, np.zeros((12, 5), "float32"), None, id="zero"),
        pytest.param(LABELS, X, np.zeros(12, "float32"), id="no weight"),
        pytest.param(np.array([3]), X[:1], None, id="one sample"),
        pytest.param(np.array([3, 4]), X[:2], None, id="one negative pair"),
    ],
)
@pytest.mark.filterwarnings("ignore:The loss")
def test_degenerate_batches(value_and_grad, labels, x, weights):
    # No other test has batches as small: one program of all takes JAX least time.
    jit = len(x) < 12 and keras.backend.backend() == "jax"
    value, gradient = value_and_grad(
        AutoTCM(losses.MultiSimilarity()), labels, x, weights, jit=jit
    )
    expected, _ = value_and_grad(losses.MultiSimilarity(), labels, x, weights, jit=jit)
    assert np.isfinite(value)
    assert value >= expected - 1e-6
    assert np.isfinite(gradient).all()


def test_nan_comes_through(value_and_grad):
    x = X.copy()
    x[3, 2] = np.nan
    value, _ = value_and_grad(AutoTCM(losses.MultiSimilarity()), LABELS, x)
    assert np.isnan(value)


class TestForms:
    def test_rows(self, value_and_grad):
        loss = AutoTCM(losses.MultiSimilarity(reduction="none"))
        rows = keras.ops.convert_to_numpy(loss(LABELS, X))
        assert rows.shape == (12,)
        value, gradient = value_and_grad(AutoTCM(losses.MultiSimilarity()), LABELS, X)
        assert rows.mean() == pytest.approx(value, rel=1e-5)

        def mean(y, x, sample_weight=None):
            return keras.ops.mean(loss(y, x, sample_weight))

        _, slopes = value_and_grad(mean, LABELS, X)
        np.testing.assert_allclose(slopes, gradient, rtol=1e-4, atol=1e-6)

    def test_sum_over_the_batch(self, value_and_grad):
        value, gradient = value_and_grad(AutoTCM(losses.MultiSimilarity()), LABELS, X)
        total = AutoTCM(losses.MultiSimilarity(reduction="sum"))
        total_value, total_gradient = value_and_grad(total, LABELS, X)
        np.testing.assert_allclose(total_gradient, 12 * gradient, rtol=1e-4, atol=1e-4)
        assert total_value == pytest.approx(12 * value, rel=1e-5)

    def test_in_a_sum(self, value_and_grad):
        total = AutoTCM(losses.MultiSimilarity()) + 0.5 * losses.Contrastive()
        value, gradient = value_and_grad(total, LABELS, X)
        first = value_and_grad(AutoTCM(losses.MultiSimilarity()), LABELS, X)
        second = value_and_grad(losses.Contrastive(), LABELS, X)
        assert value == pytest.approx(first[0] + 0.5 * second[0], rel=1e-5)
        np.testing.assert_allclose(gradient, first[1] + 0.5 * second[1], atol=1e-5)

    def test_of_a_sum(self, value_and_grad):
        base = losses.MultiSimilarity() + keras.losses.Circle(gamma=4)
        value, _ = value_and_grad(AutoTCM(base), LABELS, X)
        assert value > value_and_grad(base, LABELS, X)[0]

    @pytest.mark.parametrize("block_size", [1, 5, 12])
    def test_blocks(self, value_and_grad, block_size):
        whole = value_and_grad(AutoTCM(losses.MultiSimilarity()), LABELS, X, WEIGHTS)
        loss = AutoTCM(losses.MultiSimilarity(), block_size=block_size)
        value, gradient = value_and_grad(loss, LABELS, X, WEIGHTS)
        assert value == pytest.approx(whole[0], rel=1e-5)
        np.testing.assert_allclose(gradient, whole[1], rtol=1e-4, atol=1e-6)

    # In blocks that are kept, in blocks of a given size, and, as from 4097 samples on,
    # in blocks that are computed anew, of more samples than settings are taken from.
    @pytest.mark.parametrize(
        ("size", "block_size", "max_kept"),
        [(150, None, 2**24), (40, 7, 2**24), (300, None, 2**16)],
        ids=["kept", "given", "anew"],
    )
    def test_compiled_in_blocks(
        self, size, block_size, max_kept, value_and_grad, monkeypatch
    ):
        if keras.backend.backend() == "torch":
            pytest.skip("torch runs eagerly: `torch_compiler` tests compile")
        monkeypatch.setattr("keras_tcm.ops.map_anchors._MAX_KEPT", max_kept)
        self.assert_compiled(size, block_size, value_and_grad)

    @pytest.mark.slow
    @pytest.mark.usefixtures("torch_compiler")
    def test_torch_compile(self, value_and_grad):
        self.assert_compiled(150, None, value_and_grad)

    def assert_compiled(self, size, block_size, value_and_grad):
        """The compiled loss is the sum with the margins and the weight that it has."""
        rng = np.random.default_rng(5)
        x = rng.normal(size=(size, 6)).astype("float32")
        labels = np.arange(size) % (size // 4)
        loss = AutoTCM(
            losses.MultiSimilarity(block_size=block_size), block_size=block_size
        )
        compiled = value_and_grad(loss, labels, x, jit=True)
        # TCM takes part, with a gradient that the base loss alone does not have.
        base = value_and_grad(losses.MultiSimilarity(), labels, x)
        assert np.abs(compiled[1] - base[1]).max() > 0.05 * np.abs(base[1]).max()
        settings = {
            name: float(keras.ops.convert_to_numpy(value))
            for name, value in loss.settings(labels, x).items()
        }
        fixed = value_and_grad(
            losses.MultiSimilarity() + settings["tcm_weight"] * tcm_of(settings),
            *(labels, x),
        )
        assert compiled[0] == pytest.approx(fixed[0], rel=1e-4)
        np.testing.assert_allclose(
            compiled[1], fixed[1], rtol=1e-3, atol=1e-4 * np.abs(fixed[1]).max()
        )

    def test_compiled(self, value_and_grad):
        if keras.backend.backend() == "torch":
            pytest.skip("torch runs eagerly: `torch_compiler` tests compile")
        loss = AutoTCM(losses.MultiSimilarity())
        value, gradient = value_and_grad(loss, LABELS, X, WEIGHTS)
        compiled = value_and_grad(loss, LABELS, X, WEIGHTS, jit=True)
        assert compiled[0] == pytest.approx(value, rel=1e-5)
        np.testing.assert_allclose(compiled[1], gradient, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision(self, value_and_grad, dtype):
        loss = AutoTCM(losses.MultiSimilarity())
        value, gradient = value_and_grad(loss, LABELS, X, dtype=dtype)
        expected, slopes = value_and_grad(loss, LABELS, X)
        assert value == pytest.approx(expected, rel=0.02)
        np.testing.assert_allclose(gradient, slopes, atol=0.02)

    def test_float64(self):
        x = keras.ops.convert_to_tensor(X.astype("float64"), dtype="float64")
        if keras.backend.standardize_dtype(x.dtype) != "float64":
            pytest.skip("JAX holds no float64 unless jax_enable_x64 is set")
        base = losses.MultiSimilarity(dtype="float64")
        value = float(AutoTCM(base, dtype="float64")(LABELS, x))
        expected = rule(X, LABELS, None, oracles.multi_similarity)[0]
        # The reference's slopes are finite differences.
        assert value == pytest.approx(expected, rel=1e-7)

    def test_relevance(self, value_and_grad):
        # Two levels of labels, of which the first counts.
        y = np.stack([LABELS % 2, LABELS], axis=1)
        base = losses.MultiSimilarity(relevance=keras_tcm.relevance.HierarchyLevel(0))
        found = AutoTCM(base).settings(y, X)
        relevant = y[:, None, 0] == y[None, :, 0]
        s = oracles.similarities(X)
        negatives = [s[i, j] for i in range(12) for j in range(i) if not relevant[i, j]]
        assert float(found["positive_margin"]) == pytest.approx(
            np.quantile(negatives, 0.99), abs=1e-6
        )
        value, _ = value_and_grad(AutoTCM(base), y, X)
        assert value > value_and_grad(base, y, X)[0]


class TestCosines:
    def model(self):
        keras.utils.set_random_seed(0)
        backbone = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8)])
        model = models.embedding_model(backbone, 4, num_classes=5)
        both = [model.output["embedding"], model.output["cosines"]]
        return keras.Model(model.input, keras.layers.Concatenate()(both))

    def test_value(self, value_and_grad):
        joined = keras.ops.convert_to_numpy(self.model()(X))
        loss = AutoTCM(losses.ArcFace(scale=8), embedding_dim=4)
        value, gradient = value_and_grad(loss, LABELS, joined)
        base, base_slopes = value_and_grad(
            losses.ArcFace(scale=8), LABELS, joined[:, 4:]
        )
        found = {k: float(v) for k, v in loss.settings(LABELS, joined).items()}
        tcm, tcm_slopes = value_and_grad(tcm_of(found), LABELS, joined[:, :4])
        weight = found["tcm_weight"]
        # Nothing tells how the base pulls and pushes the embeddings.
        assert (found["gradient_alignment"], found["negative_weight"]) == (0.0, 1.5)
        ratio = size(base_slopes) / size(of_directions(tcm_slopes, joined[:, :4]))
        assert weight == pytest.approx(0.5 * ratio, rel=1e-4)
        assert value == pytest.approx(base + weight * tcm, rel=1e-5)
        np.testing.assert_allclose(gradient[:, 4:], base_slopes, atol=1e-5)
        np.testing.assert_allclose(gradient[:, :4], weight * tcm_slopes, atol=1e-4)

    def test_fit(self):
        model = self.model()
        model.compile("sgd", loss=AutoTCM(losses.ArcFace(scale=8), embedding_dim=4))
        history = model.fit(X, LABELS, batch_size=12, epochs=2, verbose=0).history
        assert np.isfinite(history["loss"]).all()

    @pytest.mark.parametrize("width", [3, 4])
    def test_too_narrow(self, width):
        with pytest.raises(ValueError, match=r"embedding_dim=4.*y_pred.shape=\(12"):
            AutoTCM(losses.ArcFace(), embedding_dim=4)(LABELS, X[:, :width])


class TestTraining:
    def compiled(self, loss, trainer=lambda model: model, **options):
        keras.utils.set_random_seed(0)
        backbone = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8)])
        model = models.embedding_model(backbone, 4)
        model = trainer(model)
        model.compile(keras.optimizers.Adam(0.01), loss=loss, **options)
        return model

    def test_fit_saves_and_goes_on(self, tmp_path):
        # 20 samples in batches of 12: the last batch is smaller.
        x = np.concatenate([X, X[:8] + 0.1])
        y = np.concatenate([LABELS, LABELS[:8]])
        model = self.compiled(AutoTCM(losses.MultiSimilarity()))
        first = model.fit(x, y, batch_size=12, epochs=2, shuffle=False, verbose=0)
        model.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        assert restored.loss.get_config() == model.loss.get_config()
        expected = model.fit(x, y, batch_size=12, shuffle=False, verbose=0)
        found = restored.fit(x, y, batch_size=12, shuffle=False, verbose=0)
        assert found.history["loss"] == pytest.approx(
            expected.history["loss"], rel=1e-5
        )
        assert np.isfinite(first.history["loss"]).all()

    def test_mixed_precision(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = self.compiled(AutoTCM(losses.MultiSimilarity()))
            history = model.fit(X, LABELS, batch_size=12, epochs=2, verbose=0).history
        finally:
            keras.config.set_dtype_policy("float32")
        assert np.isfinite(history["loss"]).all()

    def test_memory(self):
        # The pairs with what is in memory count for margins and values.
        def remembering(model):
            return models.CrossBatchMemory(model, 24)

        plain = self.compiled(AutoTCM(losses.MultiSimilarity()))
        trainer = self.compiled(AutoTCM(losses.MultiSimilarity()), remembering)
        trained, reference = (
            model.fit(X, LABELS, batch_size=4, shuffle=False, epochs=3, verbose=0)
            for model in (trainer, plain)
        )
        assert np.isfinite(trained.history["loss"]).all()
        assert trained.history["loss"][0] != pytest.approx(
            reference.history["loss"][0], rel=1e-3
        )

    def test_memory_wants_it_on_the_embedding(self):
        backbone = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8)])
        model = models.embedding_model(backbone, 4, num_classes=5)
        trainer = models.CrossBatchMemory(model, 24)
        trainer.compile("sgd", loss={"cosines": AutoTCM(losses.MultiSimilarity())})
        with pytest.raises(ValueError, match="must have its pairwise losses on"):
            trainer.fit(
                X, {"cosines": LABELS, "embedding": LABELS}, batch_size=12, verbose=0
            )


@pytest.mark.parametrize(
    "loss",
    [
        lambda: AutoTCM(losses.MultiSimilarity()),
        lambda: AutoTCM(keras.losses.Circle(), 0.3, (0.02, 0.2), name="mine"),
        lambda: AutoTCM(losses.ArcFace(), embedding_dim=4, block_size=7),
        lambda: AutoTCM(losses.Contrastive(), negative_weight=0.5),
        lambda: AutoTCM(
            losses.SmoothAP() + 0.5 * losses.Contrastive(),
            relevance=keras_tcm.relevance.HierarchyLevel(1),
            dtype="float64",
        ),
    ],
)
def test_round_trip(loss):
    loss = loss()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is AutoTCM
    assert restored.get_config() == loss.get_config()


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"base": "mse"}, TypeError, "`base` must be a `keras.losses.Loss`.*'mse'"),
        ({"base": losses.MultiSimilarity}, TypeError, "`base` must be a"),
        ({"strength": -1}, ValueError, "`strength` must be a number in .*-1"),
        ({"strength": "strong"}, TypeError, "`strength` must be a number"),
        ({"negative_weight": -1}, ValueError, "`negative_weight` must be a number"),
        ({"far_range": (0.1, 0.01)}, ValueError, "`far_range` must be two increasing"),
        ({"far_range": 0.1}, TypeError, "`far_range` must be two increasing"),
        ({"embedding_dim": 0}, ValueError, "`embedding_dim` must be an integer >= 1"),
        ({"block_size": 0}, ValueError, "`block_size` must be an integer >= 1"),
    ],
)
def test_wrong_argument(arguments, error, match):
    with pytest.raises(error, match=match):
        AutoTCM(**{"base": losses.MultiSimilarity(), **arguments})


def test_one_mistake_is_told_once():
    loss = AutoTCM(keras.losses.Circle(gamma=1))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            loss(np.arange(12), X)
    assert ["no pair is positive" in str(each.message) for each in told] == [True]


def test_most_samples():
    # What the docstring says.
    assert str(auto_tcm._MAX_SAMPLES) in AutoTCM.__doc__
