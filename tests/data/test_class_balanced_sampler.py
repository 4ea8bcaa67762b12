import pickle
import random

import keras
import numpy as np
import pytest
from sampler_helpers import (
    PROCESSES,
    THREADS,
    assert_same_batches,
    epoch_of,
    fork_is_fine,
    indexed_sampler,
    through_keras,
)

from keras_tcm.data import ClassBalancedSampler


@pytest.mark.parametrize("num_classes", [5, 7, 12])
@pytest.mark.parametrize("steps", [1, 4, 29])
def test_composition_and_coverage(num_classes, steps):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(num_classes), 9))
    sampler = indexed_sampler(labels, 5, 3, steps_per_epoch=steps)
    times = np.zeros(num_classes, int)
    for x, y in epoch_of(sampler):
        np.testing.assert_array_equal(y, labels[x])
        classes, counts = np.unique(y, return_counts=True)
        assert len(classes) == 5
        assert set(counts) == {3}
        assert len(set(x)) == 15
        times[classes] += 1
    # Every class comes up equally often, up to one time.
    assert times.max() - times.min() <= 1


def test_all_samples_come_up_when_the_sizes_divide():
    labels = np.repeat(np.arange(6), 8)
    sampler = indexed_sampler(labels, 3, 4)
    seen = np.concatenate([x for x, _ in epoch_of(sampler)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(48))


def test_small_class_repeats_its_samples_evenly():
    labels = [0] * 10 + [1] * 2
    x, _ = indexed_sampler(labels, 2, 5)[0]
    counts = np.bincount(x, minlength=12)
    assert counts[:10].max() == 1
    assert sorted(counts[10:]) == [2, 3]


def test_without_replacement_no_sample_repeats_in_a_batch():
    labels = np.repeat(np.arange(6), [9, 4, 3, 1, 5, 4])
    with pytest.warns(
        UserWarning, match=r"2 of 6 classes \(4 of 26 samples\)"
    ) as record:
        sampler = indexed_sampler(labels, 3, 4, steps_per_epoch=20, replacement=False)
    assert len(record) == 1
    seen = set()
    for x, y in epoch_of(sampler):
        assert len(set(x)) == 12
        seen.update(y)
    assert seen == {0, 1, 4, 5}


def test_without_replacement_a_single_sample_is_still_no_pair():
    with pytest.warns(UserWarning, match="no positive pair"):
        sampler = indexed_sampler([0, 0, 1, 2, 2], 2, 1, replacement=False)
    assert set(sampler[0][1]) == {0, 2}


def test_indices_tell_where_a_batch_comes_from():
    y = np.array(list("abcd") * 6)
    x = np.random.default_rng(0).normal(size=(24, 3))
    sampler = ClassBalancedSampler(x, y, 3, 2)
    for _ in range(2):
        for index, (x_batch, y_batch) in enumerate(epoch_of(sampler)):
            indices = sampler.indices(index)
            assert indices.dtype == np.int64
            np.testing.assert_array_equal(x_batch, x[indices])
            np.testing.assert_array_equal(sampler.classes[y_batch], y[indices])
        sampler.on_epoch_end()


def test_every_batch_is_full():
    """23 samples in batches of 4: five batches, and no smaller one at the end."""
    sampler = indexed_sampler(np.arange(23) % 3, 2, 2)
    assert [len(x) for x, _ in epoch_of(sampler)] == [4] * 5


def test_samples_left_over_come_up_in_later_epochs():
    sampler = indexed_sampler(np.arange(23) % 3, 2, 2)
    seen = set()
    for _ in range(12):
        seen.update(np.concatenate([x for x, _ in epoch_of(sampler)]))
        sampler.on_epoch_end()
    assert seen == set(range(23))


def test_survives_pickling():
    """What workers that are not forked go through."""
    sampler = indexed_sampler(np.arange(24) // 4, 3, 2, class_weights=np.arange(1, 7))
    sampler.on_epoch_end()
    copy = pickle.loads(pickle.dumps(sampler))
    assert_same_batches(epoch_of(copy), epoch_of(sampler))


def test_random_start_is_uniform_over_classes():
    """The first batch favours no class: 4000 draws of 2 of 5 classes."""
    times = np.zeros(5)
    sampler = indexed_sampler(np.repeat(np.arange(5), 2), 2, 1, steps_per_epoch=4)
    for _ in range(1000):
        # The third batch lies on the seam of two permutations.
        times[sampler[2][1]] += 1
        sampler.on_epoch_end()
    # Binomial(1000, 2/5): four standard deviations are 62.
    np.testing.assert_allclose(times, 400, atol=62)


@pytest.mark.parametrize(
    ("samples", "batch", "steps"),
    [(100, (3, 5), 6), (100, (10, 10), 1), (4, (2, 9), 1)],
)
def test_default_steps_per_epoch(samples, batch, steps):
    labels = np.arange(samples) % min(10, samples // 2)
    assert len(indexed_sampler(labels, *batch)) == steps


def test_batches_depend_on_seed_epoch_and_index_only():
    labels = np.repeat(np.arange(8), 6)
    make = lambda seed: indexed_sampler(labels, 4, 3, seed=seed)  # noqa: E731
    forwards, backwards = make(5), make(5)
    first = epoch_of(forwards)
    assert_same_batches(first, epoch_of(forwards))
    reverse = [backwards[index] for index in reversed(range(len(backwards)))]
    assert_same_batches(first, reverse[::-1])

    forwards.on_epoch_end()
    backwards.on_epoch_end()
    second = epoch_of(forwards)
    assert_same_batches(second, epoch_of(backwards))
    for other in (second, epoch_of(make(6))):
        assert any((a[0] != b[0]).any() for a, b in zip(first, other, strict=True))


def test_drawn_seed_follows_python_random_and_stays():
    samplers = []
    for state in (1, 1, 2):
        random.seed(state)
        samplers.append(indexed_sampler(np.repeat(np.arange(8), 6), 4, 3, seed=None))
    one, same, other = samplers
    assert one.seed == same.seed != other.seed
    assert_same_batches(epoch_of(one), epoch_of(same))
    assert_same_batches(epoch_of(one), epoch_of(one))


@fork_is_fine
@pytest.mark.parametrize("workers", [THREADS, PROCESSES], ids=["threads", "processes"])
def test_workers_give_the_same_batches(workers):
    x = np.arange(48, dtype="float32")[:, None]
    epochs = []
    for options in ({}, workers):
        sampler = ClassBalancedSampler(x, np.arange(48) // 6, 4, 3, seed=1, **options)
        sampler.on_epoch_end()
        epochs.append(through_keras(sampler))
    assert len(epochs[0]) == 48
    np.testing.assert_array_equal(epochs[0], epochs[1])


def test_fit_trains_alike_whatever_the_workers():
    x = np.random.default_rng(0).normal(size=(48, 3)).astype("float32")
    weights, left_at = [], []
    for workers in (1, 2):
        sampler = ClassBalancedSampler(
            x, np.arange(48) // 6, 4, 3, seed=1, workers=workers
        )
        first = epoch_of(sampler)
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")]
        )
        model.compile("sgd", loss="mean_squared_error")
        model.fit(sampler, epochs=3, shuffle=False, verbose=0)
        weights.append(model.get_weights()[0])
        left_at.append(epoch_of(sampler))
        pairs = zip(first, left_at[-1], strict=True)
        assert any((before[0] != after[0]).any() for before, after in pairs)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert_same_batches(*left_at)


def test_large_integer_labels_are_exact_or_refused():
    first = 2**53
    labels = np.repeat(np.arange(first, first + 4), 3)
    if keras.backend.backend() == "jax":
        with pytest.raises(ValueError, match=r"`y` must fit int32.*y\[9\]=90071"):
            indexed_sampler(labels, 4, 2)
        return
    sampler = indexed_sampler(labels, 4, 2)
    x, y = sampler[0]
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, labels[x])
    assert sampler.classes.tolist() == [first, first + 1, first + 2, first + 3]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64"])
def test_integer_labels_of_any_width(dtype):
    _, y = indexed_sampler(np.array([7, 7, 200, 200], dtype), 2, 2)[0]
    assert y.dtype == np.int64
    assert set(y) == {7, 200}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", "a", "b", "a"], ["a", "b"]),
        (np.array(["cat", "ant", "cat", "ant"]), ["ant", "cat"]),
        ([(1, 2), (0, 5), (1, 2), (0, 5)], [(0, 5), (1, 2)]),
        ([1, "1", 1, "1"], [1, "1"]),
        ([True, False, True, False], [False, True]),
        (["a\0", "a", "a\0", "a"], ["a", "a\0"]),
        (np.array([1, "cat", 1, "cat"], dtype=object), [1, "cat"]),
    ],
)
def test_other_labels_are_encoded(labels, classes):
    sampler = ClassBalancedSampler(np.arange(4), labels, 2, 2, seed=0)
    assert sampler.classes.tolist() == classes
    x, y = sampler[0]
    assert y.dtype == np.int64
    for sample, code in zip(x, y, strict=True):
        assert sampler.classes[code] == labels[sample]


