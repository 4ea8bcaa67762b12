"""Augmentation of the samples of a batch."""

import functools

import keras
import numpy as np
import pytest
from sampler_helpers import (
    PROCESSES,
    THREADS,
    assert_same_batches,
    epoch_of,
    fork_is_fine,
    through_keras,
)

import keras_tcm
from keras_tcm.data import ClassBalancedSampler

X = np.random.default_rng(0).integers(0, 256, (48, 6, 6, 3)).astype("uint8")
Y = np.arange(48) // 6


def sampler_of(augment, **options):
    options = {"seed": 3, **options}
    return ClassBalancedSampler(X, Y, 4, 3, augment=augment, **options)


def add_noise(images, rng):
    return images + rng.normal(size=images.shape).astype("float32")


# --------------------------------------------------------------------- plain callables


def test_the_batch_is_what_the_callable_returns():
    sampler = sampler_of(lambda images: images[:, :4, 1:] / np.float32(255))
    for index, (x, y) in enumerate(epoch_of(sampler)):
        indices = sampler.indices(index)
        np.testing.assert_array_equal(x, X[indices, :4, 1:] / np.float32(255))
        np.testing.assert_array_equal(y, Y[indices])


def test_the_samples_themselves_stay_as_they_are():
    def darken_in_place(images):
        images //= 2
        return images

    before = X.copy()
    epoch_of(sampler_of(darken_in_place))
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("framework", ["keras", "torch", "list"])
def test_results_become_arrays(framework):
    def augment(images):
        if framework == "list":
            return [image + 1.0 for image in images]
        if framework == "torch":
            return pytest.importorskip("torch").from_numpy(images + 1.0)
        return keras.ops.convert_to_tensor(images + 1.0)

    sampler = sampler_of(augment)
    x, _ = sampler[0]
    assert isinstance(x, np.ndarray)
    np.testing.assert_array_equal(x, X[sampler.indices(0)] + 1.0)


def with_rng_as_keyword(images, *, rng=None):
    return add_noise(images, rng)


class Noise:
    def __call__(self, images, rng):
        return add_noise(images, rng)


@pytest.mark.parametrize(
    "augment",
    [
        add_noise,
        with_rng_as_keyword,
        Noise(),
        functools.partial(lambda scale, images, rng: scale * add_noise(images, rng), 1),
    ],
    ids=["function", "keyword", "object", "partial"],
)
def test_a_parameter_rng_gets_the_generator_of_the_batch(augment):
    expected = epoch_of(sampler_of(add_noise))
    sampler = sampler_of(augment)
    for _ in range(2):
        assert_same_batches(epoch_of(sampler), expected)


def test_randomness_differs_between_batches_epochs_and_seeds():
    def draw(images, rng):
        return rng.random(len(images))

    drawn = []
    for seed in (3, 4):
        sampler = sampler_of(draw, seed=seed)
        for _ in range(2):
            drawn += [x for x, _ in epoch_of(sampler)]
            sampler.on_epoch_end()
    assert len(np.unique(drawn)) == 2 * 2 * 4 * 12


def test_augmentation_does_not_change_what_is_drawn():
    plain, noisy = sampler_of(None), sampler_of(add_noise)
    for index in range(len(plain)):
        np.testing.assert_array_equal(plain.indices(index), noisy.indices(index))


def test_a_callable_that_hides_its_parameters_gets_the_batch_alone():
    # `numpy.abs` is written in C.
    x, _ = sampler_of(np.abs)[0]
    assert x.shape == (12, 6, 6, 3)


@pytest.mark.parametrize(
    "augment",
    [lambda images: images[1:], lambda images: None, lambda images: images.mean()],
    ids=["fewer", "nothing", "number"],
)
def test_another_number_of_samples_raises(augment):
    with pytest.raises(ValueError, match=r"`augment` must return .*12\. Received: "):
        sampler_of(augment)[0]


# ------------------------------------------------------------------------ Keras layers


def flip_and_dim():
    return keras.layers.Pipeline(
        [
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomBrightness(0.3),
        ]
    )


def test_a_layer_is_called_in_training_mode():
    x, _ = ClassBalancedSampler(
        np.ones((48, 50), "float32"), Y, 4, 3, augment=keras.layers.Dropout(0.5)
    )[0]
    assert 0.4 < np.mean(x == 0) < 0.6


