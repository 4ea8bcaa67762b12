"""Layers for embedding models: towers, unit norm, cosines, GeM, positions."""

from keras_tcm.layers.cosine_classifier import CosineClassifier as CosineClassifier
from keras_tcm.layers.gem_pooling import GeMPooling as GeMPooling
from keras_tcm.layers.position_embedding import PositionEmbedding as PositionEmbedding
from keras_tcm.layers.stack_towers import StackTowers as StackTowers
from keras_tcm.layers.unit_norm import UnitNorm as UnitNorm
