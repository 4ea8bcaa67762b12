import random

import keras
import numpy as np
import pytest

from keras_tcm.data import ClassBalancedSampler


def indexed_sampler(labels, *args, **kwargs):
    """A sampler whose samples are their own indices."""
    labels = np.asarray(labels)
    kwargs.setdefault("seed", 0)
    return ClassBalancedSampler(np.arange(len(labels)), labels, *args, **kwargs)


def epoch_of(sampler):
    return [sampler[index] for index in range(len(sampler))]


def assert_same_batches(first, second):
    assert len(first) == len(second)
    for (x1, y1), (x2, y2) in zip(first, second, strict=True):
        np.testing.assert_array_equal(x1, x2)
        np.testing.assert_array_equal(y1, y2)


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


# Keras forks the workers, which run NumPy only.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
@pytest.mark.parametrize(
    "workers",
    [{"workers": 2}, {"workers": 2, "use_multiprocessing": True}],
    ids=["threads", "processes"],
)
def test_workers_give_the_same_batches(workers):
    x = np.arange(48, dtype="float32")[:, None]
    identity = keras.Sequential([keras.Input((1,)), keras.layers.Activation("linear")])
    epochs = []
    for options in ({}, workers):
        sampler = ClassBalancedSampler(x, np.arange(48) // 6, 4, 3, seed=1, **options)
        sampler.on_epoch_end()
        epochs.append(identity.predict(sampler, verbose=0))
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
        # Built here: to build a model itself `fit` takes a batch, and then trains on
        # what several workers had prepared by that time.
        model.train_on_batch(*sampler[0])
        model.fit(sampler, epochs=3, shuffle=False, verbose=0)
        weights.append(model.get_weights()[0])
        left_at.append(epoch_of(sampler))
        pairs = zip(first, left_at[-1], strict=True)
        assert any((before[0] != after[0]).any() for before, after in pairs)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert_same_batches(*left_at)


def test_large_integer_labels_are_exact():
    first = 2**53
    labels = np.repeat(np.arange(first, first + 4), 3)
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
        (np.array(["cat", None, "cat", None]), ["cat", None]),
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


@pytest.mark.parametrize("kind", [str, "path", np.array])
def test_images_are_read_from_paths(tmp_path, kind):
    paths = []
    for value in range(6):
        path = tmp_path / f"{value}.png"
        image = np.full((5, 7, 3), 40 * value, "uint8")
        keras.utils.save_img(path, image, scale=False)
        paths.append(path)
    if kind is str:
        paths = [str(path) for path in paths]
    elif kind is np.array:
        paths = np.array([str(path) for path in paths])
    labels = np.array([0, 0, 1, 1, 2, 2])
    sampler = ClassBalancedSampler(paths, labels, 2, 2, image_size=(4, 6), seed=0)
    x, y = sampler[0]
    assert x.shape == (4, 4, 6, 3)
    assert x.dtype == np.float32
    values = x[:, 0, 0, 0] / 40
    np.testing.assert_array_equal(x, np.broadcast_to(x[:, :1, :1, :1], x.shape))
    np.testing.assert_array_equal(values // 2, y)
    assert len(set(values)) == 4


def test_index_out_of_range_ends_an_iteration():
    sampler = indexed_sampler([0, 0, 1, 1], 2, 1)
    assert len(list(sampler)) == 2
    for index in (-1, 2):
        with pytest.raises(IndexError, match=r"`index` must be in \[0, 2\)"):
            sampler[index]


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
            r"`y` must be hashable and not NaN. Received: y\[0\]",
        ),
        ({"y": [0.0, float("nan")] * 4}, r"`y` must be whole .*y\[1\]=nan"),
        ({"y": [0.0, 1.5] * 4}, r"`y` must be whole .*y\[1\]=1.5"),
        ({"y": [None, float("nan")] * 4}, r"`y` must be hashable.*y\[1\]=nan"),
        ({"y": np.full(8, 2**63, "uint64")}, "`y` must fit int64"),
        ({"x": X[:0], "y": []}, "with 0 such classes"),
        ({"x": np.float32(3)}, "`x` must hold one entry per sample"),
        ({"x": [None] * 8}, "`x` must be a numeric array or paths"),
        ({"x": ["a.png"] * 8}, "`image_size` must be .*image_size=None"),
        ({"x": ["a.png"] * 8, "image_size": (3,)}, "`image_size` must be .*height"),
        ({"x": ["a.png"] * 8, "image_size": (0, 3)}, "`image_size` must be .*height"),
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