def test_tensors_are_accepted():
    x = keras.ops.reshape(keras.ops.arange(12.0), (6, 2))
    y = keras.ops.convert_to_tensor([0, 0, 1, 1, 2, 2])
    x_batch, y_batch = ClassBalancedSampler(x, y, 3, 2)[0]
    np.testing.assert_array_equal(x_batch[:, 0] // 4, y_batch)


def test_single_samples_are_left_out_with_one_warning():
    labels = [0, 0, 0, 1, 2, 2, 3]
    with pytest.warns(
        UserWarning, match=r"2 of 4 classes \(2 of 7 samples\)"
    ) as record:
        sampler = indexed_sampler(labels, 2, 2, steps_per_epoch=5)
    assert len(record) == 1
    assert set(np.concatenate([y for _, y in epoch_of(sampler)])) == {0, 2}
    assert sampler.classes.tolist() == [0, 1, 2, 3]


def test_index_out_of_range_ends_an_iteration():
    sampler = indexed_sampler([0, 0, 1, 1], 2, 1)
    assert len(list(sampler)) == 2
    for index in (-1, 2):
        for get in (sampler.__getitem__, sampler.indices):
            with pytest.raises(IndexError, match=r"`index` must be in \[0, 2\)"):
                get(index)


X, Y = np.zeros((8, 3)), np.arange(8) // 2


def test_labels_for_several_outputs():
    plain = ClassBalancedSampler(X, Y, 2, 2, seed=3)[1]
    x, y = ClassBalancedSampler(X, Y, 2, 2, seed=3, outputs=("a", "b"))[1]
    np.testing.assert_array_equal(x, plain[0])
    assert list(y) == ["a", "b"]
    for labels in y.values():
        np.testing.assert_array_equal(labels, plain[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes_per_batch": 0}, "`classes_per_batch` must be an integer >= 1"),
        ({"classes_per_batch": 2.0}, "`classes_per_batch` must be an integer >= 1"),
        ({"classes_per_batch": True}, "`classes_per_batch` must be an integer >= 1"),
        ({"classes_per_batch": 5}, "must not exceed .* with 4 such classes"),
        ({"samples_per_class": -1}, "`samples_per_class` must be an integer >= 1"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"y": Y[:7]}, "`y` must have one label per sample, 8. Received: 7 labels"),
        ({"y": Y.reshape(4, 2)}, r"`y` must have shape .*y.shape=\(4, 2\)"),
        (
            {"y": [[label] for label in Y]},
            r"`y` must be hashable and not missing .*Received: y\[0\]",
        ),
        ({"y": [0.0, float("nan")] * 4}, r"`y` must be whole .*y\[1\]=nan"),
        ({"y": [0.0, 1.5] * 4}, r"`y` must be whole .*y\[1\]=1.5"),
        ({"y": [None, float("nan")] * 4}, r"`y` must be hashable.*y\[0\]=None"),
        ({"y": ["a", None] * 4}, r"`y` must be hashable.*y\[1\]=None"),
        ({"y": [0, 2**64] * 4}, r"`y` must fit int.*unique.*Received: y\[1\]="),
        ({"y": np.full(8, 2**63, "uint64")}, r"`y` must fit int.*y\[0\]=9223"),
        ({"x": X[:0], "y": []}, "with 0 such classes"),
        ({"x": np.float32(3)}, "`x` must hold one entry per sample"),
        ({"x": {"a": np.zeros(8)}}, r"must be one array.* dict\. .*indices\(step\)"),
        (
            {"x": (np.zeros((8, 2)), np.zeros((8, 3)))},
            r"one shape.* tuple of entries of several shapes.*indices\(step\)",
        ),
        ({"x": [None] * 8}, "`x` must be a numeric array or paths"),
        ({"x": ["a.png"] * 8}, "`image_size` must be .*image_size=None"),
        ({"x": ["a.png"] * 8, "image_size": (3,)}, "`image_size` must be .*height"),
        ({"x": ["a.png"] * 8, "image_size": (0, 3)}, "`image_size` must be .*height"),
        ({"replacement": "repeat"}, "`replacement` must be one of True, False"),
        (
            {"replacement": False, "samples_per_class": 3},
            "with at least 3 samples.*with 0 such classes",
        ),
        ({"class_weights": [1, 1, 1]}, r"mapping or have shape .*\(4,\).*shape=\(3,\)"),
        ({"class_weights": {0: 1, 1: 1, 3: 1}}, "no entry for 2"),
        ({"class_weights": [1, 1, 1, -1]}, r"`class_weights\[3\]` must be a number"),
        ({"class_weights": [1, 1, np.nan, 1]}, r"`class_weights\[2\]` must be"),
        ({"class_weights": [1, np.inf, 1, 1]}, r"`class_weights\[1\]` must be"),
        ({"class_weights": ["1"] * 4}, r"`class_weights\[0\]` must be a number"),
        (
            {"class_weights": [1, 0, 0, 0]},
            "2 samples and a weight above 0.*with 1 such classes",
        ),
        ({"augment": "flip"}, "`augment` must be a Keras layer or another callable"),
        ({"num_processes": 0}, "`num_processes` must be an integer >= 1"),
        ({"process_id": 1.0}, "`process_id` must be an integer >= 0"),
        (
            {"num_processes": 2, "process_id": 2, "seed": 0},
            "`process_id` must be less than .*process_id=2, num_processes=2",
        ),
        ({"num_processes": 2}, "`seed` must be given, the same in each process"),
        (
            {"num_processes": 3, "seed": 0},
            "`classes_per_batch . num_processes` must not exceed .*with 4 such",
        ),
        ({"image_size": (3, 3)}, "`image_size` must be None unless"),
        ({"outputs": "embedding"}, "`outputs` must be a sequence of names"),
    ],
)
def test_wrong_arguments(arguments, message):
    arguments = {
        "x": X,
        "y": Y,
        "classes_per_batch": 2,
        "samples_per_class": 2,
        **arguments,
    }
    with pytest.raises((TypeError, ValueError), match=message) as error:
        ClassBalancedSampler(**arguments)
    assert "Received: " in str(error.value)
