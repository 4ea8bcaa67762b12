"""What the tests of the samplers share."""

import keras
import numpy as np
import pytest

from keras_tcm.data import ClassBalancedSampler

# Keras forks the workers, which run NumPy only.
fork_is_fine = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")

THREADS = {"workers": 2}
PROCESSES = {"workers": 2, "use_multiprocessing": True}


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


def through_keras(sampler):
    """The samples of an epoch as they come out of the workers, in order."""
    shape = sampler[0][0].shape[1:]
    identity = keras.Sequential([keras.Input(shape), keras.layers.Activation("linear")])
    return identity.predict(sampler, verbose=0)
