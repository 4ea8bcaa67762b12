"""Pairwise losses between two towers, against loops over (query, item) pairs."""

import json

import keras
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from two_tower_references import (
    TWO_TOWER_LOSSES,
    info_nce,
    learned,
    of_both_sides,
    sig_lip,
    tcm,
)

import keras_tcm
from keras_tcm import layers, losses, models

BACKEND = keras.backend.backend()
# Two rows share a label here and there; most are alone with theirs.
LABELS = np.array([0, 1, 2, 3, 0, 1, 5, 6])
WEIGHTS = np.array([1, 0, 2, 0.5, 1, 1, 0.1, 3], "float32")
REDUCTIONS = ("sum_over_batch_size", "mean_with_sample_weight", "sum")


def towers(seed=0, num=8, dim=4):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(num, dim))
    items = queries + rng.normal(size=(num, dim))
    return np.stack([queries, items], axis=1).astype("float32")


@pytest.fixture(params=TWO_TOWER_LOSSES)
def two_tower_loss(request):
    return TWO_TOWER_LOSSES[request.param]


class TestPairwiseLosses:
    @pytest.mark.parametrize("labels", [LABELS, np.arange(8)], ids=["classes", "rows"])
    @pytest.mark.parametrize("anchors", ["both", "queries", "gallery"])
    def test_value(self, two_tower_loss, anchors, labels):
        loss, oracle, options = two_tower_loss
        options = {**options, "anchors": anchors}
        x = towers()
        for w in (None, WEIGHTS):
            for reduction in REDUCTIONS:
                expected = oracle(x, labels, w, reduction=reduction, **options)
                value = loss(reduction=reduction, **options)(labels, x, w)
                assert float(value) == pytest.approx(expected, rel=2e-5, abs=2e-5)
        rows = keras.ops.convert_to_numpy(
            loss(reduction="none", **options)(labels, x, WEIGHTS)
        )
        assert rows.shape == (8,)
        expected = oracle(x, labels, WEIGHTS, **options)
        assert rows.mean() == pytest.approx(expected, rel=2e-5, abs=2e-5)

    def test_gradient_by_finite_differences(self, value_and_grad, two_tower_loss):
        loss, oracle, options = two_tower_loss
        x = towers(1)
        expected = oracles.finite_differences(
            lambda x: oracle(x, LABELS, WEIGHTS, **options), x
        )
        _, gradient = value_and_grad(loss(**options), LABELS, x, WEIGHTS)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=2e-4)
        # In blocks, compiled where there is a compiler.
        blocked = loss(block_size=3, **options)
        jit = BACKEND == "jax"
        _, in_blocks = value_and_grad(blocked, LABELS, x, WEIGHTS, jit=jit)
        np.testing.assert_allclose(in_blocks, gradient, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", ["multi-similarity", "info-nce", "sig-lip"])
    def test_compiled(self, value_and_grad, name):
        if BACKEND == "torch":
            pytest.skip("torch runs eagerly")
        loss, _, options = TWO_TOWER_LOSSES[name]
        value, gradient = value_and_grad(loss(**options), LABELS, towers(), WEIGHTS)
        compiled = value_and_grad(loss(**options), LABELS, towers(), WEIGHTS, jit=True)
        assert compiled[0] == pytest.approx(value, rel=2e-5)
        np.testing.assert_allclose(compiled[1], gradient, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    @pytest.mark.parametrize("name", ["tcm", "info-nce", "sig-lip"])
    def test_half_precision(self, value_and_grad, name, dtype):
        loss, oracle, options = TWO_TOWER_LOSSES[name]
        x = keras.ops.cast(keras.ops.convert_to_tensor(towers()), dtype)
        rounded = keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
        value, gradient = value_and_grad(
            loss(**options), LABELS, towers(), WEIGHTS, dtype=dtype
        )
        expected = oracle(rounded, LABELS, WEIGHTS, **options)
        assert value == pytest.approx(expected, rel=2e-5)
        assert np.all(np.isfinite(gradient))

    @pytest.mark.filterwarnings("ignore:The loss")
    @pytest.mark.parametrize(
        ("x", "y"),
        [
            pytest.param(towers(num=1), np.array([4]), id="one row"),
            pytest.param(towers(), np.full(8, 3), id="no negative pair"),
            pytest.param(np.zeros((8, 2, 4), "f"), LABELS, id="zero"),
            pytest.param(np.ones((8, 2, 4), "f"), LABELS, id="identical"),
        ],
    )
    def test_corner_batches(self, value_and_grad, two_tower_loss, x, y):
        loss, oracle, options = two_tower_loss
        value, gradient = value_and_grad(loss(**options), y, x)
        assert value == pytest.approx(oracle(x, y, **options), rel=2e-5, abs=2e-5)
        assert np.all(np.isfinite(gradient))

    def test_nan_of_either_tower_comes_through(self, two_tower_loss):
        loss, _, options = two_tower_loss
        for row in 0, 1:
            x = towers()
            x[3, row, 2] = np.nan
            assert np.isnan(float(loss(**options)(LABELS, x)))

    def test_zero_weight_equals_removal(self, two_tower_loss):
        loss, _, options = two_tower_loss
        loss = loss(reduction="mean_with_sample_weight", **options)
        kept = WEIGHTS > 0
        value = float(loss(LABELS, towers(), WEIGHTS))
        alone = float(loss(LABELS[kept], towers()[kept], WEIGHTS[kept]))
        assert value == pytest.approx(alone, rel=1e-5, abs=1e-6)

    def test_config_round_trip(self, two_tower_loss):
        loss, _, options = two_tower_loss
        loss = loss(anchors="gallery", **options)
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
        restored = keras.saving.deserialize_keras_object(config)
        assert restored.get_config() == loss.get_config()
        assert restored.anchors == "gallery"

    @settings(max_examples=15)
    @given(seed=st.integers(0, 99))
    def test_sides(self, seed):
        """Turned round, queries are items; both is the mean of the two."""
        x, turned = towers(seed), towers(seed)[:, ::-1]
        for name in ("multi-similarity", "info-nce", "smooth-ap"):
            loss, _, options = TWO_TOWER_LOSSES[name]
            queries = float(loss(anchors="queries", **options)(LABELS, x))
            gallery = float(loss(anchors="gallery", **options)(LABELS, x))
            both = float(loss(**options)(LABELS, x))
            assert both == pytest.approx((queries + gallery) / 2, rel=1e-5)
            other = float(loss(anchors="queries", **options)(LABELS, turned))
            assert other == pytest.approx(gallery, rel=1e-5)


class TestOneTowerTwice:
    """A query and its item are one vector: their pair has similarity 1."""

    @pytest.mark.parametrize(
        "loss",
        [
            # A positive pair above the margin is no hard pair.
            losses.TCM(0.6, 0.1),
            # Its softplus is nearly 0.
            losses.SigLIP(scale=100.0, bias=-50.0),
            # The nearest positive is never the hardest.
            losses.TripletMargin(mining="batch_hard"),
        ],
        ids=lambda loss: loss.name,
    )
    def test_equals_one_tower(self, value_and_grad, loss):
        # Every sample has another of its class.
        labels = np.array([0, 1, 2, 3, 0, 1, 2, 3])
        x = towers()[:, 0]
        twice = np.stack([x, x], axis=1)
        value, gradient = value_and_grad(loss, labels, twice)
        one, one_gradient = value_and_grad(loss, labels, x)
        assert value == pytest.approx(one, rel=1e-5)
        np.testing.assert_allclose(gradient.sum(axis=1), one_gradient, atol=1e-4)

    def test_mean_over_positives_differs(self):
        x = towers()[:, 0]
        twice = np.stack([x, x], axis=1)
        for loss in losses.Contrastive(), losses.SupervisedContrastive():
            assert float(loss(LABELS, twice)) != pytest.approx(float(loss(LABELS, x)))


class TestOneTower:
    """InfoNCE and SigLIP on the samples of one tower."""

    CASES = (
        (losses.InfoNCE(0.5), info_nce, {"temperature": 0.5}),
        (losses.SigLIP(4.0, -1.0), sig_lip, {"scale": 4.0, "bias": -1.0}),
    )

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].name)
    def test_value_and_gradient(self, value_and_grad, case):
        loss, oracle, options = case
        x = towers()[:, 0]
        value, gradient = value_and_grad(loss, LABELS, x, WEIGHTS)
        expected = oracles.finite_differences(
            lambda x: oracle(x, LABELS, WEIGHTS, **options), x
        )
        assert value == pytest.approx(oracle(x, LABELS, WEIGHTS, **options), rel=2e-5)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


