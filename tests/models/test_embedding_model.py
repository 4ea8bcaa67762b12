import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_tcm.layers import GeMPooling, PositionEmbedding
from keras_tcm.losses import TCM, MultiSimilarity
from keras_tcm.models import backbone, embedding_model


def small_backbone(shape=(8, 8, 1)):
    inputs = keras.Input(shape)
    x = layers.Rescaling(1 / 255)(inputs)
    # Named as an embedding layer of a text model would be.
    x = layers.Conv2D(6, 3, activation="relu", name="embedding")(x)
    return keras.Model(inputs, x)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1)).astype("uint8")


@pytest.fixture
def labels():
    return np.repeat(np.arange(4), 3)


def pooled_then_projected(model, pooled):
    """The head in NumPy."""
    projection = model.get_layer("projection")
    x = pooled @ ops.convert_to_numpy(projection.kernel)
    x = x + ops.convert_to_numpy(projection.bias)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_average_pooling_head_agrees_with_numpy(images):
    base = small_backbone()
    model = embedding_model(base, 5)
    pooled = base.predict(images, verbose=0).mean(axis=(1, 2))
    expected = pooled_then_projected(model, pooled)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
    assert model.output_names == ["embedding"]


def test_gem_head_agrees_with_numpy(images):
    base = small_backbone()
    model = embedding_model(base, 5, pooling="gem")
    features = np.maximum(base.predict(images, verbose=0), 1e-6)
    pooled = np.mean(features**3, axis=(1, 2)) ** (1 / 3)
    expected = pooled_then_projected(model, pooled)
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-5)
    assert isinstance(model.get_layer("pooling"), GeMPooling)


@pytest.mark.parametrize("image_data_format", ["channels_last", "channels_first"])
def test_sequence_is_averaged_over_its_steps(image_data_format):
    x = np.random.default_rng(0).normal(size=(3, 7, 4)).astype("float32")
    base = keras.Sequential([keras.Input((7, 4)), layers.Activation("linear")])
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(image_data_format)
    try:
        model = embedding_model(base, 2)
    finally:
        keras.config.set_image_data_format(before)
    expected = pooled_then_projected(model, x.mean(axis=1))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def recurrent(x):
    return layers.GRU(3, return_sequences=True)(x)


def transformer(x):
    x = PositionEmbedding()(x)
    normed = layers.LayerNormalization()(x)
    return layers.Add()([x, layers.MultiHeadAttention(2, 2)(normed, normed)])


@pytest.mark.parametrize("encode", [recurrent, transformer])
def test_masked_steps_are_not_averaged_in(encode):
    keras.utils.set_random_seed(0)
    tokens = np.array(
        [[3, 0, 0, 0, 0], [1, 2, 3, 0, 0], [3, 2, 1, 2, 3], [4, 1, 0, 0, 0]]
    )
    labels = np.array([0, 0, 1, 1])
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(5, 4, mask_zero=True, embeddings_initializer="normal")(inputs)
    base = keras.Model(inputs, encode(x))
    model = embedding_model(base, 3)

    features, mask = base.predict(tokens, verbose=0), tokens[..., None] != 0
    pooled = (features * mask).sum(axis=1) / mask.sum(axis=1)
    expected = pooled_then_projected(model, pooled)
    np.testing.assert_allclose(model.predict(tokens, verbose=0), expected, atol=1e-5)

    # Training compiles another function.
    loss = MultiSimilarity() + TCM()
    model.compile("sgd", loss=loss)
    np.testing.assert_allclose(
        model.train_on_batch(tokens, labels),
        ops.convert_to_numpy(loss(labels, expected)),
        rtol=1e-4,
    )


@pytest.mark.parametrize("pooling", ["avg", "gem"])
def test_vectors_are_not_pooled(pooling):
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    base = keras.Sequential([keras.Input((4,)), layers.Activation("linear")])
    model = embedding_model(base, 2, pooling=pooling)
    expected = pooled_then_projected(model, x)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_cosines_are_those_of_the_embedding(images):
    model = embedding_model(small_backbone(), 5, num_classes=4)
    out = model.predict(images, verbose=0)
    kernel = ops.convert_to_numpy(model.get_layer("cosines").kernel)
    expected = out["embedding"] @ (kernel / np.linalg.norm(kernel, axis=0))
    assert out["cosines"].shape == (12, 4)
    np.testing.assert_allclose(out["cosines"], expected, atol=1e-5)


