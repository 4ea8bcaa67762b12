import numpy as np
import pytest

from keras_tcm.datasets import load
from keras_tcm.datasets.digits import load_all


def test_shapes_types_and_sizes():
    (x_train, y_train), (x_test, y_test) = load("digits")
    for x, y in ((x_train, y_train), (x_test, y_test)):
        assert x.dtype == np.uint8
        assert x.shape == (len(y), 8, 8, 1)
        assert y.dtype == np.int64
    assert len(x_train) + len(x_test) == 1797
    assert set(y_train) == {0, 1, 2, 3, 4}
    assert set(y_test) == {5, 6, 7, 8, 9}
    # 16 becomes 255, and the 17 levels stay 17 levels.
    assert len(np.unique(x_train)) == len(np.unique(x_test)) == 17
    assert x_train.max() == 255


def test_they_are_the_digits_that_scikit_learn_ships():
    datasets = pytest.importorskip("sklearn.datasets")
    original = datasets.load_digits()
    images, labels = load_all()
    np.testing.assert_array_equal(images[..., 0], original.images * 255 // 16)
    np.testing.assert_array_equal(labels, original.target)


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"`name` must be one of .*'glyphs'.*name='f"):
        load("foo")
