"""What an `Evaluation` answers, and how it is kept in files."""

import dataclasses
import json

import numpy as np
import oracles
import pytest

from keras_tcm import Evaluation, evaluate_embeddings

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(20), 8)
X = RNG.normal(size=(20, 6))[LABELS]
X = X + RNG.uniform(0.4, 1.6, 20)[LABELS, None] * RNG.normal(size=X.shape)


def evaluate(**options):
    return evaluate_embeddings(X, LABELS, verbose=False, **options)


@pytest.fixture(scope="module")
def result():
    return evaluate(far_targets=(0.3, 0.01, 1e-9), epsilon=0.25)


class TestOperatingPoint:
    @pytest.mark.parametrize("place", range(3))
    def test_it_is_that_of_the_target(self, result, place):
        point = result.operating_points[place]
        assert result.operating_point(point.far_target) is point

    def test_a_target_that_is_not_resolved(self, result):
        assert not result.operating_point(1e-9).resolved

    def test_another_target(self, result):
        message = r"`far` .*\[0\.3, 0\.01, 1e-09\].*Received: far=0\.1$"
        with pytest.raises(ValueError, match=message):
            result.operating_point(0.1)

    def test_no_targets(self):
        with pytest.raises(ValueError, match=r"`far` .*`far_targets`, \[\]"):
            evaluate(far_targets=()).operating_point(0.01)

    def test_no_far(self, result):
        with pytest.raises(TypeError, match="`far`"):
            result.operating_point("0.01")
        with pytest.raises(ValueError, match="`far`"):
            result.operating_point(0.0)


class TestWorstClasses:
    def test_share_of_opis(self, result):
        shares = result.opis_per_class.tolist()
        expected = sorted(range(20), key=lambda i: -shares[i])
        for n in 1, 7, 20, 50:
            assert result.worst_classes(n).tolist() == expected[:n]

    def test_utility(self, result):
        means = [
            oracles.integrate(curve, result.thresholds) for curve in result.utility
        ]
        expected = sorted(range(20), key=lambda i: means[i])
        assert result.worst_classes(9, by="utility").tolist() == expected[:9]

    def test_number_is_that_of_epsilon_opis(self, result):
        """And so are the classes: the gap to the others is epsilon-OPIS."""
        worst = result.worst_classes(by="utility")
        assert len(worst) == 5
        rest = np.setdiff1d(np.arange(20), worst)
        gaps = [result.utility[some].mean(axis=0) for some in (worst, rest)]
        width = result.thresholds[-1] - result.thresholds[0]
        gap = oracles.integrate(np.square(gaps[0] - gaps[1]), result.thresholds) / width
        assert gap == pytest.approx(result.epsilon_opis)

    def test_the_first_of_equal_ones(self, result):
        equal = dataclasses.replace(result, opis_per_class=np.zeros(20))
        assert equal.worst_classes(3).tolist() == [0, 1, 2]

    def test_mistakes(self, result):
        with pytest.raises(ValueError, match="`n` must be an integer >= 1"):
            result.worst_classes(0)
        with pytest.raises(TypeError, match="`n`"):
            result.worst_classes(1.5)
        with pytest.raises(ValueError, match="`by` must be one of 'opis', 'utility'"):
            result.worst_classes(1, by="far")


def test_utility_curves_go_on_beyond_the_calibration_range(result):
    thresholds, utility = result.utility_curves()
    assert utility.shape == (20, len(thresholds))
    low, high = result.calibration_range
    inside = (thresholds >= low) & (thresholds <= high)
    assert not inside.all()
    places = np.searchsorted(thresholds, result.thresholds)
    np.testing.assert_allclose(utility[:, places], result.utility, atol=1e-6)
    for place in np.flatnonzero(~inside)[::20]:
        rates = result.rates_at(thresholds[place])
        expected = [
            oracles.utility(1 - frr, 1 - far, 1.0)
            for far, frr in zip(rates.per_class_far, rates.per_class_frr, strict=True)
        ]
        np.testing.assert_allclose(utility[:, place], expected, atol=1e-6)


class TestFiles:
    def path(self, tmp_path, result, **changes):
        path = tmp_path / "result.json"
        values = {**result.to_dict(), **changes}
        path.write_text(json.dumps({k: v for k, v in values.items() if v != "drop"}))
        return path

    def test_version_stands_beside_the_format(self, result):
        values = result.to_dict()
        assert (values["format"], values["version"]) == ("keras_tcm.Evaluation", 2)

    @pytest.mark.parametrize("version", [0, 3, "2.0", None, "drop"])
    def test_another_version(self, tmp_path, result, version):
        path = self.path(tmp_path, result, version=version)
        with pytest.raises(ValueError, match=r"`path`.*version 2.*version=") as caught:
            Evaluation.load(path)
        assert "evaluate again" in str(caught.value.__cause__)

    @pytest.mark.parametrize(
        ("content", "cause"),
        [
            ("", json.JSONDecodeError),
            ("{", json.JSONDecodeError),
            ("[1, 2]", ValueError),
            ("{}", ValueError),
            ('{"format": "another", "version": 1}', ValueError),
        ],
    )
    def test_errors_keep_their_cause(self, tmp_path, content, cause):
        path = tmp_path / "result.json"
        path.write_text(content)
        with pytest.raises(ValueError, match="`path` must be a file") as caught:
            Evaluation.load(path)
        assert type(caught.value.__cause__) is cause
        assert str(caught.value.__cause__) in str(caught.value)

    def test_bytes_that_are_no_text(self, tmp_path):
        path = tmp_path / "result.json"
        path.write_bytes(b"\xff\xfe")
        with pytest.raises(ValueError, match="`path` must be a file") as caught:
            Evaluation.load(path)
        assert isinstance(caught.value.__cause__, UnicodeDecodeError)

    def test_a_field_too_many(self, tmp_path, result):
        path = self.path(tmp_path, result, more=1)
        with pytest.raises(ValueError, match=r"`path`.*Received: .*where `values`"):
            Evaluation.load(path)

    def test_whole_or_not_at_all(self, tmp_path, result):
        path = tmp_path / "result.json"
        result.save(path)
        before = path.read_bytes()
        broken = dataclasses.replace(result, recall={1: float("inf")})
        with pytest.raises(ValueError, match="JSON"):
            broken.save(path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
