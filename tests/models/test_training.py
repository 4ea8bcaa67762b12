"""Backbones train with TCM, and come back from disk as they were."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_tcm.losses import TCM, MultiSimilarity
from keras_tcm.models import backbone, embedding_model
from keras_tcm.models.vit_base import _class_token_model


def small_vit_of_keras_hub():
    hub = pytest.importorskip("keras_hub", reason="keras-hub is an optional extra")
    vit = hub.models.ViTBackbone(
        (32, 32, 3), patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12
    )
    return _class_token_model(vit, 1 / 127.5, -1.0)


@pytest.mark.parametrize(
    ("build", "pooling"),
    [
        (lambda: backbone("vit_small", (32, 32, 3)), "avg"),
        (small_vit_of_keras_hub, "avg"),
        pytest.param(
            lambda: backbone("resnet50", (32, 32, 3)), "gem", marks=pytest.mark.slow
        ),
    ],
    ids=["vit_small", "vit_base", "resnet50"],
)
def test_one_epoch_then_save_and_load(build, pooling, tmp_path):
    keras.utils.set_random_seed(0)
    model = embedding_model(build(), 16, pooling=pooling)
    model.compile(keras.optimizers.SGD(1e-3), loss=MultiSimilarity() + TCM())
    x = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("uint8")
    y = np.repeat([0, 1, 0, 1], 2)
    kernels = [w for w in model.trainable_variables if w.name == "kernel"]
    before = [ops.convert_to_numpy(w).copy() for w in kernels]
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][0] > 0
    for variable, start in zip(kernels, before, strict=True):
        assert not np.array_equal(ops.convert_to_numpy(variable), start), variable.path

    out = model.predict(x, verbose=0)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, rtol=1e-5)
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    path.unlink()  # 90 MB of ResNet-50
    np.testing.assert_allclose(again.predict(x, verbose=0), out, atol=1e-6)
