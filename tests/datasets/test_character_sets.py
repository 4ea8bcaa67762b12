import hashlib

import numpy as np
import pytest

pytest.importorskip("fontTools")
pytest.importorskip("matplotlib")

from keras_tcm.datasets import load, long_tail, symbols

SETS = {"symbols": symbols, "long_tail": long_tail}
# Of every tenth image of train and test.
SHA256 = {
    "symbols": "eee83b5651d9fadc66afcc9f27fa18c683d5eb19138d00f26f984b5a7a4b5f9e",
    "long_tail": "a4c42b41014bfacf5ea57af071fab2377aa322d624a3dafdf6ddcae379de4091",
}


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("character_sets")


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_character_set(name, data_dir):
    (x_train, y_train), (x_test, y_test) = load(name, data_dir)
    module = SETS[name]
    names = module.class_names(data_dir)

    for x, y, (low, high) in (
        (x_train, y_train, module.TRAIN_COUNTS),
        (x_test, y_test, module.TEST_COUNTS),
    ):
        assert x.shape == (len(y), 28, 28, 1)
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        counts = np.unique(y, return_counts=True)[1]
        assert low <= counts.min()
        assert counts.max() <= high
    classes = np.concatenate([np.unique(y_train), np.unique(y_test)])
    np.testing.assert_array_equal(classes, np.arange(len(names)))
    assert len(set(names)) == len(names)
    assert len(np.unique(y_test)) >= 280
    digest = hashlib.sha256()
    for x, y in ((x_train, y_train), (x_test, y_test)):
        digest.update(x[::10].tobytes())
        digest.update(y[::10].astype("<i8").tobytes())
    assert digest.hexdigest() == SHA256[name]


@pytest.mark.slow
def test_signs_to_train_on_and_pictures_to_test_on(data_dir):
    names = symbols.class_names(data_dir)
    (_, y_train), _ = load("symbols", data_dir)
    train, test = set(names[: y_train.max() + 1]), set(names[y_train.max() + 1 :])

    assert {"\u2192", "\u2211", "\u2208", "\u2284"} <= train
    assert {"\u2602", "\u265e", "\U0001f600"} <= test


@pytest.mark.slow
def test_few_letters_have_most_images(data_dir):
    for _, y in load("long_tail", data_dir):
        counts = np.sort(np.unique(y, return_counts=True)[1])[::-1]
        assert counts[: len(counts) // 10].sum() > len(y) / 4
        assert np.median(counts) < counts.mean() / 1.4
