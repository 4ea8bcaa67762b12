"""The base losses against the float64 references and a peer library."""

import json
import math

import keras
import loss_references
import numpy as np
import oracles
import pytest

from keras_tcm import losses, metrics

LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 4, 2])
WEIGHTS = np.array([1, 0, 2, 0.5, 1, 1, 0, 3, 1, 0.1, 1, 1], "float32")
REDUCTIONS = ("sum_over_batch_size", "mean_with_sample_weight", "sum")

# Name: loss class, reference, options, absolute tolerance of the gradient. The slopes
# of Smooth-AP reach 1 / temperature, and with them the rounding of the similarities.
ANCHOR_LOSSES = {
    "multi-similarity": (
        losses.MultiSimilarity,
        oracles.multi_similarity,
        {},
        1e-4,
    ),
    "multi-similarity-all-pairs": (
        losses.MultiSimilarity,
        oracles.multi_similarity,
        {"epsilon": None},
        1e-4,
    ),
    "multi-similarity-options": (
        losses.MultiSimilarity,
        oracles.multi_similarity,
        {"alpha": 3.0, "beta": 20.0, "base": 0.2, "epsilon": 0.3},
        1e-4,
    ),
    "supervised-contrastive": (
        losses.SupervisedContrastive,
        oracles.supervised_contrastive,
        {},
        1e-4,
    ),
    "supervised-contrastive-cold": (
        losses.SupervisedContrastive,
        oracles.supervised_contrastive,
        {"temperature": 0.005},
        1e-3,
    ),
    "smooth-ap": (losses.SmoothAP, oracles.smooth_ap, {}, 2e-3),
    "smooth-ap-warm": (losses.SmoothAP, oracles.smooth_ap, {"temperature": 0.2}, 1e-4),
    "contrastive": (
        losses.Contrastive,
        loss_references.contrastive,
        {"margin": 1.3},
        1e-4,
    ),
    "triplet-semi-hard": (
        losses.TripletMargin,
        loss_references.triplet_margin,
        {"margin": 0.7},
        1e-4,
    ),
    "triplet-batch-hard": (
        losses.TripletMargin,
        loss_references.triplet_margin,
        {"mining": "batch_hard"},
        1e-4,
    ),
    "triplet-all": (
        losses.TripletMargin,
        loss_references.triplet_margin,
        {"mining": "all"},
        1e-4,
    ),
    "recall-at-k": (losses.RecallAtK, loss_references.recall_at_k, {}, 2e-3),
    "recall-at-k-options": (
        losses.RecallAtK,
        loss_references.recall_at_k,
        {"k": [1, 3], "temperature": 0.2, "rank_temperature": 0.5},
        1e-4,
    ),
}
COSINE_LOSSES = {
    "arcface": (losses.ArcFace, oracles.arcface, {}, 1e-3),
    "arcface-options": (
        losses.ArcFace,
        oracles.arcface,
        {"margin": 0.2, "scale": 8.0},
        1e-4,
    ),
    "cosface": (losses.CosFace, loss_references.cos_face, {}, 1e-3),
    "cosface-options": (
        losses.CosFace,
        loss_references.cos_face,
        {"margin": 0.1, "scale": 8.0},
        1e-4,
    ),
    "proxy-anchor": (losses.ProxyAnchor, loss_references.proxy_anchor, {}, 1e-3),
    "proxy-anchor-options": (
        losses.ProxyAnchor,
        loss_references.proxy_anchor,
        {"margin": 0.3, "scale": 4.0},
        1e-4,
    ),
    "normalized-softmax": (
        losses.NormalizedSoftmax,
        oracles.normalized_softmax,
        {},
        1e-4,
    ),
    "normalized-softmax-warm": (
        losses.NormalizedSoftmax,
        oracles.normalized_softmax,
        {"temperature": 0.5},
        1e-4,
    ),
}


def embeddings(seed=0, num=12, dim=5):
    return np.random.default_rng(seed).normal(size=(num, dim)).astype("float32")


