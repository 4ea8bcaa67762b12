"""What the guides and the docstrings of the adapters say works."""

import doctest
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_tcm
from keras_tcm.interop import pytorch_metric_learning, tensorflow_similarity

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def run_guide(name):
    """Run the code of a page, block after block, with less data."""
    text = (DOCS / name).read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        code = re.sub(r"epochs=\d+", "epochs=1", code)
        code = re.sub(r"steps_per_epoch=\d+", "steps_per_epoch=4", code)
        exec(compile(code, name, "exec"), names)
    return names


def run_example(function):
    """Run the example of a docstring."""
    inputs = keras.Input((6,))
    names = {
        "keras_tcm": keras_tcm,
        "model": keras.Model(inputs, keras.layers.UnitNormalization()(inputs)),
    }
    (test,) = doctest.DocTestFinder().find(function, globs=names)
    assert test.examples
    report = []
    failed, _ = doctest.DocTestRunner().run(test, out=report.append)
    assert not failed, "".join(report)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Your `PyDataset` class:UserWarning")
def test_guide_for_tensorflow_similarity(tfsim, capsys):
    names = run_guide("coming_from_tensorflow_similarity.md")
    assert len(names["matches"]) == len(names["x_test"]) // 2
    assert set(names["matches"]) <= {-1, *range(5, 10)}
    assert names["point"].far <= 0.01
    assert "class 5: FAR" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:`compile\\(\\)` was not called:UserWarning")
def test_what_the_guide_says_fails(tfsim, tmp_path, capsys):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
    y = np.arange(12) % 3
    inputs = keras.Input((6,))
    outputs = tfsim.layers.MetricEmbedding(4)(inputs)
    model = tfsim.models.SimilarityModel(inputs, outputs)
    loss = tfsim.losses.MultiSimilarityLoss(reduction="sum_over_batch_size")
    model.compile("adam", loss=loss, distance="cosine")
    with pytest.raises(Exception, match=r"symbolic|tf\.Tensor"):
        model.fit(x, y, batch_size=12, verbose=0)

    model.compile("adam", loss=tensorflow_similarity.as_keras_loss(loss))
    model.index(x, y, verbose=0)
    model.calibrate(x, y, verbose=0)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the peer's, of several kinds
        model.match(x)
    with pytest.raises(Exception):  # noqa: B017, PT011
        model.save(str(tmp_path / "model.keras"))
    keras.Model.save(model, tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        keras.Model.predict(loaded, x, verbose=0), model.predict(x, verbose=0)
    )


@pytest.mark.slow
def test_guide_for_pytorch_metric_learning(peers, capsys):
    run_guide("coming_from_pytorch_metric_learning.md")
    assert "OPIS" in capsys.readouterr().out


def test_example_for_tensorflow_similarity(tfsim):
    run_example(tensorflow_similarity.as_keras_loss)


def test_example_for_pytorch_metric_learning(peers):
    run_example(pytorch_metric_learning.as_keras_loss)
