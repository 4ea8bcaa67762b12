"""Backbones and the embedding head."""

from keras_tcm.models.backbone import backbone as backbone
from keras_tcm.models.embedding_model import embedding_model as embedding_model
