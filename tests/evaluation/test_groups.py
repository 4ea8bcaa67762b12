"""Groups of classes at one threshold, against all of their pairs in float64."""

import dataclasses
import math

import numpy as np
import oracles
import pytest

from keras_tcm import Evaluation, evaluate_embeddings
from keras_tcm.evaluation import ClassErrors, Inequity
from keras_tcm.relevance import HierarchyLevel, SharedLabel

AT = (0.2, 0.5)
BOTH = ("both_ends", "one_end")


def samples(seed=0, sizes=(6, 4, 5, 3, 1, 7, 2, 6, 5, 4, 1, 3, 8, 2, 5, 4)):
    """Classes of several sizes, some of one sample, in groups of unequal spread."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    groups = np.array(["north", "south", "east"])[labels % 3]
    spread = np.where(groups == "south", 0.9, 0.4)[:, None]
    x = rng.normal(size=(len(sizes), 6))[labels]
    x = x + spread * rng.normal(size=x.shape)
    order = rng.permutation(len(x))
    return x[order], labels[order], groups[order]


X, Y, GROUPS = samples()


def evaluate(**options):
    options = {"groups": GROUPS, "at_thresholds": AT, **options}
    return evaluate_embeddings(X, Y, **options)


def oracle(x, y, is_member, pairs, thresholds):
    """FAR and FRR of each class, and of the group, at each threshold."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    distances = 1.0 - unit @ unit.T
    same = y[:, None] == y
    other = np.ones(len(x), bool) if pairs == "one_end" else is_member
    counted = [c for c in np.unique(y[is_member]) if (y == c).sum() > 1]
    found = []
    for threshold in thresholds:
        accepted = distances <= threshold + oracles.TIE
        wrong, negatives, rejected, positives = [], [], [], []
        for c in counted:
            negative = (y == c)[:, None] & ~same & other
            positive = (y == c)[:, None] & same & ~np.eye(len(y), dtype=bool)
            wrong.append((accepted & negative).sum())
            negatives.append(negative.sum())
            rejected.append((~accepted & positive).sum())
            positives.append(positive.sum())
        wrong, negatives = np.array(wrong), np.array(negatives)
        rejected, positives = np.array(rejected), np.array(positives)
        far = wrong.sum() / negatives.sum()
        if pairs == "both_ends":
            # Classes of one sample, too, have pairs in the group.
            within = is_member[:, None] & is_member & ~same
            far = (accepted & within).sum() / within.sum()
        frr = rejected.sum() / positives.sum()
        found.append((far, frr, wrong / negatives, rejected / positives))
    return found


@pytest.mark.parametrize("pairs", BOTH)
@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_rates_against_all_pairs(pairs, distance):
    result = evaluate(group_pairs=pairs, distance=distance, beta=2.0)
    assert [group.label for group in result.groups] == ["east", "north", "south"]
    assert result.group_pairs == pairs
    for group in result.groups:
        is_member = group.label == GROUPS
        points = (*group.operating_points[1:], *group.at_thresholds)
        thresholds = [oracles.to_cosine(p.threshold, distance) for p in points]
        expected = oracle(X, Y, is_member, pairs, thresholds)
        assert group.num_samples == is_member.sum()
        assert group.num_classes == len(expected[0][2])
        for point, (far, frr, *_) in zip(points, expected, strict=True):
            assert point.far == pytest.approx(far, abs=1e-12)
            assert point.frr == pytest.approx(frr, abs=1e-12)
            utility = oracles.utility(1 - frr, 1 - far, 2.0)
            assert point.utility == pytest.approx(utility, abs=1e-12)


@pytest.mark.parametrize("pairs", BOTH)
def test_opis_against_all_pairs(pairs):
    result = evaluate(group_pairs=pairs, num_thresholds=11)
    for group in result.groups:
        is_member = group.label == GROUPS
        expected = oracle(X, Y, is_member, pairs, result.thresholds)
        curves = np.array(
            [
                [
                    oracles.utility(1 - frr, 1 - far, 1.0)
                    for far, frr in zip(fars, frrs, strict=True)
                ]
                for _, _, fars, frrs in expected
            ]
        ).T
        opis = np.mean(
            [
                oracles.integrate((curve - curves.mean(axis=0)) ** 2, result.thresholds)
                for curve in curves
            ]
        )
        opis /= result.thresholds[-1] - result.thresholds[0]
        assert group.opis == pytest.approx(opis, rel=1e-5)
        low, high = group.opis_interval
        assert low < group.opis < high