def _batches():
    zeros = embeddings(3)
    zeros[[0, 5]] = 0.0
    identical = np.repeat(embeddings(4)[:1], 12, axis=0)
    return {
        "random": (embeddings(0), LABELS, None),
        "weights": (embeddings(1), LABELS, WEIGHTS),
        "weights-all-zero": (embeddings(1), LABELS, np.zeros(12, "float32")),
        "no-positive-pair": (embeddings(0), np.arange(12), None),
        "no-negative-pair": (embeddings(0), np.full(12, 7), None),
        "one-sample": (embeddings(0, num=1), np.array([3]), None),
        "zero-vectors": (zeros, LABELS, None),
        "all-identical": (identical, LABELS, None),
        "labels-beyond-float32": (embeddings(2), LABELS + 2**24, None),
        "labels-negative": (embeddings(2), -LABELS, None),
    }


BATCHES = _batches()


@pytest.fixture(params=ANCHOR_LOSSES)
def anchor_loss(request):
    return ANCHOR_LOSSES[request.param]


@pytest.fixture(params=COSINE_LOSSES)
def cosine_loss(request):
    return COSINE_LOSSES[request.param]


class TestAnchorLosses:
    @pytest.mark.parametrize("batch", BATCHES)
    def test_value(self, anchor_loss, batch):
        loss, oracle, options, _ = anchor_loss
        x, y, w = BATCHES[batch]
        for reduction in REDUCTIONS:
            expected = oracle(x, y, w, reduction=reduction, **options)
            value = loss(reduction=reduction, **options)(y, x, sample_weight=w)
            assert float(value) == pytest.approx(expected, rel=2e-5, abs=2e-5)
        rows = loss(reduction="none", **options)(y, x, sample_weight=w)
        rows = keras.ops.convert_to_numpy(rows)
        expected = oracle(x, y, w, **options)
        assert rows.shape == (len(y),)
        assert rows.mean() == pytest.approx(expected, rel=2e-5, abs=2e-5)

    @pytest.mark.parametrize("batch", ["random", "weights", "no-negative-pair"])
    def test_gradient_by_finite_differences(self, value_and_grad, anchor_loss, batch):
        loss, oracle, options, tolerance = anchor_loss
        x, y, w = BATCHES[batch]
        expected = oracles.finite_differences(lambda x: oracle(x, y, w, **options), x)
        value, gradient = value_and_grad(loss(**options), y, x, w)
        assert value == pytest.approx(oracle(x, y, w, **options), rel=2e-5, abs=2e-5)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=tolerance)

    @pytest.mark.parametrize(
        "name",
        [
            "multi-similarity",
            "smooth-ap",
            "triplet-batch-hard",
            "recall-at-k-options",
        ],
    )
    def test_compiled(self, value_and_grad, name):
        if keras.backend.backend() == "torch":
            pytest.skip("torch runs eagerly")
        loss, _, options, tolerance = ANCHOR_LOSSES[name]
        x, y, w = BATCHES["weights"]
        value, gradient = value_and_grad(loss(**options), y, x, w)
        compiled, compiled_gradient = value_and_grad(loss(**options), y, x, w, jit=True)
        assert compiled == pytest.approx(value, rel=2e-5, abs=2e-5)
        np.testing.assert_allclose(compiled_gradient, gradient, atol=tolerance)

    @pytest.mark.parametrize(
        "batch",
        [
            "no-positive-pair",
            "one-sample",
            "zero-vectors",
            "all-identical",
            "weights-all-zero",
        ],
    )
    def test_corner_gradients_are_finite(self, value_and_grad, anchor_loss, batch):
        loss, _, options, _ = anchor_loss
        x, y, w = BATCHES[batch]
        _, gradient = value_and_grad(loss(**options), y, x, w)
        assert np.all(np.isfinite(gradient))
        if batch == "zero-vectors":
            assert np.all(gradient[[0, 5]] == 0.0)
        if batch in ("one-sample", "weights-all-zero"):
            assert np.all(gradient == 0.0)

    def test_zero_weight_equals_removal(self, value_and_grad, anchor_loss):
        loss, _, options, tolerance = anchor_loss
        loss = loss(reduction="mean_with_sample_weight", **options)
        x, y, w = BATCHES["weights"]
        kept = w > 0
        value, gradient = value_and_grad(loss, y, x, w)
        alone, gradient_alone = value_and_grad(loss, y[kept], x[kept], w[kept])
        assert value == pytest.approx(alone, rel=1e-5, abs=1e-5)
        np.testing.assert_allclose(gradient[kept], gradient_alone, atol=tolerance)
        assert np.all(gradient[~kept] == 0.0)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_input(self, value_and_grad, anchor_loss, dtype):
        loss, oracle, options, _ = anchor_loss
        x, y, w = BATCHES["weights"]
        rounded = keras.ops.cast(keras.ops.convert_to_tensor(x), dtype)
        rounded = keras.ops.convert_to_numpy(keras.ops.cast(rounded, "float32"))
        value, gradient = value_and_grad(loss(**options), y, x, w, dtype=dtype)
        expected = oracle(rounded, y, w, **options)
        assert value == pytest.approx(expected, rel=2e-5, abs=2e-5)
        assert np.all(np.isfinite(gradient))

    def test_order_norm_and_names_do_not_matter(self, anchor_loss):
        loss, _, options, _ = anchor_loss
        x, y, w = BATCHES["weights"]
        order = np.random.default_rng(0).permutation(12)
        names = np.array([2**25 + 1, 2**25, -1, 17, 0])
        scaled = x * np.logspace(-3, 3, 12, dtype="float32")[:, None]
        value = float(loss(**options)(y, x, sample_weight=w))
        other = loss(**options)(names[y][order], scaled[order], sample_weight=w[order])
        assert float(other) == pytest.approx(value, rel=2e-5, abs=2e-5)

    def test_config_round_trip(self, anchor_loss):
        loss, _, options, _ = anchor_loss
        loss = loss(reduction="sum", name="other", dtype="float16", **options)
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
        restored = keras.saving.deserialize_keras_object(config)
        assert type(restored) is type(loss)
        assert restored.get_config() == loss.get_config()
        assert {**restored.get_config(), **options} == restored.get_config()
        assert (restored.reduction, restored.dtype) == ("sum", "float16")