class TestSums:
    def test_terms_share_one_pass(self, monkeypatch):
        from keras_tcm.losses import pairwise_loss

        calls = []

        def map_anchors(*args):
            calls.append(args)
            return original(*args)

        original = pairwise_loss.map_anchors
        terms = [
            losses.InfoNCE(),
            losses.TCM(0.6, 0.1),
            losses.MultiSimilarity(anchors="queries"),
        ]
        expected = sum(float(loss(LABELS, towers())) for loss in terms)
        monkeypatch.setattr(pairwise_loss, "map_anchors", map_anchors)
        assert float(sum(terms)(LABELS, towers())) == pytest.approx(expected, rel=1e-5)
        # One for the queries, one for the items.
        assert len(calls) == 2
        calls.clear()
        float((losses.TCM() + losses.SigLIP())(LABELS, towers()))
        # Every pair is the same from both sides.
        assert len(calls) == 1

    def test_relevance_has_the_query_first(self):
        matrix = np.eye(7, dtype=bool)
        matrix[0, 1] = True
        relevance = keras_tcm.relevance.ClassRelevance(matrix)
        x = towers()
        s = oracles.similarities(x[:, 0], x[:, 1])
        total = 0.0
        for i, query in enumerate(LABELS):
            for j, item in enumerate(LABELS):
                z = 1 if matrix[query, item] else -1
                total += np.log1p(np.exp(-z * (10 * s[i, j] - 5)))
        for anchors in ("both", "queries", "gallery"):
            loss = losses.SigLIP(10.0, -5.0, relevance=relevance, anchors=anchors)
            assert float(loss(LABELS, x)) == pytest.approx(total / 8, rel=1e-5)


