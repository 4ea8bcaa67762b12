"""Backbones and the embedding head."""

from keras_tcm.models.backbone import backbone as backbone
from keras_tcm.models.cross_batch_memory import CrossBatchMemory as CrossBatchMemory
from keras_tcm.models.embedding_model import embedding_model as embedding_model
from keras_tcm.models.freeze_batch_norm import freeze_batch_norm as freeze_batch_norm
from keras_tcm.models.towers import towers as towers
