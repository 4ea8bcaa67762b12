import hashlib

import numpy as np
import pytest

from keras_tcm.datasets import codes, load
from keras_tcm.datasets.digits import load_all

# Of every tenth image of train and test.
SHA256 = "d56065fde80a0c790091136d9e5405a956386e2c451bdf4b4ab9ce6d8f0384f6"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("codes")


@pytest.fixture(scope="module")
def data(data_dir):
    return load("codes", data_dir)


def test_shapes_types_and_sizes(data, data_dir):
    names = codes.class_names(data_dir)
    assert len(set(names)) == len(names) == 600
    assert all(len(name) == 4 and name.isdecimal() for name in names)
    for (x, y), first, (low, high) in zip(
        data, (0, 300), (codes.TRAIN_COUNTS, codes.TEST_COUNTS), strict=True
    ):
        assert x.shape == (len(y), 28, 28, 1)
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        classes, counts = np.unique(y, return_counts=True)
        np.testing.assert_array_equal(classes, np.arange(first, first + 300))
        assert low <= counts.min() < 1.2 * low
        assert 0.9 * high < counts.max() <= high


def test_digits_are_those_of_the_code(data, data_dir):
    """The mean image of a class has its digits where its name says."""
    names = codes.class_names(data_dir)
    images, digits = load_all()
    (x, y), _ = data
    means = np.stack([images[digits == d, ..., 0].mean(0) for d in range(10)])
    means -= means.mean(0)
    right = 0
    for label in range(300):
        image = x[y == label, ..., 0].mean(0)
        cells = [image[r : r + 14, c : c + 14] for r in (0, 14) for c in (0, 14)]
        # 11 pixels of a cell show the digit: their centres in 8 x 8.
        places = (np.round((np.arange(8) - 3.5) * 11 / 8 + 6.5)).astype(int)
        for cell, digit in zip(cells, names[label], strict=True):
            scores = (means * cell[np.ix_(places, places)]).sum((1, 2))
            right += scores.argmax() == int(digit)
    # Chance is 120 of 1,200.
    assert right > 900


def test_data_are_the_pinned_ones(data):
    digest = hashlib.sha256()
    for x, y in data:
        digest.update(x[::10].tobytes())
        digest.update(y[::10].astype("<i8").tobytes())
    assert digest.hexdigest() == SHA256