LEARNED = {
    "info-nce": (
        losses.InfoNCE(temperature=None),
        learned(
            of_both_sides(info_nce), lambda query, item: {"temperature": 1 / query}
        ),
    ),
    "sig-lip": (
        losses.SigLIP(scale=None, bias=None),
        learned(
            of_both_sides(sig_lip),
            lambda query, item: {"scale": query, "bias": 10 * np.log(item)},
        ),
    ),
}


class TestLearnedScale:
    @pytest.mark.parametrize("name", LEARNED)
    def test_value_and_gradient(self, value_and_grad, name):
        loss, oracle = LEARNED[name]
        stack = layers.StackTowers(scale=6.0, bias=-3.0)
        x = towers()
        y_pred = keras.ops.convert_to_numpy(stack([x[:, 0], x[:, 1]]))
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(keras.ops.stack(stack.logit_scale(y_pred))),
            [6.0, -3.0],
            rtol=1e-5,
        )
        value, gradient = value_and_grad(loss, LABELS, y_pred, WEIGHTS)
        expected = oracles.finite_differences(
            lambda x: oracle(x, LABELS, WEIGHTS), y_pred
        )
        assert value == pytest.approx(oracle(y_pred, LABELS, WEIGHTS), rel=2e-5)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)

    def test_equals_the_fixed_one(self):
        x = towers()
        y_pred = layers.StackTowers(scale=20.0, bias=-7.0)([x[:, 0], x[:, 1]])
        for one, other in (
            (losses.InfoNCE(None), losses.InfoNCE(1 / 20)),
            (losses.SigLIP(None, None), losses.SigLIP(20.0, -7.0)),
        ):
            value = float(other(LABELS, x, WEIGHTS))
            assert float(one(LABELS, y_pred, WEIGHTS)) == pytest.approx(value, rel=1e-5)
            # The lengths mean nothing to it.
            assert float(other(LABELS, y_pred, WEIGHTS)) == pytest.approx(
                value, rel=1e-5
            )

    @pytest.mark.parametrize("name", LEARNED)
    def test_fit_learns_it(self, name, tmp_path):
        loss = keras_tcm.AutoTCM(LEARNED[name][0])
        inputs = [keras.Input((4,)), keras.Input((4,))]
        stack = layers.StackTowers(scale=5.0, bias=-5.0)
        outputs = stack([keras.layers.Dense(4)(each) for each in inputs])
        model = keras.Model(inputs, outputs)
        metrics = [keras_tcm.metrics.RecallAtK(1)]
        model.compile(keras.optimizers.Adam(0.01), loss=loss, metrics=metrics)
        x = towers(num=40)
        data = [x[:, 0], x[:, 1]]
        model.fit(data, np.arange(40), batch_size=20, epochs=2, verbose=0)
        scale, bias = (float(v) for v in stack.logit_scale(model.predict(data)))
        assert scale != pytest.approx(5.0, abs=1e-3)
        if name == "sig-lip":
            assert bias != pytest.approx(-5.0, abs=1e-3)
        model.save(tmp_path / "model.keras")
        restored = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(
            restored.predict(data, verbose=0), model.predict(data, verbose=0), rtol=1e-5
        )
        assert restored.loss.get_config() == loss.get_config()


