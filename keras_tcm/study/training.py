"""The training recipe of the comparisons on small images."""

import keras
import numpy as np

from keras_tcm import data, models
from keras_tcm.losses import EmbeddingLoss

EMBEDDING_DIM = 64
CLASSES_PER_BATCH = 32
SAMPLES_PER_CLASS = 4
LEARNING_RATE = 2e-3
# Progress is shown, and the learning rate logged, this many times in a training.
NUM_EPOCHS = 8


def train_embedding_model(
    x: np.ndarray,
    y: np.ndarray,
    loss: EmbeddingLoss,
    steps: int,
    seed: int,
    verbose: int = 0,
) -> keras.Model:
    """Train `resnet_small` with Adam and cosine learning-rate decay.

    Batches hold 32 classes with 4 samples each. Weights and batches depend on the
    seed alone, so that two losses are compared on the same ones.

    Args:
        x: Images of shape `(n, height, width, channels)`, values in [0, 255].
        y: Integer labels of shape `(n,)`.
        loss: The loss.
        steps: Training steps, rounded up to a multiple of 8.
        seed: Seed of the weights and of the batches.
        verbose: 0, 1 (progress bar) or 2 (a line an epoch). Defaults to 0.

    Returns:
        The trained model; its outputs are 64-dimensional unit vectors.
    """
    keras.utils.set_random_seed(seed)
    model = models.embedding_model(
        models.backbone("resnet_small", x.shape[1:]), EMBEDDING_DIM
    )
    steps_per_epoch = -(-steps // NUM_EPOCHS)
    schedule = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE, NUM_EPOCHS * steps_per_epoch
    )
    # XLA makes convolutions on a CPU several times slower.
    is_compiled = False if keras.backend.backend() == "tensorflow" else "auto"
    model.compile(keras.optimizers.Adam(schedule), loss=loss, jit_compile=is_compiled)
    sampler = data.ClassBalancedSampler(
        x,
        y,
        classes_per_batch=CLASSES_PER_BATCH,
        samples_per_class=SAMPLES_PER_CLASS,
        steps_per_epoch=steps_per_epoch,
        seed=seed,
    )
    model.fit(sampler, epochs=NUM_EPOCHS, shuffle=False, verbose=verbose)
    return model
