import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_tcm.models import backbone, embedding_model, freeze_batch_norm


def nested_model():
    """Batch normalisation at three depths: in a wrapper, in a model, in a model."""
    inner = keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            layers.Conv2D(3, 3, name="convolution"),
            layers.BatchNormalization(),
        ]
    )
    inputs = keras.Input((4, 4, 2))
    x = layers.TimeDistributed(layers.BatchNormalization())(inputs)
    x = inner(layers.Conv2D(3, 1)(x))
    x = layers.BatchNormalization()(x)
    return embedding_model(keras.Model(inputs, x), 3)


def batch_norms(model):
    # Weights tell by their paths whose they are, at any depth.
    return [w for w in model.weights if "batch_normalization" in w.path]


def values(variables):
    return [ops.convert_to_numpy(v).copy() for v in variables]


def fit(model):
    x = np.random.default_rng(0).normal(3, 2, size=(8, *model.input_shape[1:]))
    model.compile(keras.optimizers.SGD(0.1), loss=keras.losses.Circle())
    model.fit(x, np.repeat([0, 1], 4), batch_size=8, verbose=0)


def changed(before, after):
    return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def test_nothing_of_batch_norm_changes_in_fit_and_all_else_does():
    model = nested_model()
    freeze_batch_norm(model)
    frozen = batch_norms(model)
    assert len(frozen) == 3 * 4
    others = [w for w in model.weights if not any(w is v for v in frozen)]
    frozen_before, others_before = values(frozen), values(others)
    fit(model)
    assert not any(changed(frozen_before, values(frozen)))
    # Two convolutions and a dense layer, with a bias each.
    assert len(others) == 6
    assert all(changed(others_before, values(others)))


def test_without_it_the_moving_statistics_change():
    model = nested_model()
    moving = [w for w in batch_norms(model) if w.name.startswith("moving")]
    assert len(moving) == 3 * 2
    before = values(moving)
    fit(model)
    assert all(changed(before, values(moving)))


def test_training_mode_is_inference_mode():
    x = np.random.default_rng(0).normal(3, 2, size=(8, 4, 4, 2)).astype("float32")
    model = nested_model()
    inference = ops.convert_to_numpy(model(x, training=False))
    assert np.abs(ops.convert_to_numpy(model(x, training=True)) - inference).max() > 0.1

    model = nested_model()
    freeze_batch_norm(model)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(x, training=True)),
        ops.convert_to_numpy(model(x, training=False)),
    )


def test_it_survives_saving_and_loading(tmp_path):
    model = nested_model()
    freeze_batch_norm(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert len(again.trainable_variables) == len(model.trainable_variables) == 6
    before = values(batch_norms(again))
    fit(again)
    assert not any(changed(before, values(batch_norms(again))))


def test_a_backbone_frozen_before_and_after_the_head_is_the_same():
    base = backbone("resnet_small", (8, 8, 1))
    freeze_batch_norm(base)
    before = embedding_model(base, 3)
    after = embedding_model(backbone("resnet_small", (8, 8, 1)), 3)
    freeze_batch_norm(after)
    # Nine convolutions without a bias, and the head.
    assert len(before.trainable_variables) == len(after.trainable_variables) == 9 + 2


def test_a_model_without_batch_norm_is_left_alone():
    model = backbone("vit_small", (8, 8, 1))
    count = len(model.trainable_variables)
    freeze_batch_norm(model)
    assert len(model.trainable_variables) == count


@pytest.mark.parametrize("model", [None, "resnet50", layers.BatchNormalization()])
def test_not_a_model(model):
    with pytest.raises(TypeError, match=r"`model` must be .* Received: model="):
        freeze_batch_norm(model)
