"""Retrieval data sets whose train and test classes are disjoint."""

from keras_tcm.datasets.load import load

__all__ = ["load"]
