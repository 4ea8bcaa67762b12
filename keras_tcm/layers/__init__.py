"""Layers for embedding models: unit norm, cosines to classes, GeM, positions."""

from keras_tcm.layers.cosine_classifier import CosineClassifier as CosineClassifier
from keras_tcm.layers.gem_pooling import GeMPooling as GeMPooling
from keras_tcm.layers.position_embedding import PositionEmbedding as PositionEmbedding
from keras_tcm.layers.unit_norm import UnitNorm as UnitNorm