@pytest.mark.parametrize("kind", ["layer", "sequential"])
def test_each_image_is_augmented_by_itself(kind):
    augment = keras.layers.RandomFlip("horizontal")
    if kind == "sequential":
        augment = keras.Sequential([augment])
    sampler = sampler_of(augment)
    flipped = []
    for index, (x, _) in enumerate(epoch_of(sampler)):
        assert isinstance(x, np.ndarray)
        for image, original in zip(x, X[sampler.indices(index)], strict=True):
            is_same = (image == original).all()
            assert is_same or (image == original[:, ::-1]).all()
            flipped.append(not is_same)
    # 48 fair coins: 4 standard deviations are 14.
    assert abs(sum(flipped) - 24) < 14


def test_a_layer_draws_from_seed_epoch_and_index():
    layer = keras.layers.RandomBrightness(0.5, seed=1)
    sampler = sampler_of(layer)
    first = epoch_of(sampler)
    # Neither the seed of the layer nor how often it has been called matters.
    other = sampler_of(keras.layers.RandomBrightness(0.5, seed=2))
    backwards = [other[index] for index in reversed(range(len(other)))]
    assert_same_batches(first, backwards[::-1])

    def factors(sampler):
        return [x - X[sampler.indices(i)] for i, (x, _) in enumerate(epoch_of(sampler))]

    seen = factors(sampler)
    sampler.on_epoch_end()
    seen += factors(sampler) + factors(sampler_of(layer, seed=5))
    # Brightness moves all pixels of an image alike, up to the ends of the range.
    medians = [np.median(images, axis=(1, 2, 3)) for images in seen]
    assert len(np.unique(np.round(medians, 3), axis=0)) == 12


def test_the_state_of_a_layer_is_left_alone():
    layer = keras.Sequential(
        [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5, seed=7)]
    )
    sampler = sampler_of(layer)
    before = [keras.ops.convert_to_numpy(v) for v in layer.variables]
    epoch_of(sampler)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_a_layer_that_does_not_fit_the_samples_raises_at_once():
    wrong = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="shape"):
        sampler_of(wrong)


def test_a_layer_cannot_run_in_forked_workers():
    with pytest.raises(ValueError, match="`use_multiprocessing` must be False"):
        sampler_of(keras.layers.RandomFlip(), **PROCESSES)


# ----------------------------------------------------------------------------- workers


@fork_is_fine
@pytest.mark.parametrize(
    ("make_augment", "workers"),
    [
        (lambda: add_noise, THREADS),
        (lambda: add_noise, PROCESSES),
        (flip_and_dim, {"workers": 1}),
        (flip_and_dim, {"workers": 3}),
    ],
    ids=["function-threads", "function-processes", "layer-one", "layer-threads"],
)
def test_any_workers_augment_alike(make_augment, workers):
    expected = [x for x, _ in epoch_of(sampler_of(make_augment()))]
    images = through_keras(sampler_of(make_augment(), **workers))
    np.testing.assert_array_equal(images, np.concatenate(expected))


def test_augmentation_makes_copies_of_a_sample_differ():
    sampler = ClassBalancedSampler(X[:4], [0, 0, 1, 1], 2, 6, augment=add_noise)
    assert len(set(sampler.indices(0))) == 4
    x, _ = sampler[0]
    assert len(np.unique(x.reshape(12, -1), axis=0)) == 12


def test_augmented_images_from_files(tmp_path):
    for number in range(4):
        keras.utils.save_img(tmp_path / f"{number}.png", X[number], scale=False)
    paths = sorted(tmp_path.iterdir())
    sampler = ClassBalancedSampler(
        paths,
        list("aabb"),
        2,
        2,
        image_size=(6, 6),
        augment=keras.layers.RandomFlip("vertical"),
    )
    for image, index in zip(sampler[0][0], sampler.indices(0), strict=True):
        original = X[:4][index]
        assert (image == original).all() or (image == original[::-1]).all()


@pytest.mark.slow
def test_training_with_augmentation_is_the_same_for_any_workers():
    trained = []
    for workers in (1, 2):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(4),
            ]
        )
        initial = model.get_weights()
        model.compile("sgd", loss=keras_tcm.TCM())
        sampler = sampler_of(flip_and_dim(), workers=workers)
        history = model.fit(sampler, epochs=2, shuffle=False, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        trained.append(model.get_weights())
    assert any((a != b).any() for a, b in zip(initial, trained[0], strict=True))
    for one, two in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, two)