class TestAutoTCM:
    def rule(self, x, w, base, strength=0.5):
        """Value, margins and weights, from the definition."""
        s = oracles.similarities(x[:, 0], x[:, 1])
        kept = [i for i in range(len(x)) if w[i] > 0]
        negatives = [s[i, j] for i in kept for j in kept if LABELS[i] != LABELS[j]]
        high, low = np.quantile(negatives, [0.99, 0.9])
        regulariser = of_both_sides(tcm)

        def of_tcm(x, **options):
            margins = {"positive_margin": high, "negative_margin": low}
            return regulariser(x, LABELS, w, **margins, **options)

        def slopes_of_tcm(**options):
            return oracles.finite_differences(lambda x: of_tcm(x, **options), x)

        def size(slopes):
            return np.linalg.norm(slopes, axis=-1).mean()

        def longest(slopes):
            return np.linalg.norm(slopes, axis=-1).max()

        slopes = oracles.finite_differences(lambda x: base(x, LABELS, w), x)
        pull = slopes_of_tcm(negative_weight=0.0)
        push = slopes_of_tcm(positive_weight=0.0)
        alignment = (slopes * pull).sum()
        alignment /= np.linalg.norm(slopes) * np.linalg.norm(pull)
        neutral = -(pull * push).sum() / (push**2).sum()
        negative_weight = min(max(neutral, 6 * (alignment - 0.5), 0.0), 1.5)
        options = {"negative_weight": negative_weight}
        both = slopes, slopes_of_tcm(**options)
        ratio, loudest = (
            measure(both[0]) / measure(both[1]) for measure in (size, longest)
        )
        weight = strength * min(ratio, 2 * loudest)
        value = base(x, LABELS, w) + weight * of_tcm(x, **options)
        return value, (high, low), (weight, negative_weight)

    @pytest.mark.parametrize("name", ["multi-similarity", "info-nce-warm", "sig-lip"])
    def test_rule(self, name):
        loss, base, options = TWO_TOWER_LOSSES[name]
        # On unit vectors, the gradient of directions is that of the vectors.
        x = keras.ops.convert_to_numpy(keras_tcm.ops.l2_normalize(towers()))
        auto = keras_tcm.AutoTCM(loss(**options))
        expected, margins, weights = self.rule(
            x, WEIGHTS, lambda x, y, w: base(x, y, w, **options)
        )
        found = auto.settings(LABELS, x, WEIGHTS)
        assert float(found["tcm_weight"]) == pytest.approx(weights[0], rel=1e-4)
        assert float(found["negative_weight"]) == pytest.approx(weights[1], rel=1e-3)
        assert float(found["positive_margin"]) == pytest.approx(margins[0], abs=1e-6)
        assert float(found["negative_margin"]) == pytest.approx(margins[1], abs=1e-6)
        assert float(auto(LABELS, x, WEIGHTS)) == pytest.approx(expected, rel=1e-4)

    def test_monitor(self):
        auto = keras_tcm.AutoTCM(losses.InfoNCE())
        monitor = keras_tcm.metrics.AutoTCMMonitor(auto)
        monitor.update_state(LABELS, towers())
        found = {name: float(value) for name, value in monitor.result().items()}
        expected = auto.settings(LABELS, towers())
        for name, value in expected.items():
            assert found[name] == pytest.approx(float(value), rel=1e-5)

    def test_lengths_do_not_matter(self, value_and_grad):
        x = towers()
        lengths = np.random.default_rng(0).uniform(0.1, 10, (8, 2, 1)).astype("float32")
        auto = keras_tcm.AutoTCM(losses.InfoNCE())
        weight = float(auto.settings(LABELS, x)["tcm_weight"])
        other = float(auto.settings(LABELS, lengths * x)["tcm_weight"])
        assert other == pytest.approx(weight, rel=1e-4)

    def test_learned_scale_does_not_change_the_weight(self):
        x = towers()
        y_pred = layers.StackTowers(scale=20.0)([x[:, 0], x[:, 1]])
        fixed = keras_tcm.AutoTCM(losses.InfoNCE(1 / 20)).settings(LABELS, x)
        found = keras_tcm.AutoTCM(losses.InfoNCE(None)).settings(LABELS, y_pred)
        for name, value in fixed.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-4)


