"""Workers change nothing but the time that it takes."""

import collections
import contextlib
import copy
import pickle
import random
import threading
import time

import keras
import numpy as np
import pytest
from sampler_helpers import (
    PROCESSES,
    THREADS,
    assert_same_batches,
    epoch_of,
    fork_is_fine,
)

from keras_tcm.data import ClassBalancedSampler

BACKEND = keras.backend.backend()
LABELS = np.repeat(np.arange(16), 8)
X = np.arange(len(LABELS), dtype="float32")[:, None]
# 16 batches of 8 samples
ANY_WORKERS = pytest.mark.parametrize(
    "workers",
    [{}, THREADS, {"workers": 4, "max_queue_size": 3}, PROCESSES],
    ids=["none", "threads", "short-queue", "processes"],
)


def sampler_of(**options):
    return ClassBalancedSampler(X, LABELS, 4, 2, seed=3, **options)


class Tap(keras.layers.Layer):
    """Keeps the samples that a model is trained on."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def call(self, x, training=False):
        if training:
            batch = keras.ops.convert_to_numpy(x)
            self.batches.append(tuple(batch.ravel().astype(int).tolist()))
        return x


def tapped_model(is_built):
    tap = Tap()
    model = keras.Sequential([tap, keras.layers.Dense(1)])
    model.compile("sgd", loss="mean_squared_error", run_eagerly=True)
    if is_built:
        model.evaluate(X[:4], LABELS[:4], verbose=0)
    return model, tap


def expected_epoch(epoch):
    """What a sampler without workers gives when it is asked for its batches by hand."""
    sampler = sampler_of()
    for _ in range(epoch):
        sampler.on_epoch_end()
    return [tuple(x.ravel().astype(int).tolist()) for x, _ in epoch_of(sampler)]


@fork_is_fine
@ANY_WORKERS
@pytest.mark.parametrize("is_built", [False, True], ids=["new", "built"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["in-order", "shuffled"])
def test_epochs_of_fit_are_those_of_the_sampler(workers, is_built, shuffle):
    model, tap = tapped_model(is_built)
    sampler = sampler_of(**workers)
    model.fit(sampler, epochs=3, shuffle=shuffle, verbose=0)
    for epoch in range(3):
        seen = tap.batches[16 * epoch : 16 * (epoch + 1)]
        expected = expected_epoch(epoch + 1)
        assert sorted(seen) == sorted(expected)
        assert (seen == expected) != shuffle
    assert len(tap.batches) == 48

    # Four epochs are over; `fit` ends one more as it starts.
    model.fit(sampler, initial_epoch=5, epochs=6, verbose=0)
    assert sorted(tap.batches[48:]) == sorted(expected_epoch(5))


@fork_is_fine
@ANY_WORKERS
def test_validation_beside_it(workers):
    """Two samplers at once, and one that `evaluate` goes through in each epoch."""
    model, tap = tapped_model(is_built=False)
    model.fit(
        sampler_of(**workers),
        validation_data=sampler_of(**workers),
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    assert tap.batches == expected_epoch(1) + expected_epoch(2)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.skipif(BACKEND == "tensorflow", reason="tf.data reads ahead at will")
@pytest.mark.parametrize("steps", [5, 8, 20])
@pytest.mark.parametrize("shuffle", [False, True])
def test_other_steps_in_fit_are_the_same_for_any_workers(steps, shuffle):
    seen = []
    for workers in ({}, THREADS):
        random.seed(0)
        model, tap = tapped_model(is_built=False)
        model.fit(
            sampler_of(**workers),
            epochs=3,
            steps_per_epoch=steps,
            shuffle=shuffle,
            verbose=0,
        )
        seen.append(tap.batches)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 10


@pytest.mark.parametrize("workers", [THREADS, {"workers": 4}])
def test_batches_asked_for_in_any_order_and_from_many_threads(workers):
    expected = epoch_of(sampler_of())
    sampler = sampler_of(**workers)
    order = random.Random(0).choices(range(16), k=80)
    found = collections.defaultdict(list)

    def ask(indices):
        for index in indices:
            found[index].append(sampler[index])

    threads = [threading.Thread(target=ask, args=(order[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(map(len, found.values())) == 80
    for index, batches in found.items():
        assert_same_batches(batches, [expected[index]] * len(batches))
    # Asking changes nothing; only the end of an epoch does.
    assert_same_batches(epoch_of(sampler), expected)


def test_going_astray_during_fit_changes_nothing():
    class Stray(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            sampler[7], sampler[batch]

    sampler = sampler_of(**THREADS)
    model, tap = tapped_model(is_built=False)
    model.fit(sampler, epochs=2, callbacks=[Stray()], shuffle=False, verbose=0)
    assert tap.batches == expected_epoch(1) + expected_epoch(2)


class Noting(ClassBalancedSampler):
    """Notes when each batch is asked for, and when a worker begins with it."""

    def __getitem__(self, index):
        self.asked[self._epoch, index] = time.monotonic()
        return super().__getitem__(index)

    def _make_batch(self, epoch, index):
        self.begun[epoch, index] = time.monotonic()
        return super()._make_batch(epoch, index)


@pytest.mark.parametrize("shuffle", [False, True], ids=["in-order", "shuffled"])
def test_batches_are_made_ahead_of_their_turn(shuffle):
    sampler = Noting(
        X, LABELS, 4, 2, steps_per_epoch=40, seed=3, workers=3, max_queue_size=4
    )
    sampler.asked, sampler.begun = {}, {}
    model, _ = tapped_model(is_built=False)

    def train_slowly(batch, logs):
        # Where other processes have the processors, the workers may be late.
        latest = time.monotonic() + 1
        while batch < 39 and len(sampler.begun) <= len(sampler.asked):
            if time.monotonic() > latest:
                break
            time.sleep(0.001)

    slow = keras.callbacks.LambdaCallback(on_train_batch_end=train_slowly)
    model.fit(sampler, shuffle=shuffle, callbacks=[slow], verbose=0)
    trained = [key for key in sampler.asked if key[0] == 1]
    assert len(trained) == 40
    assert sum(sampler.begun[key] < sampler.asked[key] for key in trained) > 20


def test_no_more_than_the_queue_is_made_ahead():
    made = []

    def note(x):
        made.append(x)
        return x

    sampler = sampler_of(workers=2, max_queue_size=2, augment=note)
    sampler[0]
    time.sleep(0.2)
    assert len(made) == 3


@pytest.mark.parametrize("options", [THREADS, PROCESSES])
@fork_is_fine
def test_workers_go_home_at_the_end_of_an_epoch(options):
    sampler = sampler_of(**options)
    epoch_of(sampler)
    executor = sampler._ahead._executor
    sampler.on_epoch_end()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_keras_sees_no_workers_and_cannot_be_given_any():
    """Its own would mix the epochs."""
    sampler = sampler_of(workers=4)
    assert sampler.workers == 0
    with contextlib.suppress(AttributeError):
        sampler.workers = 4
    assert sampler.workers == 0


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_a_copy_has_workers_of_its_own(clone):
    sampler = sampler_of(**THREADS)
    sampler[0]
    assert_same_batches(epoch_of(clone(sampler)), epoch_of(sampler))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "`workers` must be an integer >= 0"),
        ({"workers": 2.0}, "`workers` must be an integer >= 0"),
        ({"max_queue_size": 0}, "`max_queue_size` must be an integer >= 1"),
        ({"use_multiprocessing": 2}, "`use_multiprocessing` must be one of True, Fa"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sampler_of(**options)