def test_loss_and_metric_of_one_name():
    for each in (losses.RecallAtK(k=3), metrics.RecallAtK(k=3)):
        config = keras.saving.serialize_keras_object(each)
        assert type(keras.saving.deserialize_keras_object(config)) is type(each)


def test_recall_at_k_by_hand():
    # One class at 0, 30 and 100 degrees, another at 65. The positives of the queries
    # rank (1, 3), (1, 3) and (2, 3); the fourth has none. Recall at 1, 2 and 3, where
    # a rank equal to k counts by half: 1/2, 1/2 and 3/4 twice, then 0, 1/4 and 3/4.
    angles = np.radians([0, 30, 100, 65])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    loss = losses.RecallAtK(k=(1, 2, 3), temperature=1e-3, rank_temperature=0.02)
    expected = 1 - (2 * (1 / 2 + 1 / 2 + 3 / 4) + (0 + 1 / 4 + 3 / 4)) / 9
    assert float(loss([0, 0, 0, 1], x)) == pytest.approx(expected, abs=1e-5)


class TestPeer:
    @pytest.mark.parametrize("epsilon", [None, 0.1])
    @pytest.mark.parametrize("seed", range(3))
    def test_multi_similarity(self, pml, seed, epsilon):
        import torch
        from pytorch_metric_learning import losses as peers
        from pytorch_metric_learning import miners

        x = embeddings(seed, num=32, dim=8)
        y = np.random.default_rng(seed).integers(6, size=32)
        tensors = torch.tensor(x), torch.tensor(y)
        mined = None
        if epsilon is not None:
            mined = miners.MultiSimilarityMiner(epsilon)(*tensors)
        expected = peers.MultiSimilarityLoss()(*tensors, mined).item()
        value = float(losses.MultiSimilarity(epsilon=epsilon)(y, x))
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)

    @pytest.mark.parametrize("seed", range(3))
    def test_supervised_contrastive(self, pml, seed):
        import torch
        from pytorch_metric_learning import losses as peers

        x = embeddings(seed, num=32, dim=8)
        y = np.random.default_rng(seed).integers(6, size=32)
        y[0] = 99
        expected = peers.SupConLoss()(torch.tensor(x), torch.tensor(y)).item()
        value = float(losses.SupervisedContrastive()(y, x))
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)

    def test_smooth_ap_leaves_the_query_out(self, pml):
        import torch
        from pytorch_metric_learning import losses as peers

        x, y = embeddings(0, num=16), np.repeat(np.arange(4), 4)
        peer = peers.SmoothAPLoss()(torch.tensor(x), torch.tensor(y)).item()
        value = float(losses.SmoothAP()(y, x))
        assert peer == pytest.approx(oracles.smooth_ap_with_query(x, y), abs=1e-4)
        assert value == pytest.approx(oracles.smooth_ap(x, y), abs=1e-4)
        assert value > peer + 0.01

    @pytest.mark.parametrize("seed", range(3))
    def test_contrastive(self, pml, seed):
        import torch
        from pytorch_metric_learning import distances
        from pytorch_metric_learning import losses as peers

        class Squared(peers.ContrastiveLoss):
            """The peer's, with the squares and halves of the paper."""

            def get_per_pair_loss(self, *args):
                return super().get_per_pair_loss(*args) ** 2 / 2

        x = embeddings(seed, num=32, dim=8)
        y = np.random.default_rng(seed).integers(6, size=32)
        peer = Squared(distance=distances.LpDistance(), neg_margin=1.2)
        expected = peer(torch.tensor(x), torch.tensor(y)).item()
        value = float(losses.Contrastive(margin=1.2)(y, x))
        assert value == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("mining", ["batch_hard", "semi_hard", "all"])
    @pytest.mark.parametrize("margin", [0.2, 0.05])
    def test_triplet_margin(self, pml, mining, margin):
        import torch
        from pytorch_metric_learning import distances, miners
        from pytorch_metric_learning import losses as peers

        x = embeddings(1, num=32, dim=8)
        y = np.random.default_rng(1).integers(6, size=32)
        tensors = torch.tensor(x), torch.tensor(y)
        distance = distances.LpDistance(power=2)
        mined = {
            "batch_hard": lambda: miners.BatchHardMiner(distance=distance)(*tensors),
            "semi_hard": lambda: miners.TripletMarginMiner(
                margin, "semihard", distance=distance
            )(*tensors),
            "all": lambda: None,
        }[mining]()
        peer = peers.TripletMarginLoss(margin, distance=distance)
        expected = peer(*tensors, mined).item()
        value = float(losses.TripletMargin(margin, mining)(y, x))
        assert value == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        "name", ["ArcFace", "CosFace", "NormalizedSoftmax", "ProxyAnchor"]
    )
    def test_cosine_losses(self, pml, value_and_grad, name):
        import torch
        from pytorch_metric_learning import losses as peers

        x, weights = embeddings(0), embeddings(1, num=5, dim=5)
        # Angles to the own class past pi - margin as well.
        x[0] = -weights[:, LABELS[0]] + 0.01
        peer = {
            "ArcFace": lambda: peers.ArcFaceLoss(5, 5, margin=28.6478897565, scale=64),
            "CosFace": lambda: peers.CosFaceLoss(5, 5),
            "NormalizedSoftmax": lambda: peers.NormalizedSoftmaxLoss(5, 5),
            "ProxyAnchor": lambda: peers.ProxyAnchorLoss(5, 5),
        }[name]()
        if name == "ProxyAnchor":
            peer.proxies.data = torch.tensor(weights.T.copy())
        else:
            peer.W.data = torch.tensor(weights)
        tensor = torch.tensor(x)
        expected = peer(tensor, torch.tensor(LABELS)).item()
        cosines = oracles.normalize(x) @ oracles.normalize(weights.T).T
        value, _ = value_and_grad(getattr(losses, name)(), LABELS, cosines)
        assert value == pytest.approx(expected, rel=1e-5)