@pytest.mark.parametrize("pairs", BOTH)
def test_thresholds_are_those_of_all(pairs):
    result = evaluate(group_pairs=pairs)
    alone = evaluate(groups=None)
    for group in result.groups:
        for points, known in (
            (group.operating_points, alone.operating_points),
            (group.at_thresholds, alone.at_thresholds),
        ):
            found = [(p.far_target, p.threshold) for p in points]
            np.testing.assert_equal(found, [(p.far_target, p.threshold) for p in known])
    assert result.opis == alone.opis
    assert alone.groups == ()
    assert alone.group_pairs is None


@pytest.mark.parametrize("pairs", BOTH)
def test_one_group_has_the_rates_and_intervals_of_all(pairs):
    keep = np.isin(Y, np.flatnonzero(np.bincount(Y) > 1))
    x, y = X[keep], Y[keep]
    result = evaluate_embeddings(
        x, y, groups=["all"] * len(y), group_pairs=pairs, at_thresholds=AT
    )
    (group,) = result.groups
    assert group.opis == pytest.approx(result.opis, rel=1e-9)
    assert group.opis_interval == pytest.approx(result.intervals["opis"], rel=1e-6)
    assert group.num_positive_pairs == result.num_positive_pairs
    times = 1 if pairs == "both_ends" else 2
    assert group.num_negative_pairs == times * result.num_negative_pairs
    for found, known in zip(group.at_thresholds, result.at_thresholds, strict=True):
        assert found.far == pytest.approx(known.far, abs=1e-12)
        assert found.frr == pytest.approx(known.frr, abs=1e-12)
        for name in ("far", "frr"):
            assert found.intervals[name] == pytest.approx(known.intervals[name])
    assert result.at_thresholds[0].group_inequity is None


def test_groups_within_are_evaluations_of_their_samples():
    result = evaluate()
    for group in result.groups:
        is_member = group.label == GROUPS
        alone = evaluate_embeddings(
            X[is_member],
            Y[is_member],
            calibration_range=result.calibration_range,
            at_thresholds=AT,
        )
        assert group.opis == pytest.approx(alone.opis, rel=1e-9)
        assert group.opis_interval == pytest.approx(alone.intervals["opis"], rel=1e-9)
        for found, known in zip(group.at_thresholds, alone.at_thresholds, strict=True):
            assert found.far == pytest.approx(known.far, abs=1e-12)
            assert found.frr == pytest.approx(known.frr, abs=1e-12)
            assert found.intervals["far"] == pytest.approx(known.intervals["far"])
            assert found.intervals["frr"] == pytest.approx(known.intervals["frr"])


def test_intervals_of_one_end_cover_other_classes_of_the_group():
    # The FAR of a pair of classes is 0.3 and what either of them adds; 12 of 60 classes
    # are in the group, and all are drawn anew.
    rng = np.random.default_rng(0)
    num_classes, num_members, covered, draws = 60, 12, 0, 400
    share = (num_members - 1) / (num_classes - 1)
    for _ in range(draws):
        effect = 0.05 * rng.normal(size=num_classes)
        table = 0.3 + effect[:, None] + effect
        np.fill_diagonal(table, 0.0)
        errors = table[:num_members].sum(axis=1, keepdims=True)
        ends = math.sqrt(1 + 3 * share)
        pairs = np.full(num_members, num_classes - 1.0)
        of_group = ClassErrors(
            errors, pairs, errors.sum(axis=0) / ends, pairs.sum() / ends, ends
        )
        low, high = of_group.intervals(0.95)[0]
        covered += low <= 0.3 <= high
    assert 0.92 <= covered / draws <= 0.98


