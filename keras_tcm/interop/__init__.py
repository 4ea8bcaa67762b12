"""Losses of other metric-learning packages as Keras losses that add to ours."""

from keras_tcm.interop import pytorch_metric_learning as pytorch_metric_learning
from keras_tcm.interop import tensorflow_similarity as tensorflow_similarity
