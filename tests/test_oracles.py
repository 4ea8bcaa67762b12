"""The references agree with values worked by hand and with a peer library."""

import math

import numpy as np
import oracles
import pytest


def batch(seed=0, num=12, dim=5, num_classes=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, dim)), rng.integers(num_classes, size=num)


def planar(*degrees):
    """Unit vectors in the plane at the given angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


class TestTcm:
    def test_by_hand(self):
        # Positive pair at 60 degrees (s = 0.5): 0.9 - 0.5. The third vector has
        # s = 1 to the first (1 - 0.5) and s = 0.5 to the second (0.5 - 0.5); both hard.
        x, y = planar(0, 60, 0), [0, 0, 1]
        assert oracles.tcm(x, y) == pytest.approx(0.4 + (0.5 + 0.0) / 2)

    def test_only_hard_pairs_count(self):
        # Positive pairs: 10 degrees (s = 0.985 > 0.9, not hard), 50 and 60 degrees.
        x, y = planar(0, 10, 60), [7, 7, 7]
        expected = 0.9 - (math.cos(math.radians(50)) + 0.5) / 2
        assert oracles.tcm(x, y) == pytest.approx(expected)

    def test_weights_by_hand(self):
        # Pairs at 60, 90 and 30 degrees with weights 1 * 2, 1 * 3 and 2 * 3.
        x, y, w = planar(0, 60, 90), [0, 0, 0], [1, 2, 3]
        expected = (2 * 0.4 + 3 * 0.9 + 6 * (0.9 - math.sqrt(0.75))) / 11
        assert oracles.tcm(x, y, w) == pytest.approx(expected)

    def test_zero_vector_is_orthogonal_to_all(self):
        x = np.array([[0.0, 0.0], [1.0, 0.0]])
        assert oracles.tcm(x, [0, 0]) == pytest.approx(0.9)

    def test_gradient_by_finite_differences(self):
        x, y = batch()
        w = np.linspace(0, 2, len(y))
        options = {"positive_margin": 0.7, "negative_margin": 0.1, "negative_weight": 3}
        _, gradient = oracles.tcm_value_and_gradient(x, y, w, **options)
        expected = oracles.finite_differences(
            lambda x: oracles.tcm(x, y, w, **options), x
        )
        np.testing.assert_allclose(gradient, expected, atol=1e-8)

    def test_peer(self, pml):
        import torch
        from pytorch_metric_learning import losses

        for seed in range(5):
            x, y = batch(seed)
            peer = losses.ThresholdConsistentMarginLoss()
            value = peer(torch.tensor(x), torch.tensor(y)).item()
            assert oracles.tcm(x, y) == pytest.approx(value, abs=1e-9)


class TestAnchorLosses:
    def test_multi_similarity_by_hand(self):
        # s = 0.5 to the positive, s = 0 to the negative. epsilon = 0.1 mines nothing:
        # 0.5 >= 0 + 0.1 and 0 <= 0.5 - 0.1.
        x, y = planar(0, 60, -90), [0, 0, 1]
        first = math.log1p(1.0) / 2 + math.log1p(math.exp(-25)) / 50
        # The second has s = 0.5 and s = cos(150 degrees).
        far = math.cos(math.radians(150)) - 0.5
        second = math.log1p(1.0) / 2 + math.log1p(math.exp(50 * far)) / 50
        third = math.log1p(math.exp(-25) + math.exp(50 * far)) / 50
        value = oracles.multi_similarity(x, y, epsilon=None)
        assert value == pytest.approx((first + second + third) / 3)
        assert oracles.multi_similarity(x, y, epsilon=0.1) == 0.0

    def test_supervised_contrastive_by_hand(self):
        # With temperature 1: -log(e^0.5 / (e^0.5 + e^0)) for the first anchor.
        x, y = planar(0, 60, -90), [0, 0, 1]
        far = math.cos(math.radians(150))
        first = -math.log(math.exp(0.5) / (math.exp(0.5) + 1))
        second = -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(far)))
        value = oracles.supervised_contrastive(x, y, temperature=1.0)
        assert value == pytest.approx((first + second) / 2)

    def test_smooth_ap_by_hand(self):
        # The positive of the first query is nearer than its negative: AP = 1. The
        # second query has them the other way round: AP = 1/2.
        x, y = planar(0, 60, 80), [0, 0, 1]
        assert oracles.smooth_ap(x, y, temperature=1e-4) == pytest.approx(0.25)
        # One positive and one negative at the same similarity: rank 1 + sigmoid(0).
        x, y = planar(0, 60, -60), [0, 0, 1]
        assert oracles.smooth_ap(x, y, temperature=1e-4) == pytest.approx(
            ((1 - 1 / 1.5) + 0) / 2
        )

    def test_zero_weight_equals_removal(self):
        x, y = batch()
        y[:2] = 9
        w = np.ones(len(y))
        w[[1, 5]] = 0
        kept = w > 0
        for oracle in (
            oracles.multi_similarity,
            oracles.supervised_contrastive,
            oracles.smooth_ap,
        ):
            value = oracle(x, y, w, reduction="mean_with_sample_weight")
            assert value == pytest.approx(oracle(x[kept], y[kept]))

    @pytest.mark.parametrize("epsilon", [None, 0.1])
    def test_multi_similarity_peer(self, pml, epsilon):
        import torch
        from pytorch_metric_learning import losses, miners

        for seed in range(5):
            x, y = batch(seed)
            tensors = torch.tensor(x), torch.tensor(y)
            mined = None if epsilon is None else miners.MultiSimilarityMiner(epsilon)
            indices = None if mined is None else mined(*tensors)
            value = losses.MultiSimilarityLoss()(*tensors, indices).item()
            expected = oracles.multi_similarity(x, y, epsilon=epsilon)
            assert expected == pytest.approx(value, abs=1e-9)

    def test_supervised_contrastive_peer(self, pml):
        import torch
        from pytorch_metric_learning import losses

        for seed in range(5):
            x, y = batch(seed)
            y[0] = 99
            value = losses.SupConLoss()(torch.tensor(x), torch.tensor(y)).item()
            assert oracles.supervised_contrastive(x, y) == pytest.approx(value)

    def test_smooth_ap_peer_puts_the_query_into_its_retrieval_set(self, pml):
        import torch
        from pytorch_metric_learning import losses

        # The peer takes batch // classes for the number of classes, which holds where
        # there are as many classes as samples in each.
        x, _ = batch(num=16)
        y = np.repeat([0, 1, 2, 3], 4)
        value = losses.SmoothAPLoss()(torch.tensor(x), torch.tensor(y)).item()
        assert oracles.smooth_ap_with_query(x, y) == pytest.approx(value, abs=1e-6)
        # Retrieving oneself first is free precision: the paper's loss is larger.
        assert oracles.smooth_ap(x, y) > value + 0.01


class TestCosineLosses:
    def test_normalized_softmax_by_hand(self):
        value = oracles.normalized_softmax([[0.5, 0.0]], [0], temperature=0.5)
        assert value == pytest.approx(math.log1p(math.exp(-1)))

    def test_arcface_by_hand(self):
        # The target moves from 60 to 90 degrees, cosine 0; the other cosine is 0 too.
        value = oracles.arcface([[0.5, 0.0]], [0], margin=math.pi / 6, scale=10)
        assert value == pytest.approx(math.log(2))

    @pytest.mark.parametrize("name", ["arcface", "normalized_softmax"])
    def test_peer(self, pml, name):
        import torch
        from pytorch_metric_learning import losses

        x, y = batch()
        weights = np.random.default_rng(1).normal(size=(5, 4))
        # Angles to the own class past pi - margin as well.
        x[0] = -weights[:, y[0]]
        x[1] = weights[:, y[1]]
        if name == "arcface":
            peer = losses.ArcFaceLoss(4, 5, margin=math.degrees(0.5), scale=64)
        else:
            peer = losses.NormalizedSoftmaxLoss(4, 5, temperature=0.05)
        peer.W.data = torch.tensor(weights)
        value = peer(torch.tensor(x), torch.tensor(y)).item()
        cosines = oracles.normalize(x) @ oracles.normalize(weights.T).T
        assert getattr(oracles, name)(cosines, y) == pytest.approx(value)


class TestEvaluation:
    def test_opis_by_hand(self):
        # Class 0: one pair at cosine distance 0.5; class 1: one pair at distance 1.
        # All negatives are farther than 0.9 (the planes are orthogonal).
        x = np.zeros((4, 4))
        x[:2, :2] = planar(0, 60)
        x[2:, 2:] = planar(0, 90)
        y = [0, 0, 1, 1]
        result = oracles.evaluate(
            x, y, calibration_range=(0.4, 0.6), num_thresholds=3, far_targets=(0.5,)
        )
        # Sensitivity of class 0 at 0.4, 0.5, 0.6: 0, 1, 1; specificity 1; class 1: 0.
        np.testing.assert_allclose(result.utility, [[0, 1, 1], [0, 0, 0]])
        # (U - mean)^2 = 0, 1/4, 1/4; trapezoid (0 + 1/4)/2 + (1/4 + 1/4)/2, mean 3/16.
        assert result.opis == pytest.approx(3 / 16)
        assert result.epsilon_opis == pytest.approx(3 / 4)

    def test_utility_by_hand(self):
        assert oracles.utility(0.5, 1.0, beta=1) == pytest.approx(2 / 3)
        # beta = 2 weights sensitivity more: 5 * 0.5 / (4 * 1 + 0.5).
        assert oracles.utility(0.5, 1.0, beta=2) == pytest.approx(2.5 / 4.5)
        assert oracles.utility(0.0, 0.0, beta=1) == 0.0

    def test_equal_error_rate_by_hand(self):
        # At 0.3: 1 of 4 negatives accepted, 1 of 4 positives rejected.
        positives, negatives = [0.1, 0.2, 0.3, 0.7], [0.25, 0.6, 0.8, 0.9]
        assert oracles.equal_error_rate(positives, negatives) == pytest.approx(0.25)
        # At 0.5 both gaps are 1/2 with different sums: the first distance decides.
        assert oracles.equal_error_rate([0.1, 0.5], [0.1, 0.5]) == pytest.approx(0.5)
        assert oracles.equal_error_rate([0.1, 0.2], [0.3, 0.4]) == 0.0

    def test_operating_point_by_hand(self):
        positives, negatives = [0.1, 0.5], [0.2, 0.3, 0.4, 0.6]
        point = oracles.operating_point(positives, negatives, 0.5)
        assert (point.threshold, point.far, point.frr) == (0.4, 0.5, 0.5)
        assert not oracles.operating_point(positives, negatives, 0.24).resolved
        assert oracles.operating_point(positives, negatives, 0.25).far == 0.25
        # Tied negatives come in together or not at all.
        point = oracles.operating_point(positives, [0.3, 0.3, 0.3, 0.6], 0.5)
        assert (point.far, point.frr) == (0.0, 0.5)

    def test_retrieval_by_hand(self):
        # From 0 degrees: 10 (own class), 20 (other), 30 (own): ranks 1 and 3, R = 2.
        x, y = planar(0, 10, 20, 30), [0, 0, 1, 0]
        recall, map_at_r = oracles.retrieval(x, y, ks=(1, 2))
        # 0: AP@2 = (1/1) / 2. 10: ties 0 and 20 at 10 degrees, the negative first, then
        # 0 at rank 2: (1/2) / 2. 30: the negative, then 10 at rank 2: (1/2) / 2.
        assert map_at_r == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
        assert recall == {1: pytest.approx(1 / 3), 2: 1.0}

    def test_retrieval_peer(self, pml):
        import torch

        accuracy = pytest.importorskip(
            "pytorch_metric_learning.utils.accuracy_calculator"
        )
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.utils.inference import CustomKNN

        x, y = batch(num=40)
        calculator = accuracy.AccuracyCalculator(
            include=("precision_at_1", "mean_average_precision_at_r"),
            k="max_bin_count",
            knn_func=CustomKNN(CosineSimilarity()),
        )
        peer = calculator.get_accuracy(torch.tensor(x), torch.tensor(y))
        recall, map_at_r = oracles.retrieval(x, list(y))
        assert recall[1] == pytest.approx(peer["precision_at_1"])
        assert map_at_r == pytest.approx(peer["mean_average_precision_at_r"])
