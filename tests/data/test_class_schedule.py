"""Which classes come up when, in proportion to weights."""

import collections
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampler_helpers import epoch_of, indexed_sampler

from keras_tcm.data.class_schedule import (
    class_shares,
    earlier_visits,
    weighted_schedule,
)

# ------------------------------------------------------------------------------ shares


@pytest.mark.parametrize(
    ("weights", "places", "shares"),
    [
        ([1, 1, 1, 1], 2, [0.5, 0.5, 0.5, 0.5]),
        ([3, 2, 1], 1, [1 / 2, 1 / 3, 1 / 6]),
        # 2 * 2/4 is exactly once per step.
        ([2, 1, 1], 2, [1, 0.5, 0.5]),
        # 2 * 10/12 would be more than once.
        ([10, 1, 1], 2, [1, 0.5, 0.5]),
        # 3 * 8/14 is more than 1; then 2 * 4/6 is, too.
        ([8, 4, 1, 1], 3, [1, 1, 0.5, 0.5]),
        ([5, 1e-6, 2], 3, [1, 1, 1]),
        ([1e300, 1e300, 1e300], 2, [2 / 3, 2 / 3, 2 / 3]),
        ([1e-300, 3e-300], 1, [0.25, 0.75]),
    ],
)
def test_shares_by_hand(weights, places, shares):
    np.testing.assert_allclose(
        class_shares(np.array(weights, float), places), shares, rtol=1e-12
    )


weight_lists = st.lists(
    st.one_of(st.integers(1, 5), st.floats(1e-3, 1e3)), min_size=1, max_size=12
)


@given(weights=weight_lists, data=st.data())
def test_shares_are_proportional_below_one(weights, data):
    places = data.draw(st.integers(1, len(weights)))
    weights = np.array(weights, float)
    shares = class_shares(weights, places)
    assert shares.sum() == pytest.approx(places)
    assert shares.min() >= 0
    assert shares.max() <= 1
    ratios = shares / weights
    # One ratio for all shares below 1, and no smaller one would do for the others.
    below = shares < 1
    if below.any():
        np.testing.assert_allclose(ratios[below], ratios[below][0], rtol=1e-7)
        assert (ratios[~below] <= ratios[below][0] * (1 + 1e-7)).all()


# ---------------------------------------------------------------------------- schedule


