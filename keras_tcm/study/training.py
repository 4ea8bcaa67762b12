"""How the models of a comparison are trained."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_tcm import data, models

SAMPLES_PER_CLASS = 4
# Progress is shown, and the loss is recorded, this many times in a training.
NUM_EPOCHS = 8


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A network, and how it is trained: with Adam and cosine learning-rate decay.

    Attributes:
        backbone: Name of the backbone.
        learning_rate: The greatest learning rate.
        warmup: Share of the steps in which the learning rate rises to it.
        embedding_dim: Size of the embedding.
        image_size: Pixels along each side, to which image files are scaled; `None` for
            arrays.
        weights: Pretrained weights of the backbone.
        freeze_batch_norm: Whether batch normalisation keeps its pretrained statistics.
        flip: Whether every other training image is mirrored.
    """

    backbone: str = "resnet_small"
    learning_rate: float = 2e-3
    warmup: float = 0.0
    embedding_dim: int = 64
    image_size: int | None = None
    weights: str | None = None
    freeze_batch_norm: bool = False
    flip: bool = False


def train_embedding_model(
    x: np.ndarray,
    y: np.ndarray,
    loss: keras.losses.Loss,
    steps: int,
    seed: int,
    recipe: Recipe | None = None,
    batch_size: int = 128,
    verbose: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    augment: Callable[..., Any] | None = None,
) -> tuple[keras.Model, dict[str, list[float]]]:
    """Train an embedding model.

    A batch holds 4 samples each of a quarter as many classes. Weights and batches
    depend on the seed alone, so that two losses are compared on the same ones.

    Args:
        x: Images of shape `(n, height, width, channels)`, values in [0, 255], or `n`
            paths of image files.
        y: Integer labels of shape `(n,)`.
        loss: The loss.
        steps: Training steps, rounded up to a multiple of 8.
        seed: Seed of the weights and of the batches.
        recipe: The network and how to train it. Defaults to `resnet_small` with a
            learning rate of 2e-3.
        batch_size: Samples in a batch, a multiple of 4.
        verbose: 0, 1 (progress bar) or 2 (a line an epoch). Defaults to 0.
        callbacks: Callbacks of the training.
        augment: Changes the images of a batch, see `ClassBalancedSampler`. Defaults to
            what the recipe says.

    Returns:
        The trained model, whose outputs are unit vectors, and the loss and the
        learning rate of every eighth of the training.
    """
    recipe = recipe or Recipe()
    keras.utils.set_random_seed(seed)
    size = None if recipe.image_size is None else (recipe.image_size,) * 2
    backbone = models.backbone(
        recipe.backbone, x.shape[1:] if size is None else (*size, 3), recipe.weights
    )
    if recipe.freeze_batch_norm:
        models.freeze_batch_norm(backbone)
    model = models.embedding_model(backbone, recipe.embedding_dim)
    steps_per_epoch = -(-steps // NUM_EPOCHS)
    model.compile(
        keras.optimizers.Adam(
            cosine_schedule(
                recipe.learning_rate, recipe.warmup, NUM_EPOCHS * steps_per_epoch
            )
        ),
        loss=loss,
        # XLA makes convolutions on a CPU several times slower.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    if augment is None and recipe.flip:
        augment = keras.layers.RandomFlip("horizontal")
    sampler = data.ClassBalancedSampler(
        x,
        y,
        classes_per_batch=batch_size // SAMPLES_PER_CLASS,
        samples_per_class=SAMPLES_PER_CLASS,
        steps_per_epoch=steps_per_epoch,
        seed=seed,
        image_size=size,
        augment=augment,
    )
    history = model.fit(
        sampler,
        epochs=NUM_EPOCHS,
        shuffle=False,
        verbose=verbose,
        callbacks=list(callbacks),
    )
    return model, {
        name: [float(value) for value in values]
        for name, values in history.history.items()
    }


def cosine_schedule(
    learning_rate: float, warmup: float, steps: int
) -> keras.optimizers.schedules.CosineDecay:
    """Make a learning rate that rises evenly, and then falls to 0 like a cosine.

    Args:
        learning_rate: The greatest learning rate.
        warmup: Share of the steps in which it rises.
        steps: Training steps.
    """
    warmup_steps = round(warmup * steps)
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - warmup_steps,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )


def embed(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Compute the embeddings of images.

    Args:
        model: An embedding model.
        x: Images of shape `(n, height, width, channels)`, or `n` paths of image files.

    Returns:
        Array of shape `(n, embedding_dim)`.
    """
    if x.ndim > 1:
        return model.predict(x, batch_size=512, verbose=0)
    batches = data.ImageBatches(x, image_size=model.input_shape[1:3], batch_size=128)
    return model.predict(batches, verbose=0)