class TestMemory:
    def test_partners_of_both_towers(self):
        """The third batch meets the two before it, each tower those of the other."""
        inputs = [keras.Input((4,)), keras.Input((4,))]
        model = keras.Model(inputs, layers.StackTowers()(inputs))
        trainer = models.CrossBatchMemory(model, memory_size=16)
        trainer.compile(loss=losses.InfoNCE(0.5) + losses.TCM(0.6, 0.1))
        labels = np.random.default_rng(0).integers(0, 6, (3, 8))
        batches = [towers(seed) for seed in range(3)]
        for x, y in zip(batches, labels, strict=True):
            # Keras 3.12 returns the mean since the last reset.
            trainer.reset_metrics()
            found = trainer.train_on_batch([x[:, 0], x[:, 1]], y)
        x = np.concatenate([batches[2], batches[0], batches[1]])
        y = np.concatenate([labels[2], labels[0], labels[1]])
        s = oracles.similarities(x[:, 0], x[:, 1])
        values = []
        for side in (s, s.T):
            total = pull = push = num_pull = num_push = 0.0
            for i in range(8):
                same = [j for j in range(24) if y[j] == y[i]]
                log_sum = np.log(np.sum(np.exp(side[i] / 0.5)))
                total += log_sum - np.mean([side[i, j] / 0.5 for j in same])
                for j in range(24):
                    if y[i] == y[j] and side[i, j] <= 0.6:
                        pull, num_pull = pull + 0.6 - side[i, j], num_pull + 1
                    if y[i] != y[j] and side[i, j] >= 0.1:
                        push, num_push = push + side[i, j] - 0.1, num_push + 1
            values.append(total / 8 + pull / num_pull + push / num_push)
        assert float(found) == pytest.approx(np.mean(values), rel=1e-5)


class TestMistakes:
    @pytest.mark.parametrize("shape", [(8, 3, 4), (8, 1, 4), (8, 2, 4, 1), (8,)])
    def test_shape(self, shape):
        with pytest.raises(ValueError, match=r"\(batch, 2, dimension\) for two towers"):
            losses.TCM()(LABELS, np.ones(shape, "float32"))

    def test_memory_of_another_number_of_towers(self):
        inputs = keras.Input((3, 4))
        model = keras.Model(inputs, keras.layers.Dense(4)(inputs))
        with pytest.raises(ValueError, match=r"\(batch, 2, dimension\) of two towers"):
            models.CrossBatchMemory(model, 8)

    def test_losses_of_cosines_have_one_tower(self):
        with pytest.raises(ValueError, match=r"shape \(batch, dimension\)"):
            losses.ArcFace()(LABELS, towers())

    def test_labels(self):
        with pytest.raises(ValueError, match="as many rows as `y_pred`, 8"):
            losses.TCM()(LABELS[:5], towers())

    @pytest.mark.parametrize("loss", [losses.InfoNCE(None), losses.SigLIP(None, None)])
    def test_learned_scale_of_one_tower(self, loss):
        with pytest.raises(ValueError, match="StackTowers"):
            loss(LABELS, towers()[:, 0])

    @pytest.mark.parametrize(
        ("make", "match"),
        [
            (lambda: losses.SigLIP(scale=None), "both be numbers or both be None"),
            (lambda: losses.SigLIP(scale=0), "scale"),
            (lambda: losses.InfoNCE(temperature=-1), "temperature"),
            (lambda: losses.TCM(anchors="query"), "anchors"),
            (lambda: keras_tcm.AutoTCM(losses.InfoNCE(), embedding_dim=2), "y_pred"),
        ],
    )
    def test_arguments(self, make, match):
        with pytest.raises(ValueError, match=match):
            make()(LABELS, towers())

    def test_rows_alone_with_their_labels_are_no_mistake(self, recwarn):
        losses.InfoNCE()(np.arange(8), towers())
        assert not [w for w in recwarn if "no pair is positive" in str(w.message)]

    def test_no_negative_pair(self):
        with pytest.warns(UserWarning, match="no pair is negative"):
            losses.InfoNCE()(np.zeros(8, int), towers())