@pytest.mark.parametrize("pairs", BOTH)
def test_inequity_of_groups(pairs):
    result = evaluate(group_pairs=pairs)
    for place, point in enumerate(result.at_thresholds):
        found = [group.at_thresholds[place] for group in result.groups]
        assert point.group_inequity == Inequity.of(
            [p.far for p in found],
            [p.frr for p in found],
            [group.num_negative_pairs for group in result.groups],
            [group.num_positive_pairs for group in result.groups],
        )
        assert point.group_inequity.frr_max_to_min > 1.0


class TestSmallGroups:
    def evaluate(self, pairs):
        # "one" has a single class of several samples; "none" has none.
        groups = np.array(["rest", "one", "none"], object)[
            np.select([Y == 0, Y == 4], [1, 2], 0)
        ]
        result = evaluate(groups=groups.tolist(), group_pairs=pairs)
        return result, {group.label: group for group in result.groups}

    @pytest.mark.parametrize("pairs", BOTH)
    def test_what_is_not_defined_is_nan(self, pairs):
        result, groups = self.evaluate(pairs)
        assert groups["none"].num_classes == 0
        assert groups["none"].num_samples == 1
        assert math.isnan(groups["none"].at_thresholds[0].frr)
        one = groups["one"]
        assert one.num_classes == 1
        assert math.isnan(one.opis)
        assert one.opis_interval is None
        point = one.at_thresholds[1]
        assert point.intervals is None
        assert math.isnan(point.far) == (pairs == "both_ends")
        assert math.isnan(point.utility) == (pairs == "both_ends")
        frr = result.at_thresholds[1].per_class_frr[list(result.classes).index(0)]
        assert point.frr == frr
        # Two groups have both rates if pairs with one end count.
        known = result.at_thresholds[1].group_inequity
        assert (known is None) == (pairs == "both_ends")
        assert "groups" in result.summary()

    @pytest.mark.parametrize("pairs", BOTH)
    def test_they_survive_a_file(self, tmp_path, pairs):
        result, _ = self.evaluate(pairs)
        result.save(tmp_path / "result.json")
        loaded = Evaluation.load(tmp_path / "result.json")
        assert repr(loaded.groups) == repr(result.groups)
        assert loaded.group_pairs == pairs


class TestFiles:
    def test_round_trip(self, tmp_path):
        result = evaluate(group_pairs="one_end")
        result.save(tmp_path / "result.json")
        loaded = Evaluation.load(tmp_path / "result.json")
        assert repr(loaded.groups) == repr(result.groups)
        for found, known in zip(
            loaded.at_thresholds, result.at_thresholds, strict=True
        ):
            assert found.inequity == known.inequity
            assert found.group_inequity == known.group_inequity
        assert loaded.summary() == result.summary()

    def test_labels_of_other_kinds_become_text(self):
        result = evaluate(groups=[(str(group), 1) for group in GROUPS])
        labels = [group["label"] for group in result.to_dict()["groups"]]
        assert labels == ["('east', 1)", "('north', 1)", "('south', 1)"]


def test_summary_names_the_extremes():
    result = evaluate()
    rates = {group.label: group.at_thresholds[0].frr for group in result.groups}
    low, high = min(rates, key=rates.get), max(rates, key=rates.get)
    lines = result.summary().splitlines()
    start = lines.index("3 groups, pairs with both ends in the group")
    (line,) = [x for x in lines[start:] if x.startswith("At 0.2000")]
    expected = f"FRR {rates[low]:.2%} ({low}) to {rates[high]:.2%} ({high})"
    assert line.endswith(expected)