def cosines(seed=0):
    return np.random.default_rng(seed).uniform(-0.95, 0.95, (12, 5)).astype("float32")


class TestCosineLosses:
    @pytest.mark.parametrize("weights", [None, WEIGHTS])
    def test_value_and_gradient(self, value_and_grad, cosine_loss, weights):
        loss, oracle, options, tolerance = cosine_loss
        c = cosines()
        # Past pi - margin the target is linear in the cosine.
        c[0, LABELS[0]] = -0.99
        for reduction in REDUCTIONS:
            expected = oracle(c, LABELS, weights, reduction=reduction, **options)
            value = loss(reduction=reduction, **options)(
                LABELS, c, sample_weight=weights
            )
            assert float(value) == pytest.approx(expected, rel=1e-5)
        rows = loss(reduction="none", **options)(LABELS, c, sample_weight=weights)
        rows = keras.ops.convert_to_numpy(rows)
        expected = oracle(c, LABELS, weights, **options)
        assert rows.shape == (12,)
        assert rows.mean() == pytest.approx(expected, rel=1e-5)
        gradient = oracles.finite_differences(
            lambda c: oracle(c, LABELS, weights, **options), c
        )
        _, actual = value_and_grad(loss(**options), LABELS, c, weights)
        np.testing.assert_allclose(actual, gradient, rtol=1e-3, atol=tolerance)

    @pytest.mark.parametrize("extreme", [1.0, -1.0, 1.0000002, -1.0000002])
    def test_gradient_is_finite_at_the_ends(self, value_and_grad, cosine_loss, extreme):
        loss, oracle, options, _ = cosine_loss
        c = cosines()
        c[np.arange(12), LABELS] = extreme
        value, gradient = value_and_grad(loss(**options), LABELS, c)
        # Rounding a cosine of 1 to float32 moves its angle by 3e-4 already.
        expected = oracle(c, LABELS, **options)
        assert value == pytest.approx(expected, rel=1e-2, abs=1e-5)
        assert np.all(np.isfinite(gradient))

    @pytest.mark.parametrize("label", [-1, 5, 2**24])
    def test_label_outside_gives_nan(self, cosine_loss, label):
        loss, oracle, options, _ = cosine_loss
        y = LABELS.copy()
        y[4] = label
        rows = loss(reduction="none", **options)(y, cosines())
        rows = keras.ops.convert_to_numpy(rows)
        assert np.isnan(rows[4])
        others = np.delete(np.arange(12), 4)
        expected = oracle(cosines()[others], y[others], reduction="sum", **options)
        assert rows[others].sum() == pytest.approx(expected, rel=1e-5)

    def test_half_precision_input(self, value_and_grad, cosine_loss):
        loss, oracle, options, _ = cosine_loss
        rounded = cosines().astype("float16")
        value, gradient = value_and_grad(
            loss(**options), LABELS[:, None], rounded, dtype="float16"
        )
        assert value == pytest.approx(oracle(rounded, LABELS, **options), rel=1e-5)
        assert np.all(np.isfinite(gradient))

    def test_compiled(self, value_and_grad):
        if keras.backend.backend() == "torch":
            pytest.skip("torch runs eagerly")
        value, _ = value_and_grad(losses.ArcFace(), LABELS, cosines(), jit=True)
        assert value == pytest.approx(oracles.arcface(cosines(), LABELS), rel=1e-5)

    def test_config_round_trip(self, cosine_loss):
        loss, _, options, _ = cosine_loss
        loss = loss(reduction="sum", name="other", dtype="float16", **options)
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
        restored = keras.saving.deserialize_keras_object(config)
        assert type(restored) is type(loss)
        assert restored.get_config() == loss.get_config()
        assert {**restored.get_config(), **options} == restored.get_config()

    def test_zero_margin_is_the_normalized_softmax(self):
        arcface = losses.ArcFace(margin=0.0, scale=20.0)(LABELS, cosines())
        softmax = losses.NormalizedSoftmax(temperature=0.05)(LABELS, cosines())
        assert float(arcface) == pytest.approx(float(softmax), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "options", "argument"),
    [
        (losses.MultiSimilarity, {"alpha": 0.0}, "alpha"),
        (losses.MultiSimilarity, {"beta": -1.0}, "beta"),
        (losses.MultiSimilarity, {"base": math.nan}, "base"),
        (losses.MultiSimilarity, {"epsilon": -0.1}, "epsilon"),
        (losses.SupervisedContrastive, {"temperature": 0.0}, "temperature"),
        (losses.SmoothAP, {"temperature": -1.0}, "temperature"),
        (losses.SmoothAP, {"temperature": "low"}, "temperature"),
        (losses.ArcFace, {"margin": -0.1}, "margin"),
        (losses.ArcFace, {"margin": 28.6}, "margin"),
        (losses.ArcFace, {"scale": 0.0}, "scale"),
        (losses.NormalizedSoftmax, {"temperature": 0.0}, "temperature"),
        (losses.Contrastive, {"margin": 0.0}, "margin"),
        (losses.Contrastive, {"margin": 2.1}, "margin"),
        (losses.TripletMargin, {"margin": 0.0}, "margin"),
        (losses.TripletMargin, {"mining": "hard"}, "mining"),
        (losses.RecallAtK, {"k": 0}, "k"),
        (losses.RecallAtK, {"k": []}, "k"),
        (losses.RecallAtK, {"k": "1"}, "k"),
        (losses.RecallAtK, {"k": (1, 2.0)}, "k"),
        (losses.RecallAtK, {"temperature": 0.0}, "temperature"),
        (losses.RecallAtK, {"rank_temperature": 0.0}, "rank_temperature"),
        (losses.CosFace, {"margin": -0.1}, "margin"),
        (losses.CosFace, {"scale": 0.0}, "scale"),
        (losses.ProxyAnchor, {"margin": 28.6}, "margin"),
        (losses.ProxyAnchor, {"scale": -1.0}, "scale"),
    ],
)
def test_wrong_argument(loss, options, argument):
    with pytest.raises(
        (ValueError, TypeError), match=rf"(?s)`{argument}`.*Received: {argument}="
    ):
        loss(**options)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (losses.TCM, "tcm"),
        (losses.MultiSimilarity, "multi_similarity"),
        (losses.SmoothAP, "smooth_ap"),
        (losses.RecallAtK, "recall_at_k"),
        (losses.SupervisedContrastive, "supervised_contrastive"),
        (losses.Contrastive, "contrastive"),
        (losses.TripletMargin, "triplet_margin"),
        (losses.ArcFace, "arc_face"),
        (losses.CosFace, "cos_face"),
        (losses.NormalizedSoftmax, "normalized_softmax"),
        (losses.ProxyAnchor, "proxy_anchor"),
    ],
)
class TestOptions:
    """The arguments that the base classes share."""

    def test_default_name(self, loss, name):
        assert [loss().name, loss().name] == [name, name]
        assert loss(name=None).name == name
        assert loss(name="other").name == "other"

    def test_all_come_back(self, loss, name):
        options = {"reduction": "sum", "name": "n", "dtype": "float64", "gather": False}
        if issubclass(loss, losses.PairwiseLoss):
            options["block_size"] = 3
        config = loss(**options).get_config()
        assert options.items() <= config.items()
        assert loss.from_config(config).get_config() == config

    def test_unknown_argument(self, loss, name):
        with pytest.raises(TypeError, match="'blocksize'"):
            loss(blocksize=3)
        with pytest.raises(TypeError, match="'margins'"):
            loss(margins=0.3, reduction="sum")