@given(
    weights=weight_lists,
    steps=st.integers(1, 15),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_never_twice_in_a_step_and_as_often_as_the_shares_say(
    weights, steps, seed, data
):
    places = data.draw(st.integers(1, len(weights)))
    shares = class_shares(np.array(weights, float), places)
    schedule = weighted_schedule(np.random.default_rng(seed), shares, steps)
    assert schedule.shape == (steps, places)
    assert all(len(set(row)) == places for row in schedule)
    times = np.bincount(schedule.ravel(), minlength=len(weights))
    # Rounded up or down, where whole numbers may be off by rounding.
    assert (times >= np.floor(steps * shares + 1e-6)).all()
    assert (times <= np.ceil(steps * shares - 1e-6)).all()


def test_probability_of_every_place_is_that_of_the_share():
    shares = np.array([1, 0.8, 0.5, 0.4, 0.3])
    runs = 4000
    seen = np.zeros((3, 3, 5))
    together = np.zeros((5, 5))
    rng = np.random.default_rng(0)
    steps, places = np.mgrid[:3, :3]
    for _ in range(runs):
        schedule = weighted_schedule(rng, shares, 3)
        seen[steps, places, schedule] += 1
        for row in schedule:
            together[np.ix_(row, row)] += 1
    # In each step a class comes up with the probability of its share, which is a
    # third of it in each place. Five standard deviations of a binomial variable:
    expected = np.broadcast_to(shares / 3, seen.shape)
    deviation = np.sqrt(expected * (1 - expected) / runs)
    assert (abs(seen / runs - expected) < 5 * deviation).all()
    # Any two classes meet: their order does not decide it.
    assert together.min() > 0.02 * runs


def test_two_classes_are_drawn_like_a_loaded_coin():
    rng = np.random.default_rng(1)
    shares = np.array([0.3, 0.7])
    drawn = [weighted_schedule(rng, shares, 1).item() for _ in range(2000)]
    # Four standard deviations of a binomial variable are 0.041.
    assert np.mean(drawn) == pytest.approx(0.7, abs=0.041)


def test_a_certain_class_favours_no_place():
    """A place belongs to a process: none may get a class more often than another."""
    shares = np.array([1.0] + [0.1] * 20)
    schedule = weighted_schedule(np.random.default_rng(0), shares, 2000)
    np.testing.assert_allclose((schedule == 0).mean(axis=0), 1 / 3, atol=0.042)


def test_any_two_classes_come_up_together():
    rng = np.random.default_rng(0)
    shares = np.full(4, 0.5)
    pairs = {frozenset(weighted_schedule(rng, shares, 1)[0]) for _ in range(200)}
    assert len(pairs) == 6


class FirstMark(np.random.Generator):
    """The rarest of cases: a grid that is not shifted at all."""

    def random(self):
        return 0.0


def test_rounding_loses_no_place():
    rng = FirstMark(np.random.PCG64(0))
    for num_classes in range(2, 200):
        shares = class_shares(np.arange(1.0, num_classes + 1), num_classes // 2)
        schedule = weighted_schedule(rng, shares, 1)
        assert schedule.shape == (1, num_classes // 2)


def test_weights_that_are_alike_give_a_permutation():
    shares = class_shares(np.full(12, 7.0), 3)
    schedule = weighted_schedule(np.random.default_rng(0), shares, 4)
    assert sorted(schedule.ravel()) == list(range(12))


def test_earlier_visits():
    schedule = np.array([[2, 0], [0, 3], [3, 2], [0, 2]])
    expected = [[0, 0], [1, 0], [1, 1], [2, 2]]
    np.testing.assert_array_equal(earlier_visits(schedule), expected)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_earlier_visits_count(values):
    expected = [values[:place].count(value) for place, value in enumerate(values)]
    np.testing.assert_array_equal(earlier_visits(np.array([values])), [expected])


# ------------------------------------------------------------------------- the sampler


def times_of(sampler):
    """How often each class comes up in an epoch."""
    return collections.Counter(
        label for _, y in epoch_of(sampler) for label in np.unique(y).tolist()
    )


LABELS = np.repeat([10, 20, 30, 40], 8)


def test_classes_come_up_in_proportion_to_their_weights():
    weights = {10: 4, 20: 3, 30: 2, 40: 1}
    sampler = indexed_sampler(LABELS, 2, 2, 25, class_weights=weights)
    # 50 places in tenths.
    assert times_of(sampler) == {10: 20, 20: 15, 30: 10, 40: 5}
    for x, y in epoch_of(sampler):
        assert sorted(np.unique(y, return_counts=True)[1]) == [2, 2]
        assert len(set(x)) == 4
        np.testing.assert_array_equal(y, LABELS[x])


def test_a_mapping_an_array_and_a_tensor_are_alike():
    mapping = {"b": 1, "a": 3, "c": 2.0, "no such label": 5}
    labels = list("cab" * 4)
    batches = []
    tensor = keras.ops.convert_to_tensor([3.0, 1.0, 2.0])
    for weights in (mapping, [3, 1, 2], np.array([6.0, 2, 4]), tensor):
        sampler = indexed_sampler(labels, 2, 2, 9, class_weights=weights)
        assert sampler.classes.tolist() == ["a", "b", "c"]
        batches.append([x for x, _ in epoch_of(sampler)])
    for other in batches[1:]:
        np.testing.assert_array_equal(batches[0], other)


def test_too_large_a_weight_is_once_in_each_batch():
    sampler = indexed_sampler(LABELS, 2, 2, 20, class_weights=[9, 2, 1, 1])
    assert times_of(sampler) == {10: 20, 20: 10, 30: 5, 40: 5}


def test_weight_zero_never_comes_up():
    # A single sample of a class that is not wanted is no reason for a warning.
    labels = [*LABELS, 50]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = indexed_sampler(labels, 2, 2, 20, class_weights=[1, 0, 1, 1, 0])
    times = times_of(sampler)
    assert set(times) == {10, 30, 40}
    assert all(13 <= count <= 14 for count in times.values())


def test_a_weighted_class_goes_through_its_samples_before_it_repeats():
    sampler = indexed_sampler(LABELS, 2, 2, 8, class_weights=[2, 1, 1, 4])
    # Class 40 is in each of the 8 batches: 16 draws from its 8 samples.
    drawn = np.concatenate([x[y == 40] for x, y in epoch_of(sampler)])
    for half in np.split(drawn, 2):
        assert len(set(half)) == 8


def test_weighted_batches_depend_on_seed_epoch_and_index_only():
    def make(seed):
        return indexed_sampler(LABELS, 2, 2, 8, seed=seed, class_weights=[4, 3, 2, 1])

    one, same, other = make(1), make(1), make(2)
    first = [one.indices(index) for index in range(8)]
    backwards = [same.indices(index) for index in reversed(range(8))]
    np.testing.assert_array_equal(first, backwards[::-1])
    assert any((other.indices(i) != first[i]).any() for i in range(8))
    one.on_epoch_end()
    assert any((one.indices(i) != first[i]).any() for i in range(8))
    same.on_epoch_end()
    for index in range(8):
        np.testing.assert_array_equal(one.indices(index), same.indices(index))
