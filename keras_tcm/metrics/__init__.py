"""Metrics over all pairs of the samples seen since the last reset."""

from keras_tcm.metrics.opis import OPIS as OPIS
from keras_tcm.metrics.recall_at_k import RecallAtK as RecallAtK
