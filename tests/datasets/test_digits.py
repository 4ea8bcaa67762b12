import numpy as np
import pytest

from keras_tcm.datasets import load

sklearn_datasets = pytest.importorskip("sklearn.datasets")


def test_digits_are_the_digits_of_scikit_learn():
    (x_train, y_train), (x_test, y_test) = load("digits")
    original = sklearn_datasets.load_digits()

    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.dtype == np.uint8
        assert x.shape == (len(y), 8, 8, 1)
        assert y.dtype == np.int64
    assert len(x_train) + len(x_test) == 1797
    assert set(y_train) == {0, 1, 2, 3, 4}
    assert set(y_test) == {5, 6, 7, 8, 9}
    # 16 becomes 255, and the 17 levels stay 17 levels.
    for x, keep in ((x_train, original.target < 5), (x_test, original.target >= 5)):
        levels = np.floor(original.images[keep] * 255 / 16)
        np.testing.assert_array_equal(x[..., 0], levels)
    assert len(np.unique(x_train)) == 17


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"`name` must be one of .*'glyphs'.*name='f"):
        load("foo")