def test_token_ids_and_several_inputs():
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    weights = keras.Input((5, 1), name="weights")
    x = layers.Embedding(10, 4)(tokens) * weights
    base = keras.Model({"tokens": tokens, "weights": weights}, x)
    model = embedding_model(base, 3)
    x = {"tokens": np.ones((2, 5), "int32"), "weights": np.ones((2, 5, 1))}
    norms = np.linalg.norm(model.predict(x, verbose=0), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_unit_norm_in_float32_and_save_and_load(policy, images, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        base = backbone("resnet_small", (8, 8, 1))
        model = embedding_model(base, 7, pooling="gem", num_classes=4)
    finally:
        keras.config.set_dtype_policy(before)
    out = model.predict(images, verbose=0)
    assert {name: x.dtype.name for name, x in out.items()} == {
        "embedding": "float32",
        "cosines": "float32",
    }
    norms = np.linalg.norm(out["embedding"], axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-6)

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for name, x in again.predict(images, verbose=0).items():
        np.testing.assert_allclose(x, out[name], atol=1e-6)


@pytest.mark.parametrize("jit_compile", ["auto", True])
def test_training_on_both_outputs(jit_compile, labels):
    if keras.backend.backend() == "torch" and jit_compile is True:
        pytest.skip("torch.compile takes minutes and a C++ compiler")
    keras.utils.set_random_seed(0)
    # One bright corner per class.
    images = np.random.default_rng(0).uniform(0, 20, (12, 8, 8, 1))
    for label, image in zip(labels, images, strict=True):
        row, column = divmod(label, 2)
        image[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 200
    base = keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255)])
    base.add(layers.Flatten())
    model = embedding_model(base, 8, num_classes=4)
    model.compile(
        keras.optimizers.Adam(1e-2),
        # Cosines as logits of a softmax, and an embedding loss of Keras' own.
        loss={
            "cosines": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "embedding": keras.losses.Circle(),
        },
        jit_compile=jit_compile,
    )
    y = {"cosines": labels, "embedding": labels}
    history = model.fit(images, y, batch_size=12, epochs=30, verbose=0).history
    assert history["cosines_loss"][-1] < history["cosines_loss"][0]
    assert np.isfinite(history["embedding_loss"]).all()


def test_backbone_is_shared():
    base = small_backbone()
    model = embedding_model(base, 5)
    assert len(model.trainable_variables) == 4
    base.trainable = False
    assert len(model.trainable_variables) == 2


@pytest.mark.parametrize("embedding_dim", [0, 1.5, None])
def test_wrong_embedding_dim(embedding_dim):
    message = r"`embedding_dim` must be .* Received: embedding_dim="
    with pytest.raises((TypeError, ValueError), match=message):
        embedding_model(small_backbone(), embedding_dim)


def test_wrong_num_classes():
    with pytest.raises(ValueError, match=r"`num_classes` must .* Received: num_cla"):
        embedding_model(small_backbone(), 5, num_classes=0)


def test_wrong_pooling():
    with pytest.raises(ValueError, match=r"`pooling` must .* Received: pooling='max'"):
        embedding_model(small_backbone(), 5, pooling="max")


def test_backbone_of_several_outputs():
    inputs = keras.Input((4,))
    base = keras.Model(inputs, [layers.Dense(2)(inputs), layers.Dense(2)(inputs)])
    with pytest.raises(ValueError, match=r"`backbone` must be .* one output"):
        embedding_model(base, 5)


def test_unbuilt_backbone():
    with pytest.raises(ValueError, match=r"`backbone` must be .* one output"):
        embedding_model(keras.Sequential([layers.Dense(2)]), 5)


def test_gem_needs_a_feature_map():
    base = keras.Sequential([keras.Input((7, 4)), layers.Activation("linear")])
    with pytest.raises(ValueError, match=r"`backbone` must return .*'gem'"):
        embedding_model(base, 2, pooling="gem")
