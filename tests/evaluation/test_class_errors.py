"""What errors by class tell about other classes, against counts over all pairs."""

import concurrent.futures
import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_tcm.evaluation import ClassErrors, count_classes
from keras_tcm.evaluation._counting import label_pairs
from keras_tcm.evaluation._walk import pair_walk
from keras_tcm.evaluation.class_errors import GalleryErrors
from keras_tcm.evaluation.distances import accepted_steps, to_steps
from keras_tcm.relevance import HierarchyLevel, SharedLabel


def samples(seed, num_classes=20, dimension=6, sizes=(2, 6)):
    rng = np.random.default_rng(seed)
    counts = rng.integers(sizes[0], sizes[1] + 1, num_classes)
    labels = np.repeat(np.arange(num_classes), counts)
    centers = rng.normal(size=(num_classes, dimension))
    x = centers[labels] + 0.8 * rng.normal(size=(len(labels), dimension))
    order = rng.permutation(len(labels))
    return x[order], labels[order]


def pairs_of(x, labels):
    """Distance and both labels of every pair, in float64."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return [
        (1.0 - float(unit[i] @ unit[j]), labels[i], labels[j])
        for i, j in itertools.combinations(range(len(x)), 2)
    ]


def rates(pairs, threshold):
    negative = [d <= threshold for d, a, b in pairs if a != b]
    positive = [d > threshold for d, a, b in pairs if a == b]
    return np.mean(negative), np.mean(positive)


def jackknife(pairs, labels, threshold):
    """Variances of both rates: each class left out, with all pairs that touch it."""
    classes = sorted(set(labels))
    left = [rates([p for p in pairs if one not in p[1:]], threshold) for one in classes]
    return (len(classes) - 1) * np.var(left, axis=0)


@pytest.mark.parametrize("threshold", [0.15, 0.4, 0.9])
def test_rates_and_variances_are_those_of_leaving_classes_out(threshold):
    x, labels = samples(0)
    counts = count_classes(x, labels, far=0.3, at_thresholds=(threshold,))
    place = int(np.searchsorted(counts.thresholds, threshold))
    pairs = pairs_of(x, labels.tolist())
    found = counts.far.at(place), counts.frr.at(place)
    expected = rates(pairs, threshold)
    variances = jackknife(pairs, labels.tolist(), threshold)
    for errors, rate, variance in zip(found, expected, variances, strict=True):
        np.testing.assert_allclose(errors.rates, rate, rtol=1e-12)
        np.testing.assert_allclose(errors.variances, variance, rtol=1e-9)


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_variances_are_the_published_ones_but_for_the_share_of_a_class(threshold):
    # Fogliato et al.: the sum of squared residuals over the squared number of pairs.
    x, labels = samples(1, num_classes=200, sizes=(4, 4))
    counts = count_classes(x, labels, far=0.3, at_thresholds=(threshold,))
    place = int(np.searchsorted(counts.thresholds, threshold))
    for errors, ends in ((counts.far.at(place), 2), (counts.frr.at(place), 1)):
        residuals = errors.errors[:, 0] - errors.rates[0] * errors.pairs
        published = np.square(residuals).sum() / errors.all_pairs**2
        # Equal classes: each has the same share of the pairs.
        factor = (1.0 - ends / 200) ** -2 * (199 / 200)
        np.testing.assert_allclose(errors.variances[0], published * factor, rtol=1e-9)


def test_classes_without_a_pair_count_as_the_others_do():
    # Classes of one sample among the others, which have no positive pair.
    rng = np.random.default_rng(2)
    centers = 0.6 * rng.normal(size=(400, 4))
    labels = np.concatenate([np.arange(400), np.arange(200)])
    x = centers[labels] + rng.normal(size=(600, 4))
    counts = count_classes(x, labels, far=0.1)
    assert (len(counts.classes), counts.num_excluded) == (200, 200)
    assert counts.far.num_classes == 400
    place = int(np.searchsorted(counts.far.rates, 0.05))
    threshold = counts.thresholds[place] + 5e-7
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    accepted = 1.0 - unit @ unit.T <= threshold
    negative = labels[:, None] != labels
    left = []
    for one in range(400):
        kept = (labels != one)[:, None] & (labels != one) & negative
        left.append(accepted[kept].mean())
    exact = 399 * np.var(left)
    assert 0.7 < counts.far.variances[place] / exact < 1.4


def class_errors(errors, pairs, classes_per_pair=1):
    errors, pairs = np.asarray(errors, float)[:, None], np.asarray(pairs)
    return ClassErrors(
        errors,
        pairs,
        errors.sum(axis=0) / classes_per_pair,
        int(pairs.sum()) // classes_per_pair,
        classes_per_pair,
    )


def test_limits_solve_their_equations():
    errors = class_errors([3, 0, 1, 5, 2, 0, 4, 1], [40] * 8)
    rate, deviation = errors.rates[0], math.sqrt(errors.variances[0])
    t = stats.t.ppf(0.95, 7)
    high = errors.upper_limits(0.95)[0]
    # The standard error at the limit is that at the rate, times u (1 - u) / r (1 - r).
    there = deviation * high * (1 - high) / (rate * (1 - rate))
    assert (high - rate) / there == pytest.approx(t)
    low = errors.lower_limits(0.95)[0]
    # Wilson's score: the standard error at the limit is that of effective trials.
    trials = rate * (1 - rate) / deviation**2
    assert (rate - low) / math.sqrt(low * (1 - low) / trials) == pytest.approx(t)
    assert errors.intervals(0.9).tolist() == [[low, high]]


def test_rates_above_one_half_have_the_limits_of_their_complements():
    errors = class_errors([3, 0, 1, 5, 2], [20] * 5)
    others = class_errors([17, 20, 19, 15, 18], [20] * 5)
    np.testing.assert_allclose(
        others.intervals(0.95), 1.0 - errors.intervals(0.95)[:, ::-1]
    )


@pytest.mark.parametrize(("classes_per_pair", "trials"), [(1, 30), (2, 15)])
def test_no_error_is_no_proof(classes_per_pair, trials):
    # However many pairs: 3 over the number of classes, or of disjoint pairs of them.
    errors = class_errors([0] * 30, [1000] * 30, classes_per_pair)
    high = errors.upper_limits(0.95)[0]
    assert (1 - high) ** trials == pytest.approx(0.05)
    assert errors.lower_limits(0.95)[0] == 0


def test_a_rate_that_one_class_makes_up_has_no_close_limit():
    errors = class_errors([8] + [0] * 29, [100] * 30)
    assert errors.rates[0] < 0.003
    assert errors.upper_limits(0.95)[0] > 0.25
    spread = class_errors([1] * 8 + [0] * 22, [100] * 30)
    assert spread.rates[0] == errors.rates[0]
    assert spread.upper_limits(0.95)[0] < 0.01


def test_at_no_threshold_there_is_no_interval():
    errors = class_errors([3, 0, 1], [40] * 3).some(np.zeros(0, int))
    assert errors.intervals(0.95).shape == (0, 2)


def test_two_classes_tell_nothing_of_others():
    errors = class_errors([1, 2], [10, 10])
    assert errors.intervals(0.95).tolist() == [[0.0, 1.0]]


counts = st.lists(st.integers(0, 50), min_size=3, max_size=40)


@given(counts, st.floats(0.55, 0.99), st.sampled_from([1, 2]))
@settings(deadline=None)
def test_limits_enclose_the_rate_and_widen_with_confidence(found, confidence, ends):
    errors = class_errors(found, [50] * len(found), ends)
    low, high = errors.lower_limits(confidence)[0], errors.upper_limits(confidence)[0]
    assert 0 <= low <= errors.rates[0] + 1e-12
    assert errors.rates[0] - 1e-12 <= high <= 1
    more = (1.0 + confidence) / 2.0
    assert errors.lower_limits(more)[0] <= low + 1e-12
    assert errors.upper_limits(more)[0] >= high - 1e-12


@given(counts, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_classes_does_not_matter(found, random):
    shuffled = random.sample(found, len(found))
    first, second = (class_errors(x, [50] * len(x)) for x in (found, shuffled))
    np.testing.assert_allclose(first.intervals(0.95), second.intervals(0.95))


@given(counts)
@settings(deadline=None)
def test_more_pairs_of_the_same_classes_do_not_narrow_the_interval(found):
    once = class_errors(found, [50] * len(found))
    often = class_errors([100 * x for x in found], [5000] * len(found))
    np.testing.assert_allclose(once.intervals(0.95), often.intervals(0.95))


def test_other_inputs_give_the_same_counts():
    x, labels = samples(4)
    expected = count_classes(x, labels, far=0.1)
    for scaled, names in ((x * 3.0, labels), (x, [f"class {y:02}" for y in labels])):
        found = count_classes(scaled, names, far=0.1, block_size=16)
        np.testing.assert_array_equal(found.thresholds, expected.thresholds)
        np.testing.assert_array_equal(found.far.errors, expected.far.errors)
        np.testing.assert_array_equal(found.frr.errors, expected.frr.errors)
    levels = np.column_stack([labels // 4, labels])
    found = count_classes(x, levels, far=0.1, relevance=HierarchyLevel(1))
    np.testing.assert_array_equal(found.far.errors, expected.far.errors)


def test_a_gallery_counts_each_pair_for_the_class_of_its_query():
    x, labels = samples(5)
    gallery, names = samples(5, sizes=(3, 3))
    counts = count_classes(
        x,
        labels,
        far=0.2,
        gallery_embeddings=gallery,
        gallery_labels=names,
        at_thresholds=(0.5,),
    )
    place = int(np.searchsorted(counts.thresholds, 0.5))
    units = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, gallery)]
    accepted = 1.0 - units[0] @ units[1].T <= 0.5
    negative = labels[:, None] != names
    for number, one in enumerate(counts.classes):
        of_class = negative & (labels == one)[:, None]
        assert counts.far.errors[number, place] == (accepted & of_class).sum()
        assert counts.far.pairs[number] == of_class.sum()
    assert counts.far.classes_per_pair == 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_class_is_left_out_of_queries_and_gallery(num_workers, monkeypatch):
    # Some classes are in both, some in the gallery alone, with one sample each.
    x, labels = samples(8, num_classes=40, sizes=(4, 7))
    number = np.arange(len(labels))
    is_query = (labels < 25) & (number % 2 == 0)
    is_alone = np.isin(number, np.unique(labels, return_index=True)[1])
    in_gallery = ((labels < 25) & (number % 2 == 1)) | ((labels >= 25) & is_alone)
    both = set(labels[is_query]) & set(labels[in_gallery])
    is_query &= np.isin(labels, sorted(both))
    pool = None
    if num_workers:
        monkeypatch.setattr(pair_walk, "_PART_SIDE", 1)
        pool = concurrent.futures.ThreadPoolExecutor(num_workers)
    counts = count_classes(
        x[is_query],
        labels[is_query],
        far=0.2,
        gallery_embeddings=x[in_gallery],
        gallery_labels=labels[in_gallery],
        at_thresholds=(0.5,),
        block_size=16,
        client=pool,
    )
    place = int(np.searchsorted(counts.thresholds, 0.5))
    far = counts.far.at(place)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    accepted = 1.0 - unit @ unit.T <= 0.5
    is_pair = is_query[:, None] & in_gallery & (labels[:, None] != labels)
    left = []
    for one in np.unique(labels[in_gallery]):
        kept = is_pair & (labels != one)[:, None] & (labels != one)
        left.append(accepted[kept].mean())
    assert len(left) > len(both) > 15
    np.testing.assert_allclose(np.sort(far.without_each()[:, 0]), np.sort(left))
    np.testing.assert_allclose(far.variances[0], (len(left) - 1) * np.var(left))
    assert far.num_classes == len(both)
    # More than the queries' classes alone tell: those of the gallery are others too.
    fixed = dataclasses.replace(far, gallery=None)
    assert far.upper_limits(0.95)[0] > fixed.upper_limits(0.95)[0]


def test_classes_of_queries_without_a_positive_are_left_out_too():
    # The gallery has the queries, half of whose classes have one sample.
    x, labels = samples(9, num_classes=60, sizes=(4, 4))
    is_kept = (labels < 30) | np.isin(
        np.arange(240), np.unique(labels, return_index=True)[1]
    )
    x, labels = x[is_kept], labels[is_kept]
    others, names = samples(10, num_classes=5)
    gallery = np.concatenate([x, others]), np.concatenate([labels, names + 100])
    counts = count_classes(
        x,
        labels,
        far=0.2,
        gallery_embeddings=gallery[0],
        gallery_labels=gallery[1],
        gallery_includes_queries=True,
        at_thresholds=(0.5,),
    )
    far = counts.far.at(int(np.searchsorted(counts.thresholds, 0.5)))
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, gallery[0])]
    accepted = 1.0 - unit[0] @ unit[1].T <= 0.5
    left = []
    for one in np.unique(gallery[1]):
        kept = (labels != one)[:, None] & (gallery[1] != one)
        left.append(accepted[kept & (labels[:, None] != gallery[1])].mean())
    assert (len(counts.classes), counts.num_excluded, len(left)) == (30, 30, 65)
    np.testing.assert_allclose(np.sort(far.without_each()[:, 0]), np.sort(left))
    np.testing.assert_allclose(far.variances[0], 64 * np.var(left))
    assert far.num_classes == 60


def test_without_errors_a_gallery_has_as_many_trials_as_pairs_of_classes():
    errors = class_errors([0] * 30, [1000] * 30)
    gallery = GalleryErrors(np.zeros((40, 1)), np.full(40, 750), np.arange(30))
    high = dataclasses.replace(errors, gallery=gallery).upper_limits(0.95)[0]
    assert (1 - high) ** 15 == pytest.approx(0.05)


def test_candidates_are_as_dense_as_asked_for():
    x, labels = samples(6, num_classes=60)
    counts = count_classes(x, labels, far=0.05, frr=0.2)
    near = np.sort(counts.far.rates[counts.far.rates <= 0.05])
    assert np.diff(near).mean() <= 0.05 / 256
    assert np.diff(near).max() <= 0.05 / 32
    assert near[-1] >= 0.05 - 0.05 / 32
    some = np.sort(counts.frr.rates[counts.frr.rates <= 0.2])
    assert np.diff(some).max() <= 0.2 / 256 + 1.5 / counts.num_positive_pairs
    assert (np.diff(counts.far.rates) >= 0).all()
    assert (np.diff(counts.frr.rates) <= 0).all()


@pytest.mark.parametrize("target", [0.001, 0.01, 0.1])
def test_one_walk_counts_the_candidates(target, monkeypatch):
    x, labels = samples(7, num_classes=300, sizes=(3, 6))
    walks = []
    walk = label_pairs.walk_pairs
    monkeypatch.setattr(
        label_pairs,
        "walk_pairs",
        lambda *args, **options: walks.append(1) or walk(*args, **options),
    )
    counts = count_classes(x, labels, far=target, frr=0.2)
    assert len(walks) == 1
    # Counts of pairs, not what is read off a bin.
    assert (counts.far.errors == np.rint(counts.far.errors)).all()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    steps = to_steps((unit @ unit.T).astype(np.float32))
    is_negative = labels[:, None] != labels
    for place in range(0, len(counts.thresholds), 40):
        cut = accepted_steps(counts.thresholds[place : place + 1])[0]
        accepted = ((steps <= cut) & is_negative).sum() / 2
        # Products may round otherwise here.
        assert abs(accepted - counts.far.all_errors[place]) <= 3


def test_no_threshold_is_beyond_what_was_counted():
    # All in one place, but for the last bits.
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 4)
    x = 1.0 + 1e-3 * rng.normal(size=(240, 16))
    counts = count_classes(x, labels, far=0.1)
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    steps = to_steps(unit @ unit.T)[labels[:, None] != labels]
    for threshold, rate in zip(counts.thresholds, counts.far.rates, strict=True):
        cut = accepted_steps(np.array([threshold]))[0]
        # A step more or less, as products are rounded.
        low, high = (np.mean(steps <= cut + shift) for shift in (-1, 1))
        assert low - 1e-3 <= rate <= high + 1e-3


def test_samples_of_several_classes_are_refused():
    with pytest.raises(ValueError, match=r"`relevance` must be a HierarchyLevel"):
        count_classes(np.eye(4), np.ones((4, 2), int), far=0.1, relevance=SharedLabel())
