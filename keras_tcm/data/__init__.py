"""Batches for metric learning."""

from keras_tcm.data.class_balanced_sampler import (
    ClassBalancedSampler as ClassBalancedSampler,
)
from keras_tcm.data.image_batches import ImageBatches as ImageBatches
