"""Metrics over all pairs of the samples seen since the last reset, and of a loss."""

from keras_tcm.metrics.auto_tcm_monitor import AutoTCMMonitor as AutoTCMMonitor
from keras_tcm.metrics.opis import OPIS as OPIS
from keras_tcm.metrics.recall_at_k import RecallAtK as RecallAtK