class TestSources:
    @pytest.mark.parametrize("pairs", BOTH)
    def test_a_memmap(self, tmp_path, pairs):
        np.save(tmp_path / "x.npy", X.astype(np.float32))
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        found = evaluate_embeddings(
            mapped, Y, groups=GROUPS, group_pairs=pairs, at_thresholds=AT
        )
        known = evaluate_embeddings(
            X.astype(np.float32), Y, groups=GROUPS, group_pairs=pairs, at_thresholds=AT
        )
        assert repr(found.groups) == repr(known.groups)

    @pytest.mark.parametrize("pairs", BOTH)
    def test_files(self, tmp_path, pairs):
        paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
        for path, rows in zip(paths, (X[:20], X[20:]), strict=True):
            np.save(path, rows)
        found = evaluate_embeddings(
            paths, Y, groups=GROUPS, group_pairs=pairs, at_thresholds=AT
        )
        assert repr(found.groups) == repr(evaluate(group_pairs=pairs).groups)

    def test_a_gallery(self):
        first = np.arange(len(Y)) % 2 == 0
        result = evaluate_embeddings(
            X[first],
            Y[first],
            gallery_embeddings=X[~first],
            gallery_labels=Y[~first],
            groups=GROUPS[first],
            group_pairs="one_end",
            at_thresholds=AT,
        )
        point = result.at_thresholds[1]
        counts = np.array(
            [[(Y[first] == c).sum(), (Y[~first] != c).sum()] for c in result.classes]
        ).prod(axis=1)
        for group in result.groups:
            names = [GROUPS[c == Y][0] for c in result.classes]
            weights = counts * (np.array(names) == group.label)
            expected = (weights @ point.per_class_far) / weights.sum()
            assert group.at_thresholds[1].far == pytest.approx(expected)
            assert group.num_negative_pairs == weights.sum()

    def test_the_embeddings_as_gallery_are_no_gallery(self):
        found = evaluate(gallery_embeddings=X, gallery_labels=Y)
        assert repr(found.groups) == repr(evaluate().groups)

    def test_levels_of_a_hierarchy(self):
        rows = np.column_stack([Y, np.arange(len(Y))])
        found = evaluate_embeddings(
            X, rows, relevance=HierarchyLevel(0), groups=GROUPS, at_thresholds=AT
        )
        assert repr(found.groups) == repr(evaluate().groups)


class TestErrors:
    @pytest.mark.parametrize("pairs", BOTH)
    def test_a_class_in_two_groups(self, pairs):
        groups = GROUPS.copy()
        place = np.flatnonzero(Y == 3)[0]
        groups[place] = "south"
        message = r"`groups` must give all samples of a class the same.*class 3 in"
        with pytest.raises(ValueError, match=message):
            evaluate(groups=groups, group_pairs=pairs)

    def test_another_number(self):
        with pytest.raises(ValueError, match=r"`groups` must have one label per"):
            evaluate(groups=GROUPS[1:])

    @pytest.mark.parametrize("missing", [None, math.nan])
    def test_missing(self, missing):
        groups = GROUPS.tolist()
        groups[5] = missing
        with pytest.raises(ValueError, match=r"`groups` must be.*groups\[5\]"):
            evaluate(groups=groups)

    def test_no_labels(self):
        with pytest.raises(TypeError, match="`groups` must be an array"):
            evaluate(groups=3)

    @pytest.mark.parametrize("groups", [None, GROUPS])
    def test_another_choice(self, groups):
        with pytest.raises(ValueError, match=r"`group_pairs` must be one of.*'any'"):
            evaluate(groups=groups, group_pairs="any")

    def test_both_ends_with_a_gallery(self):
        with pytest.raises(ValueError, match=r"`group_pairs` must be \"one_end\" with"):
            evaluate(gallery_embeddings=X + 0.01, gallery_labels=Y)

    def test_a_sample_of_the_pairs(self):
        with pytest.raises(ValueError, match=r"`groups` must be None with `max_pairs`"):
            evaluate(max_pairs=100)

    def test_several_labels(self):
        with pytest.raises(ValueError, match=r"`groups` must be None with a SharedLa"):
            evaluate_embeddings(
                X, np.eye(16, dtype=int)[Y], relevance=SharedLabel(), groups=GROUPS
            )


def test_points_without_resolution_are_nan():
    result = evaluate(far_targets=(1e-9, 0.1))
    for group in result.groups:
        unresolved, resolved = group.operating_points
        assert unresolved.far_target == 1e-9
        rest = dataclasses.astuple(unresolved)[1:5]
        assert all(map(math.isnan, rest))
        assert unresolved.intervals is None
        assert resolved.far >= 0.0
